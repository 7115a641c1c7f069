"""The laws that `mmdata.testing` holds formats and templates to:
ours keep them, and one that breaks one is found.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image as Pillow

from mmdata.formats import Record, make
from mmdata.formats.messages import Messages
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, assistant, replace, system, user
from mmdata.sources._run import Way
from mmdata.store.encode import FlatRows
from mmdata.templates import IGNORE, Encoded, Template
from mmdata.testing import LawError, check_format, check_template
from tests.formats.dirt import FORMATS, assemble, faults, good
from tests.templates.families import FAMILIES, Family

SAID_OTHERWISE: Final = {
    "qwen_vl": (r"<box>.*?</box>", r"Picture \d+: "),
    "sharegpt4video": (r"^-1$",),
}
"""What a format says in another way than its records do."""


def write(folder: Path, name: str, *, clean: bool) -> Path:
    file = folder / "source.json"
    records = [good(name, number) for number in range(5)]
    records[2:2] = (
        [] if clean else [fault.data for fault in faults(name) if fault.reason != "bad_json"][:20]
    )
    file.write_bytes(assemble(name, records))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("clean", [True, False], ids=["good records", "broken ones among them"])
@pytest.mark.parametrize("name", FORMATS)
def test_our_formats_keep_the_laws_of_formats(tmp_path: Path, name: str, clean: bool) -> None:
    check_format(
        make(name),
        [write(tmp_path, name, clean=clean)],
        said_otherwise=SAID_OTHERWISE.get(name, ()),
    )


@dataclass(frozen=True)
class LosesAField(Messages):
    """Reads no field besides."""

    def conversation(self, record: Record) -> Conversation:
        return replace(super().conversation(record), extra={})


@dataclass(frozen=True)
class LosesARepeatedTurn(Messages):
    """Reads a text that stands twice once."""

    def conversation(self, record: Record) -> Conversation:
        found = super().conversation(record)
        return replace(found, messages=found.messages[:2])


@dataclass(frozen=True)
class FlattensOtherwise(Messages):
    """Says something else of many records than of one."""

    def conversation(self, record: Record) -> Conversation:
        return super().conversation(record)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        rows = super().flatten(records)
        return rows and replace(rows, sources=["else"] * len(rows))


@dataclass(frozen=True)
class LosesARecord(Messages):
    """Reads one record less when it reads many."""

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        for run in super().runs(sources):
            yield from run

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = ()
    ) -> Iterator[list[Record | Reject]]:
        yield [*self.records(sources)][1:]


@dataclass(frozen=True)
class CountsWrongly(Messages):
    """Gives every record the number 0."""

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        for record in super().records(sources):
            yield replace(record, number=0) if isinstance(record, Record) else record


@dataclass(frozen=True)
class DrawsLots(Messages):
    """Gives a conversation another id whenever it is read."""

    def conversation(self, record: Record) -> Conversation:
        return replace(super().conversation(record), source=uuid4().hex)


@dataclass(frozen=True)
class ChangesRecords(Messages):
    """Takes fields out of the record that it reads."""

    def conversation(self, record: Record) -> Conversation:
        found = super().conversation(record)
        record.value.clear()
        return found


@dataclass(frozen=True)
class LooksNowhere(Messages):
    """Has no place where a picture may be."""

    def candidates(self, path: str, origin: Any) -> Iterator[str]:
        yield from ()


def answer(number: int) -> dict[str, Any]:
    turns = [
        {"role": role, "content": "Yes."} for role in ("user", "assistant", "user", "assistant")
    ]
    return {
        "id": f"r{number}",
        "messages": turns,
        "images": ["a.jpg"],
        "license": {"name": "MIT", "version": number},
    }


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (LosesAField(), "nothing vanishes"),
        (LosesARepeatedTurn(), "nothing vanishes"),
        (FlattensOtherwise(), "bulk = single"),
        (LosesARecord(), "account"),
        (CountsWrongly(), "positions"),
        (DrawsLots(), "bulk = single|determinism"),
        (ChangesRecords(), "determinism"),
        (LooksNowhere(), "media"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_format_that_breaks_a_law_is_found(tmp_path: Path, broken: Messages, law: str) -> None:
    file = tmp_path / "source.json"
    file.write_text(json.dumps([answer(number) for number in range(3)]))

    check_format(Messages(), [file])
    with pytest.raises(LawError, match=f"^({law}): "):
        check_format(broken, [file])


def test_a_source_of_which_nothing_can_be_read_shows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "source.json"
    file.write_text('[{"colour": "red"}]')

    with pytest.raises(LawError, match="no record became a conversation"):
        check_format(Messages(), [file])


# --- templates
# --------------------------------------------------------------------------------------------------


def picture() -> Media:
    file = io.BytesIO()
    Pillow.new("RGB", (20, 10), "red").save(file, "PNG")
    return Media("image", bytes=file.getvalue(), width=20, height=10)


def conversations(family: Family) -> list[Conversation]:
    turns = (user("What is it?"), assistant("A cup."), user("And that?"), assistant("Two dogs."))
    found = [
        Conversation("one", turns[:2]),
        Conversation("two", turns),
        Conversation("same", (turns[0], turns[1]) * 2),
    ]
    if family.system:
        found.append(Conversation("led", (system("Be short."), *turns)))
    if family.media != "video":
        found.append(Conversation("seen", (user(Image(0), "What is it?"), turns[1]), (picture(),)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_our_templates_keep_the_laws_of_templates(family: Family) -> None:
    check_template(family.template(**dict(family.answers_only)), conversations(family))


@dataclass(frozen=True)
class Altered:
    """A template of ours that changes what comes out of it."""

    inner: Template

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def encode(self, conversation: Conversation) -> Encoded:
        return self.inner.encode(conversation)


@dataclass(frozen=True)
class TrainsOnQuestions(Altered):
    def encode(self, conversation: Conversation) -> Encoded:
        found = super().encode(conversation)
        return dataclasses.replace(found, labels=found.input_ids.copy())


@dataclass(frozen=True)
class TrainsWhereItShallNot(Altered):
    """Trains on an answer that is not to be trained on, where another is."""

    def encode(self, conversation: Conversation) -> Encoded:
        messages = [replace(one, train=one.role == "assistant") for one in conversation.messages]
        return super().encode(replace(conversation, messages=tuple(messages)))


@dataclass(frozen=True)
class LearnsNothingAtTheEnd(Altered):
    def encode(self, conversation: Conversation) -> Encoded:
        found = super().encode(conversation)
        labels = found.labels.copy()
        labels[-8:] = IGNORE
        return dataclasses.replace(found, labels=labels)


@dataclass(frozen=True)
class PromptsOtherwise(Altered):
    def prompt(self, conversation: Conversation) -> Encoded:
        found = self.inner.prompt(conversation)
        return dataclasses.replace(found, input_ids=np.roll(found.input_ids, 1))


@dataclass(frozen=True)
class MeasuresWrongly(Altered):
    def length(self, conversation: Conversation) -> int:
        return int(self.inner.length(conversation)) + 1


@dataclass(frozen=True)
class DrawsTokens(Altered):
    def encode(self, conversation: Conversation) -> Encoded:
        found = super().encode(conversation)
        return dataclasses.replace(found, position_ids=found.position_ids + uuid4().int % 1000)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (TrainsOnQuestions, "labels by structure"),
        (TrainsWhereItShallNot, "labels by structure"),
        (LearnsNothingAtTheEnd, "labels by structure"),
        (PromptsOtherwise, "prefix = prompt"),
        (MeasuresWrongly, "shape"),
        (DrawsTokens, "determinism"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_template_that_breaks_a_law_is_found(broken: type[Altered], law: str) -> None:
    family = FAMILIES[0]
    # The rest is that of a template.
    template = cast("Template", broken(family.template(**dict(family.answers_only))))

    with pytest.raises(LawError, match=f"^{law}: "):
        check_template(template, conversations(family))
