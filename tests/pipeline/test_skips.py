"""What is left out is said, written down, and not too much."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import DataError
from mmdata.pipeline import Stream
from mmdata.schema import replace
from tests.pipeline.words import (
    Conversations,
    WordTemplate,
    broken,
    picture,
    shown,
    text,
    unspeakable,
)


def stream(samples: Conversations, **options: Any) -> Stream:
    settings: dict[str, Any] = {"seq_length": 40, "batch_size": 2, "workers": 0, "shuffle": False}
    return Stream(samples, WordTemplate(), **{**settings, **options})


def some(count: int, *bad: int) -> Conversations:
    return Conversations(broken(n) if n in bad else shown(n) for n in range(count))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("options", [{}, {"packing": True}, {"group_by": "modality"}])
@pytest.mark.parametrize("on_error", ["skip", "mask"])
@pytest.mark.parametrize("workers", [0, 2])
def test_each_sample_left_out_is_a_line_of_the_file(
    tmp_path: Path, on_error: str, workers: int, options: dict[str, Any]
) -> None:
    file = tmp_path / "run" / "skipped.jsonl"
    samples = some(12, 3, 7)
    samples[5] = unspeakable(5)
    reading = stream(
        samples, on_error=on_error, workers=workers, skipped=file, batch_size=1, **options
    )

    for _ in range(2):
        list(reading)

    found = lines(file)
    named = sorted((line["epoch"], line["row"], line["id"], line["reason"]) for line in found)
    assert named == [
        (epoch, row, name, reason)
        for epoch in range(2)
        for row, name, reason in (
            (3, "b3", "unreadable_media"),
            (5, "u5", "not_encodable"),
            (7, "b7", "unreadable_media"),
        )
    ]
    assert {line["file"] for line in found if line["row"] != 5} == {"<40 bytes>"}
    assert "this word has no token" in next(line for line in found if line["row"] == 5)["detail"]


def test_the_file_of_a_medium_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(picture(1)[:40])
    samples = some(4, 1)
    [medium] = samples[1].media
    medium = replace(medium, bytes=None, path=str(tmp_path / "cut.png"))
    samples[1] = replace(samples[1], media=(medium,))

    list(stream(samples, on_error="skip", skipped=tmp_path / "skipped.jsonl"))

    [line] = lines(tmp_path / "skipped.jsonl")
    assert line["file"] == str(tmp_path / "cut.png")


def test_the_log_names_each_and_sums_up_each_epoch(caplog: pytest.LogCaptureFixture) -> None:
    samples = some(12, 3, 7)
    samples[5] = unspeakable(5)
    reading = stream(samples, on_error="skip")

    with caplog.at_level(logging.WARNING, "mmdata"):
        list(reading)

    assert len(caplog.messages) == 4
    assert caplog.messages[0].startswith("left out: sample 'b3' of pictures (row 3): <40 bytes>")
    assert caplog.messages[3] == (
        "epoch 0: 3 of 12 samples were left out (unreadable_media 2, not_encodable 1)"
    )


def test_nothing_is_said_where_nothing_is_left_out(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    list(stream(some(12), on_error="skip", skipped=tmp_path / "skipped.jsonl"))

    assert not caplog.messages
    assert not (tmp_path / "skipped.jsonl").exists()


@pytest.mark.parametrize("options", [{}, {"packing": True}])
@pytest.mark.parametrize("on_error", ["skip", "mask"])
def test_too_many_stop_the_run_with_a_summary(on_error: str, options: dict[str, Any]) -> None:
    samples = some(40, *range(10, 21))  # one more than a hundredth of a thousand

    with pytest.raises(
        DataError,
        match=r"epoch 0: 11 of 40 samples were left out \(unreadable_media 11\), more than "
        r"on_error_limit=0.01 allows; the last one: sample 'b\d+'",
    ):
        list(stream(samples, on_error=on_error, **options))


@pytest.mark.parametrize(
    ("limit", "bad", "stops"), [(0.0, 1, True), (0.01, 10, False), (1, 40, False)]
)
def test_as_many_may_fail_as_the_limit_says(limit: float, bad: int, stops: bool) -> None:
    samples = some(44, *range(bad))
    reading = stream(samples, on_error="skip", on_error_limit=limit)

    if stops:
        with pytest.raises(DataError, match="on_error_limit=0 allows"):
            list(reading)
    else:
        assert sum(len(row) for batch in reading for row in batch.ids) == 44 - bad


def test_of_many_samples_the_limit_is_a_share(tmp_path: Path) -> None:
    samples = Conversations(unspeakable(n) if n % 100 == 0 else text(n) for n in range(2000))

    assert sum(1 for _ in stream(samples, on_error="mask", batch_size=40)) == 50
    samples[1] = unspeakable(1)
    with pytest.raises(DataError, match="21 of 2,000 samples"):
        list(stream(samples, on_error="mask", batch_size=40))


def test_what_the_template_leaves_out_as_too_long_has_not_failed() -> None:
    samples = Conversations([*(text(n, words=50) for n in range(30)), *map(text, range(30, 40))])
    dropping = Stream(
        samples,
        WordTemplate(max_length=20, over_long="drop"),
        batch_size=4,
        workers=0,
        on_error="skip",
    )

    assert sum(len(row) for batch in dropping for row in batch.ids) == 8


@pytest.mark.parametrize("on_error", ["skip", "mask"])
def test_the_ranks_together_name_each_sample_once(tmp_path: Path, on_error: str) -> None:
    samples = some(16, 2, 5, 11)

    for rank in range(2):
        list(
            stream(
                samples,
                on_error=on_error,
                rank=rank,
                world_size=2,
                skipped=tmp_path / "skipped.jsonl",
            )
        )

    assert sorted(line["row"] for line in lines(tmp_path / "skipped.jsonl")) == [2, 5, 11]
