"""The command as people and programs meet it: what it prints, where, and how it leaves.

Only what is about the process itself starts one; whatever else is said and returned is the same
in this process, without half a second of imports for each call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.command import mmdata
from tests.source_files import record, source, write_records
from tests.stores import numbered
from tests.video.clips import clip
from tests.vocabularies import published_file


def mmdata_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmdata", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_shows_an_example_and_every_command(tmp_path: Path, arguments: list[str]) -> None:
    done = mmdata_process(tmp_path, *arguments)

    assert done.returncode == 0
    assert "mmdata convert llava" in done.stdout
    for command in ("formats", "convert", "mix", "info", "show", "check"):
        assert f"  {command}" in done.stdout


def test_convert_prints_the_account_and_where_the_rejects_are(tmp_path: Path) -> None:
    source(tmp_path, 3)
    (tmp_path / "images" / "1.jpg").unlink()

    done = mmdata_process(tmp_path, "convert", "llava", "source.json", "-o", "store")

    assert done.returncode == 0, done.stderr
    assert "missing_media" in done.stdout
    assert "rejects.jsonl" in done.stdout


def test_convert_answers_programs_in_json(tmp_path: Path) -> None:
    source(tmp_path, 3)

    done = mmdata_process(tmp_path, "convert", "llava", "source.json", "-o", "store", "--json")

    assert json.loads(done.stdout)["rows"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["convert", "lava", "source.json", "-o", "store"], 2, "Did you mean 'llava'"),
        (["convert", "llava", "nowhere.json", "-o", "store"], 2, "nowhere.json"),
        (["convert", "llava", "source.json", "-o", "old"], 2, "--overwrite"),
        (
            ["convert", "llava", "source.json", "-o", "store", "--option", "dataset_nam=x"],
            2,
            "'dataset_name'",
        ),
        (
            ["convert", "llava", "source.json", "-o", "store", "--option", "dataset_name"],
            2,
            "KEY=VALUE",
        ),
        (["convert", "llava", "source.json"], 2, "--output"),
        (["convert", "llava", "source.json", "-o", "store", "--strict"], 1, "record 0"),
        (["info", "nowhere"], 2, "no store"),
        (["show", "old", "99"], 2, "3 rows"),
        (["check", "damaged"], 1, "damaged"),
        (["mix", "nowhere.yaml", "--plan"], 2, "nowhere.yaml"),
        (["mix", "mix.yaml"], 2, "--plan"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line_with_its_exit_code(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_records(tmp_path / "source.json", [record(0)])
    numbered(tmp_path / "old", 3)
    shard = numbered(tmp_path / "damaged", 3).path / "data-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])
    (tmp_path / "mix.yaml").write_text("datasets: [{store: old}]")

    done = mmdata(tmp_path, *arguments)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["convert", "lava", "source.json", "-o", "store"], 2, "Did you mean 'llava'"),
        (["convert", "llava", "source.json", "-o", "store", "--strict"], 1, "record 0"),
    ],
)
def test_a_process_leaves_with_the_code_and_says_why_where_errors_go(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    write_records(tmp_path / "source.json", [record(0)])

    done = mmdata_process(tmp_path, *arguments)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_each_command_runs_as_a_process_that_has_imported_nothing(tmp_path: Path) -> None:
    numbered(tmp_path / "store", 2)
    (tmp_path / "mix.yaml").write_text("datasets: [{store: store, repeat: 2}]")
    (tmp_path / "clip.mp4").write_bytes(clip("libx264", "mp4", range(8)))
    turns = [{"from": "human", "value": "<video>\nq"}, {"from": "gpt", "value": "a"}]
    (tmp_path / "clips.json").write_text(
        json.dumps([{"id": "0", "video": "clip.mp4", "conversations": turns}])
    )

    def answer(*arguments: str) -> Any:
        done = mmdata_process(tmp_path, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # nothing else is written there, by FFmpeg neither

    assert "llava" in answer("formats")
    assert answer("info", "store")["rows"] == 2
    assert answer("show", "store", "1")["id"] == "c1"
    assert answer("mix", "mix.yaml", "-o", "mixed")[0]["draws"] == 4
    assert answer("convert", "llava", "clips.json", "-o", "clips", "--check", "decode")["rows"] == 1
    assert answer("frames", "clips", "-o", "cached", "--frames", "uniform:2")["rows"] == 1
    for store in ("mixed", "cached"):
        done = mmdata_process(tmp_path, "check", store)
        assert (done.returncode, "is whole" in done.stdout) == (0, True), done.stderr


def test_a_store_is_shown_in_words_and_in_json(tmp_path: Path) -> None:
    numbered(tmp_path / "store", 5)

    assert "word3" in mmdata(tmp_path, "show", "store", "3").stdout
    assert json.loads(mmdata(tmp_path, "show", "store", "3", "--json").stdout)["id"] == "c3"
    assert (
        mmdata(tmp_path, "show", "store", "-1").stdout
        == mmdata(tmp_path, "show", "store", "--", "-1").stdout
        != ""
    )
    assert "numbers: 5" in mmdata(tmp_path, "info", "store").stdout
    assert json.loads(mmdata(tmp_path, "info", "store", "--json").stdout)["rows"] == 5
    assert "is whole: 5 rows" in mmdata(tmp_path, "check", "store").stdout


def test_a_mixture_is_planned_and_written(tmp_path: Path) -> None:
    numbered(tmp_path / "a", 10)
    (tmp_path / "mix.yaml").write_text("datasets: [{store: a, sampling_strategy: 'first:30%'}]")

    assert "first:30%" in mmdata(tmp_path, "mix", "mix.yaml", "--plan").stdout
    assert (
        json.loads(mmdata(tmp_path, "mix", "mix.yaml", "--plan", "--json").stdout)[0]["draws"] == 3
    )
    assert mmdata(tmp_path, "mix", "mix.yaml", "-o", "mixed").returncode == 0
    assert "is whole: 3 rows" in mmdata(tmp_path, "check", "mixed").stdout


def test_every_format_is_listed_with_its_line_and_shown_with_its_shape(tmp_path: Path) -> None:
    known = json.loads(mmdata(tmp_path, "formats", "--json").stdout)

    assert {
        "llava",
        "rwf2000",
        "video178k",
        "coco",
        "fewshot",
        "qwen_vl",
        "swift",
        "sharegpt",
        "messages",
    } <= set(known)
    shown = mmdata(tmp_path, "formats", "rwf2000").stdout
    assert "Fight" in shown
    assert "language" in shown


@pytest.mark.slow
def test_a_conversation_is_shown_as_a_model_reads_it(tmp_path: Path, fixtures: Path) -> None:
    numbered(tmp_path / "store", 5)
    reading = ["--template", "qwen_vl", "--tokenizer", str(published_file("qwen", fixtures))]

    plain = mmdata(tmp_path, "show", "store", "3", *reading)
    coloured = mmdata(tmp_path, "show", "store", "3", *reading, "--color")
    lengths = mmdata(tmp_path, "info", "store", *reading, "--max-length", "100")

    assert "<|im_start|>" in plain.stdout, plain.stderr
    assert "\x1b[" in coloured.stdout
    assert "5 samples have more than 100 tokens" in lengths.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--template", "qwen"], "Did you mean 'qwen_vl'"),
        (["--template", "qwen_vl"], "--tokenizer"),
        (["--template", "qwen_vl", "--tokenizer", "nowhere.tiktoken"], "nowhere.tiktoken"),
    ],
)
def test_a_template_that_cannot_be_made_says_why(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    numbered(tmp_path / "store", 1)

    done = mmdata(tmp_path, "show", "store", "0", *arguments)

    assert done.returncode in (1, 2)
    assert words in done.stderr


@pytest.mark.slow
def test_a_pipeline_is_run_and_its_bottleneck_named(tmp_path: Path, fixtures: Path) -> None:
    source(
        tmp_path,
        20,
        image=None,
        conversations=[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    )
    mmdata(tmp_path, "convert", "llava", "source.json", "-o", "store")
    config = {
        "store": "store",
        "template": {"name": "qwen_vl"},
        "tokenizer": {"path": str(published_file("qwen", fixtures))},
        "stream": {"seq_length": 128, "batch_size": 4},
    }
    (tmp_path / "pipeline.yaml").write_text(json.dumps(config))

    done = mmdata_process(tmp_path, "bench", "pipeline.yaml", "--steps", "3", "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["samples"] == 12
    assert report["bottleneck"] in report["stages"]


def test_a_pipeline_that_cannot_be_meant_says_every_fault(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(
        '{"store": "s", "templat": {}, "stream": {"seq_len": 3}}'
    )

    done = mmdata(tmp_path, "bench", "pipeline.yaml")

    assert done.returncode == 2
    for words in ("'templat'", "template", "tokenizer", "'seq_length'"):
        assert words in done.stderr


@pytest.mark.slow
def test_an_expression_leaves_nothing_but_the_table(tmp_path: Path) -> None:
    numbered(tmp_path / "store", 2)

    done = mmdata_process(tmp_path, "select", "store", "-o", "some", "--where", "turns = 2")

    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED: Final = """
import runpy, sys
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "mmdata.cli._stats":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
runpy.run_module("mmdata", run_name="__main__")
"""


def test_ctrl_c_while_the_command_is_imported_is_one_line() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "mmdata: stopped; nothing was begun\n"
