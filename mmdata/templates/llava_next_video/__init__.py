"""LLaVA-NeXT and LLaVA-NeXT-Video:
the dialects of ``llava/conversation.py``, anyres images, pooled frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from mmdata import tokenizers
from mmdata.errors import TokenError
from mmdata.image import anyres
from mmdata.schema import Conversation, Image, Message, Part, Region, Text, Video
from mmdata.storage import MediaCache
from mmdata.templates import registry
from mmdata.templates.llava_next_video._dialects import (
    DIALECTS,
    Dialect,
    DialectName,
    Exchange,
    Segment,
    text_of,
    whole_answers,
)
from mmdata.templates.toolkit import (
    BaseTemplate,
    Clip,
    Encoded,
    FeatureIndex,
    FrameClock,
    ImageSize,
    Item,
    Mark,
    MediaFiles,
    Medium,
    Piece,
    PixelPlan,
    PositiveInt,
    Run,
    build_encoded,
    checked,
    cut_at_stop,
    merge_texts,
    num_tokens,
    plan_clip,
    read_size,
    render_content,
    require_answer,
    require_plain,
    require_question,
    sequential_positions,
    text_and_times,
    truncate,
)
from mmdata.tokenizers import SentencePieceTokenizer, Tokenizer
from mmdata.video.sampling import Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata._tools.limits import Limits

    Index: TypeAlias = NDArray[np.int64]  # (positions,)

__all__ = ["LlavaNextVideo", "num_image_tokens"]

Pool: TypeAlias = Literal["average", "max", "bilinear"]
VideoNewline: TypeAlias = Literal["no_token", "one_token", "frame", "grid"]

# a mark in LLaVA-Hound's texts that LLaVA-NeXT deletes before training
NOISE: Final = "QA_GT_caption_based_noisy"

# What is asked where nobody else is named; it is known again by being the same object.
_FILES: Final = MediaFiles()


@registry.register("llava_next_video")
@dataclass(frozen=True, kw_only=True)
class LlavaNextVideo(BaseTemplate):
    """How LLaVA-NeXT-Video reads a conversation
    (``LLaVA-VL/LLaVA-NeXT``: ``llava/train/train.py``).

    - ``dialect``: the conversation template; ``vicuna_v1`` is that of the 7B checkpoints.
    - ``system``: what the system says instead of the dialect's words; a system message in the
      conversation comes first.
    - ``image_token``, ``video_token``: the names of the placeholders in the tokenizer.
    - ``placement``: where a turn's only medium goes: in front of its words with a newline
      (``llava_next``; several stay where they are), or the first of any number (``llava_1_5``).
    - ``separator``: what stands between leading or trailing media and the words of a turn.
    - ``image_size``, ``patch``, ``pinpoints``: sides in pixels, canvases as (height, width).
    - ``several_images``: ``pad`` squares each image of a conversation with several, as LLaVA-NeXT
      trains; ``anyres`` tiles each, as Hugging Face's processor does.
    - ``frames``: the strategy by which frames are taken; ``pool``, ``stride``, ``video_newline``:
      how their features are pooled and laid out.
    - ``time_instruction``: the sentence that says how long a video is and when its frames are, in
      training and in prompts alike.
    - ``labels``: for the Qwen dialects, ``original`` also trains role marks and every newline
      token, as the original does; ``answers`` trains answers and their ends alone.
    - ``frame_clock``, ``image_size_of``: what says when frames are and how large images are where
      the store does not.
    - ``compat="mindformers"``: a mark of LLaVA-Hound's texts, which LLaVA-NeXT deletes, stays. All
      else that MindFormers makes of a conversation is the same.
    """

    resizer: ClassVar[str] = "crop"
    tiling: ClassVar[str] = "anyres"

    dialect: DialectName = "vicuna_v1"
    system: str | None = None
    image_token: str = "<image>"
    video_token: str = "<video>"
    placement: Literal["llava_next", "llava_1_5"] = "llava_next"
    separator: str = "\n"
    image_size: PositiveInt = 336
    patch: PositiveInt = 14
    pinpoints: tuple[tuple[PositiveInt, PositiveInt], ...] = anyres.PINPOINTS
    several_images: Literal["pad", "anyres"] = "pad"
    frames: str = "uniform:32"
    pool: Pool = "average"
    stride: PositiveInt = 2
    video_newline: VideoNewline = "no_token"
    time_instruction: bool = False
    labels: Literal["original", "answers"] = "original"
    compat: Literal["mindformers"] | None = None
    frame_clock: FrameClock | None = None
    image_size_of: ImageSize = _FILES.size

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        Strategy.parse(self.frames)

    @checked
    def with_limits(self, limits: Limits, *, cache: MediaCache | None = None) -> LlavaNextVideo:
        """Return the template as it is, asking files for times and sizes under ``limits``, through
        ``cache``.
        """
        files = MediaFiles(limits=limits, cache=cache)
        asks_files = self.image_size_of == _FILES.size
        return replace(
            self,
            frame_clock=self.frame_clock or files.clock,
            image_size_of=files.size if asks_files else self.image_size_of,
        )

    @classmethod
    def load_tokenizer(cls, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
        """Return the ``llama2`` tokenizer of a vocabulary file;
        see :class:`mmdata.templates.Template`.
        """
        return tokenizers.load("llama2", path, verify=verify, **options)

    @property
    def pad_id(self) -> int:
        """The unknown token of Llama vocabularies, ``<|endoftext|>`` of Qwen's."""
        special = self.tokenizer.special
        return special.get("<unk>", special.get("<|endoftext|>", 0))

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """What ends an answer: ``</s>`` or ``<|im_end|>``; the plain dialect has no such token."""
        stop = self._dialect.stop
        return (self._special(stop),) if stop else ()

    @property
    def view_size(self) -> int:
        """``image_size``."""
        return self.image_size

    @property
    def view_positions(self) -> int:
        """0: tiles, pictures and frames take different numbers."""
        return 0

    def index_features(
        self, plan: PixelPlan, *, positions: int, views: int, size: tuple[int, int] | None
    ) -> FeatureIndex:
        """Return the rows of whole views, pooled frames and newline vectors;
        see :class:`mmdata.templates.Template`.
        """
        grid = _FeatureRows(self.image_size // self.patch, self._pooled_side)
        if plan.frames:
            return FeatureIndex(grid.count, grid.index_frames(views, positions))
        if not plan.tiled:
            return FeatureIndex(grid.count, grid.index_picture(positions))
        assert size is not None, "pictures are measured when they are read"
        return FeatureIndex(grid.count, grid.index_tiles(size, plan.size, plan.canvases))

    def encode(self, conversation: Conversation) -> Encoded:
        """Return the conversation as a training sample; see :class:`mmdata.templates.Template`."""
        items, cut = truncate(
            self._sample(conversation), self.max_length, self.over_long, conversation.id
        )
        return build_encoded(items, sequential_positions, cut=cut)

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer that is wanted; see :class:`mmdata.templates.Template`."""
        items = self._items(
            self._segments(conversation, require_question(conversation)), conversation
        )
        items = [Run(item.ids) if isinstance(item, Run) else item for item in items]
        return build_encoded(items, sequential_positions)

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""
        return num_tokens(self._sample(conversation))

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return an answer's text and times."""
        if not isinstance(answer, str):
            answer = self.tokenizer.decode(cut_at_stop(answer, self.stop_ids), skip_special=True)
        return text_and_times(answer.strip())

    def text(self, conversation: Conversation) -> str:
        """Return the conversation as the text that is tokenized,
        media as ``<image>`` and ``<video>``.
        """
        return text_of(self._segments(conversation, conversation.messages))

    @property
    def _dialect(self) -> Dialect:
        return DIALECTS[self.dialect]

    def _sample(self, conversation: Conversation) -> list[Item]:
        if self.dialect == "hf_chat":
            raise TokenError(
                "the dialect hf_chat has no token that ends an answer; it is for prompts only"
            )
        if not self._dialect.role_marks:
            return self._items(
                self._segments(conversation, require_answer(conversation)), conversation
            )
        segments = self._segments(conversation, conversation.messages)
        return self._items(segments[:-1] if segments[-1].opening else segments, conversation)

    def _segments(self, conversation: Conversation, messages: Sequence[Message]) -> list[Segment]:
        require_plain(conversation)
        system = self._dialect.system if self.system is None else self.system
        if messages and messages[0].role == "system":
            system, messages = messages[0].text, messages[1:]
        written = [self._write(message, conversation) for message in messages]
        turns = [
            Exchange(question, answer, message.train)
            for question, answer, message in zip(
                written[::2], written[1::2], messages[1::2], strict=False
            )
        ]
        if len(written) % 2:
            turns.append(Exchange(written[-1], None, trained=False))
        return list(self._dialect.style(system, turns))

    def _write(self, message: Message, conversation: Conversation) -> list[Piece]:
        if self.dialect == "hf_chat":
            return list(_apart(message.content))
        content = merge_texts(render_content(message.content, _bracket))
        if not conversation.media:
            return content
        content = merge_texts(self._place_media(content))
        # Where media stand has to be settled with the mark still in the text.
        if self.placement == "llava_next" and self.compat is None:
            content = [
                piece.replace(NOISE, "") if isinstance(piece, str) else piece for piece in content
            ]
        return merge_texts(self._insert_times(content, conversation))

    def _place_media(self, content: list[Piece]) -> list[Piece]:
        """Put media and words of a turn where the original puts them."""
        media: list[Piece] = [piece for piece in content if not isinstance(piece, str)]
        moved = len(media) == 1 and content[0] is not media[0]
        if media and (moved or self.placement == "llava_1_5"):
            words = "".join(piece for piece in content if isinstance(piece, str)).strip()
            return [media[0], "\n", words] if words else media[:1]

        first = next(
            (n for n, piece in enumerate(content) if isinstance(piece, str)), len(content) - 1
        )
        last = next(
            (n for n, piece in reversed(list(enumerate(content))) if isinstance(piece, str)),
            len(content),
        )
        placed: list[Piece] = []
        for number, piece in enumerate(content):
            leads, trails = number < first, number > last
            placed += [self.separator] * trails + [piece] + [self.separator] * leads

        return placed

    def _insert_times(self, content: list[Piece], conversation: Conversation) -> Iterator[Piece]:
        """Say after each video how long it is and when its frames are, where this is wanted."""
        for piece in content:
            yield piece
            if self.time_instruction and isinstance(piece, Video):
                yield f"\n{time_instruction(self._clip(conversation, piece.media))}\n"

    def _items(self, segments: Sequence[Segment], conversation: Conversation) -> list[Item]:
        original = self._dialect.role_marks and self.labels == "original"
        begin = [] if self._dialect.role_marks else [self.tokenizer.special.get("<s>")]
        items: list[Item] = [Run([token]) for token in begin if token is not None]
        for segment in whole_answers(segments) if original else segments:
            items += self._encode_segment(segment, conversation)
        return list(_train_marks(items, self._role_marks())) if original else items

    def _encode_segment(self, segment: Segment, conversation: Conversation) -> Iterator[Item]:
        content = merge_texts(segment.pieces)
        if segment.spaced and content and isinstance(content[0], (Image, Video)):
            # The blank before a first word.
            yield Run(self.tokenizer.encode("\n")[:1], segment.trained)
        for number, piece in enumerate(content):
            if isinstance(piece, str):
                after = segment.after_token and number == 0
                yield Run(
                    self._after_token(piece) if after else self.tokenizer.encode(piece),
                    segment.trained,
                )
            elif isinstance(piece, Mark):
                yield Run([self._special(piece.name)], segment.trained)
            else:
                yield self._medium(piece, conversation)

    def _after_token(self, text: str) -> list[int]:
        if isinstance(self.tokenizer, SentencePieceTokenizer):
            return self.tokenizer.encode_after_special(text)
        return self.tokenizer.encode(text)

    def _special(self, name: str) -> int:
        if name not in self.tokenizer.special:
            raise TokenError(
                f"the tokenizer has no token {name}, which the dialect {self.dialect} needs"
            )
        return self.tokenizer.special[name]

    def _role_marks(self) -> set[int]:
        return {
            self._special("<|im_start|>"),
            self._special("<|im_end|>"),
            *self.tokenizer.encode("\n"),
        }

    def _medium(self, part: Image | Video, conversation: Conversation) -> Medium:
        if isinstance(part, Video):
            pixels = self._clip(conversation, part.media).pixels
            ids = [self._special(self.video_token)] * self._video_tokens(len(pixels.frames))
        else:
            pixels, count = self._image(conversation, part.media)
            ids = [self._special(self.image_token)] * count
        return Medium(pixels, ids, ((0, len(ids)),))

    def _clip(self, conversation: Conversation, media: int) -> Clip:
        return plan_clip(
            conversation,
            media,
            self.frames,
            self.frame_clock,
            resize=self.resizer,
            size=self.image_size,
        )

    def _image(self, conversation: Conversation, media: int) -> tuple[PixelPlan, int]:
        images = sum(
            isinstance(part, Image) for message in conversation.messages for part in message.content
        )
        if images > 1 and self.several_images == "pad":
            side = self.image_size // self.patch
            return PixelPlan(media, "pad", self.image_size), side**2 + 1

        count = num_image_tokens(
            read_size(conversation, media, self.image_size_of),
            side=self.image_size,
            patch=self.patch,
            pinpoints=self.pinpoints,
        )
        return PixelPlan(media, self.tiling, self.image_size, canvases=self.pinpoints), count

    @property
    def _pooled_side(self) -> int:
        grid = self.image_size // self.patch
        return -(-grid // self.stride) if self.pool == "bilinear" else grid // self.stride

    def _video_tokens(self, frames: int) -> int:
        side = self._pooled_side
        newlines = {"no_token": 0, "one_token": 1, "frame": frames, "grid": frames * side}
        return frames * side**2 + newlines[self.video_newline]


@dataclass(frozen=True, slots=True)
class _FeatureRows:
    """The feature rows of a view: a grid of ``side`` x ``side``,
    the ``pooled`` one, and the newline vector.
    """

    side: int
    pooled: int

    @property
    def count(self) -> int:
        return self.side**2 + self.pooled**2 + 1

    def index_picture(self, positions: int) -> Index:
        """The grid of the only view; then the newline, if there is a position for it."""
        import numpy as np

        index = np.arange(self.side**2)
        return index if positions == len(index) else np.append(index, self.count - 1)

    def index_frames(self, views: int, positions: int) -> Index:
        """The pooled grids of all views, with as many newlines as there are positions for.

        That is none, one at the end, one a frame, or one a row of the grid (``video_newline``).
        """
        import numpy as np

        first = (np.arange(views) * self.count)[:, None, None]  # (views, 1, 1)
        grid = first + self.side**2 + np.arange(self.pooled**2).reshape(self.pooled, self.pooled)
        newline = first + self.count - 1
        flat, ends = grid.reshape(views, -1), newline.reshape(views, 1)
        lines = np.concatenate([grid, np.broadcast_to(newline, (views, self.pooled, 1))], 2)

        arrangements = (flat, np.append(flat, ends[-1]), np.concatenate([flat, ends], 1), lines)
        return next(found.ravel() for found in arrangements if found.size == positions)

    @lru_cache(maxsize=256)  # noqa: B019  # grids are few; pictures of a data set are of few sizes
    def index_tiles(
        self, picture: tuple[int, int], size: int, pinpoints: tuple[tuple[int, int], ...]
    ) -> Index:
        """The first view's grid, then the tiles' as one map without its border,
        each of its rows ended by a newline.
        """
        import numpy as np

        kept = anyres.feature_grid(picture, side=size, patch=size // self.side, pinpoints=pinpoints)
        down, across = kept.rows // self.side, kept.columns // self.side
        tile = (1 + np.arange(down * across).reshape(down, 1, across, 1)) * self.count
        place = np.arange(self.side**2).reshape(1, self.side, 1, self.side)
        grid = (tile + place).reshape(kept.rows, kept.columns)[
            kept.top : kept.bottom, kept.left : kept.right
        ]
        newlines = np.full((len(grid), 1), self.count - 1)

        index: Index = np.concatenate(
            [np.arange(self.side**2), np.concatenate([grid, newlines], 1).ravel()]
        )
        index.setflags(write=False)
        return index


def num_image_tokens(
    size: anyres.Size,
    *,
    side: PositiveInt = 336,
    patch: PositiveInt = 14,
    pinpoints: Sequence[anyres.Size] = anyres.PINPOINTS,
) -> int:
    """Return how many tokens a picture of ``size`` makes:
    the whole view, the kept features, and a newline a row.
    """
    rows, columns = anyres.feature_grid(size, side=side, patch=patch, pinpoints=pinpoints).kept
    return (side // patch) ** 2 + rows * columns + rows


def time_instruction(taken: Clip) -> str:
    """Return LLaVA-NeXT's sentence on the length of a video
    and the times of its frames, in seconds.
    """
    times = ",".join(f"{time:.2f}s" for time in taken.pixels.times)
    return (
        f"The video lasts for {taken.duration:.2f} seconds, "
        f"and {len(taken.pixels.times)} frames are uniformly sampled from it. "
        f"These frames are located at {times}."
        "Please answer the following questions related to this video."
    )


def _apart(content: Sequence[Part]) -> Iterator[Piece]:
    """Yield the pieces of a message, of texts that follow one another each by itself."""
    run: list[Part] = []
    for part in content:
        if run and isinstance(part, Text) and isinstance(run[-1], Text):
            yield from merge_texts(render_content(run, _bracket))
            run = []
        run.append(part)
    yield from merge_texts(render_content(run, _bracket))


def _bracket(region: Region) -> Iterator[Piece]:
    """Write boxes as LLaVA-1.5's data do: fractions with two decimals."""
    yield region.text
    for number, box in enumerate(region.boxes):
        blank = " " if region.text or number else ""
        yield f"{blank}[{', '.join(f'{side:.2f}' for side in box)}]"


def _train_marks(items: Iterable[Item], marks: set[int]) -> Iterator[Item]:
    for item in items:
        if isinstance(item, Medium) or item.trained:
            yield item
        else:
            yield from (
                Run(list(run), trained, mark=True)
                for trained, run in groupby(item.ids, marks.__contains__)
            )
