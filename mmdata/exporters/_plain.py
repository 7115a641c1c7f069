"""Plain rows, column by column.

Most rows of most stores say little: turns of text, and media by their paths. Making objects of such
a row takes several times as long as writing it. Here the rows of a batch that are plain are told
from the others by numpy, and read as a few lists.
"""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from mmdata.exporters._features import Feature
from mmdata.formats._marks import has_marks
from mmdata.schema import MediaType, Role
from mmdata.store.arrays import flag_bytes, list_lengths, list_values, valid_bytes
from mmdata.store.decode import Strings, Words
from mmdata.store.encode import PART_CODES, ROLE_CODES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ASSISTANT", "SYSTEM", "USER", "PlainRows", "find_plain"]

SYSTEM, USER, ASSISTANT = (ROLE_CODES[role] for role in ("system", "user", "assistant"))
"""The codes of the roles that plain rows have."""
_TEXT, _IMAGE, _VIDEO = (PART_CODES[name] for name in ("text", "image", "video"))
_ROLES: Final = get_args(Role)
_PARTS: Final = tuple(PART_CODES)
_MEDIA: Final = get_args(MediaType)
_AUDIO: Final = _MEDIA.index("audio")

Pieces: TypeAlias = "Sequence[tuple[MediaType | None, str]]"
"""What a turn says, piece by piece: None with words, or the type of the medium there."""


class PlainRows:
    """Rows of which each has a system's turn, or none, and then turns of user and assistant, of
    which the assistant's are trained on; and images, then videos, each by its path and each shown
    once in its order.

    ``batch`` are their Arrow columns as a store has them; the lists are made when they are asked
    for.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self._columns = _Columns(batch)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.batch)

    @cached_property
    def ids(self) -> Sequence[str]:
        """The id of each row."""
        return Strings(self.batch.column("id")).between(0, len(self))

    @cached_property
    def num_turns(self) -> Sequence[int]:
        """How many turns each row has."""
        turns: list[int] = self._columns.num_turns.tolist()
        return turns

    @cached_property
    def roles(self) -> bytes:
        """The code of the role of each turn, those of all rows one after the other."""
        return self._columns.roles.tobytes()

    @property
    def texts(self) -> Sequence[str]:
        """What each turn says; ``""`` where media stand in it."""
        return self._said[0]

    @property
    def placed(self) -> Sequence[tuple[int, Pieces]]:
        """The turns in which media stand: their numbers, and their pieces."""
        return self._said[1]

    @property
    def images(self) -> Sequence[Sequence[str]]:
        """The paths of each row's images."""
        return self._paths[0]

    @property
    def videos(self) -> Sequence[Sequence[str]]:
        """The paths of each row's videos."""
        return self._paths[1]

    @cached_property
    def extras(self) -> Sequence[str]:
        """What else each row has, as JSON; ``"{}"`` for nothing."""
        return Strings(self.batch.column("extra")).between(0, len(self))

    @cached_property
    def _said(self) -> tuple[Sequence[str], Sequence[tuple[int, Pieces]]]:
        return _read_texts(self._columns)

    @cached_property
    def _paths(self) -> tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]:
        return _read_paths(self._columns)


class _Columns:
    """What finding and reading both look at: roles, kinds of parts, and how they nest."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        import numpy as np

        messages = batch.column("messages")
        self.batch = batch
        self.num_turns = list_lengths(messages)
        self.messages = list_values(messages)
        content = self.messages.field("content")
        self.num_parts = list_lengths(content)
        self.parts = list_values(content)
        self.roles = _codes(self.messages.field("role"), _ROLES)
        self.kinds = _codes(self.parts.field("type"), _PARTS)
        self.row_of_message = np.repeat(np.arange(len(batch)), self.num_turns)
        self.row_of_part = np.repeat(self.row_of_message, self.num_parts)
        self.num_media = list_lengths(batch.column("media"))
        self.media = list_values(batch.column("media"))


def find_plain(batch: pa.RecordBatch, *, without: Collection[Feature] = ()) -> NDArray[np.bool_]:
    """Return which rows of a batch are plain, (rows,) bool, and say nothing of what they are to be
    ``without``.
    """
    import numpy as np

    columns = _Columns(batch)
    plain = columns.num_turns >= 2
    for name in ("tools", "rejected", "desirable"):
        plain &= ~_there(batch.column(name))

    if "extra" in without:
        extras = Strings(batch.column("extra")).between(0, len(batch))
        plain &= np.fromiter((extra == "{}" for extra in extras), np.bool_, len(batch))
    if "system" in without:
        _refuse(plain, columns.row_of_message, columns.roles == SYSTEM)
    _refuse_turns(plain, columns)
    parts = columns.parts
    _refuse(plain, columns.row_of_part, columns.kinds > _VIDEO)
    _refuse(plain, columns.row_of_part, _there(parts.field("train")))
    _refuse_marks(plain, columns)
    _refuse_media(plain, columns)
    return plain


def _refuse_turns(plain: NDArray[np.bool_], columns: _Columns) -> None:
    """Unset the rows whose turns are not a system's, or none, and then user and assistant by
    turns, in place.
    """
    import numpy as np

    roles, rows = columns.roles, columns.row_of_message
    starts = np.cumsum(columns.num_turns) - columns.num_turns
    has_system = np.zeros(len(plain), np.int64)
    has_system[plain] = roles[starts[plain]] == SYSTEM

    place = np.arange(len(roles)) - starts[rows] - has_system[rows]
    expected = np.where(place < 0, SYSTEM, np.where(place % 2 == 0, USER, ASSISTANT))
    _refuse(plain, rows, roles != expected)
    trained = np.frombuffer(flag_bytes(columns.messages.field("train")), np.bool_)
    _refuse(plain, rows, trained != (roles == ASSISTANT))
    plain &= (columns.num_turns - has_system) % 2 == 0


def _refuse_marks(plain: NDArray[np.bool_], columns: _Columns) -> None:
    """Unset the rows in whose words something looks like the mark of a medium, in place."""
    import numpy as np

    texts = columns.parts.field("text")
    data = texts.buffers()[2]
    # Nearly no text of a captioning set has a "<": one look at all of them.
    if data is None or b"<" not in memoryview(data).tobytes():
        return
    words = Strings(texts).between(0, len(texts))
    marked = np.fromiter(map(has_marks, words), np.bool_, len(words))
    _refuse(plain, columns.row_of_part, marked)


def _refuse_media(plain: NDArray[np.bool_], columns: _Columns) -> None:
    """Unset the rows whose media are not known by their paths alone, or not each shown once in the
    order of images and then videos, in place.
    """
    import numpy as np

    shows = columns.kinds != _TEXT
    shows &= columns.kinds <= _VIDEO
    row_of_shown = columns.row_of_part[shows]
    numbers = columns.parts.field("media")
    shown = np.frombuffer(numbers.buffers()[1], np.int32)[
        numbers.offset : numbers.offset + len(numbers)
    ][shows]
    counts = np.bincount(row_of_shown, minlength=len(plain))
    plain &= counts == columns.num_media
    expected = np.arange(len(shown)) - np.repeat(np.cumsum(counts) - counts, counts)
    _refuse(plain, row_of_shown, shown != expected)

    media = columns.media
    row_of_medium = np.repeat(np.arange(len(plain)), columns.num_media)
    types = _codes(media.field("type"), _MEDIA)
    _refuse(plain, row_of_medium, types == _AUDIO)
    _refuse(plain, row_of_medium, ~_there(media.field("path")))
    for name in ("start", "end", "frame_paths"):
        _refuse(plain, row_of_medium, _there(media.field(name)))
    falls = (np.diff(types.astype(np.int8)) < 0) & (np.diff(row_of_medium) == 0)
    _refuse(plain, row_of_medium[1:], falls)


def _read_texts(columns: _Columns) -> tuple[list[str], list[tuple[int, Pieces]]]:
    """Return the text of each turn, and the pieces of those in which media stand."""
    import numpy as np

    said = Strings(columns.parts.field("text")).between(0, len(columns.parts))
    if len(said) == len(columns.roles) and not columns.kinds.any():
        return said, []

    turns = len(columns.roles)
    turn_of_part = np.repeat(np.arange(turns), columns.num_parts)
    are_texts = columns.num_parts == 1
    are_texts[turn_of_part[columns.kinds != _TEXT]] = False

    starts = np.cumsum(columns.num_parts) - columns.num_parts
    texts = [said[start] for start in starts.tolist()]
    kinds: list[int] = columns.kinds.tolist()
    placed: list[tuple[int, Pieces]] = []
    for turn in np.flatnonzero(~are_texts).tolist():
        start, count = int(starts[turn]), int(columns.num_parts[turn])
        pieces = [(_TYPE_OF.get(kinds[n]), said[n]) for n in range(start, start + count)]
        placed.append((turn, pieces))
        texts[turn] = ""
    return texts, placed


_TYPE_OF: Final[dict[int, MediaType]] = {_IMAGE: "image", _VIDEO: "video"}
_NONE: Final[Sequence[str]] = ()


def _read_paths(columns: _Columns) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    """Return the paths of each row's images and of its videos."""
    rows = len(columns.batch)
    if not len(columns.media):
        return [_NONE] * rows, [_NONE] * rows

    paths = Strings(columns.media.field("path")).between(0, len(columns.media))
    bounds = list(accumulate(columns.num_media.tolist(), initial=0))
    of_rows = [paths[start:end] for start, end in pairwise(bounds)]
    types = Words.of(columns.media.field("type"), _MEDIA).codes
    video = _MEDIA.index("video")
    if video not in types:
        return of_rows, [_NONE] * rows  # type: ignore[return-value]
    # Images come first: a row's first video is where they end.
    cuts = [bytes(types[start:end]).find(video) for start, end in pairwise(bounds)]
    images = [some if cut < 0 else some[:cut] for some, cut in zip(of_rows, cuts, strict=True)]
    videos = [_NONE if cut < 0 else some[cut:] for some, cut in zip(of_rows, cuts, strict=True)]
    return images, videos  # type: ignore[return-value]


def _codes(array: pa.StringArray, words: tuple[str, ...]) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(bytes(Words.of(array, words).codes), np.uint8)


def _there(array: pa.Array) -> Any:
    import numpy as np

    return np.frombuffer(valid_bytes(array), np.bool_)


def _refuse(plain: NDArray[np.bool_], rows: NDArray[np.int64], are_odd: NDArray[np.bool_]) -> None:
    """Unset the rows of what is odd, in place."""
    if are_odd.any():
        plain[rows[are_odd]] = False
