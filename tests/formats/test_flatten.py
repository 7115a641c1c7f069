from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.formats import Record
from mmdata.formats._batches import read_batches, read_records
from mmdata.formats.llava import Llava, converse_llava
from mmdata.schema import Conversation, assistant, replace
from mmdata.sources._json import identity
from mmdata.store.builder import BatchBuilder
from mmdata.store.decode import BatchView
from mmdata.store.encode import encode


def asks(text: str, answer: str = "A cup.", **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
    return {"id": "1", "conversations": turns, **fields}


def _turn(number: int, text: str) -> dict[str, str]:
    return {"from": ("human", "gpt")[number % 2], "value": text}


def read(value: Any) -> Record:
    return Record(value, "sources/llava.json", 7, identity(value, "id"))


def flattened(records: list[Record]) -> list[Conversation]:
    """Return what is read of records all at once; nothing where that cannot be."""
    flat = Llava(dataset_name="s").flatten(records)
    if flat is None:
        return []
    columns = encode([flat])
    view = BatchView(columns)
    return [view[row] for row in range(columns.num_rows)]


@pytest.mark.parametrize(
    "value",
    [
        asks("<image>\nWhat?", image="a.jpg"),
        asks("What?\n<image>", image="a.jpg"),
        asks("  What?  \n<image>", image="a.jpg"),
        asks("<image>\n  What?  ", image="a.jpg"),
        asks("Who are you?", model=""),
        asks("Is 1 < 2?", image=""),
        asks("<image>\nWhat happens?", video="a.mp4", data_source="0_30_s"),
        asks("What happens?<video>", video="a.mp4"),
        asks("Who are you?", data_source="d", model="m"),
        {**asks("Who are you?"), "id": 1},
        {**asks("Who are you?", model=""), "id": ""},
        {"conversations": asks("Who are you?")["conversations"]},
    ],
)
def test_a_plain_record_is_read_as_a_dialogue_that_says_the_same(value: dict[str, Any]) -> None:
    assert flattened([read(value)]) == [converse_llava(read(value), "s")]


sayings = st.lists(
    st.sampled_from(["<image>", "<video>", "\n", " ", "What?", "<", ">", "é"]), max_size=4
).map("".join) | st.just("Why?")
turns = st.fixed_dictionaries(
    {
        "from": st.sampled_from(["human", "gpt", "Human", "system", "user", 5]),
        "value": sayings | st.none(),
    },
    optional={"weight": st.integers()},
)
speakers = st.sampled_from([("human", "gpt"), ("human", "gpt"), ("Human", "GPT")])
usual = st.tuples(speakers, st.lists(sayings, min_size=1, max_size=4)).map(
    lambda drawn: [{"from": drawn[0][n % 2], "value": text} for n, text in enumerate(drawn[1])]
)
odd = st.sampled_from([None, "text", {"from": "human"}, ["a"]])
paths = st.sampled_from(["a.jpg", "", None, ["a.jpg"], ["a.jpg", "b.jpg"], 3])
values = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["1", "", 1, None, "2"]),
        "image": paths,
        "video": paths,
        "conversations": usual | st.lists(turns, max_size=3) | odd,
        "model": st.just(""),
        "data_source": st.just("d"),
    },
)


@given(st.lists(values | st.sampled_from([None, [], "text", 1]), max_size=8))
def test_whatever_the_records_reading_them_at_once_says_what_the_conversations_say(
    found: list[Any],
) -> None:
    for records in ([read(value) for value in found], *([read(value)] for value in found)):
        at_once = flattened(records)

        assert not at_once or at_once == [converse_llava(record, "s") for record in records]


@pytest.mark.parametrize("medium", [{}, {"image": "a.jpg"}, {"video": "a.mp4"}])
def test_a_text_with_placeholders_anywhere_is_read_in_bulk_as_it_is_alone(
    medium: dict[str, str],
) -> None:
    """Texts of up to four of these, in the question, the answer, and a second question."""
    texts = [
        "".join(drawn)
        for size in range(5)
        for drawn in product(["<image>", "<video>", "words", " "], repeat=size)
    ]
    places: list[Callable[[str], tuple[str, ...]]] = [
        lambda text: (text, "A."),
        lambda text: ("<image>Q", text),
        lambda text: ("<image>Q", "A.", text, "B."),
    ]
    for place in places:
        for text in texts:
            record = read(
                {"id": "1", "conversations": list(map(_turn, count(), place(text))), **medium}
            )
            at_once = flattened([record])
            assert not at_once or at_once == [converse_llava(record, "s")], record.value


@given(st.lists(st.sampled_from([asks("<image>\nWhat?", image="a.jpg"), {"id": "2"}]), max_size=40))
def test_a_record_that_is_not_well_keeps_no_other_from_being_read(found: list[Any]) -> None:
    builder = BatchBuilder()

    read_records([read(value) for value in found], Llava(), builder)

    batch = builder.build()
    well = [place for place, value in enumerate(found) if "image" in value]
    assert [*batch.positions] == well
    assert [position for position, _ in batch.rejects] == [
        n for n in range(len(found)) if n not in well
    ]


@dataclass(frozen=True)
class OneByOne(Llava):
    """The same by conversations alone: the slow way that the fast one is held against."""

    def conversation(self, record: Record) -> Conversation:
        return super().conversation(record)


plain = st.fixed_dictionaries(
    {"conversations": usual},
    optional={
        "id": st.sampled_from(["1", "", "2"]),
        "image": st.just("a.jpg"),
        "model": st.sampled_from(["", "m"]),
    },
)


@pytest.mark.slow
@given(st.data())
def test_a_source_read_many_at_a_time_becomes_the_store_of_one_read_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("llava")
    (folder / "llava.json").write_text(
        json.dumps(
            data.draw(
                st.lists(values, min_size=1, max_size=30) | st.lists(plain, min_size=2, max_size=30)
            )
        )
    )

    options: dict[str, Any] = {
        "check": data.draw(st.sampled_from(["none", "exists"])),
        "duplicate_ids": data.draw(st.sampled_from(["number", "reject"])),
        "limit": data.draw(st.none() | st.integers(1, 30)),
    }

    for name, reader in (("many", Llava()), ("one", OneByOne())):
        mmdata.convert(reader, folder / "llava.json", folder / name, **options)

    for file in ("data-00000.arrow", "rejects.jsonl"):
        many, one = folder / "many" / file, folder / "one" / file
        assert many.exists() == one.exists()
        assert not one.exists() or many.read_bytes() == one.read_bytes()


def test_a_record_repeated_beside_other_media_is_known_again(tmp_path: Path) -> None:
    for kind, file in (("image", "a.jpg"), ("video", "a.mp4")):
        beside = [
            {**asks("<image>\nWhat?", **{kind: file}), "id": f"{kind} {number}"}
            for number in range(2)
        ]
        (tmp_path / f"{kind}.json").write_text(json.dumps([beside[0], asks("Who?"), beside[1]]))

    report = mmdata.convert("llava", tmp_path, tmp_path / "store", check="none")

    assert (report.rows, report.rejects, report.renamed_ids) == (5, {"duplicate_id": 1}, 0)


def test_large_records_are_read_alone(tmp_path: Path) -> None:
    source = tmp_path / "llava.json"
    source.write_text(
        json.dumps([{**asks("Hm?", "a" * 140_000), "id": str(number)} for number in range(5)])
    )

    assert [len(run) for run in Llava().runs([source])] == [1] * 5


def test_a_format_that_changes_the_conversations_of_another_is_not_passed_over(
    tmp_path: Path,
) -> None:
    class Shouting(Llava):
        def conversation(self, record: Record) -> Conversation:
            said = super().conversation(record)
            return replace(
                said, messages=(said.messages[0], assistant(said.messages[1].text.upper()))
            )

    (tmp_path / "llava.json").write_text(json.dumps([asks("Who are you?")]))
    mmdata.convert(Shouting(), tmp_path / "llava.json", tmp_path / "store", check="none")

    assert mmdata.open(tmp_path / "store")[0].messages[1].text == "A CUP."


def test_a_format_that_says_anew_what_a_conversation_is_does_not_flatten_as_the_old_one(
    tmp_path: Path,
) -> None:
    @dataclass(frozen=True)
    class Shouted(Llava):
        def conversation(self, record: Record) -> Conversation:
            return replace(super().conversation(record), source="shouted")

    source = tmp_path / "a.json"
    source.write_text(json.dumps([asks("<image>\nWhat?", image="a.jpg"), asks("Why?")]))

    for kind, name in ((Llava, "llava"), (Shouted, "shouted")):
        (batch,) = read_batches(kind(), [source])

        assert [row.source for row in batch.conversations()] == [name, name]
    assert Shouted.flatten is None
