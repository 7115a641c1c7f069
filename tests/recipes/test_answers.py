"""Predictions from the command line: a store's split, ended and begun again, shared and joined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import pytest

import mmdata
from mmdata.schema import Media, replace
from recipes import predict
from tests.recipes.test_divided import start_in_two
from tests.recipes.test_finetune import QWEN, stores
from tests.stores import write

__all__ = ["stores"]

pytestmark = pytest.mark.mindspore
OPTIONS = ["graph=false", "generation.length=384", "generation.max_new_tokens=3"]


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_a_split_is_answered_beside_its_references_and_a_later_run_goes_on(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    pictures = mmdata.open(stores["splits"])
    rows = [pictures.located(n) for n in range(len(pictures)) if pictures[n].split == "val"][:3]
    rows[1] = replace(rows[1], media=(Media("image", path="/nowhere.png"),))
    write(tmp_path / "store", [*rows, replace(rows[0], id="other", split="train")])
    ask = [str(QWEN), *OPTIONS, "--store", str(tmp_path / "store"), "--split", "val"]
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"

    assert predict.main([*ask, "--output", str(whole)]) == 1

    found = lines(whole)
    assert [one["position"] for one in found] == [0, 1, 2]
    assert [one["id"] for one in found] == [row.id for row in rows]
    assert [one["reference"] for one in found] == [row.messages[-1].text.strip() for row in rows]
    assert [sorted(one)[0] for one in found] == ["answer", "error", "answer"]

    # Ended in the middle of the third line.
    text = whole.read_text()
    third = text.index("\n", text.index("\n") + 1) + 10
    resumed.write_text(text[:third])
    before = resumed.stat().st_ino
    predict.main([*ask, "--output", str(resumed), "--batch-size", "2"])
    assert resumed.read_text() == text
    assert resumed.stat().st_ino == before

    # What has all its answers builds no model.
    assert predict.main([*ask, "--output", str(whole), "model.weights=/nowhere.safetensors"]) == 1


@pytest.mark.slow
def test_two_processes_share_the_questions_and_the_answers_are_those_of_one(
    tmp_path: Path,
) -> None:
    records = [{"prompt": f"What is {number}?"} for number in range(5)]
    asked = [*map(json.dumps, records), "no question"]
    (tmp_path / "q.jsonl").write_text("\n".join(asked))
    ask = [str(QWEN), *OPTIONS, "--batch", str(tmp_path / "q.jsonl"), "--output"]
    alone, shared = tmp_path / "alone.jsonl", tmp_path / "shared.jsonl"

    # It ends with 1, as one of the questions is none.
    job = start_in_two(tmp_path, [["predict", *ask, str(shared)]])
    predict.main([*ask, str(alone)])
    said, _ = job.communicate(timeout=500)

    assert shared.exists(), said
    assert shared.read_text() == alone.read_text()
    assert [one["position"] for one in lines(shared)] == list(range(6))
    assert not list(tmp_path.glob("shared.jsonl.*"))


def test_options_that_do_not_go_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (
        [],
        ["--prompt", "a", "--batch", "b"],
        ["--batch", "b", "--stream"],
        ["--prompt", "a", "--output", "b"],
        ["--batch", "b", "--split", "val"],
    ):
        with pytest.raises(SystemExit):
            predict.main([str(QWEN), *options])
    assert predict.main([str(QWEN), "--batch", "/nowhere.jsonl"]) == 2
    assert "/nowhere.jsonl" in capsys.readouterr().err
