"""What all that stands in words and is none begins with: marks of media, phrases and boxes, and
dialogues in one text.

A text without it is words from end to end, which is known of most texts before a table of marks is
imported.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DIALOGUE", "MARK_BEGINNINGS", "may_begin_mark"]

MARK_BEGINNINGS: Final = "<[{"
"""The characters that a mark begins with, all of ASCII."""
DIALOGUE: Final = "\n\nHuman:"
"""How a text begins that is a whole dialogue (HH-RLHF)."""


def may_begin_mark(text: str) -> bool:
    """Return whether a mark may begin in a text.

    >>> may_begin_mark("a cup"), may_begin_mark("a < b")
    (False, True)
    """
    # Three looks for a letter cost far less than one expression, and than a loop over them.
    return "<" in text or "[" in text or "{" in text
