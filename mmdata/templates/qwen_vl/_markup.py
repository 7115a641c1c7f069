"""Qwen-VL's marks in text:
image references as bytes in a span of fixed length, phrases and boxes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

from mmdata.errors import SchemaError, TokenError
from mmdata.schema import Part, Region, Text
from mmdata.templates.toolkit import Grid
from mmdata.tokenizers import TiktokenTokenizer

__all__ = ["decode_spans", "encode_spans", "parts", "reference_ids"]

_IMAGE: Final = re.compile(r"<img>(.*?)(</img>|$)", re.DOTALL)
_GROUNDED: Final = re.compile(
    r"(?:<ref>((?:(?!<ref>).)*?)</ref>)?((?:<box>[^<]*</box>)+)", re.DOTALL
)
_BOX: Final = re.compile(r"<box>([^<]*)</box>")


def reference_ids(reference: str, length: int, pad: int) -> list[int]:
    """Return the ``length`` ids between ``<img>`` and ``</img>``:
    the bytes of the reference by value, then pads.

    Raises:
        TokenError: the reference has more bytes than that.
    """
    content = unicodedata.normalize("NFC", reference).encode()
    if len(content) > length:
        raise TokenError(
            f"the image reference {reference!r} has {len(content)} bytes; "
            f"{length} fit between <img> marks"
        )
    return [*content, *[pad] * (length - len(content))]


def encode_spans(tokenizer: TiktokenTokenizer, text: str, *, length: int = 256) -> list[int]:
    """Return the ids of a text whose control strings are meant,
    as the original tokenizer reads every text.

    Raises:
        TokenError: an ``<img>`` without ``</img>``, or too long a reference.
    """
    special = tokenizer.special
    ids: list[int] = []
    done = 0
    for match in _IMAGE.finditer(text):
        if not match[2]:
            raise TokenError(f"<img> without </img> in {text[match.start() :][:80]!r}")
        ids += tokenizer.encode_marked(text[done : match.start()])
        ids += [
            special["<img>"],
            *reference_ids(match[1], length, special["<imgpad>"]),
            special["</img>"],
        ]
        done = match.end()
    return ids + tokenizer.encode_marked(text[done:])


def decode_spans(
    tokenizer: TiktokenTokenizer, ids: Sequence[int], *, skip_special: bool = False
) -> str:
    """Return the text of ids, with the references in image spans read back from their bytes.

    Raises:
        TokenError: a span without pad, whose end the original cannot tell.
    """
    special = tokenizer.special
    ids = list(ids)
    text = ""
    while special["<img>"] in ids:
        start = ids.index(special["<img>"])
        if special["</img>"] not in ids[start:]:
            break
        stop = ids.index(special["</img>"], start)
        reference = (
            ""
            if skip_special and stop == start
            else _reference(ids[start + 1 : stop], special["<imgpad>"])
        )
        text += tokenizer.decode(ids[:start], skip_special=skip_special)
        text += reference if skip_special else f"<img>{reference}</img>"
        ids = ids[stop + 1 :]

    return text + tokenizer.decode(ids, skip_special=skip_special)


def parts(text: str, grid: Grid) -> tuple[Part, ...]:
    """Return an answer's parts: phrases with boxes as regions, the rest as text;
    malformed boxes stay text.
    """
    return tuple(_parts(text, grid))


def _parts(text: str, grid: Grid) -> Iterator[Part]:
    done = 0
    for match in _GROUNDED.finditer(text):
        try:
            region = Region(
                match[1] or "", tuple(grid.box(_numbers(box)) for box in _BOX.findall(match[2]))
            )
        except (ValueError, SchemaError):
            continue
        if match.start() > done:
            yield Text(text[done : match.start()])
        yield region
        done = match.end()
    if done < len(text):
        yield Text(text[done:])


def _numbers(text: str) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (int(number) for number in text.replace("(", "").replace(")", "").split(","))
    return x1, y1, x2, y2


def _reference(span: list[int], pad: int) -> str:
    if pad not in span:
        raise TokenError(
            f"an image span of {len(span)} ids has no pad; its reference cannot be read back"
        )
    return bytes(span[: span.index(pad)]).decode(errors="replace")
