"""Whatever looking into media raises costs one record, and the others are as they were."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

import mmdata
from mmdata._tools.limits import Limits
from mmdata.conversion.prober import Facts, File, MediaLevel, Prober
from mmdata.errors import (
    DataError,
    MediaError,
    PluginError,
    UsageError,
    as_media_error,
)


class OwnError(Exception):
    """An exception that does not survive pickling."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} of {second}")


def raised_by_name() -> dict[str, Exception]:
    """An instance of every class that Python and FFmpeg raise, by name."""
    found: dict[str, Exception] = {"OwnError": OwnError(1, 2), "DataError": DataError("wrong")}
    for kind in vars(builtins).values():
        is_error = isinstance(kind, type) and issubclass(kind, Exception)
        # The latter is made of two arguments, and not every Python has it.
        if is_error and not issubclass(kind, UnicodeError) and kind.__name__ != "ExceptionGroup":
            found[kind.__name__] = kind("what it says")
    found["UnicodeDecodeError"] = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "what it says")
    found["FFmpegError"] = av.FFmpegError(22, "what it says", "clip.mp4")
    return found


RAISED = raised_by_name()


def look_or_raise(files: Sequence[File], level: MediaLevel, limits: Limits) -> list[Facts]:
    """Find of each file the length of its name; of one named as an exception, raise that."""
    for file in files:
        stem = Path(str(file.source)).stem
        if stem in RAISED:
            raise RAISED[stem]
    return [{"size": len(str(file.source)), "hash": "none"} for file in files]


@pytest.mark.parametrize("name", RAISED)
def test_whatever_is_raised_is_the_error_of_a_medium(name: str) -> None:
    found = as_media_error(RAISED[name], "a/clip.mp4")

    assert str(found).startswith("a/clip.mp4: cannot be decoded: ")
    assert name == "DataError" or type(RAISED[name]).__name__ in str(found)
    assert found.path == "a/clip.mp4"
    assert found.reason == ("media_limit" if name == "MemoryError" else "unreadable_media")
    assert found.__cause__ is RAISED[name]


def test_an_error_of_a_medium_stays_what_it_is() -> None:
    error = MediaError("a.mp4: gone", path="a.mp4", reason="missing_media")

    assert as_media_error(error, "b.mp4") is error


@pytest.mark.parametrize("kind", [UsageError, PluginError])
def test_what_is_no_fault_of_the_file_is_raised(kind: type[Exception]) -> None:
    with pytest.raises(kind, match="size must be positive"):
        as_media_error(kind("size must be positive"), "a.mp4")


@pytest.mark.slow
def test_a_job_that_raises_costs_its_record_and_the_rest_are_identical(tmp_path: Path) -> None:
    names = [f"{number}_{name}" for number, name in enumerate(RAISED)]
    faulty = [item for pair in zip(names, RAISED, strict=True) for item in pair]
    with Prober("probe", workers=1, job=look_or_raise) as prober:
        expected = list(prober.answers(names, lambda name: [File(name, "video")]))

    with Prober("probe", journal=tmp_path / "journal", workers=1, job=look_or_raise) as prober:
        found = list(prober.answers(faulty, lambda name: [File(name, "video")]))

    assert [answer for answer in found if answer[0] in names] == expected
    errors = {name: answer for name, answer in found if name not in names}
    assert list(errors) == list(RAISED)
    for name, error in errors.items():
        assert isinstance(error, MediaError)
        # The pool has named these two itself, without the file.
        assert name in ("MemoryError", "OwnError") or name in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["KeyError", "OSError"])
def test_what_a_job_raised_is_not_believed_by_the_next_attempt(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a file")
    files = [File(str(tmp_path / name), "video")]
    with Prober("probe", journal=tmp_path / "journal", workers=1, job=look_or_raise) as prober:
        [(_, error)] = prober.answers([0], lambda _: files)

    assert isinstance(error, MediaError)
    assert (tmp_path / "journal").read_text() == ""


@pytest.mark.parametrize("name", ["KeyError", "OwnError", "MemoryError", "UnicodeDecodeError"])
@pytest.mark.parametrize("stage", ["embedding", "sizing boxes"])
def test_whatever_reading_a_file_raises_costs_its_record_at_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stage: str
) -> None:
    stems = ["0", name, "2"]
    for stem in stems:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{stem}.png")
    records = [
        {
            "messages": [
                {"role": "user", "content": "<image>Where is <ref-object>?"},
                {"role": "assistant", "content": "<bbox>"},
            ],
            "images": [f"{stem}.png"],
            "objects": {"bbox": [[0, 0, 4, 4]], "ref": ["a"]},
        }
        for stem in stems
    ]
    (tmp_path / "all.json").write_text(json.dumps(records))
    # No file makes a library raise what nobody has thought of: here the library itself does.
    place, read = ("PIL.Image.open", Image.open), ("pathlib.Path.read_bytes", Path.read_bytes)
    where, whole = place if stage == "sizing boxes" else read

    def fail(file: Any, **options: Any) -> Any:
        stem = Path(str(getattr(file, "name", file))).stem
        if stem in RAISED:
            raise RAISED[stem]
        return whole(file, **options)

    monkeypatch.setattr(where, fail)
    report = mmdata.convert(
        "swift", tmp_path / "all.json", tmp_path / "store", embed=stage == "embedding"
    )

    assert (report.rows, sum(report.rejects.values())) == (2, 1)
    [line] = mmdata.open(tmp_path / "store").rejects()
    assert line["record"] == 1
    assert f"{name}.png" in line["detail"]
