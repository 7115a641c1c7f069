"""A disk that fills up: the store that was being written is named, nothing of it stays, and what
ended the work first is what is said.
"""

from __future__ import annotations

import errno
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mmdata
from mmdata.conversion.prober import Prober
from mmdata.frame_cache import cache_frames
from mmdata.rejects import Reason, Reject
from mmdata.schema import Conversation, Media, Text, Video, assistant, user
from mmdata.store.writer import Origin, StoreWriter
from tests.conversations import plain
from tests.engines import Here
from tests.stores import numbered, write
from tests.video.clips import clip

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX's")

ORIGIN = Origin("test", {})
TRACE = [Reject(number, "a.json", None, Reason.MALFORMED, "x" * 99) for number in range(2)]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file that is larger: what a full disk looks like to a writer."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python cuts the bytecode of what is imported meanwhile off there, and cannot read it again.
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        sys.dont_write_bytecode = writes_none
        signal.signal(signal.SIGXFSZ, handler)


def long_row(number: int) -> Conversation:
    return Conversation(f"c{number}", (user(Text("q" * 10_000)), assistant("a")), source="made")


@pytest.mark.parametrize("parquet", [False, True])
def test_a_disk_that_is_full_is_named_by_the_store_and_what_was_there_stays(
    tmp_path: Path, parquet: bool
) -> None:
    place = numbered(tmp_path / "store", 3).path

    with pytest.raises(OSError, match="File too large") as caught, largest_file(1 << 12):
        write(place, [long_row(number) for number in range(9)], parquet=parquet, overwrite=True)

    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(place)
    assert len(mmdata.open(place)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("first", [KeyboardInterrupt(), ValueError("the first fault")])
def test_rejects_that_no_longer_fit_do_not_hide_what_ended_the_work(
    tmp_path: Path, first: BaseException
) -> None:
    with (
        pytest.raises(type(first)) as caught,
        largest_file(0),
        StoreWriter(tmp_path / "store", sources=["made"], origin=ORIGIN) as writer,
    ):
        for reject in TRACE:
            writer.reject(reject)
        raise first

    assert caught.value is first
    assert list(tmp_path.iterdir()) == []


def test_rejects_that_do_not_fit_are_said_with_the_store(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as caught, largest_file(0):
        write(tmp_path / "store", [], rejects=TRACE)

    assert caught.value.filename == str(tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_frames_that_do_not_fit_are_said_with_the_cache_that_they_were_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # of the process that decodes
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(8)))
    media = (Media("video", "a.mp4"),)
    row = Conversation("c", (user(Video(0), "What?"), assistant("That.")), media)
    store = write(tmp_path / "store", [row], media_root=str(tmp_path))

    with pytest.raises(OSError, match="File too large") as caught, largest_file(1 << 9):
        cache_frames(store.path, tmp_path / "frames", "uniform:4", engine=Here())

    assert caught.value.filename == str(tmp_path / "frames")


def test_a_journal_of_answers_that_no_longer_fits_does_not_hide_what_ended_the_work(
    tmp_path: Path,
) -> None:
    first = KeyboardInterrupt()

    with (
        pytest.raises(KeyboardInterrupt) as caught,
        largest_file(0),
        Prober("probe", workers=1, journal=tmp_path / "journal") as prober,
    ):
        assert prober._journal is not None
        prober._journal.write("an answer that is not on disk yet\n")
        raise first

    assert caught.value is first


def test_a_writer_that_is_refused_its_place_lets_go_of_it(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "notes.txt").touch()

    for _ in range(2):
        with pytest.raises(mmdata.errors.UsageError, match="is not a store"):
            write(tmp_path / "store", [plain(0)])

    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
