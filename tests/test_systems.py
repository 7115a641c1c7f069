"""What runs where Linux's own calls are missing, as on macOS,
and what is refused where POSIX's are, as on Windows.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from mmdata._tools.requirements import load_optional
from mmdata.errors import UsageError
from tests.source_files import record, write_records
from tests.video.clips import clip

MACOS = """
    import ctypes, os
    class Library:  # has neither renameat2 nor sync_file_range
        def __getattr__(self, name): raise AttributeError(name)
    ctypes.CDLL = lambda *args, **options: Library()
    del os.sched_getaffinity
"""
WINDOWS = """
    import ctypes, multiprocessing.connection, os, select, signal, subprocess, sys
    def no_library(name, *args, **options):
        raise TypeError("LoadLibrary() argument 1 must be str, not None")
    ctypes.CDLL = no_library
    for module in ("fcntl", "resource"): sys.modules[module] = None
    for name in ("sched_getaffinity", "O_DIRECTORY", "pread", "fork", "register_at_fork"):
        delattr(os, name)
    for name in ("SIGKILL", "SIGALRM", "setitimer", "ITIMER_REAL"): delattr(signal, name)
    del select.poll
"""


def run(system: str, code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    script = textwrap.dedent(system) + textwrap.dedent(code)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_records(tmp_path / "source.json", [record(number) for number in range(5)])


def test_without_what_only_linux_has_a_store_is_written_replaced_and_read(
    source: Path, tmp_path: Path
) -> None:
    code = """
        import mmdata, sys
        for _ in range(2):
            mmdata.convert("llava", sys.argv[1], sys.argv[2], check="none", overwrite=True)
        assert mmdata.check(sys.argv[2]) == []
        print(len(mmdata.open(sys.argv[2])))
    """
    done = run(MACOS, code, source, tmp_path / "store")

    assert (done.stdout, done.stderr) == ("5\n", "")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source.json", "store"]


@pytest.mark.slow
def test_without_what_only_linux_has_media_are_decoded_and_streams_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(clip("h264", "mp4", range(8)))
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "A clip."}]
    (tmp_path / "source.json").write_text(
        json.dumps([{"id": "a", "video": "clip.mp4", "conversations": turns}])
    )
    code = """
        import mmdata, sys
        from mmdata.pipeline import Stream
        from tests.pipeline.words import WordTemplate, mixed
        mmdata.convert("llava", sys.argv[1], sys.argv[2], check="decode")
        print(mmdata.open(sys.argv[2])[0].media[0].num_frames)
        print(sum(1 for _ in Stream(mixed(8), WordTemplate(), seq_length=40, batch_size=4)))
    """
    done = run(MACOS, code, tmp_path / "source.json", tmp_path / "store")

    assert (done.stdout, done.stderr) == ("8\n2\n", "")


def test_without_posix_everything_is_imported_and_stores_are_read(
    source: Path, tmp_path: Path
) -> None:
    import mmdata

    mmdata.convert("llava", source, tmp_path / "store", check="none")
    code = """
        import importlib, mmdata, pkgutil
        for module in pkgutil.walk_packages(mmdata.__path__, "mmdata."):
            if not module.name.endswith("__main__"): importlib.import_module(module.name)
        print(len(mmdata.open(sys.argv[1])), mmdata.check(sys.argv[1]))
    """
    done = run(WINDOWS, code, tmp_path / "store")

    assert (done.stdout, done.stderr) == ("5 []\n", "")


@pytest.mark.parametrize(
    "call", ["convert('llava', *sys.argv[1:], check='none')", "engine.local.run(len, 'four')"]
)
def test_without_posix_what_needs_it_is_refused_by_name(
    call: str, source: Path, tmp_path: Path
) -> None:
    code = f"""
        import mmdata, mmdata.engine.local
        from mmdata.errors import UsageError
        try:
            mmdata.{call}
        except UsageError as error:
            print(error)
    """
    done = run(WINDOWS, code, source, tmp_path / "store")

    assert "needs Linux" in done.stdout, done.stderr
    assert "use WSL" in done.stdout
    assert not (tmp_path / "store").exists()


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)

    with pytest.raises(
        UsageError, match=r"backend='decord' needs decord: pip install 'mmdata-arrow\[decord\]'"
    ):
        load_optional("decord", needed_by="backend='decord'")


def test_mindspore_is_not_imported_into_a_process_that_decord_would_make_it_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "decord", ModuleType("decord"))
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)

    with pytest.raises(UsageError, match="import mindspore before decord is used"):
        load_optional("mindspore.dataset", needed_by="mindspore_dataset")
