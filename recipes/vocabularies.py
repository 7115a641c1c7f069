"""Small vocabularies of single bytes in the form of each family, for models that are to be small
themselves.
"""

from __future__ import annotations

import io

from mmdata.tokenizers import ChatGLMTokenizer, SentencePieceTokenizer, TiktokenTokenizer, Tokenizer
from mmdata.tokenizers.tiktoken import LLAMA3_PATTERN, LLAMA3_SPECIAL, QWEN_PATTERN, QWEN_SPECIAL

CHATGLM_CONTROL = ("<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
CHATGLM_WRITTEN = ("<n>", "<|tab|>", *(f"<|blank_{n}|>" for n in range(2, 81)))


def byte_tokenizer(family: str) -> Tokenizer:
    """A tokenizer of a few hundred tokens: the 256 bytes and the control tokens of the family's
    own.

    As in Llama-3, numbers of two digits are one token for CogVLM2-Video; elsewhere numbers come
    apart into digits.
    """
    ranks = {bytes([value]): value for value in range(256)}
    if family == "cogvlm2_video":
        ranks |= {b"%02d" % number: 256 + number for number in range(100)}
        return TiktokenTokenizer(ranks, pattern=LLAMA3_PATTERN, special=LLAMA3_SPECIAL)
    if family == "qwen_vl":
        return TiktokenTokenizer(ranks, pattern=QWEN_PATTERN, special=QWEN_SPECIAL, form="NFC")
    if family == "visualglm":
        return ChatGLMTokenizer(_letters(CHATGLM_CONTROL, CHATGLM_WRITTEN))
    model = _letters()
    size = SentencePieceTokenizer(model).vocab_size
    return SentencePieceTokenizer(model, added={"<video>": size, "<image>": size + 1})


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
