"""SentencePiece vocabularies as Llama-2 and Vicuna use them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata.errors import TokenError
from mmdata.tokenizers._text import check_text

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = ["SentencePieceTokenizer", "processor"]

_BLANK: Final = "\u2581"  # how SentencePiece writes a blank
_MOST_WORDS: Final = 1 << 17
_LONGEST_WORD: Final = 64  # characters


def processor(model: bytes, path: str | Path) -> SentencePieceProcessor:
    """Return the SentencePiece processor of the bytes of a model file;
    ``path`` only names it in errors.
    """
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise TokenError(f"{path} is not a SentencePiece model: {error}") from error


def _by_words(model: SentencePieceProcessor) -> bool:
    """Return whether the ids of a text are those of its words one by one.

    So it is where text is taken as it is and no piece goes on after the blank that follows a
    character, as in Llama-2's vocabulary: no merge can then cross a blank. Words are worth
    remembering, since their ids are found by a search.
    """
    odd = f"a{_BLANK}ﬁ①"
    if (
        model.normalize(odd.replace(_BLANK, " ")) != _BLANK + odd
        or model.encode("\n")[:1] != model.encode("\t")[:1]
    ):
        return False
    pieces = (model.id_to_piece(token) for token in range(model.vocab_size()))
    return not any(_BLANK in piece.lstrip(_BLANK) for piece in pieces)


class SentencePieceTokenizer:
    """A SentencePiece model, and tokens ``added`` after it
    as models with images or videos have them.

    ``legacy`` is the setting of that name in Hugging Face's Llama tokenizers: whether a text that
    follows a control token gets the blank that SentencePiece puts before the first word (true for
    Llama-2, Vicuna and what was made of them before 2024). :meth:`encode` always puts it,
    :meth:`encode_after_special` as ``legacy`` says.
    """

    @checked
    def __init__(
        self,
        model: bytes,
        *,
        path: str | Path = "",
        added: Mapping[str, int] = MappingProxyType({}),
        legacy: bool = True,
    ) -> None:
        self._model = processor(model, path)
        controls = (self._model.unk_id(), self._model.bos_id(), self._model.eos_id())
        self._special = {
            self._model.id_to_piece(token): token for token in controls if token >= 0
        } | dict(added)
        self._names = {token: name for name, token in added.items()}
        self._newline = self._model.encode("\n")
        self._words: dict[str, list[int]] | None = {} if _by_words(self._model) else None
        self.legacy = legacy

    @property
    def special(self) -> Mapping[str, int]:
        """``<s>``, ``</s>``, ``<unk>`` and the added tokens."""
        return self._special

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, added tokens included."""
        return max([self._model.vocab_size() - 1, *self._names]) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, with the blank before its first word."""
        words = self._words
        if words is None or not text or "  " in text or _BLANK in text or text[0] == " ":
            return self._whole(text)
        last = text[-1] == " "
        ids: list[int] = []
        for word in (text[:-1] if last else text).split(" "):
            ids += words.get(word) or self._word(word, words)
        if last:
            ids.append(self._newline[0])
        return ids

    def encode_after_special(self, text: str) -> list[int]:
        """Return the ids of ``text`` that follows a control token, see ``legacy``."""
        if self.legacy or not text:
            return self.encode(text)
        return self.encode("\n" + text)[len(self._newline) :]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text."""
        batch: list[list[int]] = self._model.encode(list(map(check_text, texts)))
        return batch

    @checked
    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ``ids``; the blank before the first word of a run of text goes."""
        text: list[str] = []
        for is_ordinary, run in groupby(ids, self._is_ordinary):
            if is_ordinary:
                text.append(self._model.decode(list(run)))
            elif not skip_special:
                text += map(self._name, run)
        return "".join(text)

    def _whole(self, text: str) -> list[int]:
        ids: list[int] = self._model.encode(check_text(text))
        return ids

    def _word(self, word: str, words: dict[str, list[int]]) -> list[int]:
        ids = self._whole(word)
        if len(words) >= _MOST_WORDS:
            words.clear()
        if len(word) <= _LONGEST_WORD:
            words[word] = ids
        return ids

    def _is_ordinary(self, token: int) -> bool:
        return (
            token < self._model.vocab_size()
            and not self._model.is_control(token)
            and token not in self._names
        )

    def _name(self, token: int) -> str:
        if token in self._names or token >= self._model.vocab_size():
            return self._names.get(token, f"<{token}>")
        name: str = self._model.id_to_piece(token)
        return name
