"""From a file to a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from mmdata._tools.options import NonNegativeInt, check_arguments, checked
from mmdata.errors import TokenError
from mmdata.tokenizers._files import Vocabulary, vocabulary
from mmdata.tokenizers._tokenizer import Tokenizer
from mmdata.tokenizers.chatglm import ChatGLMTokenizer
from mmdata.tokenizers.huggingface import HuggingFaceTokenizer, describe_bpe, rank_lines
from mmdata.tokenizers.sentencepiece import SentencePieceTokenizer
from mmdata.tokenizers.tiktoken import (
    LLAMA3_PATTERN,
    LLAMA3_SPECIAL,
    QWEN2_SPECIAL,
    QWEN3_SPECIAL,
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
    for ``chatglm``, ``added`` for ``qwen2`` and ``qwen3``, which are read from ``tokenizer.json``
    and from ``vocab.json`` beside ``merges.txt`` too. ``verify=False`` takes a file other than the
    published one; any ``tokenizer.json`` is read by
    :class:`mmdata.tokenizers.HuggingFaceTokenizer`.

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
    content = wanted.read_verified(file) if verify and not wanted.by_ranks else file.read_bytes()
    if verify and wanted.by_ranks:
        wanted.verify(_ranks(content, file, wanted), file)
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


def _qwen2(content: bytes, path: Path, *, added: Sequence[str] = QWEN2_SPECIAL) -> Tokenizer:
    if path.suffix != ".json":
        return TiktokenTokenizer(
            read_ranks(content, path), pattern=QWEN_PATTERN, special=added, form="NFC"
        )
    if not isinstance(_read_json(content, path).get("model"), dict):
        merges = path.with_name("merges.txt")
        if not merges.is_file():
            raise TokenError(f"{path} is a vocabulary, and there is no {merges.name} beside it")
        content = describe_bpe(content, merges.read_bytes(), pattern=QWEN_PATTERN, path=path)
    return HuggingFaceTokenizer(content, path=path, added=added)


def _qwen3(content: bytes, path: Path, *, added: Sequence[str] = QWEN3_SPECIAL) -> Tokenizer:
    return _qwen2(content, path, added=added)


def _ranks(content: bytes, path: Path, wanted: Vocabulary) -> bytes:
    """Return the ranks of a vocabulary as tiktoken's text form has them."""
    if path.suffix != ".json":
        return content
    described = _read_json(content, path)
    # A bare vocabulary may have the token "model" too, which is then a number.
    model = described.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else described
    if not isinstance(vocab, dict):
        raise TokenError(f"{path} holds no {wanted.kind} vocabulary; wanted is {wanted}")
    return rank_lines(vocab)


def _read_json(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise TokenError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise TokenError(f"{path} holds {type(found).__name__}, expected an object")
    return found


def _chatglm(content: bytes, path: Path, *, num_image_tokens: NonNegativeInt = 0) -> Tokenizer:
    return ChatGLMTokenizer(content, path=path, num_image_tokens=num_image_tokens)


_READERS: Final[dict[str, Callable[..., Tokenizer]]] = {
    "llama2": _llama2,
    "llama3": _llama3,
    "qwen": _qwen,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "chatglm": _chatglm,
}
