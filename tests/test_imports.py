from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmdata
from tests.stores import numbered

HEAVY = {
    "numpy",
    "pyarrow",
    "av",
    "decord",
    "PIL",
    "datasets",
    "torch",
    "mindspore",
    "pandas",
    "sentencepiece",
    "tiktoken",
    "rich",
    "yaml",
}


@pytest.mark.parametrize(
    "code",
    [
        "import mmdata",
        "import mmdata, mmdata.schema, mmdata.store, mmdata.formats",
        "import sys; sys.argv = ['mmdata', '--help']\n"
        "from mmdata.cli import cli\n"
        "cli.main(standalone_mode=False)",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    report = (
        "\nimport sys; print('modules:', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code + report], capture_output=True, text=True, check=True
    ).stdout

    loaded = set(printed.rpartition("modules:")[2].split())
    assert "mmdata" in loaded
    assert not loaded & HEAVY


def _modules_of(names: str) -> set[str]:
    """Return what is loaded with modules: old releases of numpy start processes."""
    code = f"import sys, {names}; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


def test_a_conversion_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}]'
    )
    code = (
        "import sys, mmdata; mmdata.convert('llava', *sys.argv[1:], check='none'); "
        "print(*sys.modules)"
    )
    arguments = [str(tmp_path / "a.json"), str(tmp_path / "store")]
    loaded = subprocess.check_output([sys.executable, "-c", code, *arguments], text=True).split()

    assert "pyarrow" in loaded
    unneeded = {"pandas", "pyarrow.compute", "pyarrow.parquet", "PIL", "av"}
    unneeded |= {"multiprocessing", "subprocess"} - _modules_of("numpy, pyarrow")
    assert not unneeded & set(loaded)


def test_a_conversion_of_a_table_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = [{"role": "user", "content": "<image>?"}, {"role": "assistant", "content": "!"}]
    rows = [{"id": "1", "messages": turns, "images": [{"bytes": b"picture", "path": "1.jpg"}]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    code = "import sys, mmdata; mmdata.convert('messages', *sys.argv[1:]); print(*sys.modules)"
    arguments = [str(tmp_path / "a.parquet"), str(tmp_path / "store")]

    loaded = subprocess.check_output([sys.executable, "-c", code, *arguments], text=True).split()

    assert "pyarrow.parquet" in loaded
    unneeded = {"pandas", "pyarrow.compute", "PIL", "av", "jsonlines", "importlib.metadata"}
    unneeded |= {"multiprocessing", "subprocess"} - _modules_of("numpy, pyarrow.parquet")
    assert not {*unneeded, "mmdata.video", "mmdata.image"} & set(loaded)


@pytest.mark.parametrize(
    ("name", "unneeded"),
    [("llava", {"pandas"}), ("datasets", {"pandas", "pyarrow.compute", "datasets"})],
)
def test_an_export_imports_no_more_than_it_needs(
    name: str, unneeded: set[str], tmp_path: Path
) -> None:
    numbered(tmp_path / "store", 3)
    code = (
        "import sys, mmdata; mmdata.export(*sys.argv[1:], media='reference'); print(*sys.modules)"
    )
    arguments = [str(tmp_path / "store"), name, str(tmp_path / "out")]

    loaded = subprocess.check_output([sys.executable, "-c", code, *arguments], text=True).split()

    assert "pyarrow" in loaded
    assert not unneeded & set(loaded)
    assert not {"mmdata.formats", "mmdata.video", "PIL"} & set(loaded)


def test_importing_costs_little() -> None:
    """Well under the promised 0.3 s, the interpreter's own start left out;
    the best of five, for busy machines.
    """
    code = (
        "import time; start = time.perf_counter(); import mmdata; "
        "print(time.perf_counter() - start)"
    )
    taken = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]

    assert min(taken) < 0.3


def test_every_public_name_is_there_and_is_not_a_module() -> None:
    import mmdata.conversion
    import mmdata.store

    for name in mmdata.__all__:
        assert not isinstance(getattr(mmdata, name), type(sys)), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'convrt'"):
        mmdata.convrt  # noqa: B018


@pytest.mark.parametrize(("said", "kept"), [({}, "-1"), ({"MIMALLOC_PURGE_DELAY": "7"}, "7")])
def test_a_command_says_how_arrow_keeps_memory_before_it_is_imported_unless_the_user_does(
    said: dict[str, str], kept: str
) -> None:
    code = (
        "import os, sys; from mmdata.cli import main; sys.argv = ['mmdata', '--version']\n"
        "try: main()\n"
        "except SystemExit: print(os.environ['MIMALLOC_PURGE_DELAY'], 'pyarrow' in sys.modules)"
    )
    own = {name: value for name, value in os.environ.items() if name != "MIMALLOC_PURGE_DELAY"}

    printed = subprocess.run(
        [sys.executable, "-c", code], env=own | said, capture_output=True, text=True, check=True
    ).stdout

    assert printed.splitlines()[-1] == f"{kept} False"
