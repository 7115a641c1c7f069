"""Which text has no ids in any vocabulary."""

from __future__ import annotations

from typing import Final

from mmdata.errors import TokenError

__all__ = ["check_text"]

_SHOWN: Final = 20  # characters on each side of what is wrong


def check_text(text: str) -> str:
    """Return ``text``, which has no lone surrogate.

    Half of a character that UTF-16 writes as two stands for nothing. SentencePiece stumbles over
    one, and tiktoken reads it as U+FFFD.

    Raises:
        TokenError: it has one; the message shows where.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - _SHOWN) : error.start + _SHOWN]
        raise TokenError(
            f"a lone surrogate, which is no character, at character {error.start} of the text: "
            f"{around!a}"
        ) from error
    return text
