"""Where there is no terminal, long work says now and then how far it is, in a plain line;
on one, in a bar.
"""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol, cast

import pytest
from PIL import Image as Pictures

import mmdata
from mmdata._tools.progress import Progress, progress
from mmdata.conversion.prober import media_faults
from mmdata.errors import UsageError
from mmdata.frame_cache import cache_frames
from mmdata.mixture import Mixture, find_near_duplicates, merge, select, write_mixture
from mmdata.mixture.config import Dataset
from tests.engines import Here
from tests.source_files import record, write_records
from tests.stores import numbered


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


class Cell:
    """The output of a notebook's cell, as IPython shows it."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def display(self, data: Mapping[str, str], *, raw: bool, display_id: bool) -> Cell:
        assert raw
        assert display_id
        self.pages.append(data["text/html"])
        return self

    def update(self, data: Mapping[str, str], *, raw: bool) -> None:
        assert raw
        self.pages.append(data["text/html"])


def test_a_line_now_and_then_says_how_much_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("mmdata._tools.progress.time.monotonic", lambda: now)

    with progress("mixing", 5000) as update:
        for done in (1000, 2000, 3000, 4000):
            now += 4
            update(done, done // 1000)

    assert capsys.readouterr() == ("", "mixing: 3,000 of 5,000, 3 rejected, 250/s, 0:00:08 left\n")


def test_every_line_is_as_long_after_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("mmdata._tools.progress.time.monotonic", lambda: now)

    with progress("converting") as update:
        for done in range(1, 61):
            now += 1
            update(done, 0)

    said = capsys.readouterr().err.splitlines()
    assert said == [f"converting: {done}, 0 rejected, 1/s" for done in range(10, 61, 10)]


def test_on_a_terminal_a_bar_shows_it_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())

    with progress("decoding", 40) as update:
        update(10, 0)
        update(30, 2)

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "decoding" in shown
    assert "30/40" in shown
    assert "2 rejected" in shown
    assert re.search(r"/s, 0:00:00 left", shown)


def test_a_terminal_is_written_to_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[float] = []

    class Counted(Terminal):
        def write(self, text: str) -> int:
            writes.append(time.monotonic())
            return super().write(text)

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Counted())
    ends = time.monotonic() + 0.6

    with progress("decoding", 10**9) as update:
        for done in count():
            update(done, 0)
            if time.monotonic() > ends:
                break

    # The first, the last and what clears the bar, besides those between.
    assert len({round(moment * 20) for moment in writes}) <= 7


def test_a_notebook_has_one_bar_that_moves_and_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = Cell()
    monkeypatch.setattr("mmdata._tools.progress._notebook_display", lambda: cell.display)

    with progress("converting <b>", 200) as update:
        for done in range(1, 201):
            update(done, done // 100)

    assert (
        cell.pages[0]
        == '<progress max="200" value="0"></progress> converting &lt;b&gt;: 0 of 200, 0 rejected'
    )
    assert cell.pages[-1].startswith('<progress max="200" value="200">')
    assert "200 of 200, 2 rejected, " in cell.pages[-1]
    assert len(cell.pages) <= 6


def test_where_nobody_knows_how_much_there_is_a_share_fills_the_bar_and_tells_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("mmdata._tools.progress.time.monotonic", lambda: now)
    with progress("converting") as update:
        now += 10
        update(3000, 1, 0.25)
    assert capsys.readouterr().err == ("converting: 3,000 (25%), 1 rejected, 300/s, 0:00:30 left\n")

    cell = Cell()
    monkeypatch.setattr("mmdata._tools.progress._notebook_display", lambda: cell.display)
    with progress("converting") as update:
        update(3000, 1, 0.25)
    assert cell.pages[-1].startswith('<progress max="1" value="0.2500"></progress>')

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with progress("converting") as update:
        now += 10
        update(3000, 1, 0.25)
    assert "3,000 (25%)" in screen.getvalue()
    assert "0:00:30 left" in screen.getvalue()


def test_work_that_is_stopped_in_a_notebook_says_how_far_it_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = Cell()
    monkeypatch.setattr("mmdata._tools.progress._notebook_display", lambda: cell.display)

    with pytest.raises(KeyboardInterrupt), progress("converting") as update:
        update(7, 0)
        raise KeyboardInterrupt

    assert "<progress></progress> converting: 7, 0 rejected" in cell.pages[-1]


def test_a_bar_that_is_stopped_leaves_the_terminal_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen := Terminal())

    with pytest.raises(KeyboardInterrupt), progress("decoding", 40) as update:
        update(10, 0)
        raise KeyboardInterrupt

    assert screen.getvalue().count("\x1b[?25l") == screen.getvalue().count("\x1b[?25h")
    assert screen.getvalue().endswith("\x1b[2K")


class Work(Protocol):
    """Work on a store that takes long, with what it is told of progress."""

    def __call__(self, store: Path, target: Path, progress: Progress) -> object: ...


LONG: Final[dict[str, Work]] = {
    "counting": lambda store, target, progress: mmdata.stats(store, progress=progress),
    "drawing": lambda store, target, progress: mmdata.preview(store, target, progress=progress),
    "exporting llava": lambda store, target, progress: mmdata.export(
        store, "llava", target, progress=progress
    ),
    "decoding": lambda store, target, progress: cache_frames(
        store, target, "uniform:2", workers=1, progress=progress
    ),
    "selecting": lambda store, target, progress: select(store, target, progress=progress),
    "merging": lambda store, target, progress: merge([store], target, progress=progress),
    "mixing": lambda store, target, progress: write_mixture(
        Mixture([(Dataset(store=store), mmdata.open(store))]), target, progress=progress
    ),
    "comparing texts": lambda store, target, progress: find_near_duplicates(
        store, "texts", progress=progress
    ),
    "looking into media": lambda store, target, progress: list(
        media_faults(mmdata.open(store), "compare", workers=1, progress=progress)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", LONG)
def test_whatever_takes_long_shows_its_progress_where_it_is_asked_to(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdata._tools.progress._SECONDS_BETWEEN_LINES", 0.0)
    store = numbered(tmp_path / "store", 3).path

    LONG[what](store, tmp_path / "quiet", False)
    assert capsys.readouterr() == ("", "")

    LONG[what](store, tmp_path / "shown", True)
    assert f"{what}: " in (said := capsys.readouterr().err)
    assert " of 3, " in said

    with pytest.raises(UsageError, match="progress must be true or false or a function"):
        LONG[what](store, tmp_path / "odd", cast(Any, "bar"))
    assert not (tmp_path / "odd").exists()


def test_a_conversion_shows_its_progress_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdata._tools.progress._SECONDS_BETWEEN_LINES", 0.0)
    (tmp_path / "a.json").write_text(
        '[{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}]'
    )

    mmdata.convert("llava", tmp_path / "a.json", tmp_path / "store", check="none", progress=True)

    assert capsys.readouterr().err.startswith("converting llava: 1 (100%), 0 rejected, ")


def told_by(said: str) -> list[int]:
    """The shares that lines about progress tell, in per cent."""
    return [int(share) for share in re.findall(r"\((\d+)%\)", said)]


@pytest.mark.slow
@pytest.mark.parametrize("partitions", [1, 4])
def test_a_conversion_tells_which_share_of_the_source_it_has_dealt_with(
    partitions: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mmdata._tools.progress._SECONDS_BETWEEN_LINES", 0.0)
    some = [record(number) for number in range(20_000)]
    source = write_records(tmp_path / "a.jsonl", some, lines=True)
    options: dict[str, Any] = {"check": "none", "progress": True, "partitions": partitions}
    if partitions > 1:
        options["engine"] = Here()

    mmdata.convert("llava", source, tmp_path / "store", **options)

    shares = told_by(capsys.readouterr().err)
    assert len(set(shares)) >= 3
    assert shares == sorted(shares)
    assert shares[-1] == 100


def test_what_an_earlier_attempt_did_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdata._tools.progress._SECONDS_BETWEEN_LINES", 0.0)
    some = [record(number) for number in range(4000)]
    source = write_records(tmp_path / "a.jsonl", some, lines=True)
    options: dict[str, Any] = {"check": "none", "partitions": 4, "resume": True}
    one = Here(shares_files=True, workers=1)
    with pytest.raises(KeyboardInterrupt):
        mmdata.convert(
            "llava", source, tmp_path / "store", engine=one, progress=interrupt, **options
        )

    again = Here(shares_files=True, workers=1)
    mmdata.convert("llava", source, tmp_path / "store", engine=again, progress=True, **options)

    first, *_, last = capsys.readouterr().err.splitlines()
    assert "%" not in first  # its partition was there
    assert told_by(last) == [100]


def interrupt(records: int, rejects: int) -> None:
    raise KeyboardInterrupt


def test_as_many_records_as_are_asked_for_are_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdata._tools.progress._SECONDS_BETWEEN_LINES", 0.0)
    some = [record(number) for number in range(400)]
    source = write_records(tmp_path / "a.jsonl", some, lines=True)

    mmdata.convert("llava", source, tmp_path / "store", check="none", limit=100, progress=True)

    assert told_by(capsys.readouterr().err) == [100]


def test_while_media_are_looked_into_each_record_is_told_of(tmp_path: Path) -> None:
    for number in range(5):
        Pictures.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    some = [record(number, image=f"{number}.png") for number in range(5)]
    source = write_records(tmp_path / "a.jsonl", some, lines=True)
    told: list[int] = []

    mmdata.convert(
        "llava",
        source,
        tmp_path / "store",
        check="probe",
        workers=1,
        progress=lambda done, rejects: told.append(done),
    )

    assert told == [1, 2, 3, 4, 5]
