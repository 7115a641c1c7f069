"""SentencePiece vocabularies as Llama-2 and Vicuna use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmdata.errors import TokenError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = ["SentencePieceTokenizer", "processor"]


def processor(model: bytes, path: str | Path) -> SentencePieceProcessor:
    """Return the SentencePiece processor of the bytes of a model file; ``path`` only names it in errors."""
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise TokenError(f"{path} is not a SentencePiece model: {error}") from error


class SentencePieceTokenizer:
    """A SentencePiece model, and tokens ``added`` after it as models with images or videos have them.

    ``legacy`` is the setting of that name in Hugging Face's Llama tokenizers: whether a text that follows a control
    token gets the blank that SentencePiece puts before the first word (true for Llama-2, Vicuna and all of LLaVA before
    2024). :meth:`encode` always puts it, :meth:`encode_after_special` as ``legacy`` says.
    """

    def __init__(
        self,
        model: bytes,
        *,
        path: str | Path = "",
        added: Mapping[str, int] = MappingProxyType({}),
        legacy: bool = True,
    ) -> None:
        self._model = processor(model, path)
        self._added = dict(added)
        self._names = {token: name for name, token in self._added.items()}
        self._newline = self._model.encode("\n")
        self.legacy = legacy

    @property
    def special(self) -> Mapping[str, int]:
        """``<s>``, ``</s>``, ``<unk>`` and the added tokens."""
        model = self._model
        ids = (model.unk_id(), model.bos_id(), model.eos_id())
        return {**{model.id_to_piece(token): token for token in ids if token >= 0}, **self._added}

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return max([self._model.vocab_size() - 1, *self._added.values()]) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, with the blank before its first word."""
        ids: list[int] = self._model.encode(text)
        return ids

    def encode_after_special(self, text: str) -> list[int]:
        """Return the ids of ``text`` that follows a control token, see ``legacy``."""
        if self.legacy or not text:
            return self.encode(text)
        return self.encode("\n" + text)[len(self._newline) :]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text."""
        batch: list[list[int]] = self._model.encode(list(texts))
        return batch

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ``ids``; the blank before the first word of a run of text goes."""
        return "".join(
            self._model.decode(list(run)) if ordinary else "".join(() if skip_special else map(self._name, run))
            for ordinary, run in groupby(ids, self._is_ordinary)
        )

    def _is_ordinary(self, token: int) -> bool:
        return token < self._model.vocab_size() and not self._model.is_control(token) and token not in self._names

    def _name(self, token: int) -> str:
        if token in self._names or token >= self._model.vocab_size():
            return self._names.get(token, f"<{token}>")
        name: str = self._model.id_to_piece(token)
        return name
