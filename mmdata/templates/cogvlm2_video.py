"""CogVLM2-Video: the video after the first token,
each frame followed by its index, one position a frame's patches.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

from mmdata import tokenizers
from mmdata.errors import TokenError
from mmdata.schema import Conversation, Message, Part, Video, replace
from mmdata.storage import MediaCache
from mmdata.templates import registry
from mmdata.templates.toolkit import (
    BaseTemplate,
    Encoded,
    FrameClock,
    Item,
    MediaFiles,
    MediaSlot,
    Medium,
    PositiveInt,
    Run,
    build_encoded,
    checked,
    cut_at_stop,
    media_of,
    num_tokens,
    plan_clip,
    refuse_region,
    refuse_system,
    render_content,
    require_answer,
    require_question,
    text_and_times,
    truncate,
)
from mmdata.tokenizers import Tokenizer
from mmdata.video.sampling import Strategy

if TYPE_CHECKING:
    from mmdata._tools.limits import Limits
    from mmdata.templates._encoded import Ids

__all__ = ["CogVLM2Video", "frame_positions"]

DialectName: TypeAlias = Literal["chat", "base", "vqa"]

_ASK: Final = {"chat": "Answer:", "vqa": "Short answer:"}
_BOS, _EOS, _PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"
_MINDFORMERS_PAD: Final = "<|reserved_special_token_2|>"


@registry.register("cogvlm2_video")
@dataclass(frozen=True, kw_only=True)
class CogVLM2Video(BaseTemplate):
    r"""How CogVLM2-Video reads a conversation
    (``build_conversation_input_ids`` of its modelling file).

    One sample trains the last answer; earlier turns are history. There is one video at most, and it
    comes first whichever turn speaks of it.

    - ``dialect``: ``chat`` and ``vqa`` write ``Question: ... Answer:`` (``Short answer:``) and the
      history; ``base`` the last question alone.
    - ``frames``: the strategy by which frames are taken; None for the one of the dialect's demo,
      ``hf_chat`` or ``hf_base``.
    - ``index``: what follows a frame's placeholders: its ``ordinal``, the ``second`` it is at, or
      ``none``; None for the dialect's own, which is ``ordinal`` for chat. With one frame a second
      the first two are equal.
    - ``image_size``, ``patch``: in pixels; a frame takes (size / patch / 2) squared tokens, and two
      more.
    - ``frame_clock``: what says when the frames of a video are where the store does not.
    - ``compat="mindformers"``: 24 frames evenly, no index, another placeholder, text in normal form
      C, as MindFormers trains; it predicts with indices.
    """

    resizer: ClassVar[str] = "crop_bilinear"

    dialect: DialectName = "chat"
    frames: str | None = None
    index: Literal["ordinal", "second", "none"] | None = None
    image_size: PositiveInt = 224
    patch: PositiveInt = 14
    frame_clock: FrameClock | None = None
    compat: Literal["mindformers"] | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        Strategy.parse(self._strategy)

    @classmethod
    def load_tokenizer(cls, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
        """Return the ``llama3`` tokenizer of a vocabulary file;
        see :class:`mmdata.templates.Template`.
        """
        return tokenizers.load("llama3", path, verify=verify, **options)

    @checked
    def with_limits(self, limits: Limits, *, cache: MediaCache | None = None) -> CogVLM2Video:
        """Return the template as it is, asking files for their times under ``limits``, through
        ``cache``.
        """
        if self.frame_clock is not None:
            return self
        return dataclasses.replace(self, frame_clock=MediaFiles(limits=limits, cache=cache).clock)

    @property
    def pad_id(self) -> int:
        """``<|reserved_special_token_0|>``, which is the placeholder of frames too:
        go by ``token_types``, not ids.
        """
        return self.tokenizer.special[_PAD]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``<|end_of_text|>``; this model was not trained with Llama-3's ``<|eot_id|>``."""
        return (self.tokenizer.special[_EOS],)

    @property
    def tokens_per_frame(self) -> int:
        """The placeholders of a frame: its pooled patches, one before and one after them."""
        return (self.image_size // self.patch // 2) ** 2 + 2

    @property
    def view_size(self) -> int:
        """``image_size``."""
        return self.image_size

    @property
    def view_positions(self) -> int:
        """``tokens_per_frame``."""
        return self.tokens_per_frame

    def encode(self, conversation: Conversation) -> Encoded:
        """Return the conversation as a training sample; see :class:`mmdata.templates.Template`."""
        items, cut = truncate(
            self._sample(conversation), self.max_length, self.over_long, conversation.id
        )
        return build_encoded(items, frame_positions, typed=True, cut=cut)

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer that is wanted; see :class:`mmdata.templates.Template`."""
        return build_encoded(
            self._question(conversation, require_question(conversation)),
            frame_positions,
            typed=True,
        )

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""
        return num_tokens(self._sample(conversation))

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return an answer's text and times."""
        if not isinstance(answer, str):
            answer = self.tokenizer.decode(cut_at_stop(answer, self.stop_ids), skip_special=True)
        return text_and_times(answer.strip())

    def _sample(self, conversation: Conversation) -> list[Item]:
        *messages, answer = require_answer(conversation)
        ids = self._encode(_words([answer])[0])
        return [*self._question(conversation, messages), Run([*ids, *self.stop_ids], answer.train)]

    def _question(self, conversation: Conversation, messages: Sequence[Message]) -> list[Item]:
        prompt = self._encode(self._prompt(_words(refuse_system(messages, conversation.id))))
        bos = Run([self.tokenizer.special[_BOS]])
        return [bos, *self._video(conversation), Run(prompt)]

    def _prompt(self, words: Sequence[str]) -> str:
        *history, query = words
        if self.dialect == "base":
            return query
        ask = _ASK[self.dialect]
        pairs = zip(history[::2], history[1::2], strict=True)
        past = "".join(f"Question: {question} {ask} {answer}\n" for question, answer in pairs)
        return f"{past}Question: {query} {ask}"

    def _video(self, conversation: Conversation) -> Iterable[Medium]:
        shown = {
            replace(part, train=None)
            for message in conversation.messages
            for part in media_of(message.content)
        }
        if not shown:
            return
        if len(shown) > 1 or not all(isinstance(part, Video) for part in shown):
            raise TokenError(
                f"conversation {conversation.id!r} shows {len(shown)} media; "
                "CogVLM2-Video reads one video"
            )
        yield self._medium(conversation, shown.pop().media)

    def _medium(self, conversation: Conversation, media: int) -> Medium:
        taken = plan_clip(
            conversation,
            media,
            self._strategy,
            self.frame_clock,
            resize=self.resizer,
            size=self.image_size,
        ).pixels
        ids: list[int] = []
        slots: list[tuple[int, int]] = []
        for ordinal, time in enumerate(taken.times):
            slots.append((len(ids), self.tokens_per_frame))
            ids += [self._placeholder] * self.tokens_per_frame
            ids += self.tokenizer.encode(self._index(ordinal, time))
        return Medium(taken, ids, tuple(slots))

    def _index(self, ordinal: int, time: float) -> str:
        kind = self.index or ("none" if self.compat or self.dialect != "chat" else "ordinal")
        return {"ordinal": str(ordinal), "second": str(round(time)), "none": ""}[kind]

    @property
    def _strategy(self) -> str:
        if self.frames is not None:
            return self.frames
        if self.compat == "mindformers":
            return "mf_train_average:24"
        return "hf_chat" if self.dialect == "chat" else "hf_base"

    @property
    def _placeholder(self) -> int:
        return self.tokenizer.special[_MINDFORMERS_PAD if self.compat == "mindformers" else _PAD]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(
            unicodedata.normalize("NFC", text) if self.compat == "mindformers" else text
        )


def frame_positions(length: int, slots: Sequence[MediaSlot]) -> Ids:
    """Return (length,) int32 positions: all inner placeholders of a run of frames share one.

    These are CogVLM's own (``build_position_ids`` of its modelling file), which takes the two ends
    of a run of placeholders for language: a position is one above the last for every token of
    language, for the first and the last placeholder of a run of slots that touch, and for the
    placeholder after the first.
    """
    import numpy as np

    step = np.ones(length, np.int32)
    step[:1] = 0
    for start, stop in _runs(slots):
        step[start + 2 : stop - 1] = 0
    return np.cumsum(step, dtype=np.int32)


def _runs(slots: Sequence[MediaSlot]) -> Iterator[tuple[int, int]]:
    """Give first and last + 1 of the runs that slots make which touch."""
    starts = {slot.start for slot in slots} - {slot.stop for slot in slots}
    stops = {slot.stop for slot in slots} - {slot.start for slot in slots}
    return zip(sorted(starts), sorted(stops), strict=True)


def _words(messages: Sequence[Message]) -> list[str]:
    """Return the words of each message; media have no place in the text."""
    return [
        "".join(
            piece
            for piece in render_content(message.content, refuse_region)
            if isinstance(piece, str)
        )
        for message in messages
    ]
