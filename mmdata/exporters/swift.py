"""ms-swift's records: ``messages`` with marks of media; media, boxes, tools and the worse answer
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._json_columns import list_records
from mmdata.exporters._media import MediaMode
from mmdata.exporters._plain import ASSISTANT, SYSTEM, USER, PlainRows
from mmdata.exporters._turns import (
    add_extra,
    add_media,
    divide_turn,
    ending_of,
    media_in_order,
    options_for_thoughts,
    require_whole_turns,
    spell_call,
    text_of,
    think,
)
from mmdata.exporters._writers import LINE_END, JsonWriter, Writer, kind_of
from mmdata.schema import Conversation, Message, Part, Region

__all__ = ["Swift"]

_NAMES: Final = {SYSTEM: "system", USER: "user", ASSISTANT: "assistant"}


@registry.register("swift")
@dataclass(frozen=True)
class Swift(Exporter):
    """ms-swift's JSON Lines, for its training with and without pairs.

    Preference pairs are in a file of their own, ``train_pairs.jsonl``, and judged answers in
    ``train_judged.jsonl``: it takes a file for what all of its rows are.

    Boxes are fractions (``bbox_type`` is ``norm1``), thoughts stand in ``<think>`` before their
    answers, a call of a tool is a turn of its own, and ``loss`` is said where it differs from what
    ms-swift does without.
    """

    summary: ClassVar[str] = "ms-swift's messages with images, videos, objects and tools beside"
    shape: ClassVar[str] = (
        '{"id": "1", "messages": [{"role": "user", "content": "<image>Where is <ref-object>?"}, '
        '{"role": "assistant", "content": "<bbox>"}], "images": ["1.jpg"], "objects": {"ref": '
        '["the cup"], "bbox": [[0.1, 0.2, 0.5, 0.8]], "bbox_type": "norm1", "image_id": [0]}}'
    )
    says: ClassVar[frozenset[Feature]] = frozenset(
        {"boxes", "extra", "judgement", "reasoning", "rejected", "system", "tools", "training"}
    )
    media_modes: ClassVar[tuple[MediaMode, ...]] = ("reference", "copy", "embed")
    fields: ClassVar[frozenset[str]] = frozenset(
        {"messages", "conversations", "conversation", "images", "videos", "audios", "channel"}
    )
    read_by: ClassVar[str | None] = "swift"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: the system speaks after another, the worse ending has boxes or media, or
                a part is trained on and its turn is not.
        """
        conversation = row.conversation
        if any(message.role == "system" for message in conversation.messages[1:]):
            raise UnsayableError("ms-swift's system speaks first", what="system")
        if conversation.desirable is not False:
            require_whole_turns(conversation)

        objects = _Objects(conversation)
        record: dict[str, Any] = {
            "id": conversation.id,
            "messages": [
                turn
                for message in conversation.messages
                for turn in _turns_of(message, objects, judged=conversation.desirable is False)
            ],
        }
        record = add_media(record, conversation, row.media)
        if objects.refs or objects.boxes:
            record["objects"] = {
                "ref": objects.refs,
                "bbox": objects.boxes,
                "bbox_type": "norm1",
                "image_id": objects.images,
            }
        if conversation.tools is not None:
            record["tools"] = conversation.tools
        if conversation.rejected is not None:
            record["rejected_response"] = _rejected(conversation)
        if conversation.desirable is not None:
            record["label"] = conversation.desirable
        return add_extra(record, conversation, self.fields)

    def records(self, rows: PlainRows) -> Any:
        """Return the records of plain rows as JSON."""
        keys = ("role", "content")
        return list_records(rows, "messages", keys, _NAMES, self.fields, end=LINE_END)

    def reading_options(self, conversation: Conversation) -> Mapping[str, Any]:
        """Return that thoughts are read, of a row that has some."""
        return options_for_thoughts(conversation)

    def open(self, folder: Path) -> Writer:
        """Return what writes a file for each kind of data."""
        return JsonWriter(folder, lines=True, kind_of=kind_of)


class _Objects:
    """The phrases and boxes of a row, as marks take them."""

    def __init__(self, conversation: Conversation) -> None:
        media = conversation.media
        shown = [n for n in media_in_order(conversation) if media[n].type == "image"]
        self.refs: list[str] = []
        self.boxes: list[Sequence[float]] = []
        self.images: list[int] = []
        self._place = {medium: place for place, medium in reversed(list(enumerate(shown)))}

    def spell(self, part: Part) -> str:
        """Return the marks of a region, whose phrase and boxes are added."""
        assert isinstance(part, Region), "all else is refused before"
        if part.media not in self._place:
            raise UnsayableError("a box is of a medium that is no image", what="boxes")
        if part.text:
            self.refs.append(part.text)
        self.boxes += map(list, part.boxes)
        self.images += [self._place[part.media]] * len(part.boxes)
        return ("<ref-object>" if part.text else "") + "<bbox>" * len(part.boxes)


def _turns_of(message: Message, objects: _Objects, *, judged: bool) -> list[dict[str, Any]]:
    """Return the turns that a message is: its words, and each of its calls."""
    thought, words, calls = divide_turn(message)
    found: list[dict[str, Any]] = []
    if words is not None:
        text = think(thought, text_of(words, spell_part=objects.spell))
        found.append({"role": message.role, "content": text})
    elif thought is not None:
        found.append({"role": message.role, "content": think(thought, "")})
    found += [{"role": "tool_call", "content": spell_call(call)} for call in calls]
    if not judged and message.train != (message.role == "assistant"):
        found = [{**turn, "loss": False} for turn in found]
    return found


def _rejected(conversation: Conversation) -> str | list[dict[str, Any]]:
    """Return the worse ending: a text, where it is one, or turns.

    Raises:
        UnsayableError: it has boxes, or begins with another than the assistant.
    """
    assert conversation.rejected is not None
    _, chosen = ending_of(conversation)
    if conversation.rejected[0].role != "assistant":
        raise UnsayableError("the worse ending of a pair is an answer", what="rejected")
    if any(isinstance(p, Region) for m in (*chosen, *conversation.rejected) for p in m.content):
        # The marks of either ending would take the same phrases and boxes.
        raise UnsayableError("an ending of the pair has boxes", what="boxes")
    objects = _Objects(conversation)
    turns = [turn for m in conversation.rejected for turn in _turns_of(m, objects, judged=False)]
    if len(turns) == 1 and set(turns[0]) == {"role", "content"} and turns[0]["role"] == "assistant":
        text: str = turns[0]["content"]
        return text
    return turns
