"""Small vocabularies of single bytes in the form of each kind, for models that are to be small
themselves.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from mmdata.errors import ConfigError, nearest
from mmdata.tokenizers import ChatGLMTokenizer, SentencePieceTokenizer, TiktokenTokenizer, Tokenizer
from mmdata.tokenizers.tiktoken import (
    LLAMA3_PATTERN,
    LLAMA3_SPECIAL,
    QWEN2_SPECIAL,
    QWEN3_SPECIAL,
    QWEN_PATTERN,
    QWEN_SPECIAL,
)

CHATGLM_CONTROL = ("<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
CHATGLM_WRITTEN = ("<n>", "<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 81)))

_BYTES: Final = {bytes([value]): value for value in range(256)}


def byte_tokenizer(kind: str) -> Tokenizer:
    """A tokenizer of a few hundred tokens: the 256 bytes and the control tokens of a kind of
    vocabulary.

    Raises:
        ConfigError: for a kind that has no such form.
    """
    if kind not in _MAKERS:
        raise ConfigError(
            f"no vocabulary of bytes in the form of {kind!r}.{nearest(kind, _MAKERS)} "
            f"There are: {', '.join(_MAKERS)}. Give tokenizer.path a file."
        )
    return _MAKERS[kind]()


def _llama2() -> Tokenizer:
    model = _letters()
    size = SentencePieceTokenizer(model).vocab_size
    return SentencePieceTokenizer(model, added={"<video>": size, "<image>": size + 1})


def _llama3() -> Tokenizer:
    """Numbers of two digits are one token, as in Llama-3; elsewhere they come apart into digits."""
    numbers = {b"%02d" % number: 256 + number for number in range(100)}
    return TiktokenTokenizer(_BYTES | numbers, pattern=LLAMA3_PATTERN, special=LLAMA3_SPECIAL)


def _qwen(special: Sequence[str] = QWEN_SPECIAL) -> Tokenizer:
    return TiktokenTokenizer(_BYTES, pattern=QWEN_PATTERN, special=special, form="NFC")


def _chatglm() -> Tokenizer:
    return ChatGLMTokenizer(_letters(CHATGLM_CONTROL, CHATGLM_WRITTEN))


def _letters(control: tuple[str, ...] = (), written: tuple[str, ...] = ()) -> bytes:
    """A SentencePiece model of printable ASCII and bytes."""
    from sentencepiece import SentencePieceTrainer

    letters = [chr(code) for code in range(33, 127)]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(letters * 2),
        model_writer=model,
        vocab_size=360 + len(control) + len(written),
        hard_vocab_limit=False,
        model_type="char",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc" if control else "identity",
        control_symbols=",".join(control),
        user_defined_symbols=list(written),
        minloglevel=2,
    )
    return model.getvalue()


_MAKERS: Final[Mapping[str, Callable[[], Tokenizer]]] = {
    "llama2": _llama2,
    "llama3": _llama3,
    "qwen": _qwen,
    "qwen2": partial(_qwen, QWEN2_SPECIAL),
    "qwen3": partial(_qwen, QWEN3_SPECIAL),
    "chatglm": _chatglm,
}
"""By the kinds of vocabulary of `mmdata.tokenizers.load`;
a model file says which its family reads.
"""
