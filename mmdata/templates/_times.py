"""Times in text: seconds with two decimals and an ``s``,
as models that are told times read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mmdata.schema import Part, Text, Time

__all__ = ["text_and_times", "time_text"]

_TIME: Final = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)s(?: ?(?:-|to) ?(\d+(?:\.\d+)?)s)?(?!\w)")


def time_text(time: Time) -> str:
    """Return ``1.50s`` for a moment, ``1.50s-3.00s`` for a span."""
    return f"{time.start:.2f}s" if time.end is None else f"{time.start:.2f}s-{time.end:.2f}s"


def text_and_times(text: str, media: int = 0) -> tuple[Part, ...]:
    """Return the text as parts,
    what reads as a time (``3s``, ``1.50s-3.00s``, ``1s to 3s``) as times of ``media``.
    """
    return tuple(_parts(text, media))


def _parts(text: str, media: int) -> Iterator[Part]:
    done = 0
    for match in _TIME.finditer(text):
        start = float(match[1])
        end = None if match[2] is None else float(match[2])
        if end is not None and end < start:
            continue
        if match.start() > done:
            yield Text(text[done : match.start()])
        yield Time(start, end, media)
        done = match.end()
    if done < len(text):
        yield Text(text[done:])
