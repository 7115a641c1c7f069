"""The export of a store: what is written where, what is not, and that it is whole or not there."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.errors import DataError, PluginError, RecordError, UnknownNameError, UsageError
from mmdata.exporters import Exporter, Row, describe, registry, summaries
from mmdata.exporters._writers import WritingThread
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Region,
    Text,
    ToolCall,
    Video,
    assistant,
    replace,
    system,
    user,
)
from tests.conversations import plain
from tests.stores import numbered, write

CUP = Media("image", "cup.png")
ASKED = user(Image(0), "What is it?")


def read(folder: Path, name: str = "train.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def rejects(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "mmdata-rejects.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def boxed(name: str = "b") -> Conversation:
    """A row with a box."""
    box = Region("a cup", ((0.0, 0.0, 0.5, 0.5),))
    return Conversation(name, (ASKED, assistant("It is ", box, ".")), (CUP,))


def test_llava_has_what_its_trainers_read(tmp_path: Path) -> None:
    two = Media("image", "1.jpg"), Media("image", "2.jpg")
    store = write(
        tmp_path / "store",
        [
            Conversation("1", (ASKED, assistant("A cup.")), (CUP,)),
            Conversation("2", (user(Image(0), Image(1), "Which?"), assistant("One.")), two),
            Conversation("3", (user(Video(0), "When?"), assistant("Now.")), (Media("video", "v"),)),
            Conversation("4", (user("Hi"), assistant("Hello")), extra={"license": "MIT"}),
        ],
    )

    mmdata.export(store, "llava", tmp_path / "out")

    first, second, third, fourth = read(tmp_path / "out")
    assert first == {
        "id": "1",
        "image": "cup.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "A cup."},
        ],
    }
    assert second["image"] == ["1.jpg", "2.jpg"]
    assert second["conversations"][0]["value"] == "<image>\n<image>\nWhich?"
    assert third["video"] == "v"
    assert fourth["license"] == "MIT"
    assert "image" not in fourth


def test_what_a_target_cannot_say_is_a_reject_with_its_reason(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(1), boxed(), plain(2)])

    report = mmdata.export(store, "llava", tmp_path / "out")

    (reject,) = rejects(tmp_path / "out")
    assert (reject["record"], reject["id"], reject["reason"]) == (1, "b", "unsayable")
    assert "--drop boxes" in reject["detail"]
    assert report.rejects == {"unsayable": 1}
    assert report.unsayable == {"boxes": 1}
    assert [record["id"] for record in read(tmp_path / "out")] == ["c1", "c2"]


def test_a_flag_of_training_on_a_part_or_a_turn_is_never_passed_over(tmp_path: Path) -> None:
    turns = [
        (user("Hi"), assistant(Text("Hello", train=False))),
        (user("Hi"), assistant("Hello", train=False)),
        (user("Hi", train=True), assistant("Hello")),
    ]
    rows = [Conversation(str(number), said) for number, said in enumerate(turns)]
    store = write(tmp_path / "store", [*rows, plain(3)])

    report = mmdata.export(store, "llava", tmp_path / "out")

    assert report.unsayable == {"training": 3}


def test_what_is_dropped_by_name_is_left_out_and_counted(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(1), boxed()])

    report = mmdata.export(store, "llava", tmp_path / "out", drop="boxes,system")

    assert report.dropped == {"boxes": 1}
    assert not (tmp_path / "out" / "mmdata-rejects.jsonl").exists()
    assert read(tmp_path / "out")[1]["conversations"][1]["value"] == "It is a cup."
    assert read(tmp_path / "out", "mmdata-export.json")["dropped"] == {"boxes": 1}


def test_what_a_target_can_say_is_left_out_too_where_it_is_dropped(tmp_path: Path) -> None:
    told = replace(plain(1), messages=(system("Be brief."), *plain(1).messages))
    rows = [replace(plain(0), extra={"license": "MIT"}), told, plain(2)]
    store = write(tmp_path / "store", rows)

    report = mmdata.export(store, "mindspeed_mm", tmp_path / "out", drop=["extra", "system"])

    assert report.dropped == {"extra": 1, "system": 1}
    assert [len(record["messages"]) for record in read(tmp_path / "out")] == [2, 2, 2]
    assert "license" not in read(tmp_path / "out")[0]


def test_a_pair_of_which_nothing_would_be_left_is_a_reject(tmp_path: Path) -> None:
    call = assistant(ToolCall("weather"))
    pair = replace(plain(1), rejected=(call,))
    two = replace(plain(2), rejected=(assistant("So", "?"),))
    store = write(tmp_path / "store", [plain(0), pair, two])

    report = mmdata.export(store, "trl", tmp_path / "out", drop="tools")
    again = mmdata.export(store, "datasets", tmp_path / "hub", media="reference", drop="tools")

    assert (report.rows, report.unsayable) == (2, {"shape": 1})
    assert (again.rows, again.unsayable) == (1, {"rejected": 1, "shape": 1})


def test_an_answer_that_was_judged_bad_is_never_one_to_learn(tmp_path: Path) -> None:
    bad = Conversation("1", (user("Hi"), assistant("Go away", train=False)), desirable=False)
    store = write(tmp_path / "store", [plain(1), bad])

    report = mmdata.export(store, "llava", tmp_path / "out", drop=["judgement", "training"])

    assert report.unsayable == {"judgement": 1}


@pytest.mark.parametrize(
    ("drop", "words"),
    [("boxs", "Did you mean 'boxes'"), ("order", "There are: boxes")],
)
def test_what_cannot_be_dropped_is_refused(tmp_path: Path, drop: str, words: str) -> None:
    store = numbered(tmp_path / "store", 1)

    with pytest.raises(UsageError, match=words):
        mmdata.export(store, "llava", tmp_path / "out", drop=drop)


def test_each_split_has_a_file_and_one_may_be_chosen(tmp_path: Path) -> None:
    rows = [replace(plain(n), split="val" if n == 1 else "train") for n in range(4)]
    store = write(tmp_path / "store", rows)

    report = mmdata.export(store, "llava", tmp_path / "both")
    mmdata.export(store, "llava", tmp_path / "one", split="val")

    assert report.splits == {"train": 3, "val": 1}
    assert [record["id"] for record in read(tmp_path / "both")] == ["c0", "c2", "c3"]
    assert [record["id"] for record in read(tmp_path / "one", "val.json")] == ["c1"]
    assert not (tmp_path / "one" / "train.json").exists()


def test_a_name_of_its_own_in_extra_is_not_written_as_what_it_is_not(tmp_path: Path) -> None:
    row = replace(plain(1), extra={"conversations": 3})
    store = write(tmp_path / "store", [plain(0), row, replace(plain(2), extra={"system": "x"})])

    report = mmdata.export(store, "llava", tmp_path / "out")

    assert report.unsayable == {"extra": 2}


def test_media_leave_as_copies_once_each(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cup.png").write_bytes(b"a cup")
    (tmp_path / "hat.png").write_bytes(b"a hat")
    media = [Media("image", "cup.png"), Media("image", "../hat.png"), Media("image", bytes=b"GIF8")]
    rows = [
        Conversation(str(n), (ASKED, assistant("So.")), (medium,))
        for n, medium in enumerate([*media, media[0], Media("image", "gone.png")])
    ]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path / "a"))

    report = mmdata.export(store, "llava", tmp_path / "out", media="copy")

    paths = [record["image"] for record in read(tmp_path / "out")]
    assert [(tmp_path / "out" / path).read_bytes() for path in paths] == [
        b"a cup", b"a hat", b"GIF8", b"a cup"
    ]  # fmt: skip
    assert paths[0] == paths[3] == "media/cup.png"
    assert paths[2].endswith(".gif")
    assert report.rejects == {"missing_media": 1}


def test_half_a_copy_is_no_copy(tmp_path: Path) -> None:
    """Reading the memory of a process from its beginning is an error of the system's."""
    (tmp_path / "cup.png").symlink_to("/proc/self/mem")
    (tmp_path / "0.png").write_bytes(b"a picture")
    picture = Media("image", "0.png")
    rows = [
        Conversation(name, (ASKED, assistant("A cup.")), (medium,))
        for name, medium in (("1", picture), ("2", CUP), ("3", CUP))
    ]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))

    report = mmdata.export(store, "messages", tmp_path / "out", media="copy")

    assert report.rejects == {"unreadable_media": 2}
    assert [file.name for file in (tmp_path / "out" / "media").iterdir()] == ["0.png"]


def test_a_disk_without_room_is_the_fault_of_no_row(tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(bytes(1 << 20))
    rows = [Conversation("1", (ASKED, assistant("A cup.")), (CUP,)), plain(0)]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))

    with pytest.raises(OSError, match="File too large") as caught, largest_file(1 << 19):
        mmdata.export(store, "messages", tmp_path / "out", media="copy")

    assert caught.value.filename == str(tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cup.png", "store"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file that is larger."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def test_paths_may_be_absolute(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(1)], media_root="/pictures")

    mmdata.export(store, "llava", tmp_path / "out", paths="absolute")

    assert read(tmp_path / "out")[0]["image"] == "/pictures/images/000001.jpg"


def test_a_picture_inside_the_store_has_no_path_to_be_named_by(tmp_path: Path) -> None:
    row = Conversation("1", (ASKED, assistant("So.")), (Media("image", bytes=b"x"),))
    store = write(tmp_path / "store", [plain(0), row])

    mmdata.export(store, "llava", tmp_path / "out")

    assert "--media copy writes it out" in rejects(tmp_path / "out")[0]["detail"]


def test_media_that_a_target_cannot_take_are_refused_at_once(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 1)

    with pytest.raises(UsageError, match="takes reference, copy"):
        mmdata.export(store, "llava", tmp_path / "out", media="embed")


def test_a_store_of_which_no_row_can_be_written_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [boxed()])

    with pytest.raises(DataError, match=r"no row .* as llava: 1 unsayable\. 1 say boxes"):
        mmdata.export(store, "llava", tmp_path / "out")

    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store"]


def test_strict_stops_at_the_first_row_that_cannot_be_written(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(0), boxed()])

    with pytest.raises(RecordError, match="row 1, id 'b': the row has boxes"):
        mmdata.export(store, "llava", tmp_path / "out", strict=True)

    assert not (tmp_path / "out").exists()


def test_an_export_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 2)
    mmdata.export(store, "llava", tmp_path / "out")

    with pytest.raises(UsageError, match="is an export already"):
        mmdata.export(store, "llava", tmp_path / "out")
    mmdata.export(store, "messages", tmp_path / "out", overwrite=True)

    assert (tmp_path / "out" / "train.jsonl").exists()
    assert not (tmp_path / "out" / "train.json").exists()


def test_what_is_no_export_is_never_replaced(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 1)

    with pytest.raises(UsageError, match="is not an export"):
        mmdata.export(store, "llava", tmp_path / "store", overwrite=True)


def test_one_that_is_stopped_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 3)
    mmdata.export(store, "llava", tmp_path / "out")
    before = (tmp_path / "out" / "train.json").read_bytes()

    def stop(done: int, rejects: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmdata.export(store, "messages", tmp_path / "out", overwrite=True, progress=stop)

    assert (tmp_path / "out" / "train.json").read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "store"]


@pytest.mark.parametrize("ahead", [1, 2])
def test_what_fails_while_files_are_written_is_raised_once_and_in_order(ahead: int) -> None:
    done: list[int] = []

    def write(number: int) -> None:
        if number == 1:
            raise OSError("no space left on device")
        done.append(number)

    thread = WritingThread(ahead=ahead)
    with pytest.raises(OSError, match="no space left"):
        for number in range(4):
            thread.run(write, number)
    thread.close()

    assert done == [0, 2][:ahead]


def test_progress_says_how_many_rows_are_dealt_with(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(0), boxed(), plain(1)])
    said: list[tuple[int, int]] = []

    mmdata.export(
        store, "llava", tmp_path / "out", progress=lambda done, bad: said.append((done, bad))
    )

    assert said == [(3, 1)]


def test_an_exporter_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'llava'"):
        registry.get("lava")


def test_every_exporter_says_what_it_writes_and_what_it_can_say() -> None:
    for name, summary in summaries().items():
        text = describe(name)

        assert summary in text
        assert registry.get(name).shape in text
        assert "cannot say (--drop leaves it out): " in text


def test_a_fault_in_the_exporter_of_another_package_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Exporter):
        summary = shape = "a line a row"
        says = frozenset()

        def record(self, row: Row) -> dict[str, Any]:
            raise KeyError("layer 3")

    monkeypatch.setattr(registry, "plugin_of", lambda entry: "the exporter 'acme' of a package")

    with pytest.raises(PluginError, match="the exporter 'acme' of a package is at fault: KeyError"):
        mmdata.export(numbered(tmp_path / "store", 1), Broken(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_system_goes_only_where_it_may(tmp_path: Path) -> None:
    row = replace(plain(1), messages=(system("Be brief."), *plain(1).messages))
    store = write(tmp_path / "store", [row])

    report = mmdata.export(store, "llava", tmp_path / "out", drop="system")

    assert report.dropped == {"system": 1}
    mmdata.export(store, "messages", tmp_path / "said")
    record = json.loads((tmp_path / "said" / "train.jsonl").read_text())
    assert record["messages"][0] == {
        "role": "system",
        "content": [{"type": "text", "text": "Be brief."}],
    }
