"""Turns as OpenAI and Hugging Face spell them: ``role`` and ``content``, a list of parts that bring
their own media, with what is thought and called beside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from mmdata.exporters._features import UnsayableError
from mmdata.exporters._media import PlacedMedium
from mmdata.exporters._turns import divide_turn, require_words
from mmdata.schema import (
    Audio,
    Image,
    Message,
    Part,
    Text,
    ToolCall,
    Video,
)

__all__ = ["PartStyle", "Style", "medium_part", "messages_of", "rate_of", "tools_of"]

Style: TypeAlias = Literal["hf", "openai"]
"""Whose spelling of a part: ``{"type": "image", "image": …}``, or ``{"type": "image_url", …}``."""
PartStyle: TypeAlias = Style | Literal["listed"]
"""That, or parts that only say that the next of the media listed beside the turns stands there."""

_AS_JSON: Final = msgspec.json.Decoder()


def messages_of(
    messages: Sequence[Message], media: Sequence[PlacedMedium], style: PartStyle
) -> list[dict[str, Any]]:
    """Return turns with their parts.

    Raises:
        UnsayableError: a turn has parts in an order that cannot be spelt, or says what no part can.
    """
    waiting: deque[str | None] = deque()
    return [_message_of(message, media, style, waiting) for message in messages]


def _message_of(
    message: Message, media: Sequence[PlacedMedium], style: PartStyle, waiting: deque[str | None]
) -> dict[str, Any]:
    """Return one turn; ``waiting`` are the ids of calls whose results are still to come."""
    thought, words, calls = divide_turn(message)
    parts = [_part_of(part, media, style) for part in (words.content if words else ())]
    found: dict[str, Any] = {"role": message.role, "content": parts}
    is_words = len(parts) == 1 and parts[0]["type"] == "text"
    if not parts:
        found["content"] = ""
    elif is_words and (style == "openai" or message.role == "tool"):
        found["content"] = parts[0]["text"]

    if thought is not None:
        found["reasoning_content"] = thought
    if calls:
        found["tool_calls"] = [_call_of(call, style) for call in calls]
        waiting.extend(call.call_id for call in calls)
    if message.role == "tool" and waiting and (call_id := waiting.popleft()) is not None:
        found["tool_call_id"] = call_id
    if message.train != (message.role == "assistant"):
        found["weight"] = 0
    return found


def _part_of(part: Part, media: Sequence[PlacedMedium], style: PartStyle) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": require_words(part.text)}
    if isinstance(part, Audio):
        raise UnsayableError("the row has audio", what="audio")
    if isinstance(part, (Image, Video)):
        return medium_part(media[part.media], style)
    raise UnsayableError(f"there is no part of type {type(part).__name__.lower()}")


def medium_part(medium: PlacedMedium, style: PartStyle) -> dict[str, Any]:
    """Return the part that a medium is.

    Raises:
        UnsayableError: it is a clip, or pictures, and the style has no fields for them.
    """
    kind = medium.type
    if style == "listed":
        return {"type": "frames" if medium.is_pictures else kind}
    if style == "openai":
        if medium.frame_paths is not None or medium.start is not None or medium.end is not None:
            raise UnsayableError("OpenAI's parts take a video as a whole file", what="media")
        return {"type": f"{kind}_url", f"{kind}_url": {"url": medium.reference}}

    part: dict[str, Any] = {"type": kind, kind: medium.reference}
    if medium.start is not None:
        part["video_start"] = medium.start
    if medium.end is not None:
        part["video_end"] = medium.end
    if (rate := rate_of(medium)) is not None:
        part["sample_fps"] = rate
    return part


def rate_of(medium: PlacedMedium) -> float | None:
    """Return how many of a video's pictures there are in a second, where that is known.

    Raises:
        UnsayableError: they are not at a constant rate from 0 on.
    """
    clock = medium.clock
    if medium.frame_paths is None or clock is None:
        return None
    if clock.step is None or clock.start or clock.unit is not None:
        raise UnsayableError(
            "the pictures of a video are not at a constant rate from 0 on; --drop seconds says the "
            "mean rate of them",
            what="seconds",
        )
    return 1 / clock.step


def _call_of(call: ToolCall, style: PartStyle) -> dict[str, Any]:
    arguments: Any = call.arguments
    if style != "openai" and call.arguments.lstrip().startswith("{"):
        arguments = msgspec.Raw(call.arguments.encode())  # as chat templates want it
    found = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
    return found if call.call_id is None else {"id": call.call_id, **found}


def tools_of(tools: str | None) -> Mapping[str, Any]:
    """Return the field that declares tools, none where there are none.

    Raises:
        UnsayableError: they are no list and no object.
    """
    if tools is None:
        return {}
    declared = _AS_JSON.decode(tools)
    if not isinstance(declared, (list, dict)):
        raise UnsayableError(f"tools must be a list, found {tools[:60]}", what="tools")
    return {"tools": declared} if declared else {}
