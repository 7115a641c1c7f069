"""Work on a Ray cluster on this machine: the bytes and the figures that one process gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.conversion.prober import media_faults
from mmdata.engine.engine import Engine, LostWorkerError, run_jobs
from mmdata.engine.open import open_engine
from mmdata.engine.partitions import check_store
from mmdata.engine.ray import _hint
from mmdata.errors import PluginError
from mmdata.formats.llava import Llava
from mmdata.frame_cache import cache_frames
from mmdata.mixture import select
from mmdata.report import stats
from mmdata.report.lengths import measure_lengths
from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.store import Store
from tests.conversion.test_partitions import SOURCES, Deadly, convert, mixed, write_lines
from tests.engine.clusters import ROOT, ray_cluster
from tests.engine.test_engine import end_once, refuse
from tests.engine.test_partitions import as_lists, spelled
from tests.engines import bytes_of
from tests.source_files import record
from tests.stores import write
from tests.templates.families import FAMILIES
from tests.video.clips import clip

pytest.importorskip("ray")

from ray.exceptions import AuthenticationError

# Ray's own files and sockets are left to the collector when it shuts down.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a cluster that was there before."""
    with pytest.MonkeyPatch.context() as patch, ray_cluster(patch) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(address: str) -> Iterator[Engine]:
    """An engine at an address; engines of other sizes are opened beside it, on the same cluster."""
    with open_engine("ray", workers=4, address=address) as engine:
        yield engine


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store of forty rows, some of which say the same, with five clips, of which one is lost."""
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(clip("h264", "mp4", range(4), first=10 * number))
    rows = [
        Conversation(
            f"{number}",
            (user(Video(0), "What?") if number < 5 else user("What?"), assistant(f"{number % 13}")),
            (Media("video", f"{number}.mp4"),) if number < 5 else (),
        )
        for number in range(40)
    ]
    return write(tmp_path / "store", rows, media_root=str(tmp_path))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_partitions_on_a_cluster_give_the_same_bytes(
    tmp_path: Path, workers: int, cluster: Engine
) -> None:
    with open_engine("ray", workers=workers) as engine:
        for kind, write_source in SOURCES.items():
            folder = tmp_path / kind
            folder.mkdir()
            source = write_source(folder, mixed(60))
            whole = convert(source, tmp_path / "whole")

            for count in (2, 50) if kind == "lines" else (7,):
                found = convert(source, tmp_path / "parts", engine=engine, partitions=count)
                assert found == whole, (kind, count)


def test_a_cluster_outlives_its_workers_and_the_record_that_kills_them_is_the_one_reject(
    tmp_path: Path, cluster: Engine
) -> None:
    records = [record(number) for number in range(4)]
    records[1]["note"] = "deadly"
    source = write_lines(tmp_path, records)

    assert list(run_jobs(cluster, end_once, [(tmp_path / "trace",)])) == ["done"]
    errors = run_jobs(cluster, refuse, [(0,), (1,)])
    assert [str(found) for found in errors] == ["0", "one is none"]
    [lost] = run_jobs(cluster, os.abort, [()])
    assert isinstance(lost, LostWorkerError)

    found = convert(source, tmp_path / "store", format=Deadly(), engine=cluster, partitions=2)

    assert b'"record": 1,' in found["rejects.jsonl"]
    assert found["rejects.jsonl"].count(b"\n") == 1


def test_what_goes_through_a_store_finds_the_same_on_a_cluster(
    store: Store, tmp_path: Path, cluster: Engine
) -> None:
    template = FAMILIES[0].template()
    assert spelled(stats(store, engine=cluster, partitions=3)) == spelled(stats(store))

    lengths = measure_lengths(store, template, engine=cluster, partitions=3)
    assert as_lists(lengths) == as_lists(measure_lengths(store, template))

    assert not check_store(store.path, engine=cluster)
    faults = list(media_faults(store, engine=cluster, partitions=3))
    assert faults == list(media_faults(store, workers=1))
    assert [fault.id for fault in faults] == ["4"]

    apart: dict[str, Any] = {"engine": cluster, "partitions": 3}
    for where, options in (("here", {}), ("apart", apart)):
        select(
            store, tmp_path / where, where="turns = 2", drop_duplicates=True, seed=1,
            sample="random:5", **options,
        )  # fmt: skip
        cache_frames(store.path, tmp_path / f"{where}-frames", "uniform:2", **options)
    assert bytes_of(tmp_path / "apart") == bytes_of(tmp_path / "here")
    assert bytes_of(tmp_path / "apart-frames") == bytes_of(tmp_path / "here-frames")


PLUGIN = """
from dataclasses import dataclass
from mmdata.formats.llava import Llava

@dataclass(frozen=True)
class Theirs(Llava):
    summary = "one that is installed here alone"
"""


def test_a_worker_that_lacks_a_plug_in_is_named_with_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Engine
) -> None:
    (tmp_path / "a_plug_in.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    import a_plug_in  # type: ignore[import-not-found]

    theirs: Llava = a_plug_in.Theirs()
    source = write_lines(tmp_path, mixed(10))

    with pytest.raises(PluginError, match=r"a worker on .* No module named 'a_plug_in'"):
        convert(source, tmp_path / "store", format=theirs, engine=cluster, partitions=2)
    assert not (tmp_path / "store").exists()


def told(*arguments: object) -> object:
    """Return what a command says in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "mmdata", *map(str, arguments), "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_command_finds_a_cluster_by_auto_and_starts_one_beside_it_without_an_address(
    store: Store, address: str
) -> None:
    command = ("stats", store.path, "--engine", "ray", "--workers", 1, "--partitions", 2)
    here = json.loads(json.dumps(asdict(mmdata.stats(store))))

    assert told(*command, "--address", "auto") == here
    assert told(*command) == here


def test_a_cluster_that_wants_a_token_is_no_riddle() -> None:
    """Ray says no more than that it failed to connect; why is in the cause of a cause."""
    failure = ConnectionError("Failed to connect")
    failure.__cause__ = RuntimeError("no connection")
    assert _hint(failure) == ""

    failure.__cause__.__cause__ = AuthenticationError("InvalidAuthToken")
    assert "RAY_AUTH_MODE=token" in _hint(failure)
