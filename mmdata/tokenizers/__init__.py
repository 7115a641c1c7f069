"""Text to token ids and back, for the vocabularies that models read;
:func:`load` reads one from a file.
"""

from __future__ import annotations

from mmdata.tokenizers._load import load
from mmdata.tokenizers._tokenizer import MarkedTokenizer, Tokenizer
from mmdata.tokenizers.chatglm import ChatGLMTokenizer
from mmdata.tokenizers.huggingface import HuggingFaceTokenizer
from mmdata.tokenizers.sentencepiece import SentencePieceTokenizer
from mmdata.tokenizers.tiktoken import TiktokenTokenizer

__all__ = [
    "ChatGLMTokenizer",
    "HuggingFaceTokenizer",
    "MarkedTokenizer",
    "SentencePieceTokenizer",
    "TiktokenTokenizer",
    "Tokenizer",
    "load",
]
