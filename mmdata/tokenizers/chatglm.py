"""ChatGLM's ``ice_text.model``:
SentencePiece with tokens of its own for newlines, tabs and runs of blanks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mmdata._tools.options import NonNegativeInt, checked
from mmdata.tokenizers._text import check_text
from mmdata.tokenizers.sentencepiece import processor

__all__ = ["ChatGLMTokenizer"]

_CONTROL: Final = ("<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<ENC>", "<dBLOCK>")
_LONGEST_BLANK: Final = 80
_BLANKS: Final = re.compile(f" {{2,{_LONGEST_BLANK}}}")
_WRITTEN: Final = re.compile(r"<n>|<\|tab\|>|<\|blank_(\d+)\|>")


class ChatGLMTokenizer:
    """The vocabulary of ChatGLM-6B and the models that were made of it.

    ``num_image_tokens`` shifts every id, as early checkpoints with 20,000 image tokens in front
    have it; 0 for the 130,528-row checkpoints. A newline, a tab and 2 to 80 blanks in a row are one
    token each. The same tokens come from ``<n>``, ``<|tab|>`` and ``<|blank_n|>`` in a text: they
    are spellings of white space, not control tokens.
    """

    @checked
    def __init__(
        self, model: bytes, *, path: str | Path = "", num_image_tokens: NonNegativeInt = 0
    ) -> None:
        self._model = processor(model, path)
        self._offset = num_image_tokens
        found = ((name, self._model.piece_to_id(name)) for name in _CONTROL)
        unknown = self._model.unk_id()
        self._special = {
            name: token + num_image_tokens for name, token in found if token != unknown
        }

    @property
    def special(self) -> Mapping[str, int]:
        """``<pad>``, the three masks, ``<sop>``,
        ``<eop>`` and what else of control tokens the model file has.
        """
        return self._special

    @property
    def vocab_size(self) -> int:
        """The pieces of the model and the image tokens;
        the embedding of the checkpoints has some more rows.
        """
        return self._model.vocab_size() + self._offset

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, none of them a control token;
        full-width forms come out as their plain ones.
        """
        return self._shift(self._model.encode(_spell(text)))

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return [self._shift(ids) for ids in self._model.encode([_spell(text) for text in texts])]

    @checked
    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ``ids``;
        control tokens have none in this vocabulary, whatever ``skip_special`` says.
        """
        pieces = (int(token) - self._offset for token in ids)
        text = self._model.decode(
            [piece for piece in pieces if 0 <= piece < self._model.vocab_size()]
        )
        return _WRITTEN.sub(_unspell, text)

    def _shift(self, ids: list[int]) -> list[int]:
        return [piece + self._offset for piece in ids] if self._offset else ids


def _spell(text: str) -> str:
    text = check_text(text).replace("\n", "<n>").replace("\t", "<|tab|>")
    return _BLANKS.sub(lambda blanks: f"<|blank_{len(blanks[0])}|>", text) if "  " in text else text


def _unspell(written: re.Match[str]) -> str:
    if written[1]:
        return " " * int(written[1])
    return "\n" if written[0] == "<n>" else "\t"
