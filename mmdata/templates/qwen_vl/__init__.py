"""Qwen-VL: ChatML, image spans of fixed length, phrases with boxes on a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from mmdata import tokenizers
from mmdata.errors import TokenError, UsageError
from mmdata.schema import Conversation, Image, Message, Part, Region, Video
from mmdata.templates import registry
from mmdata.templates.qwen_vl._markup import parts, reference_ids
from mmdata.templates.toolkit import (
    GRIDS,
    BaseTemplate,
    Encoded,
    GridName,
    Item,
    Mark,
    Medium,
    Piece,
    PixelPlan,
    PositiveInt,
    Run,
    build_encoded,
    cut_at_stop,
    merge_texts,
    num_tokens,
    render_content,
    require_plain,
    require_question,
    sequential_positions,
    truncate,
)
from mmdata.tokenizers import TiktokenTokenizer, Tokenizer

__all__ = ["QwenVL"]

# Bytes; the original model reads 255 ids of a span and needs a pad among them.
_LONGEST_REFERENCE: Final = 254


@registry.register("qwen_vl")
@dataclass(frozen=True, kw_only=True)
class QwenVL(BaseTemplate):
    r"""How Qwen-VL and Qwen-VL-Chat read a conversation
    (``QwenLM/Qwen-VL``: ``finetune.py``, ``make_context``).

    - ``layout``: ``chatml`` (chat, fine-tuning) or ``raw`` (base model: texts as they are, ended by
      ``<|endoftext|>``).
    - ``system``: what the system says where the conversation has no system message.
    - ``picture``: how an image is written; ``{number}`` counts from 1 through the conversation.
    - ``image_tokens``, ``image_size``: the ids of a span, the pixels of an image.
    - ``span``: between ``<img>`` and ``</img>`` stand ``pads``, or the ``path``'s bytes as the
      original model wants.
    - ``grid``: how boxes are rounded, see :data:`mmdata.templates.toolkit.GRIDS`.
    - ``last_image``: an image that is all that follows a turn's words goes to the ``front`` of
      them, or may ``stay``.
    - ``labels``: ``original`` trains ``<|im_start|>``, ``<|im_end|>`` and the newline of every
      segment besides the answers, as the original does; ``answers`` only the answers with
      ``<|im_end|>`` and its newline.
    - ``user``, ``assistant``: role names; ``user_prompt``, ``assistant_prompt`` stand before every
      text of a role.
    - ``marks="all"``: control tokens written in a text are control tokens, as the original reads
      every text; safe only for text that no user wrote. By default they are spelled out.
    - ``history``: in prompts, the oldest pairs beyond so many tokens are left out
      (``max_window_size``).
    - ``compat="mindformers"``: a role and its text are tokenized as one string, so that newlines at
      the beginning of a text merge with the role's.
    """

    resizer: ClassVar[str] = "squeeze"

    layout: Literal["chatml", "raw"] = "chatml"
    system: str = "You are a helpful assistant."
    picture: str = "Picture {number}: {image}\n"
    image_tokens: PositiveInt = 256
    image_size: PositiveInt = 448
    span: Literal["pads", "path"] = "pads"
    grid: GridName = "floor_1000"
    last_image: Literal["front", "stay"] = "front"
    labels: Literal["original", "answers"] = "original"
    user: str = "user"
    assistant: str = "assistant"
    user_prompt: str = ""
    assistant_prompt: str = ""
    marks: Literal["none", "all"] = "none"
    history: PositiveInt | None = None
    compat: Literal["mindformers"] | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.picture.count("{image}") != 1:
            raise UsageError(
                f"QwenVL: picture must say once where the {{image}} is, found {self.picture!r}"
            )

    @classmethod
    def load_tokenizer(cls, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
        """Return the ``qwen`` tokenizer of a vocabulary file;
        see :class:`mmdata.templates.Template`.
        """
        return tokenizers.load("qwen", path, verify=verify, **options)

    @property
    def pad_id(self) -> int:
        """``<|endoftext|>``."""
        return self.tokenizer.special["<|endoftext|>"]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``<|im_end|>`` and ``<|im_start|>``, or ``<|endoftext|>`` for raw text."""
        names = ("<|im_end|>", "<|im_start|>") if self.layout == "chatml" else ("<|endoftext|>",)
        return tuple(self.tokenizer.special[name] for name in names)

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
        items, cut = truncate(
            self._sample(conversation), self.max_length, self.over_long, conversation.id
        )
        return build_encoded(items, sequential_positions, cut=cut)

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer that is wanted; see :class:`mmdata.templates.Template`."""
        messages = require_question(conversation)
        segments = [
            [Run(item.ids) if isinstance(item, Run) else item for item in segment]
            for segment in self._segments(conversation, messages)
        ]
        opening = [Run(self._opening(self.assistant))] if self.layout == "chatml" else []
        return build_encoded([*chain(*self._recent(segments)), *opening], sequential_positions)

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""
        return num_tokens(self._sample(conversation))

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return an answer's text and regions; what follows a stop token is no part of it."""
        if not isinstance(answer, str):
            answer = self.tokenizer.decode(cut_at_stop(answer, (*self.stop_ids, self.pad_id)))
        return parts(answer, GRIDS[self.grid])

    def _sample(self, conversation: Conversation) -> list[Item]:
        return [*chain(*self._segments(conversation, conversation.messages))]

    def _segments(
        self, conversation: Conversation, messages: Sequence[Message]
    ) -> Iterator[list[Item]]:
        require_plain(conversation)
        if self.layout == "chatml" and (not messages or messages[0].role != "system"):
            yield self._chatml("system", [self.system], conversation, answer=False)
        images = 0
        for message in messages:
            yield self._message(message, conversation, images)
            images += sum(isinstance(part, Image) for part in message.content)

    def _message(self, message: Message, conversation: Conversation, images: int) -> list[Item]:
        answer = message.role == "assistant"
        before = {"user": self.user_prompt, "assistant": self.assistant_prompt}.get(
            message.role, ""
        )
        content = [
            before,
            *self._number_images(
                render_content(self._place_media(message.content), self._region), images
            ),
        ]
        trained = answer and message.train
        if self.layout == "chatml":
            role = {"user": self.user, "assistant": self.assistant}.get(message.role, message.role)
            return self._chatml(role, content, conversation, answer=trained)

        items = self._items(content, conversation, trained)
        return [*items, Run(self.stop_ids, trained)] if answer else items

    def _chatml(
        self, role: str, content: list[Piece], conversation: Conversation, *, answer: bool
    ) -> list[Item]:
        special = self.tokenizer.special
        marks = answer or self.labels == "original"
        start = Run([special["<|im_start|>"]], self.labels == "original", mark=True)
        end = Run([special["<|im_end|>"], *self.tokenizer.encode("\n")], marks, mark=not answer)
        if self.compat == "mindformers":
            head = len(self.tokenizer.encode(role)) + 1
            body = _split(self._items([f"{role}\n", *content], conversation, answer), head)
        else:
            body = [Run(self._opening(role)[1:]), *self._items(content, conversation, answer)]
        return [start, *body, end]

    def _opening(self, role: str) -> list[int]:
        tokenizer = self.tokenizer
        return [tokenizer.special["<|im_start|>"], *tokenizer.encode(role), *tokenizer.encode("\n")]

    def _items(self, content: list[Piece], conversation: Conversation, trained: bool) -> list[Item]:
        items: list[Item] = []
        for piece in merge_texts(content):
            if isinstance(piece, str):
                items.append(Run(self._text(piece), trained))
            elif isinstance(piece, Mark):
                items.append(Run([self.tokenizer.special[piece.name]], trained))
            else:
                items.append(self._image(piece, conversation))
        return items

    def _text(self, text: str) -> list[int]:
        if self.marks == "all" and isinstance(self.tokenizer, TiktokenTokenizer):
            return self.tokenizer.encode_marked(text)
        return self.tokenizer.encode(text)

    def _number_images(self, content: list[Piece], images: int) -> Iterator[Piece]:
        """Write each image as ``picture`` says, its number counted on from ``images``."""
        for piece in content:
            if isinstance(piece, Image):
                images += 1
                before, after = self.picture.replace("{number}", str(images)).split("{image}")
                yield from (before, piece, after)
            else:
                yield piece

    def _image(self, image: Image | Video, conversation: Conversation) -> Medium:
        if isinstance(image, Video):
            raise TokenError(
                f"conversation {conversation.id!r} shows a video; Qwen-VL reads images only"
            )
        special = self.tokenizer.special
        content = [special["<imgpad>"]] * self.image_tokens
        if self.span == "path":
            content = self._reference(conversation, image.media)
        ids = [special["<img>"], *content, special["</img>"]]
        return Medium(
            PixelPlan(image.media, self.resizer, self.image_size), ids, ((1, self.image_tokens),)
        )

    def _reference(self, conversation: Conversation, media: int) -> list[int]:
        path = conversation.media[media].path
        if path is None or len(path.encode()) > min(_LONGEST_REFERENCE, self.image_tokens):
            raise TokenError(
                f"conversation {conversation.id!r}: span='path' needs a path of at most "
                f"{_LONGEST_REFERENCE} bytes for image {media}, found {path!r}; "
                "span='pads' needs none"
            )
        return reference_ids(path, self.image_tokens, self.tokenizer.special["<imgpad>"])

    def _place_media(self, content: tuple[Part, ...]) -> tuple[Part, ...]:
        *words, last = content
        if (
            self.last_image == "front"
            and isinstance(last, Image)
            and not any(isinstance(p, Image) for p in words)
        ):
            return (last, *words)
        return content

    def _region(self, region: Region) -> Iterator[Piece]:
        if region.text:
            yield from (Mark("<ref>"), region.text, Mark("</ref>"))
        for box in region.boxes:
            yield from (Mark("<box>"), GRIDS[self.grid].box_text(box), Mark("</box>"))

    def _recent(self, segments: list[list[Item]]) -> list[list[Item]]:
        """Leave out the oldest pairs:
        newest first, a pair is kept while all that is kept is below ``history``.
        """
        if self.history is None or self.layout == "raw":
            return segments
        system, *turns, query = segments
        used, kept = num_tokens(system) - 1, len(turns)
        while kept and used + (pair := num_tokens(chain(*turns[kept - 2 : kept]))) < self.history:
            used, kept = used + pair, kept - 2
        return [system, *turns[kept:], query]


def _split(items: list[Item], head: int) -> list[Item]:
    """Return items whose first ``head`` ids are not trained on."""
    result: list[Item] = []
    for item in items:
        taken = min(head, len(item.ids))
        head -= taken
        if isinstance(item, Run) and taken > 0:
            result += [Run(item.ids[:taken]), Run(item.ids[taken:], item.trained)]
        else:
            result.append(item)
    return result
