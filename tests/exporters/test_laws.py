"""What is exported and converted again is the same rows, for each target whose records a format
reads; and every row of any store is a record or a reject.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import DataError
from mmdata.exporters import FEATURES, MediaMode, registry
from mmdata.exporters._features import drop_echo
from mmdata.exporters._plain import Columns, find_plain
from mmdata.schema import Conversation, Reasoning, Region, Text, replace
from tests.conversations import conversations
from tests.exporters.sayable import rows
from tests.stores import write


@dataclass(frozen=True)
class Target:
    """An exporter with options, and which rows it can say."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    unsaid: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])

    @property
    def says(self) -> frozenset[Any]:
        return registry.get(self.name).says - self.unsaid


TARGETS: Final = (
    Target("llava", limits={"mixed": False, "most_videos": 1}),
    Target("messages", limits={"listed": False}),
    Target("messages", {"style": "openai"}, limits={"listed": False}, unsaid=frozenset({"clips"})),
    Target("swift", reading={"thoughts": "reasoning"}, limits={"calls_alone": True}),
    Target("llamafactory", reading={"thoughts": "reasoning"}, limits={"calls_alone": True}),
    Target(
        "llamafactory",
        {"style": "openai"},
        reading={"thoughts": "reasoning"},
        limits={"calls_alone": True},
    ),
    Target("qwen_vl_finetune"),
    Target("qwen_vl", limits={"kinds": ["image"], "last_shown": True}),
    Target("trl", limits={"kinds": ["image"]}),
    Target("mindspeed_mm"),
    Target("mindformers", limits={"kinds": ["video"], "leading": True}),
    Target("mindformers", {"model": "llava_next"}, limits={"mixed": False, "first": True}),
    Target("datasets", unsaid=frozenset({"extra"})),
    Target("webdataset", reading={"thoughts": "reasoning"}, limits={"calls_alone": True}),
)
MODES: Final[Sequence[tuple[Target, MediaMode]]] = [
    (target, mode)
    for target in TARGETS
    for mode in registry.get(target.name).media_modes
    if mode != "copy"
]

quick = settings(
    max_examples=10,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example writes stores
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def by_id(row: Conversation) -> str:
    return row.id


def convert_back(folder: Path, target: Target, **options: Any) -> list[Conversation]:
    """Return the rows of an export that a format of ours reads."""
    reader = registry.get(target.name).read_by
    assert reader is not None
    store = folder.parent / "again"
    report = mmdata.convert(
        reader,
        folder,
        store,
        check="none",
        allow_outside=True,
        options={"dataset_name": "test", **target.reading},
        duplicate_ids="reject",
        **options,
    )
    assert report.rejects == {}, list(mmdata.open(store).rejects())
    return [_without_names(drop_echo(row)) for row in mmdata.open(store)]


def _without_names(row: Conversation) -> Conversation:
    """Return a row whose media that are inside it have no names: a tar gives them some."""
    media = tuple(
        medium if medium.bytes is None else replace(medium, path=None) for medium in row.media
    )
    return replace(row, media=media)


@pytest.mark.parametrize(("target", "mode"), MODES, ids=str)
@quick
@given(data=st.data())
def test_a_store_that_is_exported_and_converted_again_has_the_same_rows(
    target: Target, mode: MediaMode, data: st.DataObject
) -> None:
    strategy = rows(target.says, embedded=mode == "embed", **target.limits)
    drawn = data.draw(st.lists(strategy, min_size=1, max_size=8, unique_by=lambda row: row.id))
    written = [replace(row, source="test") for row in drawn]

    with TemporaryDirectory() as name:
        folder = Path(name)
        store = write(folder / "store", written)
        report = mmdata.export(
            store, target.name, folder / "out", options=target.options, media=mode
        )
        again = convert_back(folder / "out", target)

    assert (report.rejects, report.dropped) == ({}, {})
    assert sorted(again, key=by_id) == sorted(written, key=by_id)


SPELLINGS: Final = (
    "[IMAGE]", "{image}", "{{video}}", "[img 1]", "< image >", "<Image>", "<img>", "<video>",
    "<image 1>", "<picture>", "<|vision_end|>", "<row_1_col_1>", "<|im_start|>", "&lt;image&gt;",
    "![a](b.jpg)", "Picture 1:", "<audio>", "</image>", "</video>", "x.mp4</video>", "</img>",
    "./</image>)", "[IMG_BREAK]", "[IMG_END]", "<im_end>", "<box>(1,2),(3,4)</box>", "<box>",
    "<ref>", "<ref>cup</ref>", "<ref>cup</ref><box>[[1, 2, 3, 4]]</box>",
    "<|box_start|>(1,2),(3,4)<|box_end|>", "<bbox>", "<ref-object>", "[SEG]", "<loc_12>",
    '<point x="1" y="2" alt="a">a</point>', "<text>", "</text>",
    "<|reserved_special_token_3|><|reserved_special_token_4|>", "<think>", "</think>",
    "<think>so</think>", "\n\nHuman: so", "[]", "{", "a<b", "<div>", '{"bbox_2d": [1, 2, 3, 4]}',
)  # fmt: skip
"""What is, or may be, a mark to one format or another."""


def say_more(row: Conversation, words: Sequence[tuple[int, str, str]]) -> Conversation:
    """Return a row with more words in some of its texts, whatever part they are of and whoever says
    them: each before or behind the text of such a number.
    """
    turns = [*row.messages, *(row.rejected or ())]
    places = [
        (turn, place)
        for turn, message in enumerate(turns)
        for place, part in enumerate(message.content)
        if isinstance(part, (Text, Reasoning, Region))
    ]
    shown = [medium.path for medium in row.media if medium.path is not None]
    for number, where, more in words:
        turn, place = places[number % len(places)]
        more = more.replace("b.jpg", shown[0]) if shown else more
        content = list(turns[turn].content)
        part = content[place]
        assert isinstance(part, (Text, Reasoning, Region))
        said = part.text
        text = {"before": f"{more} {said}", "behind": f"{said} {more}", "instead": more}[where]
        if turn < len(row.messages):  # where white space may keep words and marks apart
            text = text.strip()
        content[place] = replace(part, text=text)
        turns[turn] = replace(turns[turn], content=tuple(content))
    worse = tuple(turns[len(row.messages) :])
    return replace(
        row,
        messages=tuple(turns[: len(row.messages)]),
        rejected=None if row.rejected is None else worse,
    )


more_words = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.sampled_from(["before", "behind", "instead"]),
        st.sampled_from(SPELLINGS),
    ),
    max_size=2,
)


def thinks(row: Conversation) -> bool:
    messages = (*row.messages, *(row.rejected or ()))
    return any(isinstance(part, Reasoning) for message in messages for part in message.content)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
@settings(quick, max_examples=20)
@given(data=st.data())
def test_words_that_look_like_marks_come_back_as_they_are_or_do_not_leave(
    target: Target, data: st.DataObject
) -> None:
    says, reading = target.says, target.reading
    mode = registry.get(target.name).media_modes[-1 if target.name == "datasets" else 0]
    embedded = mode == "embed"
    strategy = rows(says, embedded=embedded, **target.limits)
    if reading:  # a store of thoughts, or one of words that may spell them
        reading = data.draw(st.sampled_from([{}, reading]))
        says = says if reading else says - {"reasoning"}
        strategy = rows(says, embedded=embedded, **target.limits).filter(
            lambda row: thinks(row) == bool(reading)
        )
    drawn = data.draw(
        st.lists(
            st.builds(say_more, strategy, more_words),
            min_size=1,
            max_size=8,
            unique_by=lambda row: row.id,
        )
    )
    written = [replace(row, source="test") for row in drawn]

    with TemporaryDirectory() as name:
        folder = Path(name)
        store = write(folder / "store", written)
        try:
            mmdata.export(store, target.name, folder / "out", options=target.options, media=mode)
        except DataError:  # none left
            return
        lines = folder / "out" / "mmdata-rejects.jsonl"
        rejects = lines.read_text().splitlines() if lines.exists() else []
        stayed = {json.loads(line)["id"] for line in rejects}
        again = convert_back(folder / "out", dataclasses.replace(target, reading=reading))

    left = [row for row in written if row.id not in stayed]
    assert sorted(again, key=by_id) == sorted(left, key=by_id)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({target.name for target in TARGETS}))
@settings(quick, max_examples=20)
@given(drawn=st.lists(conversations(), min_size=1, max_size=6, unique_by=lambda row: row.id))
def test_every_row_of_any_store_is_a_record_or_a_reject(
    name: str, drawn: list[Conversation]
) -> None:
    with TemporaryDirectory() as place:
        folder = Path(place)
        store = write(folder / "store", drawn)
        try:
            report = mmdata.export(store, name, folder / "out", drop=unsaid_by(name))
        except DataError as error:
            assert "no row" in str(error)
            assert not (folder / "out").exists()
            return

        lines = folder / "out" / "mmdata-rejects.jsonl"
        rejects = lines.read_text().splitlines() if lines.exists() else []
        assert report.rows_in == len(drawn) == report.rows + len(rejects)
        assert all(json.loads(line)["id"] in {row.id for row in drawn} for line in rejects)
        assert sum(report.rejects.values()) == len(rejects)


def unsaid_by(name: str) -> list[str]:
    return [feature for feature in FEATURES if feature not in registry.get(name).says]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=str)
@quick
@given(data=st.data())
def test_rows_that_are_written_at_once_are_written_as_one_by_one(
    target: Target, data: st.DataObject
) -> None:
    """Absolute paths are written row by row; of a store without a root they are the same paths."""
    plain = rows(target.says & frozenset({"extra", "system"}), **target.limits)
    odd = st.builds(say_more, plain, more_words)
    rare = conversations()
    drawn = data.draw(
        st.lists(plain | odd | rare, min_size=1, max_size=6, unique_by=lambda row: row.id)
    )
    drop = [*unsaid_by(target.name)]
    if data.draw(st.booleans()):
        drop.remove("marks")
    files: list[dict[str, list[Any]]] = []

    with TemporaryDirectory() as place:
        folder = Path(place)
        for paths in ("relative", "absolute"):
            store = write(folder / paths, drawn, media_root="")
            try:
                mmdata.export(
                    store,
                    target.name,
                    folder / f"{paths}.out",
                    options=target.options,
                    paths=paths,
                    drop=drop,
                )
            except DataError:
                files.append({})
                continue
            files.append(read_files(folder / f"{paths}.out"))

    assert files[0] == files[1]


def read_files(folder: Path) -> dict[str, list[Any]]:
    """Return what the lines of JSON files, or the rows of Parquet files, say, by their names."""
    found = sorted(folder.rglob("train*"))
    return {each.name: read_file(each) for each in found if each.is_file()}


def read_file(file: Path) -> list[Any]:
    if file.suffix == ".parquet":
        rows: list[Any] = pq.read_table(file).to_pylist()
        return rows
    lines = file.read_bytes().splitlines()
    return [json.loads(line.removesuffix(b",")) for line in lines if line.startswith(b"{")]


@quick
@given(drawn=st.lists(rows(frozenset()), min_size=1, max_size=6, unique_by=lambda row: row.id))
def test_rows_that_say_little_are_found_to_be_plain(drawn: list[Conversation]) -> None:
    with TemporaryDirectory() as place:
        (batch,) = write(Path(place) / "store", drawn).batches()

        in_order = [
            [part.media for m in row.messages for part in m.content if hasattr(part, "media")]
            == list(range(len(row.media)))
            for row in drawn
        ]
        assert find_plain(Columns(batch)).tolist() == in_order
