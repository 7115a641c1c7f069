from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.errors import TokenError, UnknownNameError, UsageError
from mmdata.templates import registry
from mmdata.tokenizers import load
from mmdata.tokenizers._files import VOCABULARIES
from tests.reference import PACK
from tests.vocabularies import KINDS, published_file

OURS = PACK / "fixtures" / "vocab"
every_kind = pytest.mark.parametrize("kind", KINDS)
every_family = pytest.mark.parametrize("family", registry.names())
READ = {
    "cogvlm2_video": "llama3",
    "llava_next_video": "llama2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen_vl": "qwen",
    "visualglm": "chatglm",
}


@every_family
def test_a_missing_file_says_which_where_and_its_hash(family: str, tmp_path: Path) -> None:
    wanted = VOCABULARIES[READ[family]]

    with pytest.raises(TokenError) as caught:
        registry.get(family).load_tokenizer(tmp_path / "nothing")

    for word in (str(tmp_path / "nothing"), *wanted.names, wanted.published, wanted.sha256):
        assert word in str(caught.value)


@every_kind
def test_an_empty_folder_is_a_missing_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(TokenError, match=VOCABULARIES[kind].sha256):
        load(kind, tmp_path)


@every_kind
def test_another_file_is_refused_by_its_hash(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a vocabulary")

    with pytest.raises(TokenError, match=r"is not the .* vocabulary.*" + VOCABULARIES[kind].sha256):
        load(kind, tmp_path / "file")


@every_kind
def test_a_file_of_another_form_is_refused_even_unverified(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a vocabulary")

    with pytest.raises(TokenError, match="file"):
        load(kind, tmp_path / "file", verify=False)


@pytest.mark.parametrize("damage", [b"IQ== 0\nIg== 2\n", b"IQ== 0\nIg==\n", b"IQ== 0\n!? x\n"])
def test_a_damaged_line_is_named(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(damage)

    with pytest.raises(TokenError, match="line 2"):
        load("qwen", tmp_path / "file", verify=False)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'qwen'\?.*chatglm"):
        load("qwenvl", "anywhere")


def test_an_option_the_kind_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="legacy"):
        load("qwen", OURS / "qwen.tiktoken", verify=False, legacy=True)


@every_kind
def test_the_published_file_is_taken(kind: str, fixtures: Path) -> None:
    assert load(kind, published_file(kind, fixtures)).encode("hello")


@every_kind
def test_a_vocabulary_of_ones_own_is_taken_unverified_and_refused_otherwise(kind: str) -> None:
    file = OURS / VOCABULARIES[kind].names[-1]

    assert load(kind, file, verify=False).encode("hello")
    with pytest.raises(TokenError, match="verify=False"):
        load(kind, file)


def test_a_folder_stands_for_the_file_in_it() -> None:
    read = registry.get("qwen_vl").load_tokenizer
    assert read(OURS, verify=False).encode("a") == read(
        OURS / "qwen.tiktoken", verify=False
    ).encode("a")
