"""Small vocabularies of each kind, made here,
and the published ones from the folder of fixtures.
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path

from mmdata.tokenizers import (
    ChatGLMTokenizer,
    SentencePieceTokenizer,
    TiktokenTokenizer,
    Tokenizer,
    load,
)
from mmdata.tokenizers._files import VOCABULARIES
from mmdata.tokenizers.tiktoken import (
    LLAMA3_PATTERN,
    LLAMA3_SPECIAL,
    QWEN2_SPECIAL,
    QWEN3_SPECIAL,
    QWEN_PATTERN,
    QWEN_SPECIAL,
)
from tests.reference import PACK, file, lacking, references

KINDS = ("chatglm", "llama2", "llama3", "qwen", "qwen2", "qwen3")
_WORDS = (
    "the cat sat on a mat and what is it that you see in this picture of two dogs "
    "question answer 你好 世界 问 答"
)
_BLANKS = [f"<|blank_{n}|>" for n in range(2, 81)]


@functools.cache
def small(kind: str) -> Tokenizer:
    """Return a tokenizer of some three hundred tokens with the control tokens of ``kind``."""
    if kind == "llama2":
        return SentencePieceTokenizer(_sentencepiece(), added={"<video>": 32000, "<image>": 32001})
    if kind == "chatglm":
        controls = ["<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"]
        return ChatGLMTokenizer(_sentencepiece(tuple(controls), ("<n>", "<|tab|>", *_BLANKS)))
    ranks = {bytes([value]): value for value in range(256)}
    ranks |= {word: 256 + n for n, word in enumerate((b"th", b"the", b" th", b" the"))}
    if kind == "llama3":
        return TiktokenTokenizer(ranks, pattern=LLAMA3_PATTERN, special=LLAMA3_SPECIAL)
    special = {"qwen": QWEN_SPECIAL, "qwen2": QWEN2_SPECIAL, "qwen3": QWEN3_SPECIAL}[kind]
    return TiktokenTokenizer(ranks, pattern=QWEN_PATTERN, special=special, form="NFC")


@functools.cache
def published(kind: str, fixtures: Path, **options: bool) -> Tokenizer:
    """Return the tokenizer of the published vocabulary,
    of our own one for our pack; skip where there is none.
    """
    if fixtures == PACK / "fixtures":
        return load(
            kind, file(fixtures, "vocab", VOCABULARIES[kind].names[-1]), verify=False, **options
        )
    return load(kind, published_file(kind, fixtures), **options)


def published_file(kind: str, fixtures: Path) -> Path:
    """Return the published vocabulary file of ``kind``, whatever it is called;
    skip the test where there is none.
    """
    found = find_published(kind, fixtures)
    return found or lacking(
        f"{kind} vocabulary (sha256 {VOCABULARIES[kind].sha256}) in vocab", fixtures
    )


def published_anywhere(kind: str) -> Path:
    """Return the published vocabulary file of ``kind`` from whatever folder has it;
    skip the test where none has.
    """
    folders = [each.fixtures for each in references() if each.fixtures]
    found = [path for folder in folders if (path := find_published(kind, folder))]
    return found[0] if found else lacking(f"{kind} vocabulary in vocab", folders[-1])


@functools.cache
def find_published(kind: str, fixtures: Path) -> Path | None:
    """Return the file in ``vocab`` that is the published
    vocabulary of ``kind``, if there is one.
    """
    for path in sorted(each for each in (fixtures / "vocab").glob("*") if each.is_file()):
        if hashlib.sha256(path.read_bytes()).hexdigest() == VOCABULARIES[kind].sha256:
            return path
    return None


@functools.cache
def _sentencepiece(control: tuple[str, ...] = (), written: tuple[str, ...] = ()) -> bytes:
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([_WORDS] * 20 + _WORDS.split()),
        model_writer=model,
        vocab_size=400,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc" if control else "identity",
        remove_extra_whitespaces=bool(control),
        control_symbols=",".join(control),
        user_defined_symbols=list(written),
        minloglevel=2,
    )
    return model.getvalue()
