"""Words that may be taken for something else when they are read: the mark of a medium, a part of
one, a phrase or a box, the head of a dialogue.

One look, which costs little, tells nearly all texts from these. Readers of many records at once
have it to send some to be read by themselves, exporters to read what they wrote back.
"""

from __future__ import annotations

import re
from typing import Final

from mmdata._tools.marks import DIALOGUE, may_begin_mark
from mmdata.formats._grounding import find_box
from mmdata.formats._marks import ALL_MARKS, FIRST_OF_MARKS, HALF_MARKS, WRITTEN_PICTURES

__all__ = ["LEFT_MARKS", "find_suspect", "may_have_mark"]

LEFT_MARKS: Final = re.compile(
    rf"{FIRST_OF_MARKS}(?:{ALL_MARKS.pattern}|{HALF_MARKS.pattern}|</(?:video|img)>"
    r"|</?text>|<\|reserved_special_token_[34]\|>)"
)
"""A mark that is left in words, the second half of one whose first was taken for a whole, or what
MindFormers writes where there is no medium.
"""
_SIGNS: Final = (
    ("<", "<"), ("&", "&lt;"), ("&", "&amp;"), ("&", "&#"), ("[", "!["),
    # To look for one of these in a text of few characters, as ASCII has them, costs nothing.
    *((sign, sign) for sign in "\uff1c\ufe64\u2039\u2329\u27e8\u3008\u300a\u3010"),
)  # fmt: skip
"""What stands in marks, but for those in brackets and braces, and a letter of each."""
_BRACKETED: Final = (
    "image", "img", "video", "pic", "photo", "\u56fe", "\u5716", "\u7167", "\u89c6", "\u8996",
    "\u5f71", "\u753b", "\u5199", "\u52d5", "\uc774", "\ub3d9", "\uff29", "\uff49",
)  # fmt: skip
"""What marks in brackets and braces begin with, in lower case."""


def may_have_mark(text: str) -> bool:
    """Return whether a text may have a mark in it, by looks that cost far less than a search.

    >>> may_have_mark("f[0] = {1}"), may_have_mark("See [image 1].")
    (False, True)
    """
    # A sign is searched for where its rarest letter is: to look for one letter takes a hundredth.
    if any(letter in text and sign in text for letter, sign in _SIGNS):
        return True
    for bracket in "[{":
        # Most of what stands in brackets is no mark, which its first letters tell.
        if bracket in text and any(
            piece[:5].lower().startswith(_BRACKETED) for piece in text.split(bracket)[1:]
        ):
            return True
    return False


def find_suspect(text: str) -> str | None:
    """Return the first of what a text has that a reader may take for something else than words,
    None where it has nothing.

    >>> find_suspect("Where is <box>(1,2),(3,4)</box>?"), find_suspect("if a < b: c[0]")
    ('<box>', None)
    """
    if text.startswith(DIALOGUE):
        return DIALOGUE
    if not may_begin_mark(text):
        return None
    if may_have_mark(text) and (found := LEFT_MARKS.search(text) or WRITTEN_PICTURES.search(text)):
        return found[0]
    return find_box(text)
