"""A template that tells the times of what it shows, and what is told beside what is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmdata.pipeline import Stream
from mmdata.pipeline.encode import decode_views
from mmdata.schema import Conversation, Text, Video
from mmdata.store import Store
from mmdata.templates import IGNORE, Encoded, MediaSlot, PixelPlan
from mmdata.templates.toolkit import Clip, plan_clip
from tests.pipeline.words import PER_VIEW, SIDE, WordTemplate

# One of each kind: evenly by number, by time, by rate, by whole seconds, and of other programs.
STRATEGIES = (
    "uniform:4",
    "middle:3",
    "fps:2:9",
    "seconds:5",
    "every:7",
    "times:0.1,0.2",
    "hf_chat:6",
    "hf_base:4",
    "mf_train_average:5",
    "mindie:6",
    "llava_next:1:6",
    "llava_next_pyav:1:6",
    "hf_num_frames:5",
    "hf_doc:4",
    "qwen:2:4:8",
    "hf_ends:2:4:8",
)


@dataclass(frozen=True, kw_only=True)
class ToldTemplate(WordTemplate):
    """Words, with how long each clip lasts and when its frames are before its frames."""

    strategy: str = "uniform:4"

    def encode(self, conversation: Conversation) -> Encoded:
        ids: list[int] = []
        labels: list[int] = []
        slots: list[MediaSlot] = []
        plans: list[PixelPlan] = []
        for message in conversation.messages:
            for part in message.content:
                if isinstance(part, Video):
                    clip = plan(conversation, self.strategy, media=part.media)
                    new = self.tokenizer.encode(spell(clip))
                    length = PER_VIEW * len(clip.pixels.frames)
                    slots.append(MediaSlot(part.media, len(ids) + len(new), length, len(plans)))
                    plans.append(clip.pixels)
                    new, trained = [*new, *[2] * length], False
                else:
                    assert isinstance(part, Text)
                    new, trained = self.tokenizer.encode(part.text), message.train
                ids += new
                labels += new if trained else [IGNORE] * len(new)
        positions = np.arange(len(ids), dtype=np.int32)
        return Encoded(
            np.array(ids, np.int32),
            np.array(labels, np.int32),
            positions,
            tuple(slots),
            tuple(plans),
        )


def plan(conversation: Conversation, strategy: str, *, media: int = 0, side: int = SIDE) -> Clip:
    """What a template is told of the video of a conversation."""
    return plan_clip(conversation, media, strategy, None, resize="squeeze", size=side)


def spell(clip: Clip) -> str:
    """What a model is told of a clip, in words."""
    return " ".join(f"{time:.3f}" for time in (clip.duration, *clip.pixels.times))


def shown(conversation: Conversation, strategy: str) -> tuple[list[float], NDArray[np.uint8]]:
    """When a model is told that frames are, in seconds of the file, and what it is shown."""
    clip = plan(conversation, strategy)
    views = decode_views(conversation.media[clip.pixels.media], clip.pixels)
    return list(clip.pixels.told or ()), views


def batches(store: Store, strategy: str, **options: Any) -> Iterator[dict[str, Sequence[Any]]]:
    """What a stream makes of a store, a row at a time and in order."""
    template = ToldTemplate(strategy=strategy)
    stream = Stream(
        store,
        template,
        seq_length=256,
        batch_size=1,
        shuffle=False,
        workers=0,
        on_error="skip",
        **options,
    )
    for batch in stream:
        yield {name: np.asarray(values).tolist() for name, values in batch.items()}
