"""A URL that cannot be taken is refused by its name, before anything is written or read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mmdata
from mmdata._tools.paths import local_path
from mmdata.errors import UsageError
from mmdata.frame_cache import cache_frames
from mmdata.mixture import Mixture, write_mixture
from mmdata.store import Store
from tests.source_files import source
from tests.stores import numbered

WEB = ("http://host/x", "https://host/x.json")
NOT_WRITTEN = (*WEB, "gs://bucket/x", "hf://datasets/x/y")
NOWHERE = (*NOT_WRITTEN, "s3://bucket/x")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    source(tmp_path, 1)
    (tmp_path / "mix.yaml").write_text("datasets: [{store: store}]")
    monkeypatch.chdir(tmp_path)
    return numbered(tmp_path / "store", 3)


CALLS: dict[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "convert: source": (lambda url: mmdata.convert("llava", url, "new"), WEB),
    "convert: one of the sources": (
        lambda url: mmdata.convert("llava", ["source.json", url], "new"),
        WEB,
    ),
    "convert: source, format to be told": (lambda url: mmdata.convert("auto", url, "new"), WEB),
    "convert: store": (lambda url: mmdata.convert("llava", "source.json", url), NOT_WRITTEN),
    "convert: store, replaced": (
        lambda url: mmdata.convert("llava", "source.json", url, overwrite=True),
        NOT_WRITTEN,
    ),
    "convert: media root": (
        lambda url: mmdata.convert("llava", "source.json", "new", media_root=url),
        WEB,
    ),
    "mix: store": (lambda url: write_mixture(Mixture.from_yaml("mix.yaml"), url), NOT_WRITTEN),
    "frames: store": (lambda url: cache_frames("store", url, "uniform:4"), NOWHERE),
    "open: store": (mmdata.open, WEB),
    "open: media root": (lambda url: mmdata.open("store", media_root=url), WEB),
    "check: store": (mmdata.check, WEB),
}
"""What takes which URLs not."""


@pytest.mark.parametrize(("call", "url"), [(call, url) for call in CALLS for url in CALLS[call][1]])
@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.usefixtures("store")
def test_a_url_that_a_call_cannot_take_is_refused_by_its_name(
    call: str, kind: type, url: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(UsageError) as caught:
        CALLS[call][0](kind(url))

    assert url in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "entry", ["{store: %s}", "{json_path: %s.json}", "{store: store, media_root: %s}"]
)
@pytest.mark.usefixtures("store")
def test_a_url_in_a_mixing_file_is_refused(entry: str, tmp_path: Path) -> None:
    (tmp_path / "mix.yaml").write_text(f"datasets: [{entry % 's3://bucket/x'}]")

    with pytest.raises(UsageError, match=r"s3://bucket/x.*not supported yet"):
        Mixture.from_yaml("mix.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        "convert llava source.json -o gs://bucket/x",
        "mix mix.yaml -o gs://bucket/x",
        "frames store -o gs://bucket/x --frames uniform:4",
        "check http://bucket/x",
    ],
)
@pytest.mark.usefixtures("store")
def test_the_command_refuses_a_url_as_a_call_that_is_at_fault(
    arguments: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "mmdata", *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "://bucket/x" in done.stderr
    assert not list(tmp_path.glob("*:"))


def test_a_url_of_a_file_says_which_path_it_is() -> None:
    with pytest.raises(UsageError, match="name it as a path, /data/x"):
        local_path("file:///data/x", "store")


@pytest.mark.parametrize(
    "path", ["x", "/x", "./a:b/c", "a b/c", "C:/x", "a/b://c", "10:30/x", "data:x", "s3/x", ""]
)
def test_a_path_is_not_taken_for_a_url(path: str) -> None:
    assert local_path(path, "store") == Path(path)
