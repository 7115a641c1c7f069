"""A mixture that reads annotation files through its cache is the one that converts them afresh."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import DataError, StoreError, UsageError
from mmdata.mixture import Cache, Mixture, write_mixture
from tests.source_files import record, source, write_images, write_records


def mixture(folder: Path, cache: str = "cache", **entry: object) -> Mixture:
    """The mixture of one data set of annotation files, ``source.json`` if not said otherwise."""
    text = json.dumps({"datasets": [{"json_path": "source.json", **entry}]})
    (folder / "mix.yaml").write_text(text)
    return Mixture.from_yaml(folder / "mix.yaml", cache=folder / cache)


def ids(rows: Mixture) -> list[str]:
    return [row.id for row in rows]


def paths(rows: Mixture) -> list[str | None]:
    return [row.media[0].path for row in rows]


def stores(folder: Path, cache: str = "cache") -> int:
    return Cache.at(folder / cache).size().stores


# --- the media
# --------------------------------------------------------------------------------------------------


def test_images_that_are_put_in_place_come_and_those_that_are_removed_go(tmp_path: Path) -> None:
    source(tmp_path, 4)
    shutil.rmtree(tmp_path / "images")
    assert ids(mixture(tmp_path)) == []

    write_images(tmp_path, [f"images/{number}.jpg" for number in range(3)])
    assert ids(mixture(tmp_path)) == ["r0", "r1", "r2"]

    write_images(tmp_path, ["images/3.jpg"])
    assert ids(mixture(tmp_path)) == ["r0", "r1", "r2", "r3"]

    (tmp_path / "images" / "1.jpg").unlink()
    assert ids(mixture(tmp_path)) == ["r0", "r2", "r3"]


def test_an_image_at_a_likelier_place_is_taken_as_soon_as_it_is_there(tmp_path: Path) -> None:
    newer, older = "train2017/000000000009.jpg", "train2014/COCO_train2014_000000000009.jpg"
    write_records(tmp_path / "source.json", [record(0, image=newer)])
    write_images(tmp_path, [older])
    assert paths(mixture(tmp_path)) == [older]

    write_images(tmp_path, [newer])

    assert paths(mixture(tmp_path)) == [newer]


def test_a_file_that_was_empty_counts_as_soon_as_it_is_written(tmp_path: Path) -> None:
    source(tmp_path, 2)
    (tmp_path / "images" / "1.jpg").write_bytes(b"")
    assert ids(mixture(tmp_path)) == ["r0"]

    write_images(tmp_path, ["images/1.jpg"])
    assert ids(mixture(tmp_path)) == ["r0", "r1"]

    (tmp_path / "images" / "0.jpg").write_bytes(b"")
    assert ids(mixture(tmp_path)) == ["r1"]


def test_a_folder_of_frames_counts_while_it_has_frames(tmp_path: Path) -> None:
    write_records(
        tmp_path / "source.json",
        [record(0, image=None, video="clip", conversations=_asked("<video>"))],
    )
    (tmp_path / "clip").mkdir()
    assert ids(mixture(tmp_path)) == []

    write_images(tmp_path, ["clip/0.jpg"])
    assert ids(mixture(tmp_path)) == ["r0"]


def _asked(about: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"{about}\nWhat?"}, {"from": "gpt", "value": "That."}]


STATES = ("absent", "empty", "there", "other suffix", "link to nothing")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(st.lists(st.lists(st.sampled_from(STATES), min_size=3, max_size=3), min_size=2, max_size=4))
def test_through_the_cache_is_afresh_whatever_becomes_of_the_media(
    tmp_path: Path, states: list[list[str]]
) -> None:
    shutil.rmtree(tmp_path)
    write_records(tmp_path / "source.json", [record(number) for number in (0, 1, 2, 1)])

    for step, state in enumerate(states):
        for number, what in enumerate(state):
            _put(tmp_path / "images" / f"{number}.jpg", what)
        cached, afresh = mixture(tmp_path), mixture(tmp_path, f"afresh{step}")
        assert list(cached) == list(afresh)
        assert list(cached.rejects()) == list(afresh.rejects())


def _put(place: Path, what: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    for each in (place, place.with_suffix(".png")):
        each.unlink(missing_ok=True)
    if what == "link to nothing":
        place.symlink_to("nowhere")
    elif what != "absent":
        (place.with_suffix(".png") if what == "other suffix" else place).write_bytes(
            b"" if what == "empty" else b"x"
        )


def test_a_medium_that_comes_while_others_are_looked_for_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first record finds no image, the second, which names the same, does:
    no later state is that of both.
    """
    name = "train2017/000000000009.jpg"
    write_records(tmp_path / "source.json", [record(0, image=name), record(1, image=name)])
    (tmp_path / "train2017").mkdir()
    image, stat = str(tmp_path / name), os.stat

    def late(path: str, *args: object, **kwargs: object) -> os.stat_result:
        if "COCO_val2014" in str(path):  # the last place that is looked at in vain
            Path(image).write_bytes(b"x")
        return stat(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", late)
    assert ids(mixture(tmp_path)) == ["r1"]
    monkeypatch.undo()

    assert ids(mixture(tmp_path)) == ["r0", "r1"]


# --- everything else that shapes a store
# ---------------------------------------------------------------------------


def test_an_annotation_file_that_is_edited_in_place_gives_its_new_rows(tmp_path: Path) -> None:
    path = source(tmp_path, 3)
    before, kept = ids(mixture(tmp_path)), path.stat()

    path.write_text(path.read_text().replace('"r1"', '"q1"'))
    # Of the same size and time: only its bytes tell.
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))

    assert path.stat().st_size == kept.st_size
    assert before == ["r0", "r1", "r2"]
    assert ids(mixture(tmp_path)) == ["r0", "q1", "r2"]


FORMAT = """
from dataclasses import dataclass
from mmdata.formats.llava import Llava

@dataclass(frozen=True)
class Mine(Llava):
    source: str = "mine"
"""


@pytest.fixture
def own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a format that is not ours, registered as ``mine``."""
    from mmdata.formats import registry

    file = tmp_path / "its_format.py"
    file.write_text(FORMAT)
    spec = importlib.util.spec_from_file_location("its_format", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "its_format", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(registry._entries, "mine", module.Mine)
    return file


def _change_library(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mmdata, "__version__", "0.0.99")


def _change_schema(_: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("mmdata.mixture.cache.SCHEMA_VERSION", 99)


def _change_nothing(_: Path, __: pytest.MonkeyPatch) -> None:
    pass


def _edit_format(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "its_format.py").write_text(f"{FORMAT}\n# edited")


def _copy_source(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.copy(folder / "source.json", folder / "b.json")


CHANGES: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], None], dict[str, Any]]] = {
    "library version": (_change_library, {}),
    "schema version": (_change_schema, {}),
    "option": (_change_nothing, {"options": {"source": "other"}}),
    "media root": (_change_nothing, {"media_root": "elsewhere"}),
    "format": (_change_nothing, {"format": "llava"}),
    "code of the format": (_edit_format, {}),
    "file": (_copy_source, {"json_path": "b.json"}),
    "files": (_copy_source, {"json_path": "{source,b}.json"}),
}
"""What is done, and what the entry of the mixture says then."""


@pytest.mark.slow
@pytest.mark.usefixtures("own_format")
@pytest.mark.parametrize("what", CHANGES)
def test_each_thing_that_shapes_a_store_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    source(tmp_path, 2)
    write_images(tmp_path / "elsewhere", ["images/0.jpg"])
    entry: dict[str, Any] = {"format": "mine"}
    mixture(tmp_path, **entry)
    mixture(tmp_path, **entry)
    assert stores(tmp_path) == 1

    change, changed = CHANGES[what]
    change(tmp_path, monkeypatch)
    entry |= changed
    again = mixture(tmp_path, **entry)

    assert stores(tmp_path) == 2
    assert list(again) == list(mixture(tmp_path, "afresh", **entry))


def test_a_store_is_used_again_while_nothing_has_changed(tmp_path: Path) -> None:
    source(tmp_path, 3)
    (tmp_path / "images" / "1.jpg").unlink()
    [first], [second] = mixture(tmp_path).plan(), mixture(tmp_path).plan()
    (tmp_path / "images" / "unasked.jpg").write_bytes(b"x")
    [third] = mixture(tmp_path).plan()

    assert first.store == second.store == third.store
    assert stores(tmp_path) == 1

    (tmp_path / "images" / "0.jpg").rename(tmp_path / "0.jpg")
    assert mixture(tmp_path).plan()[0].store != first.store
    (tmp_path / "0.jpg").rename(tmp_path / "images" / "0.jpg")
    assert mixture(tmp_path).plan()[0].store == first.store  # as it was before


def test_the_folder_that_one_stands_in_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Formats look at the names of a file's folders too:
    `data/source.json` finds `data/images`, `source.json` not.
    """
    source(tmp_path / "data", 2)
    text = json.dumps({"datasets": [{"json_path": "source.json", "media_root": ".."}]})
    (tmp_path / "data" / "mix.yaml").write_text(text)
    found = []
    for place, name in ((tmp_path / "data", "mix.yaml"), (tmp_path, "data/mix.yaml")):
        monkeypatch.chdir(place)
        found.append(Mixture.from_yaml(name, cache=tmp_path / "cache"))
        assert list(Mixture.from_yaml(name, cache=tmp_path / "afresh" / place.name)) == list(
            found[-1]
        )

    assert ids(found[0]) == ids(found[1]) == ["r0", "r1"]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = source(tmp_path, 2)
    (tmp_path / "mix.yaml").write_text("datasets: [{json_path: source.json}]")

    def append(records: int, rejects: int) -> None:
        path.write_text(path.read_text() + "\n")

    with pytest.raises(StoreError, match=r"source\.json changed while it was read"):
        Mixture.from_yaml(tmp_path / "mix.yaml", cache=tmp_path / "cache", progress=append)
    assert stores(tmp_path) == 0


@pytest.mark.parametrize("what", ["1/data-00000.arrow", "1/manifest.json", "1.media.json"])
def test_what_is_damaged_in_the_cache_is_made_anew(tmp_path: Path, what: str) -> None:
    source(tmp_path, 3)
    mixture(tmp_path)
    [entry] = (tmp_path / "cache").iterdir()
    (entry / what).write_bytes((entry / what).read_bytes()[:-9])

    assert ids(mixture(tmp_path)) == ["r0", "r1", "r2"]
    assert mixture(tmp_path).plan()[0].store.name == "2"


# --- who reads, who clears
# -----------------------------------------------------------------------------------------


def test_whoever_reads_a_store_reads_on_when_the_next_is_made(tmp_path: Path) -> None:
    source(tmp_path, 3)
    early = mixture(tmp_path)
    travelled = pickle.dumps(mmdata.open(early.plan()[0].store))
    (tmp_path / "images" / "0.jpg").unlink()

    assert ids(mixture(tmp_path)) == ["r1", "r2"]
    assert ids(early) == [row.id for row in pickle.loads(travelled)] == ["r0", "r1", "r2"]


def test_of_one_data_set_the_last_three_stores_are_kept(tmp_path: Path) -> None:
    source(tmp_path, 6)
    for number in range(5):
        (tmp_path / "images" / f"{number}.jpg").unlink()
        last = mixture(tmp_path)

    [entry] = (tmp_path / "cache").iterdir()
    assert stores(tmp_path) == 3
    assert sorted(path.name for path in entry.iterdir() if path.is_dir()) == ["3", "4", "5"]
    assert ids(last) == ["r5"]


def test_clearing_removes_what_is_the_caches_and_nothing_else(tmp_path: Path) -> None:
    source(tmp_path, 2)
    rows = mixture(tmp_path)
    (tmp_path / "cache" / "mine").mkdir()
    (tmp_path / "cache" / "mine" / "notes.txt").write_text("mine")
    mmdata.convert("llava", tmp_path / "source.json", tmp_path / "cache" / "own-0123456789abcdef")

    removed = Cache.at(tmp_path / "cache").clear()

    assert removed.stores == 1
    assert removed.bytes > 1000
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        "mine",
        "own-0123456789abcdef",
    ]
    assert ids(rows) == ["r0", "r1"]  # whoever has it open reads on
    assert Cache.at(tmp_path / "cache").clear().stores == 0
    assert ids(mixture(tmp_path)) == ["r0", "r1"]


def test_the_cache_is_where_the_system_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache.at().folder == tmp_path / "xdg" / "mmdata" / "mixtures"

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    assert Cache.at().folder == tmp_path / "home" / ".cache" / "mmdata" / "mixtures"

    monkeypatch.delenv("XDG_CACHE_HOME")
    source(tmp_path, 1)
    (tmp_path / "mix.yaml").write_text("datasets: [{json_path: source.json}]")
    [row] = Mixture.from_yaml(tmp_path / "mix.yaml").plan()
    assert row.store.is_relative_to(tmp_path / "home" / ".cache" / "mmdata" / "mixtures")


def test_a_place_that_cannot_be_written_says_how_to_name_another(tmp_path: Path) -> None:
    source(tmp_path, 1)
    (tmp_path / "cache").write_text("a file")

    with pytest.raises(
        UsageError,
        match=r"cache: no store can be kept there \(.*\)\. --cache DIR, or XDG_CACHE_HOME",
    ):
        mixture(tmp_path)


# --- several processes
# ---------------------------------------------------------------------------------------------

READ = """
import sys, time
from mmdata.mixture import Mixture
while time.time() < float(sys.argv[2]):
    time.sleep(0.001)
rows = Mixture.from_yaml(sys.argv[1] + "/mix.yaml", cache=sys.argv[1] + "/cache")
print((rows.plan()[0].store / "manifest.json").stat().st_ino, *[row.id for row in rows])
"""
HOLD = """
import sys, time
from pathlib import Path
from mmdata.mixture import Mixture
def stop(records, rejects):
    Path(sys.argv[1], "begun").touch()
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.01)
rows = Mixture.from_yaml(sys.argv[1] + "/mix.yaml", cache=sys.argv[1] + "/cache", progress=stop)
print((rows.plan()[0].store / "manifest.json").stat().st_ino, *[row.id for row in rows])
"""


def _start(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_processes_that_start_together_have_the_same_rows_of_one_store(tmp_path: Path) -> None:
    source(tmp_path, 300)
    (tmp_path / "mix.yaml").write_text("datasets: [{json_path: source.json}]")
    start = str(time.time() + 0.8)

    processes = [_start(READ, str(tmp_path), start) for _ in range(4)]
    said = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0] * 4, said
    [one] = {out for out, _ in said}  # the same file too: nobody has replaced it
    assert one.split()[1:] == [f"r{number}" for number in range(300)]
    assert stores(tmp_path) == 1


@pytest.mark.slow
@pytest.mark.parametrize("dies", [True, False])
def test_whoever_waits_uses_the_store_that_is_made_or_makes_it_where_the_maker_dies(
    tmp_path: Path, dies: bool
) -> None:
    source(tmp_path, 3)
    (tmp_path / "mix.yaml").write_text("datasets: [{json_path: source.json}]")
    holder = _start(HOLD, str(tmp_path))
    while not (tmp_path / "begun").exists():
        assert holder.poll() is None, holder.communicate()
        time.sleep(0.01)

    waiting = _start(READ, str(tmp_path), "0")
    assert waiting.stderr is not None
    assert select.select([waiting.stderr], [], [], 60)[0]
    waits = waiting.stderr.readline()
    assert waiting.poll() is None
    if dies:
        holder.send_signal(signal.SIGKILL)
    (tmp_path / "go").touch()
    made, (found, errors) = holder.communicate(timeout=60)[0], waiting.communicate(timeout=60)

    assert found.split()[1:] == ["r0", "r1", "r2"]
    further = errors.splitlines()
    assert f"is being converted by process {holder.pid} on" in waits
    assert "this process waits and uses its store" in waits
    assert [f"process {holder.pid} on" in line for line in further] == [True] * dies
    assert all("has ended; this process does it anew" in line for line in further)
    assert made == ("" if dies else found)
    assert stores(tmp_path) == 1


# --- rejects
# --------------------------------------------------------------------------------------------------


def test_a_mixed_store_accounts_for_the_rejects_of_its_parts_each_once(tmp_path: Path) -> None:
    source(tmp_path, 4)
    (tmp_path / "images" / "2.jpg").unlink()
    write_records(tmp_path / "b.json", [record(0, image=None, conversations=[]), record(1)])
    entries = [
        {"json_path": "source.json", "sampling_strategy": "first:1"},
        {"json_path": "b.json"},
        {"json_path": "source.json", "sampling_strategy": "end:1", "repeat": 2},
    ]
    (tmp_path / "mix.yaml").write_text(json.dumps({"datasets": entries}))
    rows = Mixture.from_yaml(tmp_path / "mix.yaml", cache=tmp_path / "cache")

    store = write_mixture(rows, tmp_path / "mixed")

    found = [(line["file"], line["record"], line["id"], line["reason"]) for line in store.rejects()]
    assert found == [
        (str(tmp_path / "source.json"), 2, "r2", "missing_media"),
        (str(tmp_path / "b.json"), 0, "r0", "no_conversation"),
    ]
    assert "images/2.jpg" in next(store.rejects())["detail"]
    manifest = store.manifest
    assert (manifest.records_in, manifest.rows) == (6, 4)
    assert manifest.rejects == {"missing_media": 1, "no_conversation": 1}
    assert [part["rejects"] for part in manifest.notes["parts"]] == [1, 1, 1]
    assert mmdata.check(store.path) == []


def test_the_plan_says_what_was_not_kept_and_where_that_is_written(tmp_path: Path) -> None:
    source(tmp_path, 3)
    (tmp_path / "images" / "2.jpg").unlink()

    [row] = mixture(tmp_path).plan()

    assert (row.rows, row.rejects, row.reasons) == (2, 1, {"missing_media": 1})
    assert "images/2.jpg" in (row.store / "rejects.jsonl").read_text()


def test_a_mixture_without_a_row_says_why(tmp_path: Path) -> None:
    source(tmp_path, 3)
    shutil.rmtree(tmp_path / "images")

    assert "3 of 3 records were rejected as missing_media" in str(mixture(tmp_path).why_empty)
    with pytest.raises(
        DataError, match=r"source\.json has a weight, but no row was kept: 3 of 3 .* missing_media"
    ):
        mixture(tmp_path, weight=1)

    write_images(tmp_path, ["images/0.jpg"])
    assert mixture(tmp_path).why_empty is None
    assert "sampling strategies take none" in str(
        mixture(tmp_path, sampling_strategy="first:0").why_empty
    )
    with pytest.raises(UsageError, match=r"has a weight but gives no rows: first:0 takes none"):
        mixture(tmp_path, sampling_strategy="first:0", weight=1)
