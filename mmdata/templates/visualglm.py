"""VisualGLM-6B: an image before the first question,
two axes of positions, a prefix that all tokens see.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from mmdata import tokenizers
from mmdata.errors import TokenError
from mmdata.schema import Conversation, Image, Message, Part, Text, replace
from mmdata.templates import registry
from mmdata.templates.toolkit import (
    BaseTemplate,
    Encoded,
    Item,
    MediaSlot,
    Medium,
    PixelPlan,
    PositiveInt,
    Run,
    build_encoded,
    checked,
    cut_at_stop,
    media_of,
    num_tokens,
    refuse_region,
    refuse_system,
    render_content,
    require_answer,
    require_question,
    truncate,
)
from mmdata.tokenizers import Tokenizer

if TYPE_CHECKING:
    from mmdata.templates._encoded import Ids

__all__ = ["VisualGLM", "clean_answer", "full_width", "prefix_positions"]

_ASK: Final = {"zh": ("问：", "\n答："), "en": ("Q:", "\nA:")}
_FULL_WIDTH: Final = {",": "，", "!": "！", ":": "：", ";": "；", "?": "？"}
_HAN: Final = "[\u4e00-\u9fff]"


@registry.register("visualglm")
@dataclass(frozen=True, kw_only=True)
class VisualGLM(BaseTemplate):
    """How VisualGLM-6B reads a conversation (``THUDM/VisualGLM-6B``:
    ``finetune_visualglm.py``, ``chat.py``).

    One sample trains the last answer; earlier turns are history. There is one image at most, and it
    comes first whichever turn speaks of it. The first token trained on is ``<sop>``, as in the
    original.

    - ``language``: ``zh`` or ``en``, of the words around questions and answers.
    - ``image_tokens``, ``image_size``: the placeholders and the pixels of an image.
    - ``max_source``, ``max_target``: the original's two limits on question and answer, with their
      control tokens; None for none. ``max_length`` is one limit on both together.
    - ``source_cut``: what goes of a source beyond its limit: the end of the last ``question``, so
      that the words that ask for an answer stay; or the end of all, ``asking`` included, as in the
      original.
    """

    position_axes: ClassVar[tuple[int, ...]] = (2,)
    resizer: ClassVar[str] = "squeeze"

    language: Literal["zh", "en"] = "zh"
    image_tokens: PositiveInt = 32
    image_size: PositiveInt = 224
    max_source: PositiveInt | None = None
    max_target: PositiveInt | None = None
    source_cut: Literal["question", "asking"] = "question"

    @classmethod
    def load_tokenizer(cls, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
        """Return the ``chatglm`` tokenizer of a vocabulary file;
        see :class:`mmdata.templates.Template`.
        """
        return tokenizers.load("chatglm", path, verify=verify, **options)

    @property
    def pad_id(self) -> int:
        """``<pad>``, which stands in an image's slot too."""
        return self.tokenizer.special["<pad>"]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``<eop>``."""
        return (self.tokenizer.special["<eop>"],)

    @property
    def view_size(self) -> int:
        """``image_size``."""
        return self.image_size

    @property
    def view_positions(self) -> int:
        """``image_tokens``."""
        return self.image_tokens

    def encode(self, conversation: Conversation) -> Encoded:
        """Return the conversation as a training sample; see :class:`mmdata.templates.Template`."""
        *messages, answer = require_answer(conversation)
        source, over = self._source(conversation, messages)
        target = self._target(answer)
        kept = target if self.max_target is None else target[: self.max_target - 2]
        whole = self._join(source, [*kept, *self.stop_ids], answer.train)
        items, cut = truncate(whole, self.max_length, self.over_long, conversation.id)
        return self._arrange(items, num_tokens(source), over + len(target) - len(kept) + cut)

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer that is wanted; see :class:`mmdata.templates.Template`."""
        source, over = self._source(conversation, require_question(conversation))
        return self._arrange(self._join(source, [], trained=False), num_tokens(source), over)

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""
        *messages, answer = require_answer(conversation)
        source = [*self._media(conversation), Run(self._asking(conversation, messages))]
        return num_tokens(source) + len(self._target(answer)) + 3

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return an answer's text as :func:`clean_answer` leaves it."""
        if not isinstance(answer, str):
            answer = self.tokenizer.decode(cut_at_stop(answer, self.stop_ids), skip_special=True)
        return (Text(clean_answer(answer, self.language)),)

    def _source(
        self, conversation: Conversation, messages: Sequence[Message]
    ) -> tuple[list[Item], int]:
        """Return what is before ``[gMASK]``, and how many tokens of it were left out."""
        media, words = self._media(conversation), self._asking(conversation, messages)
        room = len(words) if self.max_source is None else self.max_source - 1 - num_tokens(media)
        tail = (
            self.tokenizer.encode(_ASK[self.language][1])[1:]
            if self.source_cut == "question"
            else []
        )
        if room < len(tail):
            raise TokenError(
                f"max_source={self.max_source} has no room for the image and the words that ask"
            )
        over = max(len(words) - room, 0)
        if over:
            words = [*words[: room - len(tail)], *tail]
        return [*media, Run(words)], over

    def _media(self, conversation: Conversation) -> list[Item]:
        shown = {
            replace(part, train=None)
            for message in conversation.messages
            for part in media_of(message.content)
        }
        if not shown:
            return []
        if len(shown) > 1 or not all(isinstance(part, Image) for part in shown):
            raise TokenError(
                f"conversation {conversation.id!r} shows {len(shown)} media; "
                "VisualGLM reads one image"
            )

        before = self.tokenizer.encode("<img>")
        ids = [*before, *[self.pad_id] * self.image_tokens]
        plan = PixelPlan(shown.pop().media, self.resizer, self.image_size)
        return [Medium(plan, ids, ((len(before), self.image_tokens),))]

    def _asking(self, conversation: Conversation, messages: Sequence[Message]) -> list[int]:
        ask, answer = _ASK[self.language]
        *history, query = map(_words, refuse_system(messages, conversation.id))
        pairs = zip(history[::2], history[1::2], strict=True)
        past = "".join(f"{ask}{question}{answer}{reply}\n" for question, reply in pairs)
        end = "</img>" if self._media(conversation) else ""
        return self.tokenizer.encode(f"{end}{past}{ask}{query}{answer}")

    def _target(self, answer: Message) -> list[int]:
        return self.tokenizer.encode(_words(answer))

    def _join(self, source: list[Item], target: list[int], trained: bool) -> list[Item]:
        special = self.tokenizer.special
        begin = Run([special["<sop>"]], trained, mark=True)
        return [*source, Run([special["[gMASK]"]]), begin, Run(target, trained)]

    def _arrange(self, items: Sequence[Item], mask: int, cut: int) -> Encoded:
        prefix = min(mask + 1, num_tokens(items))
        return build_encoded(items, partial(_positions, prefix), prefix=prefix, cut=cut)


def prefix_positions(prefix: int, length: int) -> Ids:
    """Return (2, length) int32: the place in the prefix,
    then that of its last token; and the place after it.

    The axes are the original's: ``[gMASK]`` is the last token of the prefix, ``<sop>`` the first
    after it.
    """
    import numpy as np

    index = np.arange(length, dtype=np.int32)
    return np.stack([np.minimum(index, prefix - 1), np.maximum(index - prefix + 1, 0)])


def _positions(prefix: int, length: int, slots: Sequence[MediaSlot]) -> Ids:
    return prefix_positions(prefix, length)


def full_width(text: str) -> str:
    """Return an answer's text as the original leaves it:
    wide marks beside Chinese characters, the year of training.
    """
    text = text.strip().replace("[[训练时间]]", "2023年")
    for mark, wide in _FULL_WIDTH.items():
        text = re.sub(f"({_HAN}){re.escape(mark)}", rf"\1{wide}", text)
        text = re.sub(f"{re.escape(mark)}({_HAN})", rf"{wide}\1", text)
    return text


@checked
def clean_answer(text: str, language: Literal["zh", "en"] = "zh") -> str:
    """Return what stands after the last words that ask for an answer,
    as :func:`full_width` writes it.
    """
    asking = _ASK[language][1].strip()
    return full_width(text).split(asking)[-1].strip()


def _words(message: Message) -> str:
    return "".join(
        piece for piece in render_content(message.content, refuse_region) if isinstance(piece, str)
    )
