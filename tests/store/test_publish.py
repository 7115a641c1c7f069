"""What a writer asks of the file system, call by call:
each step is on disk before the next, and none loses a store.

Renames and removals are seen by an audit hook, which stays for the life of a process; so a store is
written in one of its own, that prints what it did.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.errors import StoreError
from mmdata.store.layout import partial_path
from mmdata.store.publish import partial_directory, reserve
from tests.conversations import plain
from tests.stores import numbered, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")

TRACED = """
import ctypes, errno, json, os, pathlib, sys
from pathlib import Path
import mmdata
from mmdata.store import publish
from mmdata.store.manifest import read_manifest
from mmdata.rejects import Reason, Reject
from mmdata.store.writer import Origin, StoreWriter
import mmdata.store.writer
from tests.conversations import plain

folder, exchange, fails = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
events, watching = [], False

def inode(path, directory=None):
    found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    return [found.st_dev, found.st_ino]

def whole():
    \"\"\"Return the whole stores; the partial directory is none: the next writer empties it.\"\"\"
    stores = [entry for entry in folder.iterdir() if (entry / "manifest.json").exists()]
    stores = [store for store in stores if store.suffix != ".partial"]
    return [store.name for store in stores if not mmdata.check(store)]

def note(kind, **facts):
    global watching
    watching = False
    events.append({"kind": kind, "whole": whole(), **facts})
    watching = True

def hook(event, arguments):
    if not watching:
        return
    if event == "os.rename":
        source, target = map(os.fspath, arguments[:2])
        note("rename", inode=inode(source), source=source, target=target)
    elif event in ("os.remove", "os.rmdir"):
        path, directory = arguments[0], arguments[1] if arguments[1] != -1 else None
        note("remove", inode=inode(path, directory))

def fsync(descriptor, fsync=os.fsync):
    found = os.fstat(descriptor)
    note("fsync", inode=[found.st_dev, found.st_ino], size=found.st_size)
    fsync(descriptor)

def renameat2(one, source, other, target, flags, real=publish._libc().renameat2):
    if exchange == "refused":
        ctypes.set_errno(errno.EINVAL)
        return -1
    note("exchange", inode=inode(source), source=os.fsdecode(source), target=os.fsdecode(target))
    return real(one, source, other, target, flags)

os.fsync = fsync
publish._libc().renameat2 = renameat2
sys.addaudithook(hook)
if fails != "nothing":
    refused = iter(range(int(fails), -1, -1))
    rename = os.rename
    def failing(*arguments, **named):
        if next(refused, None) == 0:
            raise OSError(errno.EIO, "refused by the test")
        return rename(*arguments, **named)
    os.rename = failing
    if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10 keeps the function that it found
        pathlib._NormalAccessor.rename = staticmethod(failing)

mmdata.store.writer._SHARD_BYTES = 1
mmdata.store.writer.BATCH_RECORDS = 4
try:
    with StoreWriter(
        folder / "store", sources=["numbers"], origin=Origin("test", {}), overwrite=True
    ) as writer:
        for number in range(12):
            writer.write_conversations([plain(number)])
        writer.reject(Reject(12, "source.json", "r", Reason.BAD_JSON, "x"))
        watching = True
finally:
    watching = False
    print(json.dumps(events))
"""


def trace(folder: Path, *, exchange: str = "done", fails: str = "nothing") -> list[dict[str, Any]]:
    """Write a new store at ``store`` in ``folder``
    and return what was asked of the file system, in order.
    """
    command = [sys.executable, "-c", TRACED, str(folder), exchange, fails]
    here = Path(__file__).parents[1]  # whose tests the process imports too
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (fails == "nothing"), done.stderr
    events: list[dict[str, Any]] = json.loads(done.stdout)
    return events


def inode(path: Path) -> list[int]:
    found = path.lstat()
    return [found.st_dev, found.st_ino]


WAYS = [(False, "done"), (True, "done"), (True, "refused")]


@pytest.mark.slow
@pytest.mark.parametrize(("replaces", "exchange"), WAYS)
def test_each_step_of_a_publication_is_on_disk_before_the_next(
    tmp_path: Path, replaces: bool, exchange: str
) -> None:
    old = [
        inode(file)
        for file in (*numbered(tmp_path / "store", 3).path.iterdir(), tmp_path / "store")
    ]
    if not replaces:
        old = []
        for file in (tmp_path / "store").iterdir():
            file.unlink()
        (tmp_path / "store").rmdir()

    events = trace(tmp_path, exchange=exchange)

    new = tmp_path / "store"
    [moved] = [
        n
        for n, event in enumerate(events)
        if event["kind"] in ("rename", "exchange")
        and event["inode"] == inode(new)
        and event["target"] == str(new)
    ]
    files = sorted(new.iterdir())
    assert [file.name for file in files][:3] == [
        "data-00000.arrow",
        "data-00001.arrow",
        "data-00002.arrow",
    ]
    for file in files:
        assert ("fsync", file.stat().st_size) in [
            (event["kind"], event.get("size"))
            for event in events[:moved]
            if event["inode"] == inode(file)
        ], f"{file.name} was not on disk whole before it was published"
    assert inode(new) in [event["inode"] for event in events[:moved] if event["kind"] == "fsync"]
    last = max(n for n, event in enumerate(events) if event["kind"] in ("rename", "exchange"))
    synced = [
        n
        for n, event in enumerate(events)
        if event["kind"] == "fsync" and event["inode"] == inode(tmp_path)
    ]
    assert synced
    assert synced[-1] > last >= moved
    removed = [
        n for n, event in enumerate(events) if event["kind"] == "remove" and event["inode"] in old
    ]
    assert len(removed) == len(old)
    assert all(n > synced[-1] for n in removed)


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["done", "refused"])
def test_a_whole_store_is_on_disk_at_every_step_of_a_replacement(
    tmp_path: Path, exchange: str
) -> None:
    numbered(tmp_path / "store", 3)

    events = trace(tmp_path, exchange=exchange)

    assert len(events) > 8
    assert all(event["whole"] for event in events)
    assert list(mmdata.open(tmp_path / "store")) == [plain(n) for n in range(12)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["0", "1", "2"])
def test_a_rename_that_fails_leaves_the_old_store_or_the_new_one(
    tmp_path: Path, failing: str
) -> None:
    numbered(tmp_path / "store", 3)

    events = trace(tmp_path, exchange="refused", fails=failing)

    assert all(event["whole"] for event in events)
    assert mmdata.check(tmp_path / "store") == []
    assert len(mmdata.open(tmp_path / "store")) == (12 if failing == "2" else 3)


@pytest.mark.slow
def test_what_a_killed_replacement_left_aside_is_no_hindrance(tmp_path: Path) -> None:
    numbered(tmp_path / "store", 3)
    (tmp_path / ".store.old").mkdir()
    (tmp_path / ".store.old" / "manifest.json").write_text("{}")

    trace(tmp_path, exchange="refused")

    assert len(mmdata.open(tmp_path / "store")) == 12
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_the_place_is_held_until_the_old_store_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "store", [plain(0)])
    refused: list[StoreError] = []

    def rmtree(path: Path, remove: Callable[[Path], None] = shutil.rmtree) -> None:
        with pytest.raises(StoreError, match="another process is writing") as caught:
            write(tmp_path / "store", [plain(2)], overwrite=True)
        refused.append(caught.value)
        remove(path)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", rmtree)
        store = write(tmp_path / "store", [plain(1)], overwrite=True)

    assert len(refused) == 1
    assert list(store) == [plain(1)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_lock_is_of_the_folder_that_is_there_when_it_is_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    moved: list[Path] = []

    def flock(
        descriptor: int, operation: int, lock: Callable[[int, int], None] = fcntl.flock
    ) -> None:
        lock(descriptor, operation)
        # another writer publishes the folder and a third one begins, between opening and locking
        if not moved:
            moved.append(partial_path(tmp_path / "store").rename(tmp_path / "published"))
            partial_path(tmp_path / "store").mkdir()

    monkeypatch.setattr(fcntl, "flock", flock)
    with partial_directory(tmp_path / "store") as first:
        assert moved
        with (
            pytest.raises(StoreError, match="another process is writing"),
            partial_directory(tmp_path / "store"),
        ):
            pass
        assert first.is_dir()


def test_a_disk_without_room_is_said_with_the_place(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No space left on device") as caught,
        partial_directory(tmp_path / "store"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert caught.value.filename == str(tmp_path / "store")


def test_room_is_found_for_what_is_to_be_written_and_no_byte_is(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(b"cup")
        file.flush()

        reserve(file.fileno(), 3, 1 << 20)

        found = (tmp_path / "file").stat()
    assert found.st_size == 3
    assert found.st_blocks * 512 >= 1 << 20


def test_a_file_for_which_no_room_can_be_found_ahead_is_written_all_the_same() -> None:
    reader, writer = os.pipe()

    reserve(writer, 0, 1 << 20)  # no file system has a pipe

    os.write(writer, b"cup")
    assert os.read(reader, 9) == b"cup"
    os.close(reader)
    os.close(writer)
