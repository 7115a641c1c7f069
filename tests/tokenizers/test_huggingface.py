"""Vocabularies in Hugging Face's form: the ids of the same vocabulary in tiktoken's form."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import TokenError
from mmdata.tokenizers import HuggingFaceTokenizer, TiktokenTokenizer, load
from mmdata.tokenizers.huggingface import byte_letters, describe_bpe, rank_lines
from mmdata.tokenizers.tiktoken import QWEN2_SPECIAL, QWEN3_SPECIAL, QWEN_PATTERN, read_ranks

LETTERS = byte_letters()
MERGES = ("t h", "th e", "Ġ the", "Ġ a", "Ã ©")
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["the <|im_end|> theatre", "e\u0301 a the", "<think>hm</think>", "  \n\n the\n", "北京 123"]
)


def files(folder: Path) -> Path:
    """Write a vocabulary of bytes and a few merges in both forms of Hugging Face's."""
    vocab = {LETTERS[value]: value for value in range(256)}
    for merge in MERGES:
        vocab[merge.replace(" ", "")] = len(vocab)
    bare = folder / "bare"
    bare.mkdir(parents=True)
    (bare / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    merges = "#version: 0.2\n" + "\n".join(MERGES) + "\n"
    (bare / "merges.txt").write_text(merges, encoding="utf-8")
    (folder / "qwen.tiktoken").write_bytes(rank_lines(vocab))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return files(tmp_path_factory.mktemp("vocabulary"))


def test_ranks_are_the_same_from_either_form(folder: Path) -> None:
    vocab = json.loads((folder / "bare" / "vocab.json").read_text(encoding="utf-8"))
    ranks = read_ranks((folder / "qwen.tiktoken").read_bytes(), "")

    assert len(ranks) == len(vocab)
    assert ranks[b" the"] == vocab["Ġthe"]
    with pytest.raises(TokenError, match="is not of a byte-level vocabulary"):
        rank_lines({"北": 0})


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_vocabulary_of_other_ranks_is_refused_whatever_its_form(kind: str, folder: Path) -> None:
    for path in (folder / "bare", folder / "qwen.tiktoken"):
        with pytest.raises(TokenError, match=f"is not the {kind} vocabulary"):
            load(kind, path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[", "is not JSON"),
        (b"[1]", "holds list, expected an object"),
        (b'{"model": {"type": "BPE"}}', "holds no qwen2 vocabulary"),
        (b'{"a": 0}', "is not the qwen2 vocabulary"),
    ],
)
def test_a_file_of_another_kind_is_refused(content: bytes, fault: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(content)

    with pytest.raises(TokenError, match=fault):
        load("qwen2", tmp_path)


def test_merges_that_are_missing_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', encoding="utf-8")

    with pytest.raises(TokenError, match=r"there is no merges\.txt beside it"):
        load("qwen2", tmp_path, verify=False)


class TestWithThePackage:
    """What needs the package ``tokenizers``."""

    @pytest.fixture(autouse=True)
    def _needs(self) -> None:
        pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")

    @pytest.fixture
    def pair(self, folder: Path) -> tuple[HuggingFaceTokenizer, TiktokenTokenizer]:
        theirs = load("qwen3", folder / "bare", verify=False)
        ours = load("qwen3", folder / "qwen.tiktoken", verify=False)
        assert isinstance(theirs, HuggingFaceTokenizer)
        assert isinstance(ours, TiktokenTokenizer)
        return theirs, ours

    def test_ids_are_those_of_the_other_form(
        self, pair: tuple[HuggingFaceTokenizer, TiktokenTokenizer]
    ) -> None:
        theirs, ours = pair

        @settings(max_examples=60)
        @given(text=TEXTS)
        def check(text: str) -> None:
            ids = theirs.encode(text)
            assert ids == ours.encode(text)
            assert not set(ids) & set(theirs.special.values())
            assert theirs.encode_marked(text) == ours.encode_marked(text)
            assert theirs.decode(ids) == ours.decode(ids)

        check()

    def test_control_tokens_are_those_of_the_family(
        self, pair: tuple[HuggingFaceTokenizer, TiktokenTokenizer]
    ) -> None:
        theirs, ours = pair

        assert theirs.special == ours.special
        assert list(theirs.special) == list(QWEN3_SPECIAL)
        assert theirs.vocab_size == ours.vocab_size
        ids = [theirs.special["<think>"], *theirs.encode("hm")]
        assert theirs.decode(ids) == "<think>hm"
        assert theirs.decode(ids, skip_special=True) == "hm"
        assert theirs.encode_batch(["the", "a"]) == [ours.encode("the"), ours.encode("a")]

    def test_a_whole_tokenizer_json_keeps_the_ids_that_it_gives(self, folder: Path) -> None:
        vocab, merges = (folder / "bare" / name for name in ("vocab.json", "merges.txt"))
        described = json.loads(
            describe_bpe(vocab.read_bytes(), merges.read_bytes(), pattern=QWEN_PATTERN, path=vocab)
        )
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        own = {"id": 400, "content": "<|im_end|>", **flags, "special": True}
        described["added_tokens"] = [own]
        content = json.dumps(described).encode()

        found = HuggingFaceTokenizer(content, added=QWEN2_SPECIAL)

        assert found.special["<|im_end|>"] == 400
        assert found.special["<|endoftext|>"] == 401
        assert set(found.special) == set(QWEN2_SPECIAL)
        assert 400 not in found.encode("<|im_end|>")
        assert HuggingFaceTokenizer(content).special == {"<|im_end|>": 400}

    def test_it_survives_pickling(
        self, pair: tuple[HuggingFaceTokenizer, TiktokenTokenizer]
    ) -> None:
        again = pickle.loads(pickle.dumps(pair[0]))

        assert again.encode("the theatre") == pair[0].encode("the theatre")

    @pytest.mark.parametrize("content", [b"{}", b'{"model": {"type": "none"}}', b"no"])
    def test_what_is_no_tokenizer_is_refused(self, content: bytes) -> None:
        with pytest.raises(TokenError):
            HuggingFaceTokenizer(content, path="tokenizer.json")

    def test_a_lone_surrogate_is_refused(
        self, pair: tuple[HuggingFaceTokenizer, TiktokenTokenizer]
    ) -> None:
        with pytest.raises(TokenError, match="lone surrogate"):
            pair[0].encode("a\ud800")
