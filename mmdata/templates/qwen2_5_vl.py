"""Qwen2.5-VL: ChatML with a system message of its own, a clip in one block of pads, time in the
positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from mmdata.image.patches import Patches, resize_frame, smart_resize
from mmdata.image.transforms import CLIP_MEAN, CLIP_STD
from mmdata.schema import Conversation, Message, Reasoning, ToolCall
from mmdata.templates import registry
from mmdata.templates.toolkit import (
    Bit,
    Block,
    BoxUnit,
    ChatML,
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

__all__ = ["Qwen25VL", "seconds_per_layer"]

_SYSTEM: Final = {
    "vl": "You are a helpful assistant.",
    "text": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
}
_PER_SECOND: Final = 2
"""Positions a second, ``tokens_per_second`` of the published configurations."""


@registry.register("qwen2_5_vl")
@dataclass(frozen=True, kw_only=True)
class Qwen25VL(ChatML):
    """How Qwen2.5-VL reads a conversation (its published chat template and processor).

    - ``dialect``: ``vl`` is the model's own template, which knows no tools; ``text`` that of
      Qwen2.5, which declares them, writes calls and reads responses, and has another system
      message.
    - ``unsaid="drop"``: tools, calls and thoughts are left out as the published ``vl`` template
      does, and a tool's message is one of the role ``tool``; by default they are refused.

    The other options are those of :class:`mmdata.templates.toolkit.ChatML`. ``compat`` here:
    ``transformers-4.57`` cuts the seconds of a layer to whole ones, ``transformers-5.23`` lets text
    after a clip begin without regard to time.
    """

    patches: ClassVar[Patches] = Patches(14, 2, 2, CLIP_MEAN, CLIP_STD)
    vocabulary: ClassVar[str] = "qwen2"
    boxes: ClassVar[BoxUnit] = "pixels"

    dialect: Literal["vl", "text"] = "vl"
    min_pixels: PositiveInt = 3136
    max_pixels: PositiveInt = 12845056
    video_min_pixels: PositiveInt = 3136
    video_max_pixels: PositiveInt = 12845056

    @property
    def _system(self) -> str:
        return _SYSTEM[self.dialect] if self.system is None else self.system

    def _unsaid(self, conversation: Conversation) -> Iterator[str]:
        knows_tools = self.dialect == "text"
        if conversation.tools is not None and not knows_tools:
            yield "tools that were declared"
        for number, message in enumerate(conversation.messages):
            if message.role == "tool" and not knows_tools:
                yield f"a message of a tool (number {number})"
            for part in message.content:
                if isinstance(part, Reasoning):
                    yield f"reasoning (in message {number})"
                if isinstance(part, ToolCall) and not knows_tools:
                    yield f"a call of the tool {part.name!r} (in message {number})"

    def _turns(
        self, conversation: Conversation, messages: Sequence[Message], count: int
    ) -> list[Turn]:
        counted: Counter[type] = Counter()
        turns: list[Turn] = []
        rest = list(messages)
        text_tools = tools_of(conversation) if self.dialect == "text" else None

        bits = [Bit(self._system)]
        if rest and rest[0].role == "system":
            bits = self._said(conversation, rest[0], counted)
            rest = rest[1:]
        if text_tools is not None:
            break_before = [Bit("\n\n")]
            bits = [*bits, *break_before, *map(Bit, tool_head(text_tools))]
        turns.append(Turn("system", bits))

        answered: list[list[Bit]] = []
        for message in rest:
            if answered and message.role != "tool":
                turns.append(tool_responses(answered))
                answered = []
            bits = self._said(conversation, message, counted)
            if message.role == "tool" and self.dialect == "text":
                answered.append(bits)
                continue
            answer = message.role == "assistant"
            turns.append(Turn(message.role, bits, answer=answer, ends=answer and message.train))
        return [*turns, tool_responses(answered)] if answered else turns

    def _said(
        self, conversation: Conversation, message: Message, counted: Counter[type]
    ) -> list[Bit]:
        bits = self._bits(conversation, message, message.content, counted)
        return [*bits, *call_bits(message, bits)] if self.dialect == "text" else bits

    def _clip_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        factor = self.patches.factor
        if self.resized_by == "utilities":
            size = resize_frame(frames, size, factor=factor)
        return smart_resize(
            size, factor=factor, fewest=self.video_min_pixels, most=self.video_max_pixels
        )

    def _clip(self, plan: PixelPlan) -> tuple[str, Medium]:
        return "", self._vision(plan, "<|video_pad|>")

    def _block(self, plan: PixelPlan, slot: MediaSlot) -> Block:
        import numpy as np

        assert plan.grid is not None, "media here are cut into patches"
        layers, rows, columns = plan.grid.merged
        seconds = np.float32(seconds_per_layer(plan))
        if self.compat == "transformers-4.57":
            seconds = np.trunc(seconds)
        # In float32, product by product and cut at the end, as the original computes them.
        steps = (np.arange(layers, dtype=np.float32) * seconds * _PER_SECOND).astype(np.int32)
        extent = max(rows, columns) if self.compat == "transformers-5.23" else None
        return grid_block(slot.start, steps, rows, columns, extent)


def seconds_per_layer(plan: PixelPlan) -> float:
    """Return the seconds from one layer of a clip to the next, taken to be even: two frames of the
    mean rate at which frames were taken (``second_per_grid_ts``).
    """
    assert plan.grid is not None, "media here are cut into patches"
    depth = plan.grid.patches.depth
    return depth / (len(plan.frames) / plan.duration) if plan.duration else 0.0
