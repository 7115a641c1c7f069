"""MindFormers' JSON for CogVLM2-Video: paths between two special tokens before the first question,
as its ``rwf2000_process.py`` and ``data_process.py`` write it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._turns import add_extra, require_turns, split_media, text_of
from mmdata.schema import Conversation, Message, Video, replace

__all__ = ["MindFormers"]

_START: Final = "<|reserved_special_token_3|>"
_END: Final = "<|reserved_special_token_4|>"
_TAKEN: Final = re.compile(r"[<>\n]")
"""What may not be in a path between the two."""


@registry.register("mindformers")
@dataclass(frozen=True)
class MindFormers(Exporter):
    """The records that MindFormers trains CogVLM2-Video on. Its paths are found from where the
    training runs; ``--paths absolute`` is the safe way.
    """

    summary: ClassVar[str] = "MindFormers' JSON for CogVLM2-Video: paths between special tokens"
    shape: ClassVar[str] = (
        '[{"id": "1", "conversations": [{"from": "user", "value": '
        '"<|reserved_special_token_3|>1.mp4<|reserved_special_token_4|>What happens?"}, '
        '{"from": "assistant", "value": "It falls."}]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset({"extra"})
    fields: ClassVar[frozenset[str]] = frozenset({"conversations"})
    read_by: ClassVar[str | None] = "sharegpt"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not the user's and the assistant's by turns, it has
                images, or a video that does not lead the first question.
        """
        conversation = row.conversation
        require_turns(conversation, may_have_system=False)
        images, videos = split_media(conversation, row.media)
        if images or any(video.frame_paths is not None for video in videos):
            raise UnsayableError("MindFormers takes videos alone, as files", what="media")
        if taken := [video.path for video in videos if _TAKEN.search(video.path or "")]:
            raise UnsayableError(f"the path {taken[0]!r} cannot stand between tokens", what="media")

        lead = "".join(f"{_START}{video.reference}{_END}" for video in videos)
        turns = [
            {"from": message.role, "value": text_of(message)}
            for message in _without_leading(conversation, len(videos))
        ]
        turns[0]["value"] = lead + turns[0]["value"]
        return add_extra({"id": conversation.id, "conversations": turns}, conversation, self.fields)


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
