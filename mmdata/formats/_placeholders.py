r"""Placeholders in text, such as ``<image>``, become parts.

The white space rule, the same for every format: in a turn with placeholders, white space before the
first of its words that follows a placeholder, white space after the last of them that a placeholder
follows, and white space between two placeholders only keep them apart and are no part of the words;
templates put separators of their own. All other text stays as it is, byte for byte::

    "<image>\nWhat is it?"     ->  Image, "What is it?"
    "What is it?\n<image>"     ->  "What is it?", Image
    "Look at <image> and say."  ->  "Look at ", Image, " and say."

A turn without placeholder is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mmdata._tools.marks import may_begin_mark
from mmdata.schema import Part, Text

__all__ = ["fill"]


def fill(
    text: str, tags: re.Pattern[str], part_for: Callable[[str], Part | None]
) -> tuple[Part, ...]:
    """Return the parts of a turn; none where it says nothing.

    ``tags`` matches a placeholder as its one group; ``part_for`` says which part takes its place,
    None for none.

    >>> from mmdata.schema import Image
    >>> fill("See <image> here.", re.compile("(<image>)"), lambda tag: Image(0))
    (Text(text='See ', train=None), Image(media=0, train=None), Text(text=' here.', train=None))
    """
    # Most turns have no placeholder. Looking for what they may begin with is far cheaper than
    # splitting by an expression.
    if not may_begin_mark(text) or len(pieces := tags.split(text)) == 1:
        return (Text(text),) if text and not text.isspace() else ()

    first = pieces[0]
    if not first and len(pieces) == 3:  # the usual turn: one placeholder, then words
        part, words = part_for(pieces[1]), pieces[2].lstrip()
        said = (Text(words),) if words else ()
        return said if part is None else (part, *said)

    parts: list[Part] = []
    spoken = first and not first.isspace()
    words = first if spoken else ""
    for index in range(1, len(pieces), 2):
        following = pieces[index + 1]
        if part := part_for(pieces[index]):
            if words and not words.isspace():
                parts.append(Text(words))
            parts.append(part)
            words = ""
        words += following if spoken else following.lstrip()
        spoken = spoken or words

    if not following or following.isspace():
        words = _strip_last(parts, words)

    return (*parts, Text(words)) if words else tuple(parts)


def _strip_last(parts: list[Part], words: str) -> str:
    """Return ``words`` without the white space at its end; where it is all, take that off the last
    text, in place.
    """
    if words := words.rstrip():
        return words
    for index in range(len(parts) - 1, -1, -1):
        if isinstance(part := parts[index], Text):
            parts[index] = Text(part.text.rstrip())
            break
    return ""
