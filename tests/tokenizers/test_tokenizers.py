from __future__ import annotations

import functools
import pickle
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiktoken import Encoding

import mmdata.tokenizers
from mmdata.errors import TokenError
from mmdata.tokenizers import SentencePieceTokenizer, TiktokenTokenizer, Tokenizer
from mmdata.tokenizers.tiktoken import LLAMA3_PATTERN, QWEN_PATTERN
from tests.vocabularies import KINDS, published, small

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
control = {kind: sorted(small(kind).special) for kind in KINDS}
_SHAPES = " \n\r\t'sLa1!"
"""Letters, digits, signs and spaces, and what makes a contraction."""
every_kind = pytest.mark.parametrize("kind", KINDS)


def test_everything_that_is_exported_is_there() -> None:
    assert all(hasattr(mmdata.tokenizers, name) for name in mmdata.tokenizers.__all__)


@every_kind
def test_each_kind_is_a_tokenizer(kind: str) -> None:
    assert isinstance(small(kind), Tokenizer)


@pytest.mark.slow
@every_kind
@given(data=st.data())
def test_no_text_becomes_a_control_token(kind: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(texts | st.sampled_from(control[kind]), max_size=6))
    tokenizer = small(kind)

    ids = tokenizer.encode("".join(pieces))

    unknown = {tokenizer.special.get("<unk>")}
    assert not (set(ids) & set(tokenizer.special.values())) - unknown
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


@every_kind
def test_every_control_string_typed_by_a_user_stays_text(kind: str) -> None:
    tokenizer = small(kind)

    for name, token in tokenizer.special.items():
        assert token not in tokenizer.encode(f"say {name} now")


@pytest.mark.parametrize("kind", ["llama2", "llama3"])
@given(text=texts)
def test_decoding_gives_the_text_back(kind: str, text: str) -> None:
    assert small(kind).decode(small(kind).encode(text)) == text


@given(text=texts)
def test_decoding_gives_the_composed_text_back_for_qwen(text: str) -> None:
    assert small("qwen").decode(small("qwen").encode(text)) == unicodedata.normalize("NFC", text)


@given(text=st.text("ab \n\t", max_size=200))
def test_white_space_survives_chatglm_but_for_a_lone_blank_at_the_edge(text: str) -> None:
    tokenizer = small("chatglm")

    assert tokenizer.decode(tokenizer.encode(f"a{text}b")) == f"a{text}b"


@pytest.mark.slow
@every_kind
@given(batch=st.lists(texts, max_size=5))
def test_a_batch_gives_what_each_text_gives(kind: str, batch: list[str]) -> None:
    assert small(kind).encode_batch(batch) == [small(kind).encode(text) for text in batch]


@pytest.mark.parametrize("kind", ["llama2", "llama3", "qwen"])
def test_control_tokens_decode_to_their_names_or_to_nothing(kind: str) -> None:
    tokenizer = small(kind)
    name, token = random.Random(0).choice([*tokenizer.special.items()])
    ids = [*tokenizer.encode("the"), token, *tokenizer.encode("cat")]

    assert tokenizer.decode(ids) == f"the{name}cat"
    assert tokenizer.decode(ids, skip_special=True) == "thecat"


@given(
    text=st.lists(
        st.sampled_from([" ", "\u2581", "a", "the", "\n", "\t", "你", "́", "ﬁ"]) | texts
    ).map("".join)
)
def test_words_that_are_remembered_give_the_ids_that_the_whole_text_has(text: str) -> None:
    _same_as_without_memory(small("llama2"), text)


@given(
    text=st.lists(
        st.sampled_from([" ", "\u2581", "a", "the", "\n", "\t", "你", "́", "ﬁ"]) | texts
    ).map("".join)
)
def test_words_that_are_remembered_give_the_published_ids(fixtures: Path, text: str) -> None:
    _same_as_without_memory(published("llama2", fixtures), text)


@every_kind
def test_a_tokenizer_can_be_sent_to_another_process(kind: str) -> None:
    tokenizer = small(kind)

    sent = pickle.loads(pickle.dumps(tokenizer))

    assert sent.encode("the cat 你好") == tokenizer.encode("the cat 你好")
    assert sent.special == tokenizer.special


def test_an_image_token_offset_shifts_every_id() -> None:
    from mmdata.tokenizers import ChatGLMTokenizer
    from tests.vocabularies import _sentencepiece

    plain = small("chatglm")
    model = _sentencepiece(*_chatglm_symbols())

    shifted = ChatGLMTokenizer(model, num_image_tokens=20000)

    assert shifted.encode("the cat") == [token + 20000 for token in plain.encode("the cat")]
    assert shifted.special == {name: token + 20000 for name, token in plain.special.items()}
    assert shifted.decode(shifted.encode("the cat")) == "the cat"


def test_text_after_a_control_token_has_no_blank_before_it_unless_legacy() -> None:
    from tests.vocabularies import _sentencepiece

    modern = SentencePieceTokenizer(_sentencepiece(), legacy=False)
    legacy = SentencePieceTokenizer(_sentencepiece(), legacy=True)

    assert legacy.encode_after_special("the cat") == legacy.encode("the cat")
    assert modern.encode_after_special("the cat") != modern.encode("the cat")
    assert modern.decode(modern.encode_after_special("the cat")) == "the cat"
    assert modern.encode_after_special("") == []


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [LLAMA3_PATTERN, QWEN_PATTERN, r"\w+|\W"])
@given(text=st.text(_SHAPES, max_size=20) | texts)
def test_words_are_cut_as_the_published_pattern_cuts_them(pattern: str, text: str) -> None:
    ranks = _pairs()

    ids = TiktokenTokenizer(ranks, pattern=pattern, special=[]).encode(text)

    published = Encoding("", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    assert ids == published.encode_ordinary(text)


@functools.cache
def _pairs() -> dict[bytes, int]:
    """Return ranks of bytes and of any two characters of each kind, which meet unless a cut is
    between them.
    """
    pairs = [one + other for one in _SHAPES for other in _SHAPES]
    tokens = [bytes([value]) for value in range(256)] + [pair.encode() for pair in pairs]
    return {token: rank for rank, token in enumerate(tokens)}


def _same_as_without_memory(tokenizer: Tokenizer, text: str) -> None:
    assert isinstance(tokenizer, SentencePieceTokenizer)
    assert tokenizer._words is not None
    assert tokenizer.encode(text) == tokenizer.encode_batch([text])[0]


def _chatglm_symbols() -> tuple[tuple[str, ...], tuple[str, ...]]:
    from tests.vocabularies import _BLANKS

    return ("<pad>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"), ("<n>", "<|tab|>", *_BLANKS)


@every_kind
@pytest.mark.parametrize("text", ["half \ud83d of a smile", "\udc00", "你好\udfff"])
def test_half_a_character_is_refused_and_never_read_as_another(kind: str, text: str) -> None:
    tokenizer = small(kind)

    for encode in (tokenizer.encode, lambda text: tokenizer.encode_batch(["the cat", text])):
        with pytest.raises(TokenError, match=r"a lone surrogate, which is no character, at char"):
            encode(text)
