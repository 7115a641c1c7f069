"""Byte-level BPE vocabularies in tiktoken's text form: Llama-3 and Qwen."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, TypeAlias

from mmdata._tools.options import checked
from mmdata.errors import TokenError
from mmdata.tokenizers._text import check_text

__all__ = [
    "LLAMA3_PATTERN",
    "LLAMA3_SPECIAL",
    "QWEN2_SPECIAL",
    "QWEN3_SPECIAL",
    "QWEN_PATTERN",
    "QWEN_SPECIAL",
    "TiktokenTokenizer",
    "read_ranks",
]

Form: TypeAlias = Literal["NFC"]

_SPACES: Final = r"|\s+(?!\S)|\s+"
"""The last alternatives of both patterns: spaces up to the one that belongs to the next word."""

# The two patterns differ in how they cut digits: Llama-3 in threes, Qwen one by one.
_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
) + _SPACES
LLAMA3_PATTERN: Final = _PATTERN.replace("DIGITS", r"\p{N}{1,3}")
"""How Llama-3 cuts text into words before merging bytes."""
QWEN_PATTERN: Final = _PATTERN.replace("DIGITS", r"\p{N}")
"""How Qwen cuts text into words before merging bytes."""

LLAMA3_SPECIAL: Final = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{n}|>" for n in range(4)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
    *(f"<|reserved_special_token_{n}|>" for n in range(5, 251)),
)
"""The control tokens after Llama-3's ranks, in order, under their Llama-3.0 names."""

QWEN_SPECIAL: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{n}|>" for n in range(205)),
    *("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>"),
)
"""The control tokens after Qwen's ranks, in order, with those of boxes and images at the end."""

QWEN2_SPECIAL: Final = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|{name}_{end}|>" for name in ("object_ref", "box", "quad") for end in ("start", "end")),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<tool_call>", "</tool_call>"),
    *(f"<|fim_{name}|>" for name in ("prefix", "middle", "suffix", "pad")),
    *("<|repo_name|>", "<|file_sep|>"),
)
"""The added tokens after the same ranks in Qwen2.5, in order."""
QWEN3_SPECIAL: Final = (
    *QWEN2_SPECIAL,
    *("<tool_response>", "</tool_response>", "<think>", "</think>"),
)
"""Those in Qwen3."""


def read_ranks(content: bytes, path: str | Path) -> dict[bytes, int]:
    """Return the ranks by their bytes from the lines ``base64 rank`` of a vocabulary file.

    Raises:
        TokenError: a line is not of this form, or the ranks are not 0, 1, 2 ...; the message has
            its number.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines()):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenError(
                f"{path}, line {number + 1}: {error}; expected a base64 string and a number"
            ) from error
        if int(rank) != number:
            raise TokenError(f"{path}, line {number + 1}: rank {int(rank)}, expected {number}")

    return ranks


class TiktokenTokenizer:
    """Byte-level BPE over ``ranks``, with the ``special`` tokens after them in order.

    ``form`` is the Unicode normal form that text is brought to first, None for none (Qwen: NFC,
    Llama-3: none).
    """

    @checked
    def __init__(
        self,
        ranks: Mapping[bytes, int],
        *,
        pattern: str,
        special: Sequence[str],
        form: Form | None = None,
    ) -> None:
        from tiktoken import Encoding

        self._special = {name: len(ranks) + number for number, name in enumerate(special)}
        self._form: Form | None = form
        self._bpe = Encoding(
            "mmdata",
            pat_str=_group(pattern),
            mergeable_ranks=dict(ranks),
            special_tokens=self._special,
        )
        self._names = {token: name for name, token in self._special.items()}

    @property
    def special(self) -> Mapping[str, int]:
        """The control tokens, all those of the vocabulary."""
        return self._special

    @property
    def vocab_size(self) -> int:
        """Ranks and control tokens together."""
        return self._bpe.n_vocab

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``, none of them a control token."""
        return self._bpe.encode_ordinary(self._normal(text))

    def encode_marked(self, text: str, marks: Iterable[str] | None = None) -> list[int]:
        """Return the ids of ``text`` that we wrote,
        in which the names ``marks`` are control tokens (None: all names).

        For compatibility with programs that read control tokens from text; never for text from a
        user.
        """
        allowed = set(self._special if marks is None else marks)
        return self._bpe.encode(self._normal(text), allowed_special=allowed, disallowed_special=())

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the ids of each text."""
        return [self.encode(text) for text in texts]

    @checked
    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of ``ids``; cut UTF-8 becomes U+FFFD."""
        return "".join(self._decode(ids, skip_special))

    def _decode(self, ids: Sequence[int], skip_special: bool) -> Iterator[str]:
        for special, run in groupby(map(int, ids), self._names.__contains__):
            if not special:
                yield self._bpe.decode(list(run), errors="replace")
            elif not skip_special:
                yield from map(self._names.__getitem__, run)

    def _normal(self, text: str) -> str:
        if text.isascii():  # is in every normal form, and has no surrogate
            return text
        text = check_text(text)
        return unicodedata.normalize(self._form, text) if self._form else text


def _group(pattern: str) -> str:
    """Return a pattern that cuts alike, all before the look-ahead of its last alternatives in one
    group.

    fancy-regex, which tiktoken uses, tries alternatives one after the other where one of them looks
    ahead. A group without any it gives to its faster engine whole: a sixth of the time less.
    """
    front = pattern.removesuffix(_SPACES)
    return pattern if front == pattern else f"(?:{front}){_SPACES}"
