"""Ids of the reference tokenizers: equal, one by one."""

from __future__ import annotations

from pathlib import Path

from mmdata.tokenizers import ChatGLMTokenizer, TiktokenTokenizer, Tokenizer
from tests.golden.runs import unroll
from tests.reference import cases, files, read, some
from tests.vocabularies import published


def test_llama3_ids_are_those_of_the_reference(golden: Path, fixtures: Path) -> None:
    tokenizer = published("llama3", fixtures)
    assert isinstance(tokenizer, TiktokenTokenizer)

    for case in cases(golden / "cogvlm2_video", "llama3_tokenizer_cases.json"):
        assert tokenizer.encode(case["text"]) == case["ids_plain"]
        assert tokenizer.encode_marked(case["text"]) == case["ids_parse_special"]
        assert tokenizer.decode(case["ids_plain"]) == case["text"]


def test_chatglm_ids_are_those_of_the_reference(golden: Path, fixtures: Path) -> None:
    tokenizer = published("chatglm", fixtures)
    assert isinstance(tokenizer, ChatGLMTokenizer)

    for case in cases(golden / "visualglm", "tokenizer_cases.json"):
        assert tokenizer.encode(case["text"]) == case["ids_plain"]
        assert tokenizer.decode(case["ids_plain"]) == case["decode_plain"]
        assert tokenizer.decode(case["ids_hf"]) == case["decode_hf"]


def test_qwen_special_ids_are_those_of_the_reference(golden: Path, fixtures: Path) -> None:
    tokenizer = published("qwen", fixtures)
    told = [read(path) for path in files(golden / "qwen_vl", "tokenizer.json")]
    for named in some(
        (each["special"] for each in told if "special" in each), "special tokens", golden
    ):
        _has(tokenizer, named)


def _has(tokenizer: Tokenizer, named: dict[str, int]) -> None:
    marks = {f"<|{name}|>": token for name, token in named.items()}
    marks |= {f"<{name}>": token for name, token in named.items()}
    marks |= {
        f"</{name.removesuffix('_end')}>": token
        for name, token in named.items()
        if name.endswith("_end")
    }

    found = [name for name in marks if name in tokenizer.special]
    assert len(found) >= len([token for token in named.values() if token < named["n_vocab"]])
    assert all(tokenizer.special[name] == marks[name] for name in found if name != "<|ref|>")
    assert tokenizer.vocab_size == named["n_vocab"]


def test_qwen_ids_are_those_of_the_reference_where_it_reads_no_image(
    golden: Path, fixtures: Path
) -> None:
    tokenizer = published("qwen", fixtures)
    assert isinstance(tokenizer, TiktokenTokenizer)

    for case in cases(golden / "qwen_vl", "tokenizer.json", "cases"):
        if "<img>" in case["text"]:
            continue
        ids = unroll(case["ids"]) if case["rle"] else case["ids"]
        assert tokenizer.encode_marked(case["text"]) == ids
        assert tokenizer.decode(ids) == case["decoded"]
        assert tokenizer.decode(ids, skip_special=True) == case["decoded_skip_special"]


def test_qwen_decodes_as_the_reference(golden: Path, fixtures: Path) -> None:
    tokenizer = published("qwen", fixtures)

    for case in cases(golden / "qwen_vl", "tokenizer.json", "decode"):
        assert tokenizer.decode(case["ids"]) == case["text"]
        assert tokenizer.decode(case["ids"], skip_special=True) == case["text_skip"]
