"""TRL's data sets: conversational messages with ``images`` beside them, preference pairs, and
judged answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._parts import messages_of, tools_of
from mmdata.exporters._turns import add_extra, ending_of, split_media
from mmdata.exporters._writers import JsonWriter, Writer, kind_of

__all__ = ["Trl"]


@registry.register("trl")
@dataclass(frozen=True)
class Trl(Exporter):
    """TRL's JSON Lines: ``messages`` for SFT; ``prompt``, ``chosen`` and ``rejected`` for DPO in
    ``train_pairs.jsonl``; ``prompt``, ``completion`` and ``label`` for KTO in
    ``train_judged.jsonl``.

    Images are paths; ``cast_column("images", List(Image()))`` of ``datasets`` opens them.
    """

    summary: ClassVar[str] = "TRL's conversational data: SFT, preference pairs, judged answers"
    shape: ClassVar[str] = (
        '{"id": "1", "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", '
        '"text": "What is it?"}]}, {"role": "assistant", "content": [{"type": "text", "text": '
        '"A cup."}]}], "images": ["1.jpg"]}'
    )
    says: ClassVar[frozenset[Feature]] = frozenset(
        {"extra", "judgement", "reasoning", "rejected", "system", "tools"}
    )
    fields: ClassVar[frozenset[str]] = frozenset({"messages", "prompt", "completion", "images"})
    read_by: ClassVar[str | None] = "messages"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: it has a video, or a pair or a judged answer without a question.
        """
        conversation = row.conversation
        images, videos = split_media(conversation, row.media)
        if videos:
            raise UnsayableError("TRL takes images alone", what="media")
        if conversation.rejected is not None and conversation.desirable is not None:
            raise UnsayableError("a pair has a judgement besides", what="judgement")

        record: dict[str, Any] = {"id": conversation.id}
        if conversation.rejected is None and conversation.desirable is None:
            record["messages"] = messages_of(conversation.messages, row.media, "listed")
        else:
            prompt, ending = ending_of(conversation)
            record["prompt"] = messages_of(prompt, row.media, "listed")
            name = "completion" if conversation.rejected is None else "chosen"
            # What a judgement says of training, it says itself.
            trained = [_as_trained(turn) for turn in messages_of(ending, row.media, "listed")]
            record[name] = trained
        if conversation.rejected is not None:
            record["rejected"] = messages_of(conversation.rejected, row.media, "listed")
        if conversation.desirable is not None:
            record["prompt"] = list(map(_as_trained, record["prompt"]))
            record["label"] = conversation.desirable
        if images:
            record["images"] = [image.reference for image in images]
        record |= tools_of(conversation.tools)
        return add_extra(record, conversation, self.fields)

    def open(self, folder: Path) -> Writer:
        """Return what writes a file for each kind of data."""
        return JsonWriter(folder, lines=True, kind_of=kind_of)


def _as_trained(turn: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in turn.items() if key != "weight"}
