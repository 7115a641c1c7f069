"""Text of others on a terminal: what would steer it or reorder its lines is shown as an escape."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["json_text", "one_line", "visible"]

_CONTROLS: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and newline, DEL, C1
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, overrides, … of direction
    r"\u2028\u2029"  # separators of lines and paragraphs
    r"\ud800-\udfff"  # halves of characters, which no output encodes
)
_IN_TEXT: Final = re.compile(f"[{_CONTROLS}]")
_IN_LINE: Final = re.compile(f"[{_CONTROLS}\\n\\t]")


def visible(text: str) -> str:
    r"""Return ``text`` with control characters,
    overrides of direction and lone surrogates as escapes.

    Newlines and tabs stay. A text without any of these is returned as it is.

    >>> print(visible("\x1b]0;owned\x07"))
    \x1b]0;owned\x07
    """
    return _IN_TEXT.sub(_escape, text)


def one_line(text: str) -> str:
    """Return ``text`` as :func:`visible` does, newlines and tabs escaped too:
    ids, names, the cells of a table.
    """
    return _IN_LINE.sub(_escape, text)


def json_text(text: str) -> str:
    """Return a JSON text that means the same,
    with escapes of JSON for what :func:`visible` escapes.

    Outside its strings JSON has none of these characters but newlines, which are left.
    """
    return _IN_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}.get(
        code, f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    )
