"""Qwen3-VL: ChatML without a system message of its own, every two frames after the seconds that
they are at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from mmdata.image.patches import Patches, resize_clip, resize_frame
from mmdata.schema import Conversation, Image, Message, Part, Reasoning, Text, ToolCall, Video
from mmdata.templates import registry
from mmdata.templates.toolkit import (
    Bit,
    Block,
    BoxUnit,
    ChatML,
    Mark,
    MediaSlot,
    Medium,
    PixelPlan,
    PositiveInt,
    Turn,
    call_bits,
    grid_block,
    tool_head,
    tool_responses,
    tools_of,
)

__all__ = ["Qwen3VL", "layer_times"]

_HALF: tuple[float, float, float] = (0.5, 0.5, 0.5)
_END: str = "</think>"


@registry.register("qwen3_vl")
@dataclass(frozen=True, kw_only=True)
class Qwen3VL(ChatML):
    """How Qwen3-VL reads a conversation (its published chat templates and processor).

    - ``dialect``: ``instruct``, which knows no thoughts, or ``thinking``, in whose last answers
      they stand between ``<think>`` and ``</think>``; those of earlier rounds are left out.
    - ``think``: whether the beginning of a thought, with which a prompt ends, is ``trained`` or
      ``given``.
    - ``unsaid="drop"``: what the published template passes over in silence is left out: later
      system messages, thoughts and an answer's pictures under ``instruct``, pictures of a system
      message. By default they are refused.

    The other options are those of :class:`mmdata.templates.toolkit.ChatML`. The limits of a clip
    are of all its frames together. ``compat="transformers-5.23"`` keeps the marks of vision
    around a whole clip.
    """

    patches: ClassVar[Patches] = Patches(16, 2, 2, _HALF, _HALF)
    vocabulary: ClassVar[str] = "qwen3"
    boxes: ClassVar[BoxUnit] = "thousandths"

    dialect: Literal["instruct", "thinking"] = "instruct"
    think: Literal["trained", "given"] = "trained"
    min_pixels: PositiveInt = 65536
    max_pixels: PositiveInt = 16777216
    video_min_pixels: PositiveInt = 4096
    video_max_pixels: PositiveInt = 25165824

    def _unsaid(self, conversation: Conversation) -> Iterator[str]:
        thinks = self.dialect == "thinking"
        for number, message in enumerate(conversation.messages):
            if message.role == "system" and number and not thinks:
                yield f"a later system message (number {number})"
            for part in message.content:
                if isinstance(part, Reasoning) and not (thinks and message.role == "assistant"):
                    yield f"reasoning (in message {number})"
                if isinstance(part, ToolCall) and message.role != "assistant":
                    yield f"a call of the tool {part.name!r} (in message {number})"
                if isinstance(part, (Image, Video)) and not self._shows(message):
                    yield f"a picture in the words of the {message.role} (message {number})"

    def _shows(self, message: Message) -> bool:
        """Whether the media of a message are rendered."""
        return self.dialect == "thinking" or message.role in ("user", "tool")

    def _turns(
        self, conversation: Conversation, messages: Sequence[Message], count: int
    ) -> list[Turn]:
        counted: Counter[type] = Counter()
        turns = self._head(conversation, messages, counted)
        query = _last_query(messages)
        answered: list[list[Bit]] = []
        for number, message in enumerate(messages):
            if answered and message.role != "tool":
                turns.append(tool_responses(answered))
                answered = []
            if message.role == "tool":
                answered.append(self._bits(conversation, message, message.content, counted))
            elif message.role == "assistant":
                is_last = number == count - 1
                turns.append(self._answer(conversation, message, number > query, is_last, counted))
            elif message.role == "user" or (number and self.dialect == "thinking"):
                bits = self._bits(conversation, message, message.content, counted)
                turns.append(Turn(message.role, bits))
        return [*turns, tool_responses(answered)] if answered else turns

    def _head(
        self, conversation: Conversation, messages: Sequence[Message], counted: Counter[type]
    ) -> list[Turn]:
        """Return the turn of the system, which declares the tools, if there is either."""
        bits: list[Bit] | None = None if self.system is None else [Bit(self.system)]
        if messages[0].role == "system":
            bits = self._bits(conversation, messages[0], messages[0].content, counted)
        tools = tools_of(conversation)
        if tools is None:
            return [] if bits is None else [Turn("system", bits)]

        # A system message parts the tools from what is before them, even if it says nothing.
        breaks = bits is not None or self.compat in ("llamafactory", "ms-swift")
        head = [Bit("\n\n")] if breaks else []
        return [Turn("system", [*(bits or ()), *head, *map(Bit, tool_head(tools))])]

    def _bits(
        self,
        conversation: Conversation,
        message: Message,
        content: Iterable[Part],
        counted: Counter[type],
    ) -> list[Bit]:
        if not self._shows(message):
            content = [part for part in content if not isinstance(part, (Image, Video))]
        return super()._bits(conversation, message, content, counted)

    def _answer(
        self,
        conversation: Conversation,
        message: Message,
        is_recent: bool,
        is_last: bool,
        counted: Counter[type],
    ) -> Turn:
        """Return an answer; a recent one comes after the last question."""
        thinks = self.dialect == "thinking"
        thought, content = _split_thought(message, spelled=thinks and self.marks == "all")
        opening: Sequence[Bit] = ()
        bits: list[Bit] = []
        if thinks and is_recent and (is_last or thought):
            words = thought.strip("\n")
            opened = Mark("<think>"), "\n"
            trained = self._trains_thought(message)
            begins = trained and (self.think == "trained" or not words)
            opening = [Bit(piece, begins) for piece in opened]
            bits = [Bit(words + "\n", trained), Bit(Mark(_END), trained), Bit("\n\n", trained)]
            content = _without_breaks(content)
        said = self._bits(conversation, message, content, counted)
        bits = [*bits, *said, *call_bits(message, said)]
        return Turn("assistant", bits, opening, answer=True, ends=message.train)

    def _trains_thought(self, message: Message) -> bool:
        flags = [part.train for part in message.content if isinstance(part, Reasoning)]
        return message.train if not flags or flags[0] is None else flags[0]

    def _opening(self) -> Sequence[Bit]:
        return [Bit(Mark("<think>")), Bit("\n")] if self.dialect == "thinking" else []

    def _parse(self, answer: str) -> Iterator[Part]:
        if self.dialect == "thinking" and _END in answer:
            thought, answer = _split_text(answer)
            if thought:
                yield Reasoning(thought)
        yield from super()._parse(answer)

    # --- clips

    def _clip_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        factor, depth = self.patches.factor, self.patches.depth
        if self.resized_by == "utilities":
            size = resize_frame(frames, size, factor=factor)
        limits = {"fewest": self.video_min_pixels, "most": self.video_max_pixels}
        return resize_clip(frames, size, factor=factor, depth=depth, **limits)

    def _clip(self, plan: PixelPlan) -> tuple[str, Medium]:
        assert plan.grid is not None, "media here are cut into patches"
        special = self.tokenizer.special
        start, end = special["<|vision_start|>"], special["<|vision_end|>"]
        _, rows, columns = plan.grid.merged
        pads = [special["<|video_pad|>"]] * (rows * columns)
        first, *others = [f"<{time:.1f} seconds>" for time in layer_times(plan)]
        around = self.compat == "transformers-5.23"

        # The seconds of the first layer are tokenized with the words before the clip, unless a mark
        # stands between them.
        ids: list[int] = [start, *self.tokenizer.encode(first)] if around else []
        slots = [(len(ids) + 1, len(pads))]
        ids += [start, *pads, end]
        for words in others:
            ids += self.tokenizer.encode(words)
            slots.append((len(ids) + 1, len(pads)))
            ids += [start, *pads, end]
        if around:
            ids.append(end)
        return "" if around else first, Medium(plan, ids, tuple(slots))

    def _block(self, plan: PixelPlan, slot: MediaSlot) -> Block:
        import numpy as np

        assert plan.grid is not None, "media here are cut into patches"
        _, rows, columns = plan.grid.merged
        return grid_block(slot.start, np.zeros(1, np.int32), rows, columns)


def layer_times(plan: PixelPlan) -> list[float]:
    """Return when each layer of a clip is in seconds since its first frame: the mean of its first
    and its last frame, the last frame of a clip being repeated until its layer is full.
    """
    assert plan.grid is not None, "media here are cut into patches"
    depth = plan.grid.patches.depth
    missing = plan.grid.layers * depth - len(plan.times)
    times = [*plan.times, *[plan.times[-1]] * missing]
    return [(times[first] + times[first + depth - 1]) / 2 for first in range(0, len(times), depth)]


def _last_query(messages: Sequence[Message]) -> int:
    """Return the number of the last message of the user that asks, and is no tool's response."""
    for number in range(len(messages) - 1, -1, -1):
        if messages[number].role != "user":
            continue
        text = messages[number].text
        if not (text.startswith("<tool_response>") and text.endswith("</tool_response>")):
            return number
    return len(messages) - 1


def _split_thought(message: Message, *, spelled: bool) -> tuple[str, list[Part]]:
    """Return what is thought before an answer, and what is said; ``spelled`` reads thoughts in the
    text as well, as the published template of the thinking dialect does.
    """
    thoughts = [part.text for part in message.content if isinstance(part, Reasoning)]
    said: list[Part] = [
        part for part in message.content if not isinstance(part, (Reasoning, ToolCall))
    ]
    if thoughts or not spelled:
        return "\n".join(thoughts), said

    texts = [part.text for part in said if isinstance(part, Text)]
    if not any(_END in text for text in texts):
        return "", said
    thought, text = _split_text("".join(texts))
    others = [part for part in said if not isinstance(part, Text)]
    return thought, [Text(text), *others]


def _split_text(text: str) -> tuple[str, str]:
    before = text.split(_END)[0].split("<think>")[-1]
    return before.strip("\n"), text.split(_END)[-1].lstrip("\n")


def _without_breaks(content: Sequence[Part]) -> list[Part]:
    """Return parts without the line breaks at their beginning."""
    if not content or not isinstance(content[0], Text):
        return list(content)
    first = content[0]
    return [Text(first.text.lstrip("\n"), first.train), *content[1:]]
