"""The conversation templates of LLaVA:
which words and control tokens stand between questions and answers.

Constants are those of ``LLaVA-VL/LLaVA-NeXT:llava/conversation.py`` and, for ``hf_chat``, of
transformers' conversion script for LLaVA-NeXT-Video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Final, Literal, TypeAlias

from mmdata.templates.toolkit import Mark, Piece

__all__ = ["DIALECTS", "Dialect", "DialectName", "Exchange", "Segment", "text_of", "whole_answers"]

DialectName: TypeAlias = Literal[
    "vicuna_v1",
    "llava_v1",
    "mistral_instruct",
    "llava_llama_2",
    "plain",
    "qwen_1_5",
    "qwen_2",
    "qwen_2_5",
    "chatml_direct",
    "mistral_direct",
    "hf_chat",
]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and the answer to it, None where it is wanted."""

    question: Sequence[Piece]
    answer: Sequence[Piece] | None
    trained: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """Pieces with one fate, ``trained`` or not.

    They stand after a blank (``spaced``), right ``after_token`` of control, or anywhere.
    ``opening`` pieces open an answer, which follows as the next segment if it is there.
    """

    pieces: Sequence[Piece]
    trained: bool = False
    spaced: bool = False
    after_token: bool = False
    opening: bool = False


Style: TypeAlias = "Callable[[str, Sequence[Exchange]], Iterator[Segment]]"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a conversation is written:
    the default ``system`` words, and the control token that ends an answer.
    """

    style: Style
    system: str = ""
    stop: str = "</s>"
    role_marks: bool = False
    """Whether the original trains role marks and newlines everywhere."""


def text_of(segments: Sequence[Segment]) -> str:
    """Return what is tokenized, as one string, media as ``<image>`` and ``<video>``."""
    return "".join(
        (" " if segment.spaced else "") + "".join(map(_write, segment.pieces))
        for segment in segments
    )


def whole_answers(segments: Sequence[Segment]) -> Iterator[Segment]:
    """Give answers as one segment with what opens them, trained on as a whole."""
    opened: Sequence[Piece] = ()
    for segment, following in zip_longest(segments, segments[1:]):
        if segment.opening and following is not None and following.trained:
            opened = segment.pieces
        else:
            yield Segment([*opened, *segment.pieces], segment.trained) if opened else segment
            opened = ()


def _write(piece: Piece) -> str:
    if isinstance(piece, str):
        return piece
    return piece.name if isinstance(piece, Mark) else f"<{type(piece).__name__.lower()}>"


def _vicuna(system: str, turns: Sequence[Exchange]) -> Iterator[Segment]:
    for number, turn in enumerate(turns):
        head = "USER: " if number else f"{system} USER: "
        yield Segment([head, *turn.question, " ASSISTANT:"], after_token=number > 0)
        yield from _answer(turn, Mark("</s>"))


def _llama_2(
    system: str, turns: Sequence[Exchange], *, start: Sequence[Piece] = ()
) -> Iterator[Segment]:
    for number, turn in enumerate(turns):
        words = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system and not number else ""
        if number and start:
            yield Segment(start)
        yield Segment([f"[INST] {words}", *turn.question, " [/INST]"], after_token=number > 0)
        yield from _answer(turn, " ", Mark("</s>"))


def _answer(turn: Exchange, *end: Piece) -> Iterator[Segment]:
    if turn.answer is not None:
        yield Segment([*turn.answer, *end], turn.trained, spaced=True)


def _plain(system: str, turns: Sequence[Exchange]) -> Iterator[Segment]:
    """Write the first medium and the answer, as for pretraining on captions;
    the question is thrown away.
    """
    for turn in turns:
        yield Segment([piece for piece in turn.question if not isinstance(piece, str)][:1])
        if turn.answer is not None:
            yield Segment([*turn.answer, "\n"], turn.trained)


def _qwen(system: str, turns: Sequence[Exchange]) -> Iterator[Segment]:
    yield Segment([Mark("<|im_start|>"), f"system\n{system}", Mark("<|im_end|>"), "\n"])
    for turn in turns:
        yield Segment([Mark("<|im_start|>"), "user\n", *turn.question, Mark("<|im_end|>"), "\n"])
        yield from _role_and_answer(turn, Mark("<|im_end|>"), "\n")


def _chatml(system: str, turns: Sequence[Exchange]) -> Iterator[Segment]:
    yield Segment([Mark("<|im_start|>"), f"system\n{system}", Mark("<|im_end|>")])
    for turn in turns:
        yield Segment([Mark("<|im_start|>"), "user\n", *turn.question, Mark("<|im_end|>")])
        yield from _role_and_answer(turn, Mark("<|im_end|>"))


def _role_and_answer(turn: Exchange, *end: Piece) -> Iterator[Segment]:
    yield Segment([Mark("<|im_start|>"), "assistant\n"], opening=True)
    if turn.answer is not None:
        yield Segment([*turn.answer, *end], turn.trained)


def _hf_chat(system: str, turns: Sequence[Exchange]) -> Iterator[Segment]:
    """Write media first and a blank after each text, the last answer's too;
    all of it is tokenized as one.
    """
    written: list[Piece] = [f"{system}{system} "] if system else []  # the script writes it twice
    for turn in turns:
        written += ["USER: ", *_media_first(turn.question), "ASSISTANT:"]
        if turn.answer is not None:
            written += [" ", *_media_first(turn.answer)]
    yield Segment(written)


def _media_first(content: Sequence[Piece]) -> Iterator[Piece]:
    for piece in content:
        if not isinstance(piece, str):
            yield from (piece, "\n")
    yield from (f"{piece} " for piece in content if isinstance(piece, str))


_USER_SYSTEM: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_LLAMA_SYSTEM: Final = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)

DIALECTS: Final[dict[DialectName, Dialect]] = {
    "vicuna_v1": Dialect(_vicuna, _USER_SYSTEM),
    "llava_v1": Dialect(_vicuna, _USER_SYSTEM.replace("user", "human")),
    "mistral_instruct": Dialect(_llama_2),
    "llava_llama_2": Dialect(partial(_llama_2, start=[Mark("<s>")]), _LLAMA_SYSTEM),
    "plain": Dialect(_plain, stop=""),
    "qwen_1_5": Dialect(_qwen, "You are a helpful assistant.", "<|im_end|>", role_marks=True),
    "qwen_2": Dialect(_qwen, "You are a helpful assistant.", "<|im_end|>", role_marks=True),
    "qwen_2_5": Dialect(
        _qwen,
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "<|im_end|>",
        role_marks=True,
    ),
    "chatml_direct": Dialect(_chatml, "Answer the questions.", "<|im_end|>"),
    "mistral_direct": Dialect(_chatml, "Answer the questions.", "<|im_end|>"),
    "hf_chat": Dialect(_hf_chat, stop=""),
}
"""The dialects by the names that LLaVA gives them."""
