"""The table of seconds: the published arithmetic of others, and what is off, on clips made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.seconds import (
    Header,
    compare,
    draw_clip,
    formulas,
    layers_of,
    llamafactory,
    mindspeed,
    presentation_times,
    steps,
    table,
)
from recipes.vocabularies import byte_tokenizer

MINUTE = Header(stream=0, frames=1891, duration=63.03, rate=30.0)


def test_the_last_of_sixteen_frames_of_a_minute_is_told_after_seven_seconds() -> None:
    told = mindspeed(MINUTE, count=1891, most=16)

    assert told.seconds[-1] == 7.2
    assert told.layers[-1] == (1764, 1890)


def test_a_file_that_says_no_number_of_frames_is_told_a_minute_of_its_first_frames() -> None:
    header = Header(stream=0, frames=0, duration=None, rate=30.0)

    assert mindspeed(header, count=150).seconds[-1] == 63.2
    assert llamafactory(header, count=150).seconds[-1] == 4.2
    assert llamafactory(header, count=150).layers[-1] == (126, 127)


def test_average_rates_tell_true_seconds_where_the_rate_is_constant() -> None:
    told = llamafactory(MINUTE, count=1891)

    assert told.seconds[0] == 0.2
    assert told.seconds[-1] == pytest.approx(sum(told.layers[-1]) / 60, abs=0.05)


def test_an_odd_number_of_frames_repeats_the_last() -> None:
    assert layers_of([3, 5, 9]) == ((3, 5), (9, 9))


def test_where_the_rate_varies_we_alone_tell_true_seconds(tmp_path: Path) -> None:
    clip = tmp_path / "dark.mp4"
    draw_clip(clip, steps(60 * [33] + 20 * [200]))

    cells = compare(clip, formulas(byte_tokenizer("qwen3")))

    off = {name: cell.off for name, cell in cells.items()}
    assert off["mmdata"] is not None and off["mmdata"] <= 0.051
    assert off["LLaMA-Factory"] is not None and off["LLaMA-Factory"] > 1
    assert off["MindSpeed-MM"] is not None and off["MindSpeed-MM"] > 0.5
    assert table({clip.name: cells}).splitlines() == [
        "| clip | mmdata | LLaMA-Factory | MindSpeed-MM |",
        "| --- | --- | --- | --- |",
        f"| dark.mp4 | {' | '.join(cell.said for cell in cells.values())} |",
    ]


def test_times_are_those_that_were_written(tmp_path: Path) -> None:
    times = steps([40, 1500, 120, 40])
    draw_clip(tmp_path / "clip.mkv", times)

    found = presentation_times(tmp_path / "clip.mkv", 0)

    assert found == pytest.approx([time / 1000 for time in times], abs=1e-6)


def test_times_are_those_of_decoding_where_there_is_no_ffprobe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = steps([40, 1500, 120, 40])
    draw_clip(tmp_path / "clip.mp4", times)
    monkeypatch.setenv("PATH", "")

    found = presentation_times(tmp_path / "clip.mp4", 0)

    assert found == pytest.approx([time / 1000 for time in times], abs=1e-6)


def test_what_a_program_cannot_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no clip")

    cells = compare(tmp_path / "clip.mp4", formulas(byte_tokenizer("qwen3")))

    assert all(cell.off is None and cell.said.startswith("fails: ") for cell in cells.values())
