"""The published vocabulary files: their names, where they are, and how to know the right one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmdata.errors import TokenError, UnknownNameError, nearest

__all__ = ["VOCABULARIES", "Vocabulary", "vocabulary"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A published vocabulary file: the ``names`` it goes by,
    where it is ``published``, the ``sha256`` of its bytes.

    ``by_ranks`` is for a vocabulary of several forms: the hash is of its ranks as tiktoken's text
    form has them, whichever file they come from.
    """

    kind: str
    names: tuple[str, ...]
    published: str
    sha256: str
    by_ranks: bool = False

    def find(self, path: str | Path) -> Path:
        """Return the file at ``path``, or the one of its names in the folder ``path``.

        Raises:
            TokenError: there is none; the message says what to look for.
        """
        place = Path(path)
        for candidate in [place / name for name in self.names] if place.is_dir() else [place]:
            if candidate.is_file():
                return candidate
        raise TokenError(f"no {self.kind} vocabulary at {place}; wanted is {self}")

    def read_verified(self, path: Path) -> bytes:
        """Return the bytes of the file at ``path``.

        Raises:
            TokenError: they are not those that were published.
        """
        content = path.read_bytes()
        self.verify(content, path)
        return content

    def verify(self, content: bytes, path: Path) -> None:
        """Refuse bytes that are not those that were published; ``path`` is where they are from.

        Raises:
            TokenError: they are not.
        """
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise TokenError(
                f"{path} ({len(content)} bytes, sha256 {found}) is not the {self.kind} vocabulary; "
                f"wanted is {self}. A vocabulary of your own is loaded with verify=False."
            )

    def __str__(self) -> str:
        return f"{' or '.join(self.names)} from {self.published}, sha256 {self.sha256}"


# The hashes are of the files themselves, as they are published.
VOCABULARIES: Final = {
    vocabulary.kind: vocabulary
    for vocabulary in (
        Vocabulary(
            "llama2",
            ("tokenizer.model", "llama2_tokenizer.model"),
            "huggingface.co/llava-hf/LLaVA-NeXT-Video-7B-hf or huggingface.co/lmsys/vicuna-7b-v1.5",
            "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347",
        ),
        Vocabulary(
            "llama3",
            ("tokenizer.model", "llama3_tokenizer.model"),
            "huggingface.co/meta-llama/Meta-Llama-3-8B (folder original)",
            "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
        ),
        Vocabulary(
            "qwen",
            ("qwen.tiktoken",),
            "huggingface.co/Qwen/Qwen-VL or huggingface.co/Qwen/Qwen-VL-Chat",
            "6cf5f2a2560a7d581548aeb0c31c6a60de2d3e873152346e421affc871699be4",
        ),
        Vocabulary(
            "qwen2",
            ("tokenizer.json", "vocab.json", "qwen.tiktoken"),
            "the folder of a checkpoint of Qwen2 or later, or huggingface.co/Qwen/Qwen-VL",
            "6cf5f2a2560a7d581548aeb0c31c6a60de2d3e873152346e421affc871699be4",
            by_ranks=True,
        ),
        Vocabulary(
            "qwen3",
            ("tokenizer.json", "vocab.json", "qwen.tiktoken"),
            "the folder of a checkpoint of Qwen3, or huggingface.co/Qwen/Qwen-VL",
            "6cf5f2a2560a7d581548aeb0c31c6a60de2d3e873152346e421affc871699be4",
            by_ranks=True,
        ),
        Vocabulary(
            "chatglm",
            ("ice_text.model",),
            "huggingface.co/THUDM/visualglm-6b or huggingface.co/THUDM/chatglm-6b",
            "5e974d9a69c242ce014c88c2b26089270f6198f3c0b700a887666cd3e816f17e",
        ),
    )
}
"""The vocabularies by kind."""


def vocabulary(kind: str) -> Vocabulary:
    """Return the vocabulary of a kind.

    Raises:
        UnknownNameError: no such kind; the message lists those there are.
    """
    if kind not in VOCABULARIES:
        raise UnknownNameError(
            f"no tokenizer of the kind {kind!r}.{nearest(kind, VOCABULARIES)} "
            f"There are: {', '.join(VOCABULARIES)}."
        )
    return VOCABULARIES[kind]
