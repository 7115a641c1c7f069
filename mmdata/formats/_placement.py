"""Which medium goes where: marks in words, parts that bring their own, and media listed beside the
turns, brought together.

The rule, the same for every format with turns:

- Marks take the listed media in order; numbered ones by number, those with a path by path. In a
  record whose media are of one kind, marks of either kind take them: LLaVA-Video writes ``<image>``
  for a video.
- Where there are fewer marks than media, the first media stand before the first question
  (``missing="lead"``, ms-swift's rule), or that is so only where there is no mark at all
  (``missing="refuse"``, LLaVA's).
- A single medium whose mark is repeated in questions stands where it comes first, as LLaVA's own
  trainer has it (``missing="refuse"`` only).
- A part that brings a medium which is also listed, and has no mark, is that medium, once.
- Marks beside parts that bring as many media, where nothing is listed, are the places of those.
- All else is a ``media_mismatch``: a mark never stays among the words beside a medium.

Two passes: the first collects what asks for a medium and settles which it gets, the second puts the
parts there.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, TypeAlias

from mmdata._tools.marks import may_begin_mark
from mmdata.errors import RecordError
from mmdata.formats._marks import (
    ALL_MARKS,
    CERTAIN_MARKS,
    HALF_MARKS,
    LIKELY_MARKS,
    STRAY_MARKS,
    WRITTEN_PICTURES,
    parse_mark,
)
from mmdata.formats._parts import Piece, Place, ToolResult
from mmdata.formats._placeholders import fill
from mmdata.schema import Image, Media, MediaType, Part, Role, Text, Video, replace

__all__ = ["Missing", "Placed", "place_media"]

Missing: TypeAlias = Literal["lead", "refuse"]
"""What happens where there are fewer marks than media; see the module."""

_Free: TypeAlias = dict[MediaType, list[int]]
"""The numbers of the listed media that have no place yet, by their type."""

_KINDS: Final[tuple[MediaType, ...]] = ("image", "video")


@dataclass(frozen=True, slots=True)
class Placed:
    """The parts of each turn, those that stand before the first question, and all the media: images
    that were listed, videos that were listed, and those that turns brought, in their order.
    """

    contents: Sequence[tuple[Part, ...]]
    leading: list[Part]
    media: Sequence[Media]


@dataclass(frozen=True, slots=True)
class _Ask:
    """What asks for a medium: a mark in a text, or a part. It may say which: the ``listed`` medium
    by its number, the ``index``-th of its kind, or one that is ``brought`` along.
    """

    type: MediaType
    role: Role
    listed: int | None = None
    index: int | None = None
    from_zero: bool = False
    brought: Media | None = None
    is_part: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it does not say which medium it wants, or only by counting."""
        return self.listed is None and self.brought is None


def place_media(
    turns: Sequence[str | Sequence[Piece]],
    roles: Sequence[Role],
    *,
    images: Sequence[Media] = (),
    videos: Sequence[Media] = (),
    image_names: Sequence[str] = (),
    missing: Missing = "lead",
) -> Placed:
    """Return the parts of turns, each a text or a list of pieces, and the media; the module says by
    which rule.

    >>> two = [Media("image", "a.jpg"), Media("image", "b.jpg")]
    >>> place_media(["<image 2> or <image 1>?"], ["user"], images=two).contents[0][0]
    Image(media=1, train=None)

    Raises:
        RecordError: marks and media do not fit each other, or a mark asks for audio.
    """
    names = {name: number for number, name in enumerate(image_names)}
    names |= _find_written(turns, roles, images)
    pattern = _choose_pattern(turns, roles, len(images) + len(videos), names, missing)
    asks = list(_list_asks(turns, roles, pattern, names))
    numbers, leading, media = _assign(asks, images, videos, missing)
    odd = STRAY_MARKS if leading else HALF_MARKS
    if media and (stray := _find_stray(turns, roles, pattern, odd)):
        raise RecordError(
            f"{stray[:60]!r} looks like the mark of a medium, or a part of one, in a spelling that "
            "is not known",
            reason="media_mismatch",
        )

    # The second pass meets the same asks in the same order.
    answers = iter(numbers)

    def next_part(_: object = None) -> Part | None:
        number = next(answers)
        return None if number is None else _part(number, media)

    def part_for(mark: str) -> Part | None:
        return None if mark not in names and parse_mark(mark).type is None else next_part()

    def read(piece: Piece) -> tuple[Part, ...]:
        if isinstance(piece, str):  # white space alone, too, may stand between words
            return (Text(piece),) if piece.isspace() else fill(piece, pattern, part_for)
        if isinstance(piece, (Media, Place)):
            return () if (part := next_part()) is None else (part,)
        assert not isinstance(piece, ToolResult), "results of tools are turns of their own"
        return (piece,)

    contents = [
        fill(turn, pattern, part_for)
        if isinstance(turn, str)
        else _strip_edges([part for piece in turn for part in read(piece)])
        for turn in turns
    ]
    return Placed(contents, [_part(number, media) for number in leading], media)


def _find_written(
    turns: Sequence[str | Sequence[Piece]], roles: Sequence[Role], images: Sequence[Media]
) -> dict[str, int]:
    """Return the pictures that questions show as Markdown or HTML does, with the numbers of the
    listed images that are the same files.
    """
    if not images:
        return {}
    paths = {_spell_path(medium).path: number for number, medium in enumerate(images)}
    found: dict[str, int] = {}
    for piece in _texts_of(turns, roles, "user"):
        for text, *written in WRITTEN_PICTURES.findall(piece):
            number = paths.get(_spell_path(Media("image", "".join(written))).path)
            if number is not None:
                found[text] = number
    return found


def _texts_of(
    turns: Sequence[str | Sequence[Piece]], roles: Sequence[Role], wanted: Role
) -> Iterator[str]:
    """Yield the texts of the turns of a role."""
    for turn, role in zip(turns, roles, strict=True):
        if role == wanted:
            for piece in [turn] if isinstance(turn, str) else turn:
                if isinstance(piece, str):
                    yield piece


def _choose_pattern(
    turns: Sequence[str | Sequence[Piece]],
    roles: Sequence[Role],
    num_listed: int,
    names: Mapping[str, int],
    missing: Missing,
) -> re.Pattern[str]:
    """Return the marks that count: of the spellings that may be words, those that make the numbers
    fit.
    """
    if names:
        alternatives = "|".join(map(re.escape, names))
        return re.compile(f"({alternatives}|{LIKELY_MARKS.pattern[1:]}")
    pieces = [piece for turn in turns for piece in ([turn] if isinstance(turn, str) else turn)]
    texts = [piece for piece in pieces if isinstance(piece, str) and may_begin_mark(piece)]
    if not texts:
        return LIKELY_MARKS

    def count(pattern: re.Pattern[str], texts: Sequence[str] = texts) -> int:
        marks = [parse_mark(mark) for text in texts for mark in pattern.findall(text)]
        return sum(mark.type is not None and mark.path is None for mark in marks)

    places = sum(isinstance(piece, Place) for piece in pieces)
    wanted = (num_listed or sum(isinstance(piece, Media) for piece in pieces)) - places
    certain, likely, every = map(count, (CERTAIN_MARKS, LIKELY_MARKS, ALL_MARKS))
    # In an answer a spelling that may be words is words.
    answers = list(_texts_of(turns, roles, "assistant"))
    if count(ALL_MARKS, answers) > count(LIKELY_MARKS, answers):
        every = likely
    if certain == wanted < likely and (wanted or missing == "refuse"):
        return CERTAIN_MARKS  # all media have a place, so <video> is a word
    if likely < every == wanted:
        return ALL_MARKS
    if num_listed and likely < wanted and likely < every:
        raise _mismatch(every, wanted)
    return LIKELY_MARKS


def _find_stray(
    turns: Sequence[str | Sequence[Piece]],
    roles: Sequence[Role],
    pattern: re.Pattern[str],
    odd: re.Pattern[str],
) -> str | None:
    """Return what looks like a mark, as ``odd`` has it, in a question and is none of those that
    count.
    """
    for piece in _texts_of(turns, roles, "user"):
        if found := odd.search(pattern.sub("", piece)):
            return found[0]
    return None


def _list_asks(
    turns: Sequence[str | Sequence[Piece]],
    roles: Sequence[Role],
    pattern: re.Pattern[str],
    names: Mapping[str, int],
) -> Iterator[_Ask]:
    """Yield what asks for a medium, in order.

    Raises:
        RecordError: audio is asked for.
    """
    for turn, role in zip(turns, roles, strict=True):
        for piece in [turn] if isinstance(turn, str) else turn:
            if isinstance(piece, str):
                for text in pattern.findall(piece):
                    if (ask := _read_mark(text, role, names)) is not None:
                        yield ask
            elif isinstance(piece, Media):
                yield _Ask(piece.type, role, brought=piece, is_part=True)
            elif isinstance(piece, Place):
                yield _Ask(piece.type, role, index=piece.index, from_zero=True, is_part=True)


def _read_mark(text: str, role: Role, names: Mapping[str, int]) -> _Ask | None:
    if text in names:
        return _Ask("image", role, listed=names[text])
    mark = parse_mark(text)
    if mark.type is None:
        return None
    if mark.type == "audio":
        raise RecordError("the record asks for audio", reason="unsupported_media")
    brought = None if mark.path is None else Media(mark.type, mark.path)
    return _Ask(mark.type, role, None, mark.number, mark.from_zero, brought)


def _assign(
    asks: Sequence[_Ask], images: Sequence[Media], videos: Sequence[Media], missing: Missing
) -> tuple[list[int | None], list[int], list[Media]]:
    """Return the number of the medium that each ask gets, None for none; the numbers of the media
    that no one asks for; and all the media.
    """
    media = [*images, *videos]
    free: _Free = {
        "image": list(range(len(images))),
        "video": list(range(len(images), len(media))),
    }
    counting = [place for place, ask in enumerate(asks) if ask.is_open]
    brought = [place for place, ask in enumerate(asks) if ask.brought is not None]
    answers: dict[int, int | None] = {}

    if not media and counting:
        # Nothing is listed: the marks are the places of what the parts bring.
        parts = [place for place in brought if asks[place].is_part]
        return _assign_brought(asks, counting, parts)
    for place, ask in enumerate(asks):
        if ask.listed is not None:
            answers[place] = _take(ask.listed, free, asks)

    # A part may bring what is listed; as many as have no mark of their own.
    for place in brought:
        spare = sum(map(len, free.values())) - len(counting)
        same = (n for numbers in free.values() for n in numbers if _is_same(media[n], asks[place]))
        if (spare > 0 or not asks[place].is_part) and (number := next(same, None)) is not None:
            answers[place] = _take(number, free, asks)
            brought_one = asks[place].brought
            if brought_one is not None and _has_bounds(brought_one):
                start, end = brought_one.start, brought_one.end
                media[number] = replace(media[number], start=start, end=end)

    leading: list[int] = []
    if any(asks[place].index is not None for place in counting):
        _assign_by_number(asks, counting, free, answers)
    else:
        leading = _assign_in_order(asks, counting, free, answers, missing)
    for place in brought:
        if place not in answers:
            answers[place] = len(media)
            media.append(asks[place].brought)  # type: ignore[arg-type]  # it is there
    return [answers[place] for place in range(len(asks))], leading, media


def _assign_brought(
    asks: Sequence[_Ask], counting: Sequence[int], parts: Sequence[int]
) -> tuple[list[int | None], list[int], list[Media]]:
    """Return what :func:`_assign` does where nothing is listed and marks count."""
    if len(parts) != len(counting):
        raise _mismatch(len(counting), len(parts))

    free: _Free = {"image": [], "video": []}
    for number, place in enumerate(parts):
        free[asks[place].type].append(number)

    answers: dict[int, int | None] = dict.fromkeys(parts)
    if any(asks[place].index is not None for place in counting):
        _assign_by_number(asks, counting, free, answers)
    else:
        _assign_in_order(asks, counting, free, answers, "refuse")

    media = [medium for place in parts if (medium := asks[place].brought) is not None]
    for place, ask in enumerate(asks):
        if place not in answers and ask.brought is not None:
            answers[place] = len(media)
            media.append(ask.brought)

    return [answers[place] for place in range(len(asks))], [], media


def _assign_by_number(
    asks: Sequence[_Ask], counting: Sequence[int], free: _Free, answers: dict[int, int | None]
) -> None:
    """Give asks that count the media of their numbers; into ``answers``, out of ``free``."""
    from_zero = any(asks[place].from_zero for place in counting)
    numbers = {kind: list(some) for kind, some in free.items()}
    for place in counting:
        ask = asks[place]
        kind = ask.type if numbers[ask.type] else _other(ask.type)
        index = -1 if ask.index is None else ask.index - (0 if from_zero else 1)
        if not 0 <= index < len(numbers[kind]):
            raise _mismatch(len(counting), sum(map(len, numbers.values())))
        answers[place] = _take(numbers[kind][index], free, asks)
    if any(free.values()):
        raise _mismatch(len(counting), sum(map(len, numbers.values())))


def _assign_in_order(
    asks: Sequence[_Ask],
    counting: Sequence[int],
    free: _Free,
    answers: dict[int, int | None],
    missing: Missing,
) -> list[int]:
    """Give asks the media in order, into ``answers``, and return the numbers of those that lead."""
    num_media = sum(map(len, free.values()))
    kinds = {
        place: asks[place].type if free[asks[place].type] else _other(asks[place].type)
        for place in counting
    }
    wanted = Counter(kinds.values())
    repeats = (
        missing == "refuse"
        and num_media == 1
        and all(asks[place].role == "user" for place in counting[1:])
    )
    leading: list[int] = []
    # A mark of the other kind is a loose way to write it, where it fits; never a guess.
    crossed = any(kinds[place] != asks[place].type for place in counting)

    for kind in _KINDS:
        spare = len(free[kind]) - wanted[kind]
        if spare > 0 and crossed:
            raise _mismatch(len(counting), num_media)
        if (spare < 0 and not repeats) or (spare > 0 and counting and missing == "refuse"):
            raise _mismatch(len(counting), num_media)
        leading += [free[kind].pop(0) for _ in range(spare)]

    for place in counting:
        answers[place] = free[kinds[place]].pop(0) if free[kinds[place]] else None

    return leading


def _is_same(medium: Media, ask: _Ask) -> bool:
    """Return whether a listed medium is the one brought along, however its path is spelt."""
    if ask.brought is None:
        return False
    brought = ask.brought
    if not _has_bounds(medium):
        brought = replace(brought, start=None, end=None)
    return _spell_path(medium) == _spell_path(brought)


def _has_bounds(medium: Media) -> bool:
    return medium.start is not None or medium.end is not None


def _spell_path(medium: Media) -> Media:
    if medium.path is None or "://" in medium.path.removeprefix("file://"):
        return medium
    return replace(medium, path=posixpath.normpath(medium.path.removeprefix("file://")))


def _take(number: int, free: _Free, asks: Sequence[_Ask]) -> int:
    """Return a medium's number, taken out of those that are free."""
    for numbers in free.values():
        if number in numbers:
            numbers.remove(number)
            return number
    raise RecordError("two marks stand for one medium", reason="media_mismatch")


def _other(kind: MediaType) -> MediaType:
    return "image" if kind == "video" else "video"


def _part(number: int, media: Sequence[Media]) -> Part:
    return Image(number) if media[number].type == "image" else Video(number)


def _mismatch(marks: int, media: int) -> RecordError:
    return RecordError(f"{marks} marks of media for {media} media", reason="media_mismatch")


def _strip_edges(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Return parts without texts of white space, or none, but for those between words."""
    kept: list[Part] = []
    for is_text, run in groupby(parts, lambda part: type(part) is Text):
        some = list(run)
        spoken = [
            number
            for number, part in enumerate(some)
            if not is_text or part.text.strip()  # type: ignore[union-attr]
        ]
        kept += some[spoken[0] : spoken[-1] + 1] if spoken else []
    return tuple(kept)
