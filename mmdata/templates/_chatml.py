"""ChatML with tools and media of any size: what the families have in common that are published as
``<|im_start|>ROLE`` with vision blocks, pads of a grid in them, and positions of three axes.

A family says in which turns it renders a conversation and how it lays out a clip; here turns become
tokens, labels and positions.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

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
    ToolCall,
    Video,
)
from mmdata.templates._base import BaseTemplate
from mmdata.templates._box_objects import BoxUnit, box_text, read_regions, scale_region
from mmdata.templates._content import Mark, Piece, cut_at_stop
from mmdata.templates._encoded import Encoded, MediaSlot, PixelPlan
from mmdata.templates._fit import truncate
from mmdata.templates._media import FrameClock, ImageSize, MediaFiles, plan_clip
from mmdata.templates._places import Block, grid_block, place_blocks
from mmdata.templates._sequence import Item, Medium, Run, build_encoded, num_tokens
from mmdata.templates._times import TIME_FORMATS, TimeFormatName, split_times
from mmdata.templates._tool_calls import call_pieces, read_calls
from mmdata.tokenizers import MarkedTokenizer, Tokenizer
from mmdata.video.sampling import Strategy

if TYPE_CHECKING:
    from mmdata.templates._encoded import Ids

__all__ = [
    "Bit",
    "ChatML",
    "Compat",
    "Turn",
    "call_bits",
    "message_bits",
    "tool_head",
    "tool_responses",
]

Compat: TypeAlias = Literal["transformers-4.57", "transformers-5.23", "llamafactory", "ms-swift"]

_HEAD_BEFORE: Final = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_HEAD_AFTER: Final = (
    "\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
)
_ANSWERS: Final = "assistant\n"
_CALL_FORM: Final = '\n{"name": <function-name>, "arguments": <args-json-object>}\n'
_TRAINERS: Final = frozenset({"llamafactory", "ms-swift"})
"""The trainers that tokenize a prompt and its answer one by one."""


@dataclass(frozen=True, slots=True)
class Bit:
    """A piece of a turn, whether it is ``trained``, and whether it is tokenized ``apart`` from what
    is before it, which text else is not.
    """

    piece: Piece
    trained: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One ``<|im_start|>ROLE ... <|im_end|>``.

    ``opening`` is what a prompt for it ends with after the role line, ``ends`` whether its end is
    trained.
    """

    role: str
    content: Sequence[Bit]
    opening: Sequence[Bit] = ()
    newline: bool = True
    answer: bool = False
    ends: bool = False


def tool_head(tools: str) -> list[Piece]:
    """Return the words that declare tools, which are given as the JSON of a list."""
    declared = json.loads(tools)
    lines = [json.dumps(tool, ensure_ascii=False) for tool in declared]
    listed = "".join(f"\n{line}" for line in lines)
    call, end = Mark("<tool_call>"), Mark("</tool_call>")
    before = f"{_HEAD_BEFORE}{listed}{_HEAD_AFTER}"
    return [before, call, end, " XML tags:\n", call, _CALL_FORM, end]


def message_bits(message: Message, pieces: Iterable[tuple[Part, Iterable[Piece]]]) -> list[Bit]:
    """Return the bits of a message, each part trained as it says itself, or else as the message.

    A part that is trained otherwise than its message is tokenized apart from its neighbours.
    """
    bits: list[Bit] = []
    differed = False
    for part, rendered in pieces:
        trained = message.train if part.train is None else part.train
        differs = trained != message.train
        for number, piece in enumerate(rendered):
            bits.append(Bit(piece, trained, apart=number == 0 and (differs or differed)))
            differed = differs
    return bits


def call_bits(message: Message, said: Sequence[Bit]) -> list[Bit]:
    """Return the calls of a message, after what it ``said``."""
    bits: list[Bit] = []
    for part in message.content:
        if isinstance(part, ToolCall):
            trained = message.train if part.train is None else part.train
            after = bool(bits) or any(bit.piece for bit in said)
            pieces = call_pieces(part, after=after)
            bits += [Bit(piece, trained) for piece in pieces]
    return bits


def tool_responses(messages: Sequence[Sequence[Bit]]) -> Turn:
    """Return what tools gave back, one message after the other, as one turn of the user."""
    content: list[Bit] = []
    for bits in messages:
        opened = [Bit("\n"), Bit(Mark("<tool_response>")), Bit("\n")]
        content += [*opened, *bits, Bit("\n"), Bit(Mark("</tool_response>"))]
    return Turn("user", content, newline=False)


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

        turns = self._turns(conversation, messages, len(messages) + 1)
        items = [*chain.from_iterable(self._items(conversation, turn) for turn in turns)]
        opening = Turn("assistant", (), opening=self._opening(), answer=True)
        head = [self._special("<|im_start|>"), *self._encode_bits(conversation, _opened(opening))]
        untrained = [
            replace(item, trained=False) if isinstance(item, Run) else item for item in items
        ]
        return self._arrange(conversation, [*untrained, *head], 0)

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
            turns = [*(replace(turn, ends=False) for turn in turns[:-1]), turns[-1]]
        return [*chain.from_iterable(self._items(conversation, turn) for turn in turns)]

    def _refuse(self, conversation: Conversation) -> None:
        """Refuse what the family has no way to say."""
        fault = next(_sounds(conversation), "") or (
            next(self._unsaid(conversation), "") if self.unsaid == "refuse" else ""
        )
        if fault:
            raise TokenError(
                f"conversation {conversation.id!r} has {fault}, "
                "which this model family has no way to say"
                + ("" if fault.startswith("audio") else "; unsaid='drop' leaves it out")
            )

    def _items(self, conversation: Conversation, turn: Turn) -> Iterator[Item]:
        yield self._special("<|im_start|>")
        yield from self._encode_bits(conversation, [*_opened(turn), *self._closed(turn)])
        yield self._special("<|im_end|>", turn.ends, mark=not turn.ends)
        newline = self.compat == "llamafactory" and turn.ends
        yield Run(self._newline, newline, mark=True)

    def _closed(self, turn: Turn) -> Sequence[Bit]:
        """Return what follows where a prompt ends."""
        apart = self.segments == "apart" or self.compat in _TRAINERS
        if not turn.content or not turn.answer or not apart:
            return turn.content
        first, *others = turn.content
        return [replace(first, apart=True), *others]

    @cached_property
    def _newline(self) -> list[int]:
        return self.tokenizer.encode("\n")

    @cached_property
    def _answers(self) -> list[int]:
        """The ids of the line that begins every answer."""
        return self.tokenizer.encode(_ANSWERS)

    def _special(self, name: str, trained: bool = False, *, mark: bool = True) -> Run:
        return Run((self.tokenizer.special[name],), trained, mark=mark)

    def _encode_bits(self, conversation: Conversation, bits: Iterable[Bit]) -> Iterator[Item]:
        texts: list[Bit] = []
        for bit in bits:
            piece = bit.piece
            if isinstance(piece, str):
                texts.append(bit)
            elif isinstance(piece, Mark):
                if piece.name not in self.tokenizer.special:  # words to an older vocabulary
                    texts.append(replace(bit, piece=piece.name))
                    continue
                yield from self._runs(texts)
                texts = []
                yield self._special(piece.name, bit.trained, mark=False)
            else:
                before, medium = self._medium(conversation, piece)
                *runs, lead = self._runs(texts, before) if before else (*self._runs(texts), Run(()))
                yield from runs
                texts = []
                yield _lead_by(lead.ids, medium)
        yield from self._runs(texts)

    def _runs(self, bits: Sequence[Bit], lead: str = "") -> list[Run]:
        """Return the ids of texts that stand side by side.

        They are tokenized as one string, so that a token may belong to two of them: it is trained
        if one of them is. With the ``lead`` of a medium, its ids come last, beginning with the
        token that it shares with the text before it, if there is one.
        """
        chunks: list[list[Bit]] = [[]]
        for bit in bits:
            if bit.apart and chunks[-1]:
                chunks.append([])
            chunks[-1].append(bit)

        runs: list[Run] = []
        for chunk in chunks[:-1]:
            runs += self._chunk(chunk, "")
        return [*runs, *self._chunk(chunks[-1], lead)]

    def _chunk(self, chunk: Sequence[Bit], lead: str) -> list[Run]:
        words = [(str(bit.piece), bit.trained) for bit in chunk if bit.piece]
        text = "".join(word for word, _ in words)
        ids = self._encode(text + lead) if text or lead else []
        end = len(ids)
        if lead:
            end = _shared(ids, self._encode(text)) if text else 0

        # A token at a border is trained with what follows it: borders are sought from the front.
        runs: list[Run] = []
        done, begun = 0, ""
        for number, (word, trained) in enumerate(words):
            begun += word
            if number + 1 < len(words) and words[number + 1][1] == trained:
                continue
            if number + 1 == len(words):
                stop = end
            else:
                head = self._answers if begun == _ANSWERS else self._encode(begun)
                stop = min(_shared(ids, head), end)
            if stop > done:
                runs.append(Run(ids[done:stop], trained))
            done = max(done, stop)
        return [*runs, Run(ids[end:])] if lead else runs

    def _encode(self, text: str) -> list[int]:
        if self.marks == "all" and isinstance(self.tokenizer, MarkedTokenizer):
            return self.tokenizer.encode_marked(text)
        return self.tokenizer.encode(text)

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

    def _pieces(
        self, conversation: Conversation, part: Part, counted: Counter[type]
    ) -> Iterator[Piece]:
        """Yield a part of what is said; ``counted`` is how many media of a kind there were."""
        if isinstance(part, Text):
            yield part.text
        elif isinstance(part, Time):
            yield TIME_FORMATS[self.times].write(part)
        elif isinstance(part, Region):
            yield self._region(conversation, part)
        elif isinstance(part, (Image, Video)):
            counted[type(part)] += 1
            if self.number_media:
                kind = "Picture" if isinstance(part, Image) else "Video"
                yield f"{kind} {counted[type(part)]}: "
            yield part

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


def _opened(turn: Turn) -> list[Bit]:
    role = f"{turn.role}\n" if turn.newline else turn.role
    return [Bit(role), *turn.opening]


def _sounds(conversation: Conversation) -> Iterator[str]:
    for number, message in enumerate(conversation.messages):
        if any(isinstance(part, Audio) for part in message.content):
            yield f"audio (in message {number})"


def _shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return how many ids two sequences begin with alike."""
    count = 0
    for one, other in zip(ids, others, strict=False):
        if one != other:
            break
        count += 1
    return count


def _lead_by(ids: Sequence[int], medium: Medium) -> Medium:
    """Return a medium that begins with further ids."""
    if not ids:
        return medium
    slots = tuple((offset + len(ids), length) for offset, length in medium.slots)
    return Medium(medium.pixels, [*ids, *medium.ids], slots)
