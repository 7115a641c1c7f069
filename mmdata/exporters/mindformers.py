"""MindFormers' JSON for CogVLM2-Video and LLaVA-NeXT: paths between two special tokens before the
first question, as its ``rwf2000_process.py`` and ``data_process.py`` write it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._media import PlacedMedium
from mmdata.exporters._turns import SPEAKERS, add_extra, require_turns, split_media, text_of
from mmdata.formats._marks import has_image_suffix
from mmdata.schema import Conversation, MediaType, Message, Video, replace

__all__ = ["MindFormers"]

_START: Final = "<|reserved_special_token_3|>"
_END: Final = "<|reserved_special_token_4|>"
_TEXT: Final = "<text>"
_MARKS: Final[Mapping[MediaType, str]] = {"image": "<image>", "video": "<image>"}
_TAKEN: Final = re.compile(r"[<>\n]")
"""What may not be in a path between the two."""


@registry.register("mindformers")
@dataclass(frozen=True)
class MindFormers(Exporter):
    """The records that MindFormers trains ``model`` on: ``cogvlm2_video`` on videos that lead the
    first question, ``llava_next`` on images or videos of it, or on words alone. Their paths are
    found from where the training runs; ``--paths absolute`` is the safe way.
    """

    summary: ClassVar[str] = "MindFormers' JSON: paths between special tokens before the question"
    shape: ClassVar[str] = (
        '[{"id": "1", "conversations": [{"from": "user", "value": '
        '"<|reserved_special_token_3|>1.mp4<|reserved_special_token_4|>What happens?"}, '
        '{"from": "assistant", "value": "It falls."}]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset({"extra"})
    fields: ClassVar[frozenset[str]] = frozenset({"conversations"})
    read_by: ClassVar[str | None] = "sharegpt"

    model: Literal["cogvlm2_video", "llava_next"] = "cogvlm2_video"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not the user's and the assistant's by turns, or it has
                media that the model does not take, or elsewhere than in the first question.
        """
        conversation = row.conversation
        require_turns(conversation, may_have_system=False)
        images, videos = split_media(conversation, row.media)
        if any(video.frame_paths is not None for video in videos):
            raise UnsayableError("MindFormers takes videos as files", what="media")
        spell = _cogvlm2_video if self.model == "cogvlm2_video" else _llava_next
        turns = spell(conversation, images, videos)
        return add_extra({"id": conversation.id, "conversations": turns}, conversation, self.fields)


def _cogvlm2_video(
    conversation: Conversation, images: Sequence[PlacedMedium], videos: Sequence[PlacedMedium]
) -> list[dict[str, str]]:
    if images:
        raise UnsayableError("MindFormers' CogVLM2-Video takes videos alone", what="media")
    turns = [
        {"from": message.role, "value": text_of(message)}
        for message in _without_leading(conversation, len(videos))
    ]
    turns[0]["value"] = _list_files(videos) + turns[0]["value"]
    return turns


def _llava_next(
    conversation: Conversation, images: Sequence[PlacedMedium], videos: Sequence[PlacedMedium]
) -> list[dict[str, str]]:
    if images and videos:
        raise UnsayableError("MindFormers' LLaVA-NeXT takes images or videos", what="media")
    turns = [
        {
            "from": SPEAKERS[message.role],
            "value": _TEXT + text_of(message, separator="\n", marks=_MARKS),
        }
        for message in conversation.messages
    ]
    if any("<image>" in turn["value"] for turn in turns[1:]):
        raise UnsayableError("media stand elsewhere than in the first question", what="media")
    first = turns[0]["value"].removeprefix(_TEXT)
    turns[0]["value"] = (_list_files([*images, *videos]) or _START + _END) + first
    return turns


def _list_files(media: Sequence[PlacedMedium]) -> str:
    if taken := [medium.path for medium in media if _TAKEN.search(medium.path or "")]:
        raise UnsayableError(f"the path {taken[0]!r} cannot stand between tokens", what="media")
    for medium in media:
        if has_image_suffix(medium.reference) != (medium.type == "image"):
            raise UnsayableError(
                f"the name of {medium.reference!r} does not say that it is of the type "
                f"{medium.type}, and nothing else would",
                what="media",
            )
    return "".join(f"{_START}{medium.reference}{_END}" for medium in media)


def _without_leading(conversation: Conversation, count: int) -> list[Message]:
    """Return the turns without the videos, all of which lead the first.

    Raises:
        UnsayableError: they stand elsewhere, or the first turn has no words.
    """
    first, *others = conversation.messages
    leading, words = first.content[:count], first.content[count:]
    if not words or not all(isinstance(part, Video) for part in leading):
        raise UnsayableError("videos stand elsewhere than before the first question", what="media")
    return [replace(first, content=words), *others]
