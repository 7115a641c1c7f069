"""Answers beside references: what each metric counts, and a held-out split from end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonlines
import mindspore as ms
import pytest

import mmdata
from mmdata.schema import Conversation, Media, Region, Text, Time, assistant, replace, user
from recipes import evaluate
from recipes.scores import SCORES, Parts, overlap
from tests.recipes.test_finetune import QWEN, stores
from tests.stores import write

__all__ = ["stores"]

pytestmark = pytest.mark.mindspore
WHOLE = (0.0, 0.0, 1.0, 1.0)
LEFT = (0.0, 0.0, 0.5, 1.0)


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def words(text: str) -> Parts:
    return (Text(text),)


@pytest.mark.parametrize(
    ("metric", "said", "reference", "score"),
    [
        ("exact", words(" Yes "), words("Yes"), 1),
        ("exact", words("yes."), words("Yes"), 0),
        ("accuracy", words("yes."), words("Yes"), 1),
        ("accuracy", words("Yes, it  is!"), words("yes, it is"), 1),
        ("accuracy", words("no"), words("Yes"), 0),
        ("accuracy", (), words("Yes"), 0),
        ("iou", (Region("a", (WHOLE,)),), (Region("b", (WHOLE, LEFT)),), 1),
        ("iou", (Text("here"), Region("a", (LEFT,))), (Region("b", (WHOLE,)),), 0.5),
        ("iou", words("nowhere"), (Region("b", (WHOLE,)),), 0),
        ("seconds", words("at 7.4 s"), words("8"), 1),
        ("seconds", (Time(2.0),), words("3.5"), 0),
        ("seconds", words("never"), words("8"), 0),
        ("seconds", words("never"), words("never"), 0),
    ],
)
def test_an_answer_is_worth_what_its_metric_says(
    metric: str, said: Parts, reference: Parts, score: float
) -> None:
    assert SCORES[metric](said, reference) == pytest.approx(score)


def test_boxes_overlap_alike_from_either_side_and_apart_or_empty_ones_do_not() -> None:
    right = (0.5, 0.0, 1.0, 1.0)

    assert overlap(LEFT, WHOLE) == overlap(WHOLE, LEFT) == 0.5
    assert overlap(LEFT, right) == 0
    assert overlap((0.1, 0.1, 0.1, 0.1), (0.1, 0.1, 0.1, 0.1)) == 0


def run(store: Path, answers: Path, capsys: pytest.CaptureFixture[str], *line: str) -> Any:
    options = [f"data.evaluate={store}", "graph=false", "device=CPU", "generation.length=256"]
    options += ["generation.max_new_tokens=4", "--answers", str(answers), "--batch-size", "2"]
    code = evaluate.main([str(QWEN), *options, *line])
    printed = capsys.readouterr()
    figures = json.loads(printed.out) if printed.out else None
    rows = []
    if answers.exists():
        with jsonlines.open(answers) as lines:
            rows = list(lines)
    return code, figures, rows, printed.err


@pytest.mark.slow
def test_a_split_is_answered_beside_its_references_and_a_row_that_fails_counts_as_wrong(
    stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = mmdata.open(stores["splits"])
    held_out = [pictures.located(n) for n in range(len(pictures)) if pictures[n].split == "val"]

    code, figures, rows, _ = run(
        stores["splits"], tmp_path / "a.jsonl", capsys, "data.evaluate_split=val"
    )

    assert code == 0
    assert figures == {"metric": "exact", "rows": len(held_out), "not_answered": 0, "score": 0.0}
    assert [row["id"] for row in rows] == [row.id for row in held_out]
    assert [row["reference"] for row in rows] == [row.messages[-1].text.strip() for row in held_out]

    # What it said as the reference of the first row; the picture of another is missing.
    first, second, third = held_out[:3]
    turns = (*first.messages[:-1], assistant(rows[0]["answer"]))
    agreed = replace(first, messages=turns, split="test")
    absent = replace(second, media=(Media("image", path="/nowhere.png"),), split="test")
    write(tmp_path / "agreed", [agreed, absent, replace(third, split="test")])

    code, figures, rows, _ = run(
        tmp_path / "agreed", tmp_path / "b.jsonl", capsys, "--metric", "accuracy"
    )

    assert code == 1
    assert [row["score"] for row in rows] == [1, 0, 0]
    assert figures["score"] == pytest.approx(1 / 3)
    assert (figures["rows"], figures["not_answered"]) == (3, 1)
    assert "/nowhere.png" in rows[1]["error"] and "answer" not in rows[1]
    assert sum(label["rows"] for label in figures["labels"].values()) == 3


def test_a_row_without_an_answer_to_compare_with_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "asked", [Conversation("one", (user("Who?"),))])

    code, _, _, said = run(tmp_path / "asked", tmp_path / "a.jsonl", capsys)

    assert code == 2
    assert "'one' ends with no answer, so there is nothing to compare with" in said
