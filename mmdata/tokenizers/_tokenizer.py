"""What a tokenizer is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

__all__ = ["MarkedTokenizer", "Tokenizer"]


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back. Text is only ever text:
    no string makes ``encode`` give a control token.
    """

    @property
    def special(self) -> Mapping[str, int]:
        """The ids of the control tokens by their name,
        such as ``<|im_end|>``; templates place them.
        """

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, none of them a control token."""

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ``ids``;
        bytes that are no UTF-8 become U+FFFD, control tokens their names or nothing.
        """


@runtime_checkable
class MarkedTokenizer(Tokenizer, Protocol):
    """A tokenizer that can also read control tokens from a text, as the original programs do."""

    def encode_marked(self, text: str) -> list[int]:
        """Return the ids of ``text`` that we wrote, in which names of control tokens are these
        tokens; never for text from a user.
        """
