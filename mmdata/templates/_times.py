"""Times in text: seconds with two decimals and an ``s``,
as models that are told times read them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mmdata.schema import Part, Text, Time

__all__ = [
    "TIME_FORMATS",
    "TimeFormat",
    "TimeFormatName",
    "split_times",
    "text_and_times",
    "time_text",
]

TimeFormatName: TypeAlias = Literal["seconds", "mm:ss"]

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


@dataclass(frozen=True, slots=True)
class TimeFormat:
    """How a family writes times, and the ``pattern`` and ``seconds`` by which they are read."""

    write: Callable[[Time], str]
    pattern: re.Pattern[str]
    seconds: Callable[[str], float]


def _in_seconds(time: Time) -> str:
    if time.end is None:
        return f"{time.start:.1f} seconds"
    return f"{time.start:.1f} - {time.end:.1f} seconds"


def _in_minutes(time: Time) -> str:
    moments = (time.start,) if time.end is None else (time.start, time.end)
    return " - ".join(map(_minutes, moments))


def _minutes(seconds: float) -> str:
    minutes, tenths = divmod(round(seconds * 10), 600)
    whole, tenth = divmod(tenths, 10)
    return f"{minutes:02d}:{whole:02d}" + (f".{tenth}" if tenth else "")


def _read_minutes(text: str) -> float:
    seconds = 0.0
    for number in text.split(":"):
        seconds = 60 * seconds + float(number)
    return seconds


_NUMBER: Final = r"\d+(?:\.\d+)?"
_CLOCK: Final = r"(?:\d+:)?\d+:[0-5]\d(?:\.\d+)?"
_TO: Final = r" ?(?:-|to) ?"

TIME_FORMATS: Final[dict[TimeFormatName, TimeFormat]] = {
    "seconds": TimeFormat(
        _in_seconds,
        re.compile(rf"(?<![\w.])({_NUMBER})(?:(?: seconds)?{_TO}({_NUMBER}))? seconds?(?!\w)"),
        float,
    ),
    "mm:ss": TimeFormat(
        _in_minutes,
        re.compile(rf"(?<![\w.:])({_CLOCK})(?:{_TO}({_CLOCK}))?(?![\w:])"),
        _read_minutes,
    ),
}
"""Times with a tenth of a second: ``12.5 seconds`` and ``3.0 - 12.5 seconds``; ``00:12.5`` and
``00:03 - 00:12.5``.
"""


def split_times(text: str, form: TimeFormat) -> Iterator[Part]:
    """Yield a text as parts, what reads as a time in this format as times of the first medium."""
    done = 0
    for match in form.pattern.finditer(text):
        first, last = match[1], match[2]
        start = form.seconds(first)
        end = None if last is None else form.seconds(last)
        if end is not None and end < start:
            continue
        if match.start() > done:
            yield Text(text[done : match.start()])
        yield Time(start, end)
        done = match.end()
    if done < len(text):
        yield Text(text[done:])
