"""From a file to a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from mmdata._tools.options import NonNegativeInt, check_arguments, checked
from mmdata.tokenizers._files import vocabulary
from mmdata.tokenizers._tokenizer import Tokenizer
from mmdata.tokenizers.chatglm import ChatGLMTokenizer
from mmdata.tokenizers.sentencepiece import SentencePieceTokenizer
from mmdata.tokenizers.tiktoken import (
    LLAMA3_PATTERN,
    LLAMA3_SPECIAL,
    QWEN_PATTERN,
    QWEN_SPECIAL,
    TiktokenTokenizer,
    read_ranks,
)

__all__ = ["load"]

_MEDIA_TOKENS: Final[Mapping[str, int]] = MappingProxyType({"<video>": 32000, "<image>": 32001})
"""What the published checkpoints that read media add
to Llama 2's vocabulary, with the ids they give it.
"""


@checked
def load(kind: str, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
    """Return the tokenizer of a kind of vocabulary (``llama2``)
    from the vocabulary's file or its folder.

    A model family says by :meth:`mmdata.templates.Template.load_tokenizer` which kind it reads.

    ``options`` are those of the kind: ``legacy`` and ``added`` for ``llama2``, ``num_image_tokens``
    for ``chatglm``. ``verify=False`` takes a file other than the published one.

    Raises:
        UnknownNameError: no such kind.
        UsageError: an option that the kind does not have.
        TokenError: no such file, or not the published one; the message says which, where it is, and
            its sha256.
    """
    wanted = vocabulary(kind)
    reader = _READERS[wanted.kind]
    check_arguments(reader, options)
    file = wanted.find(path)
    content = wanted.read_verified(file) if verify else file.read_bytes()
    return reader(content, file, **options)


def _llama2(
    content: bytes, path: Path, *, added: Mapping[str, int] = _MEDIA_TOKENS, legacy: bool = True
) -> Tokenizer:
    return SentencePieceTokenizer(content, path=path, added=added, legacy=legacy)


def _llama3(content: bytes, path: Path) -> Tokenizer:
    return TiktokenTokenizer(
        read_ranks(content, path), pattern=LLAMA3_PATTERN, special=LLAMA3_SPECIAL
    )


def _qwen(content: bytes, path: Path) -> Tokenizer:
    return TiktokenTokenizer(
        read_ranks(content, path), pattern=QWEN_PATTERN, special=QWEN_SPECIAL, form="NFC"
    )


def _chatglm(content: bytes, path: Path, *, num_image_tokens: NonNegativeInt = 0) -> Tokenizer:
    return ChatGLMTokenizer(content, path=path, num_image_tokens=num_image_tokens)


_READERS: Final[dict[str, Callable[..., Tokenizer]]] = {
    "llama2": _llama2,
    "llama3": _llama3,
    "qwen": _qwen,
    "chatglm": _chatglm,
}
