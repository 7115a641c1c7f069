"""ChatML with tools and media of any size: what the families have in common that are published as
``<|im_start|>ROLE`` with vision blocks, pads of a grid in them, and positions of three axes.

A family says in which turns it renders a conversation and how it lays out a clip; here turns become
tokens, labels and positions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from msgspec.structs import replace as replace_fields

from mmdata import tokenizers
from mmdata._tools.options import PositiveInt
from mmdata.errors import TokenError, UsageError
from mmdata.image.decode import Alpha
from mmdata.image.patches import Patches, resize_picture, smart_resize
from mmdata.schema import (
    Audio,
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Region,
    Text,
    Time,
    Video,
)
from mmdata.templates._base import BaseTemplate
from mmdata.templates._box_objects import BoxUnit, box_text, read_regions, scale_region
from mmdata.templates._content import Piece, cut_at_stop
from mmdata.templates._encoded import Encoded, MediaSlot, PixelPlan
from mmdata.templates._fit import truncate
from mmdata.templates._media import FrameClock, ImageSize, MediaFiles, plan_clip
from mmdata.templates._places import Block, grid_block, place_blocks
from mmdata.templates._sequence import Item, Medium, Run, build_encoded, num_tokens
from mmdata.templates._texts import encode_texts
from mmdata.templates._times import TIME_FORMATS, TimeFormatName, split_times
from mmdata.templates._tool_calls import read_calls
from mmdata.templates._turns import Bit, Turn, message_bits
from mmdata.tokenizers import MarkedTokenizer, Tokenizer
from mmdata.video.sampling import Strategy

if TYPE_CHECKING:
    from mmdata.templates._encoded import Ids

__all__ = ["ChatML", "Compat"]

Compat: TypeAlias = Literal["transformers-4.57", "transformers-5.23", "llamafactory", "ms-swift"]

_TURN_MARKS: Final = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_TRAINERS: Final = frozenset({"llamafactory", "ms-swift"})
"""The trainers that tokenize a prompt and its answer one by one."""


@dataclass(frozen=True, kw_only=True)
class ChatML(BaseTemplate):
    """The options and the workings of such a family; it says ``_turns``, ``_unsaid``, ``_clip``,
    ``_clip_size`` and ``_block``, and ``_opening`` where a prompt has more than the role.

    - ``system``: what the system says where a conversation has no system message.
    - ``frames``: the strategy by which frames of clips are taken, on their true times.
    - ``min_pixels``, ``max_pixels``, ``video_min_pixels``, ``video_max_pixels``: the limits of a
      picture, and of a frame or a whole clip, whichever the family counts by.
    - ``resized_by="utilities"``: media are first brought to the sizes of Qwen's published
      utilities, as they are before a processor sees them.
    - ``resampled_by``: by whose bicubic pixels are computed: Pillow's, as the processors of Pillow
      do and the models' own pipeline does, or torch's, as those of torchvision do, which are the
      default class; a level of 255 lies between them here and there.
    - ``alpha``: a picture with transparency stands on ``white``, or it is dropped.
    - ``number_media``: ``Picture 1: `` and ``Video 1: `` stand before media.
    - ``times``: how moments and spans are written, ``12.5 seconds`` or ``00:12.5``.
    - ``marks="all"``: control tokens written in a text are control tokens, as the original reads
      every text; safe only for text that no user wrote.
    - ``segments="apart"``: what a prompt ends with and the answer are tokenized one by one, so that
      a prompt always begins its sample; ``joined`` as the original, where an answer that begins
      with a line break shares a token with the role.
    - ``unsaid``: what the published template passes over in silence is refused, or dropped as
      there; :attr:`mmdata.templates.Encoded.unsaid` names it, and a stream counts it.
    - ``compat``: what other programs do otherwise. ``llamafactory`` tokenizes answers apart, trains
      the line break after an answer's end too, and parts declared tools even from no system
      message; ``ms-swift`` does the first and the last, and trains the end of the last turn alone.
    - ``frame_clock``, ``image_size_of``: what says when the frames of a clip are, and how large
      media are, where the store does not.
    """

    position_axes: ClassVar[tuple[int, ...]] = (3,)
    resizer: ClassVar[str] = "squeeze"
    patches: ClassVar[Patches]
    vocabulary: ClassVar[str]
    boxes: ClassVar[BoxUnit]

    system: str | None = None
    frames: str = "qwen:2"
    min_pixels: PositiveInt
    max_pixels: PositiveInt
    video_min_pixels: PositiveInt
    video_max_pixels: PositiveInt
    resized_by: Literal["processor", "utilities"] = "processor"
    resampled_by: Literal["pillow", "torch"] = "pillow"
    alpha: Alpha = "white"
    number_media: bool = False
    times: TimeFormatName = "seconds"
    marks: Literal["none", "all"] = "none"
    segments: Literal["joined", "apart"] = "joined"
    unsaid: Literal["refuse", "drop"] = "refuse"
    compat: Compat | None = None
    frame_clock: FrameClock | None = None
    image_size_of: ImageSize = MediaFiles().size

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        name = type(self).__name__
        if missing := [mark for mark in _TURN_MARKS if mark not in self.tokenizer.special]:
            raise UsageError(
                f"{name}: the tokenizer, {type(self.tokenizer).__name__}, has no "
                f"{', '.join(missing)}; {name}.load_tokenizer(FILE) gives the family's"
            )
        Strategy.parse(self.frames)
        if self.marks == "all" and not isinstance(self.tokenizer, MarkedTokenizer):
            raise UsageError(
                f"{type(self).__name__}: marks='all' needs a tokenizer that reads control tokens "
                f"from text, found {type(self.tokenizer).__name__}"
            )
        for kind, fewest, most in (
            ("", self.min_pixels, self.max_pixels),
            ("video_", self.video_min_pixels, self.video_max_pixels),
        ):
            if fewest > most:
                raise UsageError(
                    f"{type(self).__name__}: {kind}min_pixels ({fewest}) is above "
                    f"{kind}max_pixels ({most})"
                )

    @classmethod
    def load_tokenizer(cls, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
        """Return the tokenizer of the family from a file or a folder, in tiktoken's or in Hugging
        Face's form; see :class:`mmdata.templates.Template`.
        """
        return tokenizers.load(cls.vocabulary, path, verify=verify, **options)

    @property
    def pad_id(self) -> int:
        """``<|endoftext|>``."""
        return self.tokenizer.special["<|endoftext|>"]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``<|im_end|>`` and ``<|endoftext|>``."""
        return self.tokenizer.special["<|im_end|>"], self.pad_id

    @property
    def view_size(self) -> int:
        """The side of a patch."""
        return self.patches.side

    @property
    def view_positions(self) -> int:
        """1: a view is the patches of one feature."""
        return 1

    def encode(self, conversation: Conversation) -> Encoded:
        """Return the conversation as a training sample; see :class:`mmdata.templates.Template`."""
        whole = self._sample(conversation)
        items, cut = truncate(whole, self.max_length, self.over_long, conversation.id)
        return self._arrange(conversation, items, cut)

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer that is wanted; see :class:`mmdata.templates.Template`."""
        self._refuse(conversation)
        messages = conversation.messages
        if messages[-1].role == "assistant":
            messages = messages[:-1]
        if not any(message.role in ("user", "tool") for message in messages):
            raise TokenError(
                f"conversation {conversation.id!r} asks nothing; a prompt needs a message of the "
                "user"
            )

        items: list[Item] = []
        for turn in self._turns(conversation, messages, len(messages) + 1):
            for item in self._items(conversation, turn):
                items.append(Run(item.ids) if isinstance(item, Run) else item)
        opening = Turn("assistant", (), opening=self._opening(), answer=True)
        items += [self._start, *self._encode_bits(conversation, opening.head)]
        return self._arrange(conversation, items, 0)

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""
        return num_tokens(self._sample(conversation))

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return the parts of an answer: thoughts, calls, boxes, times and text.

        Boxes are in pixels of the picture as the model saw it where the family counts so, which
        :meth:`read_answer` makes fractions.
        """
        if not isinstance(answer, str):
            answer = self.tokenizer.decode(cut_at_stop(answer, self.stop_ids))
        return tuple(self._parse(answer))

    def read_answer(
        self, answer: str | Sequence[int], conversation: Conversation, media: int = 0
    ) -> tuple[Part, ...]:
        """Return the parts of an answer to a conversation, its boxes as fractions of a medium."""
        parts = self.parse_answer(answer)
        if self.boxes == "thousandths" or not conversation.media:
            return parts
        size = self._shown_size(conversation, media)
        return tuple(
            scale_region(part, size, media) if isinstance(part, Region) else part for part in parts
        )

    # --- what a family says

    @abstractmethod
    def _turns(
        self, conversation: Conversation, messages: Sequence[Message], count: int
    ) -> list[Turn]:
        """Return the turns of the first ``messages`` of ``count``."""

    @property
    def _system(self) -> str | None:
        """What the system says where a conversation has no system message."""
        return self.system

    @abstractmethod
    def _unsaid(self, conversation: Conversation) -> Iterator[str]:
        """Yield what the published template passes over in silence, in words."""

    def _opening(self) -> Sequence[Bit]:
        """Return what a prompt ends with after the role line."""
        return ()

    @abstractmethod
    def _clip(self, plan: PixelPlan) -> tuple[str, Medium]:
        """Return the words before a clip, and the clip with what is between its layers."""

    @abstractmethod
    def _clip_size(self, frames: int, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size of so many frames as the model sees them."""

    @abstractmethod
    def _block(self, plan: PixelPlan, slot: MediaSlot) -> Block:
        """Return the positions of a slot of a clip."""

    # --- from turns to tokens

    def _sample(self, conversation: Conversation) -> list[Item]:
        self._refuse(conversation)
        messages = conversation.messages
        while messages and messages[-1].role != "assistant":
            messages = messages[:-1]
        if not messages:
            raise TokenError(
                f"conversation {conversation.id!r} has no answer to train on; "
                "a prompt can be made of it"
            )
        turns = self._turns(conversation, messages, len(messages))
        if self.compat == "ms-swift":
            # Its end of a turn is trained in the last one alone.
            turns = [*(replace_fields(turn, ends=False) for turn in turns[:-1]), turns[-1]]

        items: list[Item] = []
        for turn in turns:
            items += self._items(conversation, turn)
        return items

    def _refuse(self, conversation: Conversation) -> None:
        """Refuse what the family has no way to say."""
        fault = _find_audio(conversation)
        mend = ""
        if not fault and self.unsaid == "refuse":
            fault = next(self._unsaid(conversation), "")
            mend = "; unsaid='drop' leaves it out"
        if fault:
            raise TokenError(
                f"conversation {conversation.id!r} has {fault}, "
                f"which this model family has no way to say{mend}"
            )

    def _items(self, conversation: Conversation, turn: Turn) -> list[Item]:
        bits = turn.head + self._content(turn)
        return [self._start, *self._encode_bits(conversation, bits), *self._ends[turn.ends]]

    def _content(self, turn: Turn) -> list[Bit]:
        """Return what follows where a prompt ends."""
        content = list(turn.content)
        apart = self.segments == "apart" or self.compat in _TRAINERS
        if turn.answer and content and apart:
            content[0] = replace_fields(content[0], apart=True)
        return content

    @cached_property
    def _start(self) -> Run:
        return Run((self.tokenizer.special["<|im_start|>"],))

    @cached_property
    def _ends(self) -> Mapping[bool, Sequence[Run]]:
        """What ends a turn, by whether its end is trained."""
        end, newline = self.tokenizer.special["<|im_end|>"], self.tokenizer.encode("\n")
        after = Run(newline, self.compat == "llamafactory", mark=True)
        return {False: [Run((end, *newline))], True: [Run((end,), True), after]}

    def _encode_bits(self, conversation: Conversation, bits: Iterable[Bit]) -> list[Item]:
        special = self.tokenizer.special
        items: list[Item] = []
        texts: list[Bit] = []
        for bit in bits:
            piece = bit.piece
            if isinstance(piece, str):
                texts.append(bit)
            elif isinstance(piece, (Image, Video)):
                lead, medium = self._medium(conversation, piece)
                runs, ids = encode_texts(texts, self._encode, lead=lead)
                items += [*runs, _lead_by(ids, medium)]
                texts = []
            elif piece.name in special:
                runs, _ = encode_texts(texts, self._encode)
                items += [*runs, Run((special[piece.name],), bit.trained)]
                texts = []
            else:  # words to an older vocabulary
                texts.append(replace_fields(bit, piece=piece.name))
        return items + encode_texts(texts, self._encode)[0]

    def _encode(self, text: str) -> Sequence[int]:
        return self._common.get(text) or self._tokenize(text)

    @cached_property
    def _tokenize(self) -> Callable[[str], list[int]]:
        if self.marks == "all" and isinstance(self.tokenizer, MarkedTokenizer):
            return self.tokenizer.encode_marked
        return self.tokenizer.encode

    @cached_property
    def _common(self) -> Mapping[str, Sequence[int]]:
        """The ids of what most samples say alike, which are tokenized once."""
        texts = ["assistant\n"]
        if self._system is not None:
            texts.append(f"system\n{self._system}")
        return {text: tuple(self._tokenize(text)) for text in texts}

    # --- media

    def _medium(self, conversation: Conversation, part: Image | Video) -> tuple[str, Medium]:
        if isinstance(part, Video):
            return self._clip(self._plan_clip(conversation, part.media))
        size = self._size(conversation, part.media)
        grid = self.patches.grid(1, self._image_size(size))
        plan = PixelPlan(part.media, self._resizer, self.patches.side, grid=grid, alpha=self.alpha)
        return "", self._vision(plan, "<|image_pad|>")

    def _vision(self, plan: PixelPlan, pad: str) -> Medium:
        """Return a medium as one block of pads between the marks of vision."""
        assert plan.grid is not None, "media here are cut into patches"
        special, count = self.tokenizer.special, plan.grid.num_features
        pads = [special[pad]] * count
        ids = [special["<|vision_start|>"], *pads, special["<|vision_end|>"]]
        return Medium(plan, ids, ((1, count),))

    def _plan_clip(self, conversation: Conversation, media: int) -> PixelPlan:
        plan = plan_clip(
            conversation,
            media,
            self.frames,
            self.frame_clock,
            resize=self._resizer,
            size=self.patches.side,
        ).pixels
        size = self._clip_size(len(plan.frames), self._size(conversation, media))
        return replace(plan, grid=self.patches.grid(len(plan.frames), size))

    @property
    def _resizer(self) -> str:
        return "squeeze_torch" if self.resampled_by == "torch" else self.resizer

    def _image_size(self, size: tuple[int, int]) -> tuple[int, int]:
        limits: dict[str, int] = {"fewest": self.min_pixels, "most": self.max_pixels}
        factor = self.patches.factor
        if self.resized_by == "utilities":
            size = resize_picture(size, factor=factor)
        return smart_resize(size, factor=factor, **limits)

    def _size(self, conversation: Conversation, media: int) -> tuple[int, int]:
        medium: Media = conversation.media[media]
        if medium.height and medium.width:
            return medium.height, medium.width
        return self.image_size_of(medium)

    def _shown_size(self, conversation: Conversation, media: int) -> tuple[int, int]:
        """Return the size of a medium as the model sees it."""
        if conversation.media[media].type == "video":
            grid = self._plan_clip(conversation, media).grid
            assert grid is not None, "media here are cut into patches"
            return grid.size
        return self._image_size(self._size(conversation, media))

    def _bits(
        self,
        conversation: Conversation,
        message: Message,
        content: Iterable[Part],
        counted: Counter[type],
    ) -> list[Bit]:
        """Return the content of a message, or a part of it; ``counted`` is how many media of a kind
        there were before.
        """
        pieces = ((part, self._pieces(conversation, part, counted)) for part in content)
        return message_bits(message, pieces)

    def _pieces(
        self, conversation: Conversation, part: Part, counted: Counter[type]
    ) -> Sequence[Piece]:
        if isinstance(part, Text):
            return (part.text,)
        if isinstance(part, Time):
            return (TIME_FORMATS[self.times].write(part),)
        if isinstance(part, Region):
            return (self._region(conversation, part),)
        if not isinstance(part, (Image, Video)):
            return ()

        counted[type(part)] += 1
        kind = "Picture" if isinstance(part, Image) else "Video"
        return (f"{kind} {counted[type(part)]}: ", part) if self.number_media else (part,)

    def _region(self, conversation: Conversation, region: Region) -> str:
        if region.unit != "fraction":
            raise TokenError(
                f"the boxes of {region.text!r} are in pixels; a template reads fractions of the "
                "picture, which a conversion makes of them"
            )
        if self.boxes == "thousandths":
            return box_text(region, (1000, 1000))
        if region.media >= len(conversation.media):
            raise TokenError(f"the boxes of {region.text!r} are of no picture")
        return box_text(region, self._shown_size(conversation, region.media))

    def _parse(self, answer: str) -> Iterator[Part]:
        for part in read_calls(answer):
            if not isinstance(part, Text):
                yield part
                continue
            for piece in read_regions(part.text, self.boxes):
                if isinstance(piece, Text):
                    yield from split_times(piece.text, TIME_FORMATS[self.times])
                else:
                    yield piece

    def _arrange(self, conversation: Conversation, items: Sequence[Item], cut: int) -> Encoded:
        found = build_encoded(items, partial(self._place, items), cut=cut)
        dropped = tuple(self._unsaid(conversation)) if self.unsaid == "drop" else ()
        return replace(found, unsaid=dropped) if dropped else found

    def _place(self, items: Sequence[Item], length: int, slots: Sequence[MediaSlot]) -> Ids:
        plans = [item.pixels for item in items if isinstance(item, Medium)]
        return place_blocks(length, (self._slot_block(plans[slot.plan], slot) for slot in slots))

    def _slot_block(self, plan: PixelPlan, slot: MediaSlot) -> Block:
        if plan.frames:
            return self._block(plan, slot)
        assert plan.grid is not None, "media here are cut into patches"
        import numpy as np

        _, rows, columns = plan.grid.merged
        return grid_block(slot.start, np.zeros(1, np.int32), rows, columns)


def _find_audio(conversation: Conversation) -> str:
    """Return where the first sound is, or nothing."""
    for number, message in enumerate(conversation.messages):
        for part in message.content:
            if isinstance(part, Audio):
                return f"audio (in message {number})"
    return ""


def _lead_by(ids: Sequence[int], medium: Medium) -> Medium:
    """Return a medium that begins with further ids."""
    if not ids:
        return medium
    slots = tuple((offset + len(ids), length) for offset, length in medium.slots)
    return Medium(medium.pixels, [*ids, *medium.ids], slots)
