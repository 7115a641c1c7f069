"""What keeps no row says why: the most frequent reason first,
with an example and the mend; the command exits 1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.errors import DataError, UsageError
from mmdata.frame_cache import cache_frames
from mmdata.pipeline import Stream
from mmdata.rejects import Reason, Reject
from mmdata.schema import Media
from mmdata.store.empty import explain_empty, why_empty
from tests.command import mmdata as run_command
from tests.pipeline.words import WordTemplate
from tests.source_files import record, source, write_records
from tests.stores import write
from tests.test_frame_cache import about
from tests.vocabularies import published_anywhere


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "xdg"))
        return run_command(folder, *arguments)


@pytest.fixture
def barren(tmp_path: Path) -> Path:
    """Sources and stores that keep no row:
    most images are missing, a record has no answer, a clip is none.
    """
    records = [record(0, conversations=[]), record(1), record(2), record(3)]
    write_records(tmp_path / "source.json", records)
    (tmp_path / "clip.mp4").write_text("no clip")
    write(tmp_path / "clips", [about(7, Media("video", "clip.mp4"))], media_root=str(tmp_path))
    (tmp_path / "mix.yaml").write_text("datasets: [{json_path: source.json}]")
    return tmp_path


WHY = "3 of 4 records were rejected as missing_media (a media file is not there)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["convert", "llava", "source.json", "-o", "out"],
            [
                WHY,
                "source.json, record 1, id 'r1'",
                "'images/1.jpg'",
                "--media-root",
                "out/rejects.jsonl",
            ],
        ),
        (
            ["mix", "mix.yaml", "--plan"],
            [WHY, "source.json, record 1, id 'r1'", "'images/1.jpg'", "media_root:"],
        ),
        (
            ["mix", "mix.yaml", "-o", "out"],
            [WHY, "source.json, record 1, id 'r1'", "'images/1.jpg'", "media_root:"],
        ),
        (
            ["frames", "clips", "-o", "out", "--frames", "uniform:2"],
            [
                "1 of 1 records were rejected as unreadable_media",
                "clips, record 0, id 'c7'",
                "clip.mp4",
                "fetch",
            ],
        ),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_command_that_keeps_no_row_says_why_and_exits_1(
    barren: Path, arguments: list[str], words: list[str], form: list[str]
) -> None:
    done = command(barren, *arguments, *form)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("mmdata: ")]
    assert "no row was kept" in line
    for word in words:
        assert word in line
    if form:
        json.loads(done.stdout)
    else:
        assert "rejects" in done.stdout
    if "-o" in arguments:
        store = mmdata.open(barren / "out")
        assert store.manifest.records_in == len(list(store.rejects())) > 0
        assert mmdata.check(barren / "out") == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("empty.json", "[]", "no record was found"),
        ("empty.jsonl", "", "no record was found"),
        ("odd.json", '[{"a": 1}]', "rejected as no_conversation"),
    ],
)
def test_a_source_that_is_really_empty_keeps_no_row_either(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)

    done = command(tmp_path, "convert", "llava", name, "-o", "out")

    assert done.returncode == 1
    assert words in done.stderr
    assert name in done.stderr
    assert (tmp_path / "out").exists() == ("rejected" in words)


def test_one_row_is_enough_and_strictness_still_stops_at_the_first_reject(barren: Path) -> None:
    assert (
        "record 0"
        in command(barren, "convert", "llava", "source.json", "-o", "strict", "--strict").stderr
    )
    assert not (barren / "strict").exists()

    source(barren, 2)
    (barren / "images" / "1.jpg").unlink()
    done = command(barren, "convert", "llava", "source.json", "-o", "out")

    assert (done.returncode, done.stderr) == (0, "")


def test_from_python_the_report_says_why(barren: Path) -> None:
    report = mmdata.convert("llava", barren / "source.json", barren / "out")
    cached = cache_frames(barren / "clips", barren / "frames", "uniform:2")

    assert report.why_empty == why_empty(barren / "out")
    assert WHY in str(report.why_empty)
    assert "unreadable_media" in str(cached.why_empty)
    source(barren, 1)
    assert mmdata.convert("llava", barren / "source.json", barren / "kept").why_empty is None
    assert why_empty(barren / "kept") is None


def test_a_store_without_a_row_gives_way_to_the_next_and_one_with_rows_does_not(
    barren: Path,
) -> None:
    mmdata.convert("llava", barren / "source.json", barren / "out")
    source(barren, 4)

    assert mmdata.convert("llava", barren / "source.json", barren / "out").rows == 4
    with pytest.raises(UsageError, match="--overwrite"):
        mmdata.convert("llava", barren / "source.json", barren / "out")


def test_a_damaged_store_without_a_row_does_not_give_way(barren: Path) -> None:
    mmdata.convert("llava", barren / "source.json", barren / "out")
    manifest = barren / "out" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"rows": 0', b'"rows": 1'))

    with pytest.raises(UsageError, match="--overwrite"):
        mmdata.convert("llava", barren / "source.json", barren / "out")


reasons = st.lists(st.sampled_from(list(Reason)), min_size=1, max_size=12)


@given(reasons)
def test_the_most_frequent_reason_comes_with_its_first_example(found: list[Reason]) -> None:
    rejects = [
        Reject(n, "a.json", f"id{n}", reason, f"detail {n}") for n, reason in enumerate(found)
    ]
    counts = Counter(reason.value for reason in found)

    why = explain_empty(counts, rejects)

    [code] = [code for code in counts if f"rejected as {code} (" in why]
    assert counts[code] == max(counts.values())
    first = next(n for n, reason in enumerate(found) if reason.value == code)
    assert f"{counts[code]} of {len(found)} records" in why
    assert f"a.json, record {first}, id 'id{first}': detail {first}." in why


def test_without_a_row_there_is_nothing_to_stream_or_to_cache_or_to_measure(barren: Path) -> None:
    mmdata.convert("llava", barren / "source.json", barren / "out")

    with pytest.raises(DataError, match=r"out', 0 rows\): there is no row to read.*mmdata info"):
        Stream(mmdata.open(barren / "out"), WordTemplate())
    with pytest.raises(DataError, match="missing_media"):
        cache_frames(barren / "out", barren / "frames", "uniform:2")
    assert not (barren / "frames").exists()
    pipeline = {
        "mixture": "mix.yaml",
        "template": {"name": "qwen_vl"},
        "tokenizer": {"name": "qwen", "path": str(published_anywhere("qwen"))},
    }
    (barren / "pipeline.yaml").write_text(json.dumps(pipeline))
    done = command(barren, "bench", "pipeline.yaml")
    assert done.returncode == 1
    assert "there is no row to read" in done.stderr
    shutil.rmtree(barren / "xdg")  # the cache was there, as the environment says
