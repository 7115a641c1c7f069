"""A small template and small samples for the tests of the pipeline:
words of a store of pictures.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL.Image import fromarray

from mmdata.errors import DroppedSampleError, TokenError
from mmdata.schema import Conversation, Image, Media, Part, Text, Video, assistant, user
from mmdata.templates import IGNORE, Encoded, FeatureIndex, MediaSlot, PixelPlan, index_all_rows
from mmdata.templates.toolkit import OverLong

SIDE = 8
PER_VIEW = 4


@dataclass(frozen=True)
class WordTokenizer:
    """A word is its checksum; ``first`` moves them all."""

    special: Mapping[str, int] = field(
        default_factory=lambda: {"<pad>": 0, "<end>": 1, "<picture>": 2}
    )
    vocab_size: int = 1000
    first: int = 0

    def encode(self, text: str) -> list[int]:
        return [3 + (self.first + zlib.crc32(word.encode())) % 997 for word in text.split()]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        return " ".join(map(str, ids))


@dataclass(frozen=True, kw_only=True)
class WordTemplate:
    """Words one after the other, four positions a picture or frame;
    answers and their end are trained.
    """

    tokenizer: WordTokenizer = field(default_factory=WordTokenizer)
    max_length: int | None = None
    over_long: OverLong = "error"
    axes: int = 1
    frames: int = 2

    packs: ClassVar[bool] = True
    resizer: ClassVar[str] = "squeeze"
    tiling: ClassVar[str] = ""
    patches: ClassVar[None] = None
    view_size: ClassVar[int] = SIDE
    view_positions: ClassVar[int] = PER_VIEW

    @classmethod
    def load_tokenizer(
        cls, path: str | Path, *, verify: bool = True, **options: Any
    ) -> WordTokenizer:
        return WordTokenizer()

    @property
    def position_axes(self) -> tuple[int, ...]:
        return () if self.axes == 1 else (self.axes,)

    def index_features(
        self, plan: PixelPlan, *, positions: int, views: int, size: tuple[int, int] | None
    ) -> FeatureIndex:
        return index_all_rows(positions, views)

    @property
    def pad_id(self) -> int:
        return 0

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return (1,)

    def encode(self, conversation: Conversation) -> Encoded:
        ids: list[int] = []
        labels: list[int] = []
        slots: list[MediaSlot] = []
        plans: list[PixelPlan] = []
        for message in conversation.messages:
            for part in message.content:
                if isinstance(part, (Image, Video)):
                    frames = tuple(range(self.frames)) if isinstance(part, Video) else ()
                    length = PER_VIEW * max(len(frames), 1)
                    slots.append(MediaSlot(part.media, len(ids), length, len(plans)))
                    plans.append(PixelPlan(part.media, self.resizer, SIDE, frames))
                    new, trained = [2] * length, False
                else:
                    assert isinstance(part, Text)
                    if part.text == "unspeakable":
                        raise TokenError("this word has no token")
                    new, trained = self.tokenizer.encode(part.text), message.train
                ids += new
                labels += new if trained else [IGNORE] * len(new)
        ids.append(1)
        labels.append(1)
        if self.max_length is not None and len(ids) > self.max_length:
            error = DroppedSampleError if self.over_long == "drop" else TokenError
            raise error(
                f"conversation {conversation.id!r} has {len(ids)} tokens, "
                f"the limit is {self.max_length}"
            )
        answer = next(n for n, label in enumerate(labels) if label != IGNORE)
        positions = np.arange(len(ids), dtype=np.int32)
        if self.axes == 2:  # as ChatGLM counts them
            positions = np.stack([positions.clip(max=answer - 1), (positions - answer + 1).clip(0)])
        return Encoded(
            np.array(ids, np.int32),
            np.array(labels, np.int32),
            positions,
            tuple(slots),
            tuple(plans),
        )

    def prompt(self, conversation: Conversation) -> Encoded:
        raise NotImplementedError

    def length(self, conversation: Conversation) -> int:
        return len(self.encode(conversation))

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        raise NotImplementedError


class Conversations(list[Conversation]):
    """Conversations in memory, as a stream reads them."""

    def located(self, index: int) -> Conversation:
        return self[index]

    @property
    def fingerprint(self) -> str:
        return str(zlib.crc32(repr(list(self)).encode()))


def picture(color: int) -> bytes:
    """The bytes of a PNG of one colour, which says its number: (number // 256, number % 256, 7)."""
    file = io.BytesIO()
    fromarray(np.full((SIDE, SIDE, 3), (color // 256, color % 256, 7), np.uint8)).save(file, "PNG")
    return file.getvalue()


def text(number: int, words: int = 3) -> Conversation:
    """A sample without media."""
    return Conversation(f"t{number}", (user("tell"), assistant(f"w{number} " * words)))


def shown(number: int, words: int = 3, pictures: int = 1) -> Conversation:
    """A sample with pictures, each of the sample's colour."""
    media = tuple(
        Media("image", bytes=picture(number), width=SIDE, height=SIDE) for _ in range(pictures)
    )
    content = tuple(Image(n) for n in range(pictures))
    return Conversation(
        f"p{number}", (user(*content, "see"), assistant(f"w{number} " * words)), media, "pictures"
    )


def filmed(number: int, words: int = 3) -> Conversation:
    """A sample with a clip of two cached frames."""
    clip = Media("video", frames=(picture(number), picture(number + 1)), frame_times=(0.0, 1.0))
    return Conversation(
        f"v{number}", (user(Video(0), "watch"), assistant(f"w{number} " * words)), (clip,), "clips"
    )


def broken(number: int) -> Conversation:
    """A sample whose picture cannot be decoded."""
    media = (Media("image", bytes=picture(number)[:40], width=SIDE, height=SIDE),)
    return Conversation(
        f"b{number}", (user(Image(0), "see"), assistant("nothing")), media, "pictures"
    )


def unspeakable(number: int) -> Conversation:
    """A sample that the template cannot encode."""
    return Conversation(f"u{number}", (user("say"), assistant("unspeakable")))


def mixed(count: int) -> Conversations:
    """Samples of all kinds and many lengths."""
    makers = (text, shown, filmed, shown, text)
    return Conversations(makers[n % 5](n, 1 + n * 7 % 13) for n in range(count))
