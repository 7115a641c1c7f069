"""Every option of every command changes what it says it changes.

The options are those that the commands themselves list: one that has no case here fails. A case
runs the command without the option and with it, and looks at what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pictures

import mmdata
from mmdata import templates
from mmdata.cli import cli
from mmdata.cli._options import OptionType
from mmdata.engine.fork_server import Process, fork_worker
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.schema import Conversation, Media, Video, assistant, replace, user
from mmdata.schema import Image as Seen
from mmdata.templates import Encoded
from mmdata.video import sample
from tests.conversations import plain
from tests.pipeline.words import WordTemplate
from tests.source_files import record, source, write_images, write_records
from tests.storage import buckets
from tests.storage.web import serve
from tests.stores import numbered, write
from tests.video.clips import clip
from tests.vocabularies import published_anywhere

Case = Callable[[Path, pytest.FixtureRequest], None]

CASES: Final[dict[tuple[str, str], Case]] = {}


def case(command: str, option: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[command, option] = function
        return function

    return add


def listed() -> list[tuple[str, str]]:
    commands = {"": cli, **cli.commands}
    return [
        (name, option.opts[-1])
        for name, command in commands.items()
        for option in command.params
        if isinstance(option, click.Option)
    ]


def test_every_option_has_a_case_and_no_case_is_about_one_that_is_gone() -> None:
    assert set(CASES) == set(listed())


@pytest.mark.parametrize(("command", "option"), listed())
def test_choices_and_bounds_of_a_command_are_those_of_its_function(
    command: str, option: str
) -> None:
    """Whoever writes them down a second time has to keep them the same, and will not."""
    parameters = cli.commands[command].params if command else cli.params
    [kind] = [parameter.type for parameter in parameters if parameter.opts[-1] == option]

    assert not isinstance(kind, (click.Choice, click.IntRange, click.FloatRange))
    assert not isinstance(kind, (click.types.IntParamType, click.types.FloatParamType))


@pytest.mark.parametrize(
    ("command", "option", "kind"),
    [
        (name, option.opts[-1], option.type)
        for name, command in cli.commands.items()
        for option in command.params
        if isinstance(option.type, OptionType)
    ],
)
def test_a_value_that_an_option_cannot_have_is_refused_with_what_it_can(
    command: str, option: str, kind: OptionType
) -> None:
    wrong = [choice[:-1] for choice in kind.choices] or ["no such value", "nan", "-1.5"]
    positional = {"convert": ["llava", "nowhere.json"], "check": ["nowhere"]}.get(
        command, ["nowhere"]
    )

    for value in wrong:
        said = run(command, *positional, option, value, code=2).output

        assert "must be" in said
        assert option in said
        assert all(choice in said for choice in kind.choices)
        assert not kind.choices or "Did you mean" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["convert", "rwf2000", ".", "-o", "s", "--option", "language=cn"],
            "language must be one of zh, en, found 'cn'",
        ),
        (
            ["convert", "rwf2000", ".", "-o", "s", "--option", "langage=en"],
            "Did you mean 'language'",
        ),
        (
            ["convert", "rwf2000", ".", "-o", "s", "--option", "answers=1"],
            "answers must be a tuple of 2 values",
        ),
        (
            ["convert", "llava", ".", "-o", "s", "--option", "fallbacks=perhaps"],
            "fallbacks must be true or false",
        ),
    ],
)
def test_an_option_of_a_format_is_checked_as_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)

    assert words in str(run(*arguments, code=2).exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            "over_long=dropp",
            "over_long must be one of error, drop, truncate_right, found 'dropp'. "
            "Did you mean 'drop'",
        ),
        ("max_length=0", "max_length must be a whole number of at least 1"),
        ("max_lenght=9", "Did you mean 'max_length'"),
        ("tokenizer=x", "has no option 'tokenizer'"),
        ("picture=no place", "picture must say once where the {image} is"),
    ],
)
def test_an_option_of_a_template_is_checked_as_others_are(
    tmp_path: Path, option: str, words: str
) -> None:
    numbered(tmp_path / "store", 1)
    reading = ["--template", "qwen_vl", "--tokenizer", published_anywhere("qwen")]

    said = run("show", tmp_path / "store", *reading, "--template-option", option, code=2)

    assert words in str(said.exception)


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("stats", "--seq-length", "9"),
        ("info", "--max-length", "9"),
        ("stats", "--template-option", "max_length=9"),
        ("show", "--template-option", "max_length=9"),
    ],
)
def test_an_option_that_means_nothing_without_a_template_is_refused(
    tmp_path: Path, command: str, option: str, value: str
) -> None:
    numbered(tmp_path / "store", 1)

    said = run(command, tmp_path / "store", option, value, code=2)

    assert f"{option} wants --template FAMILY" in str(said.exception)


def test_lengths_are_told_to_programs_as_json(tmp_path: Path) -> None:
    numbered(tmp_path / "store", 2)
    reading = ["--template", "qwen_vl", "--tokenizer", published_anywhere("qwen")]

    lengths = answer("info", tmp_path / "store", *reading, "--max-length", 9)

    assert (lengths["samples"], lengths["over"]) == (2, {"9": 2})


@pytest.mark.parametrize("place", ["s3://bucket/plots", "file"])
def test_a_place_that_plots_cannot_have_is_refused(tmp_path: Path, place: str) -> None:
    numbered(tmp_path / "store", 1)
    (tmp_path / "file").write_text("mine")
    folder = place if "://" in place else tmp_path / place

    said = run("stats", tmp_path / "store", "--plots", folder, code=2)

    assert said.output == ""  # nothing was counted


def test_a_store_with_a_broken_clip_is_not_sound(tmp_path: Path) -> None:
    """It is whole as a store, and only decoding finds what is wrong."""
    clips(tmp_path)
    (tmp_path / "1.mp4").write_bytes((tmp_path / "1.mp4").read_bytes()[:-1000])

    assert run("check", tmp_path / "store").exit_code == 0
    assert "1.mp4" in run("check", tmp_path / "store", "--decode", code=1).output


def all_commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from all_commands(command)
        else:
            yield command


@pytest.mark.parametrize("command", list(all_commands(cli)), ids=lambda command: command.name)
def test_every_command_answers_programs_too(command: click.Command) -> None:
    assert "--json" in {name for option in command.params for name in option.opts}


def test_programs_are_told_what_is_wrong_with_each_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "mix.yaml", tmp_path / "bad.yaml"
    numbered(tmp_path / "a", 1)
    good.write_text(f"datasets: [{{store: {tmp_path}/a}}]")
    bad.write_text("datasets: [{stroe: a}]")

    told = json.loads(run("config", "check", good, bad, "--json", code=2).stdout)
    assert told["files"] == {str(good): "a mixture of 1 data sets"}
    assert "stroe" in told["faults"][str(bad)]


# --- what cases are made of
# ---------------------------------------------------------------------------------------


def run(command: str, *arguments: Any, code: int = 0) -> Result:
    """Run a command in this process;
    ``code`` is what it should exit with, 2 for whatever says so.
    """
    words = [command, *map(str, arguments)] if command else list(map(str, arguments))
    result = CliRunner().invoke(cli, words)
    expected = isinstance(result.exception, mmdata.MMDataError) and code
    assert expected or result.exit_code == code, (result.output, result.exception)
    return result


def answer(*arguments: Any) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def rows(path: str | Path = "store") -> list[Conversation]:
    return list(mmdata.open(path))


LONG: Final = 400
"""Frames that no machine decodes within a deadline of a tenth of a millisecond, however late it
looks at the clock.
"""


def clips(folder: Path, count: int = 3, frames: int = 10) -> Path:
    """A store of clips of ten frames, or of so many."""
    for number in range(count):
        (folder / f"{number}.mp4").write_bytes(
            clip("h264", "mp4", range(frames), first=10 * number, size=(48, 96))
        )
    videos = [
        Conversation(
            f"c{n}", (user(Video(0), "What?"), assistant("That.")), (Media("video", f"{n}.mp4"),)
        )
        for n in range(count)
    ]
    return write(folder / "store", videos, media_root=str(folder)).path


def pictures(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / "images").mkdir(exist_ok=True)
        Pictures.fromarray(np.full((8, 8, 3), number, np.uint8)).save(
            folder / "images" / f"{number}.jpg"
        )
    write_records(folder / "source.json", [record(number) for number in range(count)])


def workers_started(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    """How many workers a command asks for."""
    started = []

    def count(*asked: Any) -> Process:
        started.append(asked)
        return fork_worker(*asked)

    with monkeypatch.context() as patch:
        patch.setattr("mmdata.engine.local.fork_worker", count)
        run(*arguments)
    return len(started)


def refused_without_a_cluster(*command: Any) -> None:
    """An address says nothing to this machine, and "head" nothing to Ray."""
    far = (*command, "--address", "head")
    assert "--engine ray" in str(run(*far, code=2).exception)
    assert "HOST:PORT" in str(run(*far, "--engine", "ray", code=2).exception)


# Where workers are not the point one does: each costs as much as all else that a case does.
CONVERT: Final = ("convert", "llava", "source.json", "-o", "store", "--workers", "1")
CHECK: Final = ("check", "store", "--workers", "1")
FRAMES: Final = ("frames", "store", "-o", "cached", "--workers", "1")


def cached(*options: Any, row: int = 0) -> Any:
    """The frames of a row of a cache made with some options,
    which takes the place of the one that was there.
    """
    run(*FRAMES, "--overwrite", *options)
    return cached_frames(mmdata.open("cached")[row].media[0])


# --- the cases
# --------------------------------------------------------------------------------------------------


@case("", "--version")
def version(place: Path, request: pytest.FixtureRequest) -> None:
    assert mmdata.__version__ in run("", "--version").stdout


@case("formats", "--json")
def formats_json(place: Path, request: pytest.FixtureRequest) -> None:
    assert json.loads(run("formats", "--json").stdout)["llava"] in run("formats").stdout


@case("convert", "--output")
def convert_output(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 2)
    run("convert", "llava", "source.json", "-o", "elsewhere")

    assert len(rows("elsewhere")) == 2


@case("convert", "--option")
def convert_option(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)
    run(*CONVERT, "--option", "dataset_name=mine")

    assert rows()[0].source == "mine"


@case("convert", "--media-root")
def convert_media_root(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)
    (place / "images").rename(place / "moved")
    (place / "root").mkdir()
    (place / "moved").rename(place / "root" / "images")

    assert "missing_media" in run(*CONVERT, code=1).stdout
    assert answer(*CONVERT, "--overwrite", "--media-root", "root")["rows"] == 1


@case("convert", "--split")
def convert_split(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)
    run(*CONVERT, "--split", "val")

    assert rows()[0].split == "val"
    run(*CONVERT, "--overwrite", "--split", "train=0.1,test=0.2,val=0.7")
    assert mmdata.open("store").manifest.notes["split"]["shares"]["val"] == 0.7
    for wrong in ("train=0.9", "train=0.5,vall=0.5", "train=,val=1", "train=2,val=-1"):
        run(*CONVERT, "--overwrite", "--split", wrong, code=2)


@case("convert", "--split-by")
def convert_split_by(place: Path, request: pytest.FixtureRequest) -> None:
    write_images(place, ["images/0.jpg"])
    write_records(
        place / "source.json", [record(number, image="images/0.jpg") for number in range(40)]
    )
    shares = ("--overwrite", "--split", "train=0.5,test=0.5")

    assert len(answer(*CONVERT, *shares)["splits"]) == 1
    assert len(answer(*CONVERT, *shares, "--split-by", "id")["splits"]) == 2


@case("convert", "--seed")
def convert_seed(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 20)

    divided = set()
    for seed in (0, 0, 1):
        run(*CONVERT, "--overwrite", "--split", "train=0.5,val=0.5", "--seed", seed)
        divided.add(tuple(row.split for row in rows()))
    assert len(divided) == 2


@case("convert", "--check")
def convert_check(place: Path, request: pytest.FixtureRequest) -> None:
    pictures(place, 2)
    write_records(place / "source.json", [record(0), record(1), record(2)])
    whole = (place / "images" / "1.jpg").read_bytes()
    (place / "images" / "1.jpg").write_bytes(whole[:-40])

    kept = {
        level: answer(*CONVERT, "--overwrite", "--check", level)["rows"]
        for level in ("none", "exists", "decode")
    }
    assert kept == {"none": 3, "exists": 2, "decode": 1}
    run(*CONVERT, "--overwrite", "--check", "probe")
    assert rows()[0].media[0].width == 8


def filmed(place: Path, count: int = 3, frames: int = 10) -> None:
    """A source about clips of ten frames, or of so many."""
    clips(place, count, frames)
    said = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    write_records(
        place / "source.json",
        [record(n, image=None, video=f"{n}.mp4", conversations=said) for n in range(count)],
    )


def damage(file: Path) -> None:
    """Put a clip there that is cut short."""
    whole = clip("h264", "mp4", range(60), gop=10, muxer={"movflags": "frag_keyframe+empty_moov"})
    file.write_bytes(whole[: len(whole) * 2 // 3])


@case("convert", "--on-damage")
def convert_on_damage(place: Path, request: pytest.FixtureRequest) -> None:
    filmed(place)
    damage(place / "1.mp4")
    looking = (*CONVERT, "--overwrite", "--check", "decode")

    assert answer(*looking)["rejects"] == {"damaged_media": 1}
    assert "--on-damage keep" in (place / "store" / "rejects.jsonl").read_text()

    kept = answer(*looking, "--on-damage", "keep")
    assert (kept["rows"], kept["notes"]["oddities"]) == (3, {"damaged": 1})
    [medium] = rows()[1].media
    assert medium.oddities == ("damaged",)
    assert medium.num_frames == len(sample(place / "1.mp4", "every:1", on_damage="keep"))
    assert "damaged: 1" in run("info", "store").output


@case("convert", "--deadline")
def convert_deadline(place: Path, request: pytest.FixtureRequest) -> None:
    filmed(place, frames=LONG)
    looking = (*CONVERT, "--overwrite", "--check", "decode")

    assert answer(*looking, "--deadline", 100)["rows"] == 3
    run(*looking, "--deadline", 1e-4, code=1)
    said = (place / "store" / "rejects.jsonl").read_text()
    assert said.count("media_limit") == 3
    assert "1.mp4: no result within 0.0001 seconds; raise deadline (--deadline, " in said


def large_picture(place: Path) -> None:
    pictures(place, 1)
    large(place / "images" / "0.jpg", 4000)


@case("convert", "--memory")
def convert_memory(place: Path, request: pytest.FixtureRequest) -> None:
    large_picture(place)
    looking = (*CONVERT, "--overwrite", "--check", "decode")

    assert answer(*looking, "--memory", "2G")["rows"] == 1
    run(*looking, "--memory", "96M", code=1)
    said = (place / "store" / "rejects.jsonl").read_text()
    assert "media_limit" in said
    assert "0.jpg" in said
    assert "raise memory (--memory, " in said


@case("convert", "--max-pixels")
def convert_max_pixels(place: Path, request: pytest.FixtureRequest) -> None:
    pictures(place, 2)
    looking = (*CONVERT, "--overwrite", "--check", "probe")

    assert answer(*looking, "--max-pixels", 64)["rows"] == 2
    run(*looking, "--max-pixels", 63, code=1)
    said = (place / "store" / "rejects.jsonl").read_text()
    assert "0.jpg: 8x8 pixels are beyond the limit of 63 pixels" in said
    assert "raise max_pixels (--max-pixels, " in said


@case("convert", "--embed")
def convert_embed(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)
    run(*CONVERT, "--embed")

    assert rows()[0].media[0].bytes == (place / "images" / "0.jpg").read_bytes()


@case("convert", "--workers")
def convert_workers(place: Path, request: pytest.FixtureRequest) -> None:
    pictures(place, 12)
    patch = request.getfixturevalue("monkeypatch")

    for workers in (1, 2):
        assert (
            workers_started(
                patch, *CONVERT, "--overwrite", "--check", "probe", "--workers", workers
            )
            == workers
        )


@case("convert", "--engine")
def convert_engine(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 2)
    logged = request.getfixturevalue("caplog")

    # What is not split starts no cluster, and says so; tests/engine/test_ray.py starts one.
    assert answer(*CONVERT, "--limit", 1)["rows"] == 1
    assert "not split" not in logged.text
    assert answer(*CONVERT, "--overwrite", "--limit", 1, "--engine", "ray")["rows"] == 1
    assert "not split" in logged.text


@case("convert", "--address")
def convert_address(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)

    said = run(*CONVERT, "--address", "head:6379", code=2)
    assert "--engine ray" in str(said.exception)


@case("convert", "--partitions")
def convert_partitions(place: Path, request: pytest.FixtureRequest) -> None:
    write_records(place / "source.jsonl", [record(number) for number in range(9)], lines=True)
    patch = request.getfixturevalue("monkeypatch")
    command = ("convert", "llava", "source.jsonl", "-o", "store", "--check", "none", "--overwrite")

    assert workers_started(patch, *command) == 0
    assert workers_started(patch, *command, "--partitions", 3, "--workers", 2) == 2
    assert len(rows()) == 9


@case("convert", "--limit")
def convert_limit(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 3)

    assert answer(*CONVERT, "--limit", 2)["rows"] == 2


@case("convert", "--strict")
def convert_strict(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 2)
    (place / "images" / "1.jpg").unlink()

    assert "record 1" in str(run(*CONVERT, "--strict", code=1).exception)
    assert not (place / "store").exists()
    assert answer(*CONVERT)["rows"] == 1


@case("convert", "--resume")
def convert_resume(place: Path, request: pytest.FixtureRequest) -> None:
    pictures(place, 2)
    write_records(place / "source.json", [record(0), record(1), {"id": "no conversation"}])

    def attempt(*options: str) -> int | None:
        """Stop at the last record, falsify what was found out about the first picture,
        and convert all but the last.
        """
        write_records(place / "source.json", [record(0), record(1), {"id": "no conversation"}])
        run(*CONVERT, "--check", "probe", "--strict", "--overwrite", code=1)
        [journal] = place.glob(".store.partial/checks.jsonl")
        journal.write_text(journal.read_text().replace('"width": 8', '"width": 9'))
        write_records(place / "source.json", [record(0), record(1)])
        run(*CONVERT, "--check", "probe", "--overwrite", *options)
        return rows()[0].media[0].width

    assert attempt() == 8
    assert attempt("--resume") == 9


@case("convert", "--overwrite")
def convert_overwrite(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)
    run(*CONVERT)
    source(place, 2)

    assert "--overwrite" in str(run(*CONVERT, code=2).exception)
    assert answer(*CONVERT, "--overwrite")["rows"] == 2


@case("convert", "--allow-outside")
def convert_allow_outside(place: Path, request: pytest.FixtureRequest) -> None:
    source(place / "inside", 1)
    (place / "outside.jpg").write_bytes(b"\xff\xd8\xff")
    write_records(place / "inside" / "source.json", [record(0), record(1, image="../outside.jpg")])
    convert = ("convert", "llava", "inside/source.json", "-o", "store", "--overwrite")

    assert answer(*convert)["rows"] == 1
    assert answer(*convert, "--allow-outside")["rows"] == 2


@case("convert", "--allow-remote")
def convert_allow_remote(place: Path, request: pytest.FixtureRequest) -> None:
    with serve() as web:
        web.files["/0.jpg"] = b"\xff\xd8\xff"
        write_records(place / "source.json", [record(0, image=web.url("/0.jpg"))])
        convert = ("convert", "llava", "source.json", "-o", "store", "--allow-host", "127.0.0.1")

        refused = run(*convert, "--json", code=1).stdout.splitlines()
        assert json.loads(refused[-1])["rejects"] == {"remote_media": 1}
        assert not web.asked
        assert answer(*convert, "--allow-remote")["rows"] == 1


@case("convert", "--allow-host")
def convert_allow_host(place: Path, request: pytest.FixtureRequest) -> None:
    with serve() as web:
        web.files["/0.jpg"] = b"\xff\xd8\xff"
        write_records(place / "source.json", [record(0, image=web.url("/0.jpg"))])
        convert = ("convert", "llava", "source.json", "-o", "store", "--allow-remote")

        refused = run(*convert, "--json", code=1).stdout.splitlines()
        assert json.loads(refused[-1])["rejects"] == {"remote_media": 1}
        assert not web.asked
        assert answer(*convert, "--allow-host", "127.0.0.1")["rows"] == 1


@case("convert", "--media-cache")
def convert_media_cache(place: Path, request: pytest.FixtureRequest) -> None:
    with serve() as web:
        web.files["/0.jpg"] = jpeg(place)
        write_records(place / "source.json", [record(0, image=web.url("/0.jpg"))])
        allowed = ("--allow-remote", "--allow-host", "127.0.0.1", "--workers", "1")
        convert: tuple[str, ...] = ("convert", "llava", "source.json", "-o", "store")
        convert += ("--overwrite", "--embed", *allowed)
        sent = []
        for _ in range(2):
            web.sent = 0
            assert answer(*convert, "--media-cache", "kept:2M")["rows"] == 1
            sent.append(web.sent)

    assert sent[1] < len(jpeg(place)) < sent[0]
    run(*convert, "--media-cache", "kept:2K", code=2)


def jpeg(place: Path) -> bytes:
    Pictures.new("RGB", (40, 30)).save(place / "a.jpg")
    return (place / "a.jpg").read_bytes()


@case("frames", "--media-cache")
def frames_media_cache(place: Path, request: pytest.FixtureRequest) -> None:
    patch = request.getfixturevalue("monkeypatch")
    for name, value in buckets.ENVIRONMENT.items():
        patch.setenv(name, value)
    with buckets.run_server() as endpoint:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        buckets.client().create_bucket(Bucket="clips")
        data = clip("libx264", "mp4", range(20))
        buckets.client().put_object(Bucket="clips", Key="0.mp4", Body=data)
        question = user(Video(0), "What?")
        media = (Media("video", path="s3://clips/0.mp4"),)
        write(place / "s3", [Conversation("v", (question, assistant("That.")), media)])
        frames = ("frames", "s3", "--frames", "uniform:2", "--workers", 1, "-o")

        assert answer(*frames, "without")["rows"] == 1
        assert not list(place.glob("kept/??/*"))
        assert answer(*frames, "with", "--media-cache", "kept:1G")["rows"] == 1
        assert len(list(place.glob("kept/??/*"))) == 1


@case("convert", "--allow-fields")
def convert_allow_fields(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 2, score=3, boxes=[1, 2, 3, 4])

    refused = run(*CONVERT, "--json", code=1).stdout.splitlines()
    assert json.loads(refused[-1])["rejects"] == {"unsupported_field": 2}
    admitted = answer(*CONVERT, "--overwrite", "--allow-fields", "score,Boxes")
    assert admitted["rows"] == 2
    assert answer("info", "store", "--json")["notes"]["allow_fields"] == ["score", "Boxes"]


@case("convert", "--parquet")
def convert_parquet(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 1)
    run(*CONVERT)
    assert [file.suffix for file in (place / "store").glob("data-*")] == [".arrow"]

    run(*CONVERT, "--parquet", "--overwrite")
    assert [file.suffix for file in (place / "store").glob("data-*")] == [".parquet"]


@case("convert", "--duplicate-ids")
def convert_duplicate_ids(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 2, id="same")

    assert answer(*CONVERT)["renamed_ids"] == 1
    assert answer(*CONVERT, "--overwrite", "--duplicate-ids", "reject")["rejects"] == {
        "duplicate_id": 1
    }


@case("convert", "--json")
def convert_json(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 3)

    assert json.loads(run(*CONVERT, "--json").stdout)["records_in"] == 3


SAID = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


def mixing(place: Path) -> None:
    numbered(place / "a", 10)
    (place / "mix.yaml").write_text("datasets: [{store: a, sampling_strategy: 'random:3'}]")


@case("mix", "--output")
def mix_output(place: Path, request: pytest.FixtureRequest) -> None:
    mixing(place)
    run("mix", "mix.yaml", "-o", "mixed")

    assert len(rows("mixed")) == 3


@case("mix", "--plan")
def mix_plan(place: Path, request: pytest.FixtureRequest) -> None:
    mixing(place)

    assert "random:3" in run("mix", "mix.yaml", "--plan").stdout
    assert sorted(entry.name for entry in place.iterdir()) == ["a", "mix.yaml"]


@case("mix", "--seed")
def mix_seed(place: Path, request: pytest.FixtureRequest) -> None:
    mixing(place)

    taken = set()
    for seed in range(4):
        run("mix", "mix.yaml", "-o", "mixed", "--seed", seed, "--overwrite")
        taken.add(tuple(row.id for row in rows("mixed")))
    assert len(taken) > 1


@case("mix", "--overwrite")
def mix_overwrite(place: Path, request: pytest.FixtureRequest) -> None:
    mixing(place)
    run("mix", "mix.yaml", "-o", "mixed")
    (place / "mix.yaml").write_text("datasets: [{store: a}]")

    assert "--overwrite" in str(run("mix", "mix.yaml", "-o", "mixed", code=2).exception)
    run("mix", "mix.yaml", "-o", "mixed", "--overwrite")
    assert len(rows("mixed")) == 10


@case("mix", "--parquet")
def mix_parquet(place: Path, request: pytest.FixtureRequest) -> None:
    mixing(place)
    run("mix", "mix.yaml", "-o", "mixed")
    assert [file.suffix for file in (place / "mixed").glob("data-*")] == [".arrow"]

    run("mix", "mix.yaml", "-o", "mixed", "--parquet", "--overwrite")
    assert [file.suffix for file in (place / "mixed").glob("data-*")] == [".parquet"]


@case("mix", "--cache")
def mix_cache(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 4, image=None, conversations=SAID)
    (place / "mix.yaml").write_text("datasets: [{json_path: source.json}]")

    assert str(place / "kept") in run("mix", "mix.yaml", "--plan", "--cache", "kept").stdout
    assert list((place / "kept").rglob("data-*.arrow"))


@case("mix", "--clear-cache")
def mix_clear_cache(place: Path, request: pytest.FixtureRequest) -> None:
    source(place, 4, image=None, conversations=SAID)
    (place / "mix.yaml").write_text("datasets: [{json_path: source.json}]")
    run("mix", "mix.yaml", "--plan", "--cache", "kept")

    assert "removed 1 store" in run("mix", "--clear-cache", "--cache", "kept").stdout
    assert not list((place / "kept").rglob("data-*.arrow"))


@case("mix", "--json")
def mix_json(place: Path, request: pytest.FixtureRequest) -> None:
    mixing(place)

    assert answer("mix", "mix.yaml", "--plan")[0]["selected"] == 3


def reading(place: Path, request: pytest.FixtureRequest) -> tuple[Any, ...]:
    """A store of five rows, and the options to read it as Qwen-VL does."""
    numbered(place / "store", 5)
    vocabulary = published_anywhere("qwen")
    return "store", "--template", "qwen_vl", "--tokenizer", vocabulary


@dataclass(frozen=True, kw_only=True)
class Faulty(WordTemplate):
    """A template that another package brings, and that stumbles over whatever it reads."""

    def encode(self, conversation: Conversation) -> Encoded:
        raise KeyError("oops")


def said_of_a_fault(request: pytest.FixtureRequest, *command: Any) -> tuple[str, str]:
    """What a command that reads by a faulty template says, and what it says under --strict."""
    point = EntryPoint("faulty", "tests.cli.test_options:Faulty", "mmdata.templates")
    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(
        "importlib.metadata.entry_points", lambda group: [point] if group == point.group else []
    )
    patch.setattr(templates.registry, "_entries", dict(templates.registry._entries))

    plain, strict = run(*command, code=1), run(*command, "--strict", code=1)
    assert "the template 'faulty'" in str(plain.exception)
    assert str(strict.exception) == str(plain.exception)
    return plain.output, strict.output


@case("info", "--strict")
@case("show", "--strict")
def reading_strict(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    options = ("store", "--template", "faulty", "--tokenizer", "nowhere")

    plain, strict = said_of_a_fault(request, command_of(request), *options)

    assert "Traceback" not in plain
    assert 'raise KeyError("oops")' in strict


@case("info", "--template")
@case("info", "--tokenizer")
def info_template(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert "tokens" not in run("info", "store").stdout
    assert "5 samples, " in run("info", *options).stdout
    assert "--tokenizer" in str(run("info", "store", "--template", "qwen_vl", code=2).exception)


@case("info", "--template-option")
def info_template_option(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert (
        run("info", *options).stdout
        != run("info", *options, "--template-option", "image_tokens=9").stdout
    )


@case("info", "--max-length")
def info_max_length(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert (
        "0 samples have more than 9999 tokens" in run("info", *options, "--max-length", 9999).stdout
    )
    assert "5 samples have more than 9 tokens" in run("info", *options, "--max-length", 9).stdout


@case("info", "--json")
def info_json(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)

    assert answer("info", "store")["rows"] == 5


@case("show", "--template")
@case("show", "--tokenizer")
def show_template(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert "<|im_start|>" not in run("show", "store").stdout
    assert "<|im_start|>" in run("show", *options).stdout
    assert "--tokenizer" in str(run("show", "store", "--template", "qwen_vl", code=2).exception)


@case("show", "--template-option")
def show_template_option(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert (
        "Speak like a sailor."
        in run("show", *options, "--template-option", "system=Speak like a sailor.").stdout
    )


@case("show", "--prompt")
def show_prompt(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert "word0" in run("show", *options).stdout
    assert "word0" not in run("show", *options, "--prompt").stdout


@case("show", "--color")
def show_color(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert "\x1b[" not in run("show", *options, "--no-color").stdout
    assert "\x1b[" in run("show", *options, "--color").stdout


@case("show", "--json")
def show_json(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)

    assert answer("show", "store", 3)["id"] == "c3"


def preview_page(*options: Any) -> str:
    """What a page of the store says."""
    run("preview", "store", "-o", "page.html", "--overwrite", *options)
    return Path("page.html").read_text()


@case("preview", "--output")
def preview_output(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    run("preview", "store", "-o", "elsewhere.html")

    assert "word0" in (place / "elsewhere.html").read_text()


@case("preview", "--template")
@case("preview", "--tokenizer")
def preview_template(place: Path, request: pytest.FixtureRequest) -> None:
    _, *options = reading(place, request)

    assert "|im_start|" not in preview_page()
    assert "|im_start|" in preview_page(*options)
    assert "--tokenizer" in str(
        run("preview", "store", "-o", "a.html", "--template", "qwen_vl", code=2).exception
    )


@case("preview", "--template-option")
def preview_template_option(place: Path, request: pytest.FixtureRequest) -> None:
    _, *options = reading(place, request)

    plain = preview_page(*options)
    assert preview_page(*options, "--template-option", "system=Speak like a sailor.") != plain


@case("preview", "--strict")
def preview_strict(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    page = ("preview", "store", "-o", "page.html", "--template", "faulty", "--tokenizer", "nowhere")

    plain, strict = said_of_a_fault(request, *page)

    assert "Traceback" not in plain
    assert 'raise KeyError("oops")' in strict


@case("preview", "--rows")
def preview_rows(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)

    assert preview_page().count("<article") == 5
    assert preview_page("--rows", 2).count("<article") == 2


@case("preview", "--seed")
def preview_seed(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 50)

    assert preview_page("--rows", 3) != preview_page("--rows", 3, "--seed", 7)


@case("preview", "--overwrite")
def preview_overwrite(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    run("preview", "store", "-o", "page.html")

    assert "--overwrite" in str(run("preview", "store", "-o", "page.html", code=2).exception)
    run("preview", "store", "-o", "page.html", "--overwrite", "--rows", 1)
    assert (place / "page.html").read_text().count("<article") == 1


def large(file: Path, side: int = 8000) -> None:
    """Draw a picture of so many pixels a side; of two colours, it is soon compressed."""
    Pictures.new("1", (side, side)).save(file, "PNG")


def about_two_pictures(place: Path) -> None:
    """A store of a large picture and a small one."""
    large(place / "large.png")
    Pictures.new("RGB", (8, 8)).save(place / "small.png")
    media = [Media("image", "large.png"), Media("image", "small.png")]
    talk = (user(Seen(0), "What?"), assistant("That."))
    rows = [Conversation(f"{n}", talk, (medium,)) for n, medium in enumerate(media)]
    write(place / "store", rows, media_root=str(place))


@case("preview", "--deadline")
def preview_deadline(place: Path, request: pytest.FixtureRequest) -> None:
    about_two_pictures(place)

    assert preview_page("--deadline", 1e-4).count("raise deadline (--deadline, ") == 2


@case("preview", "--memory")
def preview_memory(place: Path, request: pytest.FixtureRequest) -> None:
    about_two_pictures(place)

    page = preview_page("--memory", "300M")
    assert page.count("raise memory (--memory, ") == 1
    assert page.count("<img ") == 1


@case("preview", "--max-pixels")
def preview_max_pixels(place: Path, request: pytest.FixtureRequest) -> None:
    about_two_pictures(place)

    page = preview_page("--max-pixels", 64)
    assert page.count("raise max_pixels (--max-pixels, ") == 1
    assert page.count("<img ") == 1


@case("preview", "--json")
def preview_json(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)

    assert answer("preview", "store", "-o", "page.html")["rows"] == 5


def selected(*options: Any) -> list[str]:
    """The ids of the rows that are selected of the store."""
    run("select", "store", "-o", "some", "--overwrite", *options)
    return [row.id for row in rows("some")]


def ten_rows(place: Path) -> None:
    """A store of ten rows, the last of which says what the first does."""
    many = [plain(n) for n in range(9)]
    write(place / "store", [*many, replace(many[0], id="c9")])


def nearly_the_same(place: Path) -> None:
    """A store of two rows that say nearly the same of pictures that do not look alike, and one
    that says something else.
    """
    for name, turn in (("a", 0), ("b", 90)):
        picture = Pictures.linear_gradient("L").rotate(turn).resize((8, 8))
        picture.save(place / f"{name}.png")
    some = [f"w{n}" for n in range(200)]
    texts = {"a": some, "b": [*some[:90], "else", *some[91:]], "c": ["Something", "else."]}
    rows = [
        Conversation(
            name,
            (user("Go on."), assistant(" ".join(words))),
            (Media("image", f"{'a' if name == 'c' else name}.png"),),
        )
        for name, words in texts.items()
    ]
    write(place / "store", rows, media_root=str(place))


NEAR_ROWS: Final = {
    "stats": ("stats", "store", "--near-duplicates", "rows", "--workers", 1),
    "select": (
        *("select", "store", "-o", "some", "--overwrite"),
        *("--drop-near-duplicates", "rows", "--workers", 1),
    ),
}


def command_of(request: pytest.FixtureRequest) -> str:
    """That of the commands of a case which it is run for."""
    found: str = request.node.callspec.params["command"]
    return found


def near_command(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    """That of the two which the case is run for."""
    return NEAR_ROWS[command_of(request)]


def near_pictures(*command: Any) -> Any:
    """What was found of the pictures that look alike."""
    found = answer(*command)
    if command[0] == "stats":
        return found["near_duplicates"]["pictures"]
    return mmdata.open("some").manifest.notes["near_duplicates"]["groups"]["pictures"]


@case("select", "--output")
@case("select", "--where")
def select_where(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)

    assert selected("--where", "id > 'c6'") == ["c7", "c8", "c9"]
    none = run("select", "store", "-o", "none", "--where", "turns > 99", code=1)
    assert "no row" in str(none.exception)
    assert "turns, words" in str(
        run("select", "store", "-o", "other", "--where", "nothing = 1", code=2).exception
    )


@case("select", "--drop-duplicates")
def select_drop_duplicates(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)

    assert len(selected()) == 10
    assert selected("--drop-duplicates") == [f"c{n}" for n in range(9)]


@case("select", "--drop-near-duplicates")
@case("select", "--similarity")
def select_drop_near_duplicates(place: Path, request: pytest.FixtureRequest) -> None:
    nearly_the_same(place)
    near = ("--drop-near-duplicates", "texts")

    assert selected() == ["a", "b", "c"]
    assert selected(*near) == ["a", "c"]
    assert selected(*near, "--similarity", 1) == ["a", "b", "c"]
    assert selected("--drop-near-duplicates", "rows", "--workers", 1) == ["a", "b", "c"]
    assert re.search("near duplicates +1\n", run("select", "store", "-o", "other", *near).stdout)
    assert "near duplicates" in run("info", "other").stdout


@case("select", "--template")
@case("select", "--tokenizer")
@case("select", "--template-option")
def select_template(place: Path, request: pytest.FixtureRequest) -> None:
    store, *options = reading(place, request)
    said = Conversation("c0", (user("What?"), assistant("That.")))
    seen = Conversation(
        "c7", (user(Seen(0), "What?"), assistant("That.")), (Media("image", "a.png"),)
    )
    write(place / "store", [said, seen], overwrite=True)
    where = ("--where", "tokens < 60")

    refused = str(run("select", store, "-o", "other", *where, code=2).exception)
    assert "--template FAMILY --tokenizer FILE" in refused
    assert selected(*where, *options) == ["c0"]
    assert selected(*where, *options, "--template-option", "image_tokens=9") == ["c0", "c7"]


@case("select", "--strict")
def select_strict(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    options = ("store", "-o", "some", "--where", "tokens > 1", "--template", "faulty")

    plain, strict = said_of_a_fault(request, "select", *options, "--tokenizer", "nowhere")

    assert "Traceback" not in plain
    assert 'raise KeyError("oops")' in strict


@pytest.mark.slow
@pytest.mark.parametrize("command", ["stats", "select"])
def test_pictures_that_are_compared_are_decoded_by_so_many_processes(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nearly_the_same(tmp_path)

    assert workers_started(monkeypatch, *NEAR_ROWS[command]) == 1
    assert workers_started(monkeypatch, *NEAR_ROWS[command], "--workers", 2) == 2


@case("select", "--deadline")
@case("stats", "--deadline")
def near_deadline(place: Path, request: pytest.FixtureRequest) -> None:
    nearly_the_same(place)
    for name in ("a", "b"):  # slow to decode, however late a busy machine looks at the clock
        Pictures.linear_gradient("L").resize((4000, 4000)).save(place / f"{name}.png")

    found = near_pictures(*near_command(request), "--deadline", 1e-4)
    assert found["unreadable"] == 2
    assert "raise deadline (--deadline, " in found["fault"]


@case("select", "--memory")
@case("stats", "--memory")
def near_memory(place: Path, request: pytest.FixtureRequest) -> None:
    nearly_the_same(place)
    large(place / "a.png")

    found = near_pictures(*near_command(request), "--memory", "300M")
    assert found["unreadable"] == 1
    assert "raise memory (--memory, " in found["fault"]


@case("select", "--max-pixels")
@case("stats", "--max-pixels")
def near_max_pixels(place: Path, request: pytest.FixtureRequest) -> None:
    nearly_the_same(place)

    assert near_pictures(*near_command(request), "--max-pixels", 64)["unreadable"] == 0
    assert near_pictures(*near_command(request), "--max-pixels", 63)["unreadable"] == 2


@case("select", "--sample")
@case("select", "--seed")
def select_sample(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)

    assert selected("--sample", "first:2") == ["c0", "c1"]
    drawn = {tuple(selected("--sample", "random:3", "--seed", seed)) for seed in range(4)}
    assert len(drawn) > 1


@case("select", "--overwrite")
def select_overwrite(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)
    run("select", "store", "-o", "some")

    assert "--overwrite" in str(run("select", "store", "-o", "some", code=2).exception)
    assert len(selected("--sample", "first:1")) == 1


@case("select", "--parquet")
def select_parquet(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)
    assert len(selected("--parquet")) == 10

    assert [file.suffix for file in (place / "some").glob("data-*")] == [".parquet"]


@case("select", "--json")
def select_json(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)

    assert answer("select", "store", "-o", "some")["selected"] == 10


@case("select", "--engine")
@case("select", "--address")
def select_engine(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)
    refused_without_a_cluster("select", "store", "-o", "some")


@case("select", "--workers")
@case("select", "--partitions")
def select_partitions(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)
    patch = request.getfixturevalue("monkeypatch")
    command = ("select", "store", "-o", "some", "--drop-duplicates", "--overwrite")

    assert workers_started(patch, *command, "--workers", 2) == 0
    assert workers_started(patch, *command, "--workers", 2, "--partitions", 3) == 2
    assert len(rows("some")) == 9


@case("merge", "--output")
@case("merge", "--overwrite")
def merge_output(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "a", 2)
    numbered(place / "b", 3, first=2)
    run("merge", "a", "b", "-o", "both")

    assert [row.id for row in rows("both")] == [f"c{n}" for n in range(5)]
    assert "--overwrite" in str(run("merge", "a", "-o", "both", code=2).exception)
    run("merge", "a", "-o", "both", "--overwrite")
    assert len(rows("both")) == 2


@case("merge", "--json")
def merge_json(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "a", 2)
    numbered(place / "b", 1, first=2)

    told = answer("merge", "a", "b", "-o", "both")
    assert told == {"store": "both", "rows": 3, "stores": ["a", "b"]}


@case("merge", "--parquet")
def merge_parquet(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "a", 2)
    run("merge", "a", "-o", "both", "--parquet")

    assert [file.suffix for file in (place / "both").glob("data-*")] == [".parquet"]


@case("stats", "--template")
@case("stats", "--tokenizer")
def stats_template(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert "tokens" not in run("stats", "store").stdout
    assert "tokens" in run("stats", *options).stdout
    assert "--tokenizer" in str(run("stats", "store", "--template", "qwen_vl", code=2).exception)


@case("stats", "--template-option")
def stats_template_option(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert (
        run("stats", *options).stdout
        != run("stats", *options, "--template-option", "image_tokens=9").stdout
    )


@case("stats", "--strict")
def stats_strict(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    options = ("store", "--template", "faulty", "--tokenizer", "nowhere")

    plain, strict = said_of_a_fault(request, "stats", *options)

    assert "Traceback" not in plain
    assert 'raise KeyError("oops")' in strict


@case("stats", "--seq-length")
def stats_seq_length(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    said = run("stats", *options, "--seq-length", 9, "--seq-length", 9999).stdout
    assert re.search("over 9 tokens +5\n", said)
    assert re.search("over 9,999 tokens +0\n", said)


@case("stats", "--near-duplicates")
@case("stats", "--similarity")
@case("stats", "--seed")
def stats_near_duplicates(place: Path, request: pytest.FixtureRequest) -> None:
    nearly_the_same(place)
    near = ("stats", "store", "--near-duplicates")

    assert "near" not in run("stats", "store").stdout
    assert "a, b\n" in run(*near, "texts").stdout
    assert set(answer(*near, "texts")["near_duplicates"]) == {"texts"}
    found = answer(*near, "rows", "--workers", 1)["near_duplicates"]
    assert {kind: found[kind]["members"] for kind in found} == {
        "texts": 2,
        "pictures": 0,
        "rows": 0,
    }
    assert answer(*near, "texts", "--similarity", 1)["near_duplicates"]["texts"]["groups"] == 0
    # The estimate is another; here and there it is beside what it was.
    shares = {
        answer(*near, "texts", "--similarity", 0.95, "--seed", seed)["near_duplicates"]["texts"][
            "groups"
        ]
        for seed in range(12)
    }
    assert shares == {0, 1}


@case("stats", "--plots")
def stats_plots(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    names = {Path(path).name for path in answer("stats", *options, "--plots", "drawn")["plots"]}
    assert {file.name for file in (place / "drawn").iterdir()} == names
    assert {"words.svg", "turns.png", "tokens.svg", "trained_tokens.png"} <= names
    assert "is there" in str(run("stats", "store", "--plots", "drawn", code=2).exception)
    assert "files in other" in run("stats", "store", "--plots", "other").stdout
    assert not (place / "other" / "tokens.svg").exists()


@case("stats", "--engine")
@case("stats", "--address")
def stats_engine(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)
    refused_without_a_cluster("stats", "store")


@case("stats", "--workers")
@case("stats", "--partitions")
def stats_partitions(place: Path, request: pytest.FixtureRequest) -> None:
    ten_rows(place)
    patch = request.getfixturevalue("monkeypatch")
    whole = run("stats", "store").stdout

    assert workers_started(patch, "stats", "store", "--workers", 2) == 0
    assert workers_started(patch, "stats", "store", "--workers", 2, "--partitions", 3) == 2
    assert run("stats", "store", "--workers", 1, "--partitions", 3).stdout == whole


@case("stats", "--json")
def stats_json(place: Path, request: pytest.FixtureRequest) -> None:
    options = reading(place, request)

    assert answer("stats", "store")["spreads"]["turns"]["count"] == 5
    assert answer("stats", *options, "--seq-length", 9)["lengths"]["over"] == {"9": 5}


@case("check", "--decode")
def check_decode(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    (place / "1.mp4").write_text("not a clip")

    assert "3 rows" in run("check", "store").stdout
    assert "1.mp4" in run(*CHECK, "--decode", code=1).output


@case("check", "--media")
def check_media(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    (place / "1.mp4").unlink()

    assert "3 rows" in run("check", "store").stdout
    assert "1.mp4" in run(*CHECK, "--media", code=1).output


@case("check", "--json")
def check_json(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    whole = answer(*CHECK, "--media")
    assert (whole["whole"], whole["rows"], whole["faults"]) == (True, 3, [])
    assert whole["media_without_hash"] == 3

    (place / "1.mp4").unlink()
    said = run(*CHECK, "--media", "--json", code=1)
    assert said.stderr == ""
    [fault] = json.loads(said.stdout)["faults"]
    assert "1.mp4" in fault


@case("check", "--on-damage")
def check_on_damage(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    damage(place / "1.mp4")

    assert "--on-damage keep" in run(*CHECK, "--decode", code=1).output
    kept = run(*CHECK, "--decode", "--on-damage", "keep").output
    assert "3 rows" in kept
    assert "damaged: 1" in kept


@case("check", "--deadline")
def check_deadline(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, frames=LONG)

    assert "3 rows" in run(*CHECK, "--decode", "--deadline", 100).output
    said = run(*CHECK, "--decode", "--deadline", 1e-4, code=1).output
    assert "1.mp4: no result within 0.0001 seconds; raise deadline (--deadline, " in said


@case("check", "--memory")
def check_memory(place: Path, request: pytest.FixtureRequest) -> None:
    large_picture(place)
    run(*CONVERT)

    assert "1 rows" in run(*CHECK, "--decode", "--memory", "2G").output
    said = run(*CHECK, "--decode", "--memory", "96M", code=1).output
    assert "0.jpg" in said
    assert "raise memory (--memory, " in said


@case("check", "--max-pixels")
def check_max_pixels(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    assert "3 rows" in run(*CHECK, "--decode", "--max-pixels", 48 * 96).output
    said = run(*CHECK, "--decode", "--max-pixels", 48 * 96 - 1, code=1).output
    assert "1.mp4: " in said
    assert "raise max_pixels (--max-pixels, " in said


@case("check", "--engine")
def check_engine(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)

    assert "is whole" in run("check", "store").output
    refused_without_a_cluster("check", "store")


@case("check", "--address")
def check_address(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)

    refused_without_a_cluster("check", "store", "--media")


@case("check", "--partitions")
def check_partitions(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, 3)
    for number in (0, 2):
        (place / f"{number}.mp4").unlink()
    command = ("check", "store", "--media", "--workers", 1)

    whole = run(*command, code=1).output
    assert run(*command, "--partitions", 2, code=1).output == whole
    assert whole.index("row 0") < whole.index("row 2")


@case("check", "--workers")
def check_workers(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, 12)
    patch = request.getfixturevalue("monkeypatch")

    for workers in (1, 2):
        assert workers_started(patch, "check", "store", "--decode", "--workers", workers) == workers


EXPORT: Final = ("export", "llava", "store", "-o", "out")


def exported(*options: str, name: str = "out/train.json", code: int = 0) -> Any:
    """The records of an export made with some options."""
    run(*EXPORT, *options, code=code)
    return json.loads(Path(name).read_text(encoding="utf-8"))


def judged(number: int) -> Conversation:
    """A row that says what LLaVA cannot."""
    return replace(plain(number), desirable=True)


@case("export", "--output")
def export_output(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 2)
    run("export", "llava", "store", "-o", "elsewhere")

    assert len(json.loads((place / "elsewhere" / "train.json").read_text())) == 2
    said = str(run("export", "llava", "store", code=2).exception)
    assert "takes a FORMAT, a STORE and -o PLACE" in said


@case("export", "--list")
def export_list(place: Path, request: pytest.FixtureRequest) -> None:
    assert "llava " in run("export", "--list").stdout
    assert "cannot say (--drop leaves it out): boxes" in run("export", "llava", "--list").stdout


@case("export", "--option")
def export_option(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)
    run("export", "messages", "store", "-o", "out", "--option", "style=openai")

    assert "image_url" in (place / "out" / "train.jsonl").read_text()


@case("export", "--media")
def export_media(place: Path, request: pytest.FixtureRequest) -> None:
    write_images(place, ["images/000000.jpg"])
    write(place / "store", [plain(0)], media_root=str(place))

    assert exported()[0]["image"] == "images/000000.jpg"
    assert exported("--media", "copy", "--overwrite")[0]["image"] == "media/images/000000.jpg"
    assert (place / "out" / "media" / "images" / "000000.jpg").is_file()


@case("export", "--paths")
def export_paths(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)

    assert exported("--paths", "absolute")[0]["image"] == "/media/images/000000.jpg"


@case("export", "--media-root")
def export_media_root(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)

    found = exported("--paths", "absolute", "--media-root", "/moved")
    assert found[0]["image"] == "/moved/images/000000.jpg"


@case("export", "--frames")
def export_frames(place: Path, request: pytest.FixtureRequest) -> None:
    frames = (b"\xff\xd8\xff0", b"\xff\xd8\xff1")
    video = Media("video", "1.mp4", frames=frames, frame_times=(0.0, 0.5))
    shown = (user(Video(0), "What happens?"), assistant("It falls."))
    write(place / "store", [Conversation("1", shown, (video,))])
    run("export", "messages", "store", "-o", "out", "--frames", "pictures")
    (record,) = map(json.loads, Path("out/train.jsonl").read_text().splitlines())
    part = record["messages"][0]["content"][0]
    assert len(part["video"]) == 2
    assert part["sample_fps"] == 2.0


@case("export", "--drop")
def export_drop(place: Path, request: pytest.FixtureRequest) -> None:
    write(place / "store", [plain(0), judged(1)])

    assert len(exported()) == 1
    assert len(exported("--overwrite", "--drop", "judgement")) == 2


@case("export", "--split")
def export_split(place: Path, request: pytest.FixtureRequest) -> None:
    write(place / "store", [plain(0), replace(plain(1), split="val")])

    assert len(exported("--split", "val", name="out/val.json")) == 1
    assert not (place / "out" / "train.json").exists()


@case("export", "--strict")
def export_strict(place: Path, request: pytest.FixtureRequest) -> None:
    write(place / "store", [plain(0), judged(1)])

    assert "the row has judgement" in str(run(*EXPORT, "--strict", code=1).exception)
    assert not (place / "out").exists()


@case("export", "--overwrite")
def export_overwrite(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)
    run(*EXPORT)

    assert "--overwrite" in str(run(*EXPORT, code=2).exception)
    run(*EXPORT, "--overwrite")


@case("export", "--json")
def export_json(place: Path, request: pytest.FixtureRequest) -> None:
    write(place / "store", [plain(0), judged(1)])
    report = json.loads(run(*EXPORT, "--json").stdout)

    assert (report["rows"], report["unsayable"]) == (1, {"judgement": 1})
    assert "llava" in json.loads(run("export", "--list", "--json").stdout)


@case("frames", "--output")
def frames_output(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    run("frames", "store", "-o", "elsewhere", "--frames", "uniform:2")

    assert len(rows("elsewhere")) == 3


@case("frames", "--frames")
def frames_strategy(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    for count in (2, 3):
        frames = cached("--frames", f"uniform:{count}")
        np.testing.assert_array_equal(
            frames.times, sample(place / "0.mp4", f"uniform:{count}").times
        )


@case("frames", "--size")
def frames_size(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    assert cached("--frames", "uniform:2").pixels.shape == (2, 48, 96, 3)
    assert cached("--frames", "uniform:2", "--size", 32).pixels.shape == (2, 32, 32, 3)
    assert cached("--frames", "uniform:2", "--size", "16,32").pixels.shape == (2, 16, 32, 3)


@case("frames", "--resize")
def frames_resize(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    options = ("--frames", "uniform:2", "--size", 32, "--codec", "webp")

    for way in ("fast", "squeeze", "crop"):
        expected = sample(place / "0.mp4", "uniform:2", size=32, resize=way).pixels
        np.testing.assert_array_equal(cached(*options, "--resize", way).pixels, expected)


@case("frames", "--codec")
def frames_codec(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    for codec, head in (("jpeg", b"\xff\xd8"), ("webp", b"RIFF")):
        run(*FRAMES, "--frames", "uniform:2", "--codec", codec, "--overwrite")
        assert (rows("cached")[0].media[0].frames or (b"",))[0].startswith(head)


@case("frames", "--quality")
def frames_quality(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    sizes = []
    for quality in (10, 90):
        run(*FRAMES, "--frames", "uniform:2", "--quality", quality, "--overwrite")
        sizes.append(sum(map(len, rows("cached")[0].media[0].frames or ())))

    assert sizes[0] < sizes[1]


@case("frames", "--pad")
def frames_pad(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    assert len(cached("--frames", "uniform:20")) == 10
    assert len(cached("--frames", "uniform:20", "--pad", "repeat")) == 20


@case("frames", "--snap")
def frames_snap(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    assert len(set(cached("--frames", "uniform:4").times)) == 4
    assert len(set(cached("--frames", "uniform:4", "--snap", "keyframe").times)) == 1


@case("frames", "--on-damage")
def frames_on_damage(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    damage(place / "1.mp4")

    assert answer(*FRAMES, "--frames", "uniform:4")["rejects"] == {"damaged_media": 1}
    assert (
        answer(*FRAMES, "--frames", "uniform:4", "--on-damage", "keep", "--overwrite")["rows"] == 3
    )


@case("frames", "--deadline")
def frames_deadline(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, frames=LONG)
    making = (*FRAMES, "--frames", "uniform:2", "--overwrite")

    assert answer(*making, "--deadline", 100)["rows"] == 3
    run(*making, "--deadline", 1e-4, code=1)
    said = (place / "cached" / "rejects.jsonl").read_text()
    assert "1.mp4: no result within 0.0001 seconds; raise deadline (--deadline, " in said


@case("frames", "--memory")
def frames_memory(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, 1)
    large = clip("mjpeg", "avi", range(2), size=(2000, 3000))
    (place / "0.mp4").write_bytes(large)
    making = (*FRAMES, "--frames", "every:1", "--overwrite")

    assert answer(*making, "--memory", "2G")["rows"] == 1
    run(*making, "--memory", "96M", code=1)
    said = (place / "cached" / "rejects.jsonl").read_text()
    assert "media_limit" in said
    assert "0.mp4" in said
    assert "raise memory (--memory, " in said


@case("frames", "--max-pixels")
def frames_max_pixels(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    making = (*FRAMES, "--frames", "uniform:2", "--overwrite")

    assert answer(*making, "--max-pixels", 48 * 96)["rows"] == 3
    run(*making, "--max-pixels", 48 * 96 - 1, code=1)
    said = (place / "cached" / "rejects.jsonl").read_text()
    assert "1.mp4: a frame of 96x48 is beyond the limit of 4607 pixels; raise max_pixels" in said


@case("frames", "--media-root")
def frames_media_root(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    (place / "moved").mkdir()
    for file in place.glob("*.mp4"):
        file.rename(place / "moved" / file.name)

    assert answer(*FRAMES, "--frames", "uniform:4", "--media-root", "moved")["rows"] == 3


@case("frames", "--engine")
def frames_engine(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 1)
    refused_without_a_cluster("frames", "store", "-o", "cached", "--frames", "uniform:1")


@case("frames", "--address")
def frames_address(place: Path, request: pytest.FixtureRequest) -> None:
    frames_engine(place, request)


@case("frames", "--partitions")
def frames_partitions(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, 3)
    command = (*FRAMES, "--frames", "uniform:2", "--overwrite")

    run(*command)
    whole = rows("cached")
    run(*command, "--partitions", 2)
    assert rows("cached") == whole


@case("frames", "--workers")
def frames_workers(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place, 12)
    patch = request.getfixturevalue("monkeypatch")

    for workers in (1, 2):
        options = ("--frames", "uniform:2", "--workers", workers, "--overwrite")
        assert workers_started(patch, *FRAMES, *options) == workers


@case("frames", "--resume")
def frames_resume(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    def stop(rows: int, rejects: int) -> None:
        if rows == 2:
            raise KeyboardInterrupt

    def resumed(*options: str) -> int:
        with pytest.raises(KeyboardInterrupt):
            cache_frames("store", "cached", "uniform:4", workers=1, overwrite=True, progress=stop)
        return int(answer(*FRAMES, "--frames", "uniform:4", "--overwrite", *options)["resumed"])

    assert resumed() == 0
    assert resumed("--resume") == 2


@case("frames", "--overwrite")
def frames_overwrite(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)
    run(*FRAMES, "--frames", "uniform:2")

    assert "--overwrite" in str(run(*FRAMES, "--frames", "uniform:3", code=2).exception)
    assert len(cached("--frames", "uniform:3")) == 3


@case("frames", "--json")
def frames_json(place: Path, request: pytest.FixtureRequest) -> None:
    clips(place)

    assert json.loads(run(*FRAMES, "--frames", "uniform:2", "--json").stdout)["rows"] == 3


def pipeline(place: Path, request: pytest.FixtureRequest) -> str:
    vocabulary = str(published_anywhere("qwen"))
    text = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    source(place, 20, image=None, conversations=text)
    run(*CONVERT)
    config = {
        "store": "store",
        "template": {"name": "qwen_vl"},
        "tokenizer": {"path": vocabulary},
        "stream": {"seq_length": 64, "batch_size": 2},
    }
    (place / "pipeline.yaml").write_text(json.dumps(config))
    return "pipeline.yaml"


@case("bench", "--steps")
@case("bench", "--json")
def bench_steps(place: Path, request: pytest.FixtureRequest) -> None:
    config = pipeline(place, request)

    assert answer("bench", config, "--steps", 3)["samples"] == 6
    assert answer("bench", config, "--steps", 5)["samples"] == 10


@case("bench", "--strict")
def bench_strict(place: Path, request: pytest.FixtureRequest) -> None:
    numbered(place / "store", 5)
    config = {"store": "store", "template": {"name": "faulty"}, "tokenizer": {"path": "nowhere"}}
    (place / "pipeline.yaml").write_text(json.dumps(config))

    plain, strict = said_of_a_fault(request, "bench", "pipeline.yaml")

    assert "Traceback" not in plain
    assert 'raise KeyError("oops")' in strict


# --- all of them
# --------------------------------------------------------------------------------------------------


def cases_with_options() -> dict[tuple[str, Case], str]:
    """Every case of a command once, with the options that it is about."""
    found: dict[tuple[str, Case], str] = {}
    for (command, option), function in CASES.items():
        found[command, function] = found.get((command, function), command) + option
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "function"), list(cases_with_options()), ids=cases_with_options().values()
)
def test_every_option_changes_what_it_says(
    command: str,
    function: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)

    function(tmp_path, request)
