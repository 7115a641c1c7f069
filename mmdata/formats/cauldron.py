"""The Cauldron and FineVision: ``images``, and ``texts`` of ``user`` and ``assistant`` about them.

The images stand before the first question, as the programs have them that these sets were made for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import converse
from mmdata.formats._chat_flat import flatten_with, read_extras, read_media_lists
from mmdata.formats._chat_record import read_chat
from mmdata.formats._flat import TurnColumns, require
from mmdata.formats._format import Sample
from mmdata.formats._sources import RecordSource, conversation_id, mapping
from mmdata.formats._turn_reader import TRAIN_FLAGS, read_pairs
from mmdata.formats._turns import add_turn_fields
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import ROLE_CODES, FlatRows

__all__ = ["Cauldron"]

_READ: Final = frozenset({"id", "texts", "images", "videos", "audios", "image", "video", "audio"})
_QUESTION_ANSWER: Final = bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]])


@registry.register("cauldron")
@dataclass(frozen=True)
class Cauldron(RecordSource):
    """Records of ``images`` and ``texts``. ``dataset_name`` is what rows have in the column
    ``source``.

    Most are Parquet files with the pictures in them. What a pair of texts has besides, such as its
    ``source``, goes to ``extra`` by the number of its answer among the turns. So do
    FineVision's ratings.
    """

    summary: ClassVar[str] = "images and texts of user and assistant: The Cauldron, FineVision"
    shape: ClassVar[str] = (
        '{"images": [{"bytes": "...", "path": "1.jpg"}], '
        '"texts": [{"user": "What is it?", "assistant": "A cup.", "source": "VQAv2"}]}'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "several images and turns, with ratings (FineVision)": (
            '{"images": [{"bytes": "aGk=", "path": "1.png"}, {"bytes": "aGk=", "path": "2.png"}], '
            '"texts": [{"user": "What differs?", "assistant": "The cup is gone."}, {"user": "Of '
            'which colour was it?", "assistant": "Red."}], "relevance_ratings": [5, 4]}'
        ),
        "the system's words in a pair": (
            '{"images": [{"path": "1.jpg"}], "texts": [{"system": "Be brief.", "user": "What is '
            'it?", "assistant": "A cup."}]}'
        ),
    }

    dataset_name: str = "cauldron"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``texts`` of ``user`` and ``assistant``."""
        texts = [text for record in sample.records for text in _listed(record.get("texts"))]
        return sample.every("texts") and all(
            isinstance(text, dict) and {"user", "assistant"} <= text.keys() for text in texts
        )

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        if not value.get("texts"):
            raise RecordError("'texts' is absent or empty", reason="no_conversation")
        turns = read_pairs(value["texts"], "user", "assistant")
        chat = read_chat(value, record, turns, frozenset({"texts"}))
        return converse(chat, record, self.dataset_name)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(_read, records, self.dataset_name)


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    conversations = [value["texts"] for value in values]
    pairs = list(chain.from_iterable(conversations))
    require(all(type(some) is list and bool(some) for some in conversations))
    texts = [text for pair in pairs for text in (pair["user"], pair["assistant"])]
    require(set(map(type, texts)) == {str})
    fields = set(chain.from_iterable(pairs))
    require(fields.isdisjoint(TRAIN_FLAGS))
    images = read_media_lists(values, "image")
    videos = read_media_lists(values, "video")

    return TurnColumns(
        ids=[record.id or conversation_id(record) for record in records],
        num_turns=[2 * len(some) for some in conversations],
        roles=_QUESTION_ANSWER * len(pairs),
        texts=texts,
        images=images,
        videos=videos,
        extras=[
            add_turn_fields(extra, _besides(value["texts"]))
            for value, extra in zip(values, read_extras(values, records, _READ), strict=True)
        ],
    )


def _besides(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of pairs besides their texts, by the number of the answer among the
    turns.
    """
    return {
        str(2 * number + 1): {
            key: found for key, found in pair.items() if key not in {"user", "assistant"}
        }
        for number, pair in enumerate(pairs)
        if len(pair) > 2
    }
