"""What the page shows of a conversation: its turns, its media as pictures, its tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mmdata._tools.terminal import one_line, visible
from mmdata.errors import DataError, as_media_error
from mmdata.report.lengths import Lengths
from mmdata.report.page._isolated import Frame, IsolatedDecoder
from mmdata.report.tokens import spell_tokens
from mmdata.schema import (
    Audio,
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Reasoning,
    Region,
    Text,
    Time,
    ToolCall,
    Video,
)
from mmdata.templates import IGNORE, Encoded, Template

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmdata.store import Store

__all__ = ["Box", "Card", "Medium", "Piece", "Run", "Tokens", "Turn", "make_card"]

_MARK: Final = "…"

PieceKind: TypeAlias = Literal["text", "medium", "region", "time", "reasoning", "call"]
RunKind: TypeAlias = Literal["trained", "context", "medium"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a turn in words; ``train`` where it differs from its turn."""

    kind: PieceKind
    text: str
    train: bool | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Who speaks, what, and whether a model is trained to say it."""

    role: str
    train: bool
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A box on a picture, in per cent of its width and height, and the phrase that it is of."""

    left: float
    top: float
    width: float
    height: float
    phrase: str


@dataclass(frozen=True, slots=True)
class Medium:
    """An image, a video or a sound: its name, what is known of it, and pictures of it or why there
    are none.
    """

    number: int
    type: str
    name: str
    facts: str
    frames: tuple[Frame, ...] = ()
    boxes: tuple[Box, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens of one kind side by side: the ids and the words of each."""

    kind: RunKind
    tokens: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a template makes of a conversation, in words; ``cut`` says what is not shown."""

    summary: str
    runs: tuple[Run, ...]
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One conversation on the page."""

    row: int
    id: str
    source: str
    split: str
    turns: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    media: tuple[Medium, ...]
    judged: str
    tools: str
    extra: str
    tokens: Tokens | None = None
    fault: str = ""
    lengths: Lengths | None = None


def make_card(
    store: Store, row: int, template: Template | None, decoder: IsolatedDecoder, room: int
) -> Card:
    """Return what the page shows of a row in about ``room`` bytes; the ``decoder`` opens its media
    files, and reads it by ``template``.

    Half of them are for pictures, a quarter each for texts and tokens; what has no room is left out
    and said to be. A medium that cannot be shown says why; so does a conversation that ``template``
    cannot encode.
    """
    conversation, located = store[row], store.located(row)
    reading, fault = None, ""
    try:
        reading = decoder.read(located)
    except DataError as error:
        fault = visible(str(error))
    encoded = reading.encoded if reading else None

    texts = _Room(room // 4)
    return Card(
        row=row,
        id=texts.line(conversation.id),
        source=one_line(conversation.source),
        split=conversation.split,
        turns=tuple(_turn(message, texts) for message in conversation.messages),
        rejected=tuple(_turn(message, texts) for message in conversation.rejected or ()),
        media=tuple(_media(conversation, located, encoded, decoder, room // 2)),
        judged={None: "", True: "judged good", False: "judged bad"}[conversation.desirable],
        tools=texts.fold(conversation.tools or ""),
        extra=texts.fold(
            json.dumps(dict(conversation.extra), ensure_ascii=False, indent=1)
            if conversation.extra
            else ""
        ),
        tokens=_tokens(encoded, template, room // 4) if encoded and template else None,
        fault=fault,
        lengths=reading.lengths if reading else None,
    )


class _Room:
    """So many bytes for texts; what no longer goes in is counted in their place."""

    def __init__(self, size: int) -> None:
        self._left = size

    def fold(self, text: str) -> str:
        text = visible(text)
        # No character is shorter than a byte, so that a text of a megabyte is not encoded whole.
        kept = text[: self._left].encode()[: self._left].decode(errors="ignore")
        self._left -= len(kept.encode())
        left_out = len(text) - len(kept)
        return f"{kept} {_MARK} {left_out:,} more characters" if left_out else kept

    def line(self, text: str) -> str:
        return one_line(self.fold(text))


def _turn(message: Message, texts: _Room) -> Turn:
    return Turn(message.role, message.train, tuple(_piece(part, texts) for part in message.content))


def _piece(part: Part, texts: _Room) -> Piece:
    match part:
        case Text():
            return Piece("text", texts.fold(part.text), part.train)
        case Image() | Video() | Audio():
            return Piece("medium", f"{type(part).__name__.lower()} {part.media}", part.train)
        case Region():
            return Piece("region", texts.fold(part.text), part.train)
        case Time():
            end = "" if part.end is None else f" to {part.end:.2f}"
            return Piece("time", f"{part.start:.2f}{end} s", part.train)
        case Reasoning():
            return Piece("reasoning", texts.fold(part.text), part.train)
        case ToolCall():
            called = f" as {part.call_id}" if part.call_id else ""
            return Piece("call", texts.fold(f"{part.name}{called}: {part.arguments}"), part.train)


def _media(
    conversation: Conversation,
    located: Conversation,
    encoded: Encoded | None,
    decoder: IsolatedDecoder,
    room: int,
) -> Iterator[Medium]:
    """Yield the media of a conversation, named as the store names them; ``located`` is where they
    are.
    """
    plans = {plan.media: plan for plan in (encoded.pixels if encoded else ())}
    for number, medium in enumerate(conversation.media):
        share = room // len(conversation.media)
        try:
            frames = decoder.draw(located, number, plans.get(number), share)
            fault = ""
        except Exception as error:  # whatever a decoder raises is said in the place of its picture
            frames, fault = (), visible(str(as_media_error(error, medium.path or "")))
        yield Medium(
            number,
            medium.type,
            _name(medium),
            _facts(medium),
            frames,
            tuple(_boxes(conversation, number)),
            fault,
        )


def _name(medium: Media) -> str:
    if medium.frame_paths:
        return one_line(f"{len(medium.frame_paths)} pictures from {medium.frame_paths[0]}")
    if medium.path is not None:
        return one_line(medium.path)
    return f"{len(medium.bytes or b''):,} embedded bytes"


def _facts(medium: Media) -> str:
    facts = [
        f"{medium.width} × {medium.height}" if medium.width else "",
        f"{medium.duration:.2f} s" if medium.duration else "",
        f"{medium.fps:.2f} frames a second" if medium.fps else "",
        f"{medium.num_frames:,} frames" if medium.num_frames else "",
        f"{len(medium.frames)} of them kept" if medium.frames else "",
        f"clip from {medium.start or 0:.2f} s" if medium.start or medium.end else "",
        f"to {medium.end:.2f} s" if medium.end else "",
        "times derived from the rate" if medium.times == "derived" else "",
        *(oddity.replace("_", " ") for oddity in medium.oddities or ()),
    ]
    return ", ".join(filter(None, facts))


def _boxes(conversation: Conversation, number: int) -> Iterator[Box]:
    for message in (*conversation.messages, *(conversation.rejected or ())):
        for part in message.content:
            if isinstance(part, Region) and part.media == number:
                for x1, y1, x2, y2 in part.boxes:
                    corner = 100 * x1, 100 * y1
                    yield Box(*corner, 100 * (x2 - x1), 100 * (y2 - y1), one_line(part.text))


def _tokens(encoded: Encoded, template: Template, room: int) -> Tokens:
    slots = sum(slot.length for slot in encoded.slots)
    unsaid = ", ".join(encoded.unsaid)
    summary = (
        f"{len(encoded):,} tokens: {encoded.trained:,} trained on, {slots:,} of media"
        f"{f', {encoded.cut:,} cut off' if encoded.cut else ''}"
        f"{f', left unsaid: {unsaid}' if unsaid else ''}"
    )
    runs: list[Run] = []
    shown = 0
    for run, positions in _runs(encoded, template):
        room -= sum(_COST + len(ids) + len(words.encode()) for ids, words in run.tokens)
        if room < 0:
            break
        runs.append(run)
        shown += positions
    left_out = len(encoded) - shown
    return Tokens(summary, tuple(runs), f"{_MARK} {left_out:,} more tokens" if left_out else "")


_COST: Final = 14
"""Bytes of markup around a token."""
_MOST: Final = 64
"""Tokens of a run, so that one that has no room leaves out little."""


def _runs(encoded: Encoded, template: Template) -> Iterator[tuple[Run, int]]:
    """Yield runs of tokens with the number of positions that each takes."""
    done = 0
    for number, slot in enumerate(encoded.slots):
        yield from _words(encoded, template, done, slot.start)
        yield Run("medium", (("", _slot_name(encoded, number)),)), slot.length
        done = slot.stop
    yield from _words(encoded, template, done, len(encoded))


def _slot_name(encoded: Encoded, number: int) -> str:
    """Return what goes into a slot: a medium, or one frame of it and its time."""
    slot = encoded.slots[number]
    plan = encoded.pixels[slot.plan]
    mine = [n for n, other in enumerate(encoded.slots) if other.plan == slot.plan]
    name = f"medium {slot.media}"
    if len(mine) == len(plan.frames):
        name += f", {plan.times[mine.index(number)]:.2f} s"
    return f"{name}: {slot.length:,} tokens"


def _words(
    encoded: Encoded, template: Template, start: int, stop: int
) -> Iterator[tuple[Run, int]]:
    trained = encoded.labels[start:stop] != IGNORE
    ids = encoded.input_ids[start:stop].tolist()
    done = 0
    run: list[tuple[str, str]] = []
    begun = 0
    for count, words in spell_tokens(template.tokenizer, ids):
        if run and (trained[done] != trained[begun] or len(run) == _MOST):
            yield _run(trained, begun, run), done - begun
            run, begun = [], done
        run.append((" ".join(map(str, ids[done : done + count])), visible(words)))
        done += count
    if run:
        yield _run(trained, begun, run), done - begun


def _run(trained: NDArray[Any], begun: int, tokens: Sequence[tuple[str, str]]) -> Run:
    return Run("trained" if trained[begun] else "context", tuple(tokens))
