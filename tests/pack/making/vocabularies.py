"""Small vocabularies of the four kinds, trained on our words
by sentencepiece and by tiktoken's teaching code.

The single bytes of the tiktoken files have shuffled ids, as in Qwen's: a byte taken for an id is
found.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer, sentencepiece_model_pb2
from tiktoken import Encoding
from tiktoken._educational import SimpleBytePairEncoding, bpe_train

from tests.pack.making.writing import FIXTURES, WORDS

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")
LLAMA3_SPECIAL = (
    ["<|begin_of_text|>", "<|end_of_text|>"]
    + [f"<|reserved_special_token_{n}|>" for n in range(4)]
    + ["<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", "<|eot_id|>"]
    + [f"<|reserved_special_token_{n}|>" for n in range(5, 251)]
)
QWEN_SPECIAL = (
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    + [f"<|extra_{n}|>" for n in range(205)]
    + ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>"]
)
VOCABULARIES = FIXTURES / "vocab"
_TEXT = "\n".join(WORDS)
_NUMBERS = " 100 125 198 250 1000 1250"
_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
    "(USER) ASSISTANT: Question: Answer: 问：答：system user assistant <img></img>"
)


def make() -> None:
    """Write the four files."""
    VOCABULARIES.mkdir(parents=True, exist_ok=True)
    (VOCABULARIES / "llama2_tokenizer.model").write_bytes(_llama2())
    (VOCABULARIES / "ice_text.model").write_bytes(_chatglm())
    _write_ranks(VOCABULARIES / "llama3_tokenizer.model", 460, step=167)
    _write_ranks(VOCABULARIES / "qwen.tiktoken", 440, step=91)


def _lines() -> list[str]:
    return [line for text in (*WORDS, _SYSTEM) for line in text.splitlines() for _ in range(3)]


def _llama2() -> bytes:
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(_lines()),
        model_writer=model,
        vocab_size=620,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _chatglm() -> bytes:
    """A unigram model with ChatGLM's control and written tokens;
    of its folding of characters, what we need.
    """
    folded = {
        0xFF0C: ",",
        0xFF01: "!",
        0xFF1A: ":",
        0xFF1B: ";",
        0xFF1F: "?",
        0xFF21: "A",
        0xFB01: "fi",
        0x0D: " ",
    }
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        rules = Path(folder) / "rules.tsv"
        lines = (
            f"{code:X}\t{' '.join(f'{ord(each):X}' for each in to)}\n"
            for code, to in folded.items()
        )
        rules.write_text("".join(lines), encoding="utf-8")
        SentencePieceTrainer.train(
            sentence_iterator=iter(_lines()),
            model_writer=model,
            vocab_size=800,
            hard_vocab_limit=False,
            model_type="unigram",
            byte_fallback=True,
            normalization_rule_tsv=str(rules),
            control_symbols="<pad>,[MASK],[gMASK],[sMASK],<sop>,<eop>",
            user_defined_symbols=["<n>", "<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 81))],
            num_threads=1,
            minloglevel=2,
        )
    made = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    made.normalizer_spec.normalization_rule_tsv = ""  # the name of a file that is gone
    content: bytes = made.SerializeToString()
    return content


def _write_ranks(path: Path, size: int, step: int) -> None:
    """Learn tokens, runs of digits among them: in Qwen's vocabulary too, which never uses these."""
    learnt = list(
        bpe_train(f"{_TEXT}\n{_SYSTEM}{_NUMBERS * 5}", size, LLAMA3_PATTERN, visualise=None)
    )
    single = [bytes([number * step % 256]) for number in range(256)]
    lines = (
        f"{base64.b64encode(token).decode()} {rank}\n"
        for rank, token in enumerate([*single, *learnt[256:]])
    )
    path.write_text("".join(lines), encoding="ascii")


def ranks(name: str) -> dict[bytes, int]:
    """Return the ranks of a tiktoken file, read as the format says."""
    pairs = (line.split() for line in (VOCABULARIES / name).read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


class Bytes:
    """A byte-level vocabulary by tiktoken, checked against its slow teaching code."""

    def __init__(self, name: str, pattern: str, special: list[str]) -> None:
        found = ranks(name)
        self.special = {each: len(found) + number for number, each in enumerate(special)}
        self.fast = Encoding(
            name, pat_str=pattern, mergeable_ranks=found, special_tokens=self.special
        )
        self._slow = SimpleBytePairEncoding(pat_str=pattern, mergeable_ranks=found)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text that is all text."""
        ids = self.fast.encode_ordinary(text)
        assert ids == self._slow.encode(text, visualise=None), text
        return ids


def llama3() -> Bytes:
    """Return our vocabulary of Llama-3's kind."""
    return Bytes("llama3_tokenizer.model", LLAMA3_PATTERN, LLAMA3_SPECIAL)


def qwen() -> Bytes:
    """Return our vocabulary of Qwen's kind."""
    return Bytes("qwen.tiktoken", QWEN_PATTERN, QWEN_SPECIAL)


def pieces(name: str, *, prefix: bool = True) -> SentencePieceProcessor:
    """Return a SentencePiece model, without the blank
    that it puts before a text if ``prefix`` is false.
    """
    content = (VOCABULARIES / name).read_bytes()
    if prefix:
        return SentencePieceProcessor(model_proto=content)
    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    model.normalizer_spec.add_dummy_prefix = False
    return SentencePieceProcessor(model_proto=model.SerializeToString())
