"""Where the ids of control tokens are,
how text is cut before it is merged, and which file is taken.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.errors import TokenError
from mmdata.templates.llava_next_video import LlavaNextVideo
from mmdata.tokenizers import SentencePieceTokenizer, TiktokenTokenizer, load
from mmdata.tokenizers.tiktoken import LLAMA3_PATTERN, LLAMA3_SPECIAL, QWEN_PATTERN, QWEN_SPECIAL
from tests.vocabularies import _sentencepiece, small

MERGES = [b"12", b"123", b"1234", b"Sx", b"'Sx", b"\n\n", b" \n", b"ab", b"b\n", b"!\n"]


def merging(pattern: str) -> TiktokenTokenizer:
    """A tokenizer that merges across every place where the patterns are to cut."""
    ranks = {bytes([value]): value for value in range(256)} | {
        word: 256 + n for n, word in enumerate(MERGES)
    }
    return TiktokenTokenizer(ranks, pattern=pattern, special=["<|end|>", "<|other|>"])


def pieces(pattern: str, text: str) -> list[str]:
    tokenizer = merging(pattern)
    return [tokenizer.decode([token]) for token in tokenizer.encode(text)]


def test_llama_3_cuts_digits_in_threes_and_qwen_one_by_one() -> None:
    assert pieces(LLAMA3_PATTERN, "12345") == ["123", "4", "5"]
    assert pieces(QWEN_PATTERN, "12345") == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("pattern", [LLAMA3_PATTERN, QWEN_PATTERN], ids=["llama3", "qwen"])
def test_words_are_cut_as_the_patterns_say(pattern: str) -> None:
    assert pieces(pattern, "a'Sx") == ["a", "'", "S", "x"]  # a contraction, in capitals too
    assert pieces(pattern, "ab\n") == ["ab", "\n"]
    assert pieces(pattern, "!\n") == ["!\n"]  # marks take the newlines after them
    assert pieces(pattern, "a \n\nb") == ["a", " ", "\n\n", "b"]


def test_control_tokens_of_llama_3_have_the_places_of_its_checkpoints() -> None:
    places = {name: number for number, name in enumerate(LLAMA3_SPECIAL)}

    assert len(LLAMA3_SPECIAL) == len(places) == 256
    assert [
        places[name] for name in ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>")
    ] == [0, 1, 6]
    assert [places[name] for name in ("<|end_header_id|>", "<|eot_id|>")] == [7, 9]
    assert [places[f"<|reserved_special_token_{n}|>"] for n in (0, 3, 4, 5, 250)] == [
        2,
        5,
        8,
        10,
        255,
    ]


def test_control_tokens_of_qwen_have_the_places_of_its_checkpoints() -> None:
    names = [
        "<ref>",
        "</ref>",
        "<box>",
        "</box>",
        "<quad>",
        "</quad>",
        "<img>",
        "</img>",
        "<imgpad>",
    ]
    ids = {name: 151643 + number for number, name in enumerate(QWEN_SPECIAL)}

    assert [
        ids[name] for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>")
    ] == [*range(151643, 151647)]
    assert [ids[name] for name in names] == [*range(151851, 151860)]


def test_of_control_tokens_in_a_text_of_ours_those_that_are_named_are_meant() -> None:
    tokenizer = merging(QWEN_PATTERN)
    end, other = tokenizer.special["<|end|>"], tokenizer.special["<|other|>"]
    text = "a<|end|>b<|other|>"

    everything, named = tokenizer.encode_marked(text), tokenizer.encode_marked(text, ["<|end|>"])

    assert [token for token in everything if token >= end] == [end, other]
    assert [token for token in named if token >= end] == [end]
    assert tokenizer.decode(everything) == tokenizer.decode(named) == text


def test_more_blanks_than_the_longest_run_are_several_runs() -> None:
    tokenizer = small("chatglm")
    longest = tokenizer.encode("a" + " " * 80 + "b")[1:-1]

    assert len(longest) == 1
    assert tokenizer.encode("a" + " " * 82 + "b")[1] == longest[0]
    assert len(tokenizer.encode("a" + " " * 160 + "b")) == 4
    assert tokenizer.decode(tokenizer.encode("a" + " " * 83 + "b")) == "a" + " " * 83 + "b"


def test_the_size_of_a_vocabulary_is_one_more_than_its_last_id() -> None:
    from mmdata.tokenizers import ChatGLMTokenizer

    model = _sentencepiece()

    assert small("llama2").vocab_size == 32002
    assert SentencePieceTokenizer(model).vocab_size < 1000
    assert SentencePieceTokenizer(model, added={"<a>": 5000, "<b>": 900}).vocab_size == 5001
    shifted, plain = ChatGLMTokenizer(model, num_image_tokens=20000), ChatGLMTokenizer(model)
    assert shifted.vocab_size == plain.vocab_size + 20000


def test_the_tokens_of_llava_are_added_where_its_checkpoints_have_them_unless_others_are_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(_sentencepiece())

    plain = LlavaNextVideo.load_tokenizer(tmp_path, verify=False)
    named = load("llama2", tmp_path, verify=False, added={"<x>": 40000})

    assert (plain.special["<video>"], plain.special["<image>"]) == (32000, 32001)
    assert named.special["<x>"] == 40000
    assert "<image>" not in named.special


@pytest.mark.parametrize("name", ["tokenizer.model", "llama2_tokenizer.model"])
def test_a_vocabulary_is_found_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(TokenError, match="no llama2 vocabulary"):
        load("llama2", tmp_path, verify=False)
    (tmp_path / name).write_bytes(_sentencepiece())

    assert load("llama2", tmp_path, verify=False).encode("the cat")
