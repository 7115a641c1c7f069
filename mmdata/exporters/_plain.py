"""Plain rows, column by column.

Most rows of most stores say little: turns of text, and media by their paths. Making objects of such
a row takes several times as long as writing it. Here the rows of a batch that are plain are told
from the others by numpy.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, get_args

from mmdata._tools.marks import MARK_BEGINNINGS
from mmdata.exporters._features import Feature
from mmdata.schema import MediaType, Role
from mmdata.store.arrays import flag_bytes, list_lengths, list_values, valid_bytes
from mmdata.store.decode import Strings, Words
from mmdata.store.encode import PART_CODES, ROLE_CODES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ASSISTANT", "SYSTEM", "USER", "Columns", "PlainRows", "find_plain"]

SYSTEM, USER, ASSISTANT = (ROLE_CODES[role] for role in ("system", "user", "assistant"))
"""The codes of the roles that plain rows have."""
_TEXT, _IMAGE, _VIDEO = (PART_CODES[name] for name in ("text", "image", "video"))
_ROLES: Final = get_args(Role)
_PARTS: Final = tuple(PART_CODES)
_MEDIA: Final = get_args(MediaType)
_AUDIO: Final = _MEDIA.index("audio")
_VIDEOS: Final = _MEDIA.index("video")


class PlainRows:
    """Rows of which each has a system's turn, or none, and then turns of user and assistant, of
    which the assistant's are trained on; and images, then videos, each by its path, or videos by
    their cached frames, and each shown once in its order.

    ``batch`` are their Arrow columns as a store has them, ``columns`` those that nest in them.
    """

    def __init__(self, columns: Columns) -> None:
        self.batch = columns.batch
        self.columns = columns

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.batch)

    @property
    def id_array(self) -> pa.StringArray:
        """The id of each row."""
        return self.batch.column("id")

    @cached_property
    def extras(self) -> Sequence[str]:
        """What else each row has, as JSON; ``"{}"`` for nothing."""
        return Strings(self.batch.column("extra")).between(0, len(self))


class Columns:
    """The columns of a batch: ``roles`` and ``kinds`` of parts as codes, how they nest, and of each
    part whether it ``shows`` a medium.
    """

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

    @cached_property
    def shows(self) -> NDArray[np.bool_]:
        """Whether each part is a medium, (parts,) bool; of plain rows, the others are words."""
        shows: NDArray[np.bool_] = self.kinds != _TEXT
        return shows

    @cached_property
    def words(self) -> Sequence[str]:
        """The text of each part; what has none has an empty one."""
        texts = self.parts.field("text")
        return Strings(texts).between(0, len(texts))

    def have_any(self, characters: str) -> bool:
        """Return whether any of the texts has any of some characters of ASCII: one look at all of
        them, which numpy takes a third of the time for that a regular expression does.
        """
        import numpy as np

        data = self.parts.field("text").buffers()[2]
        if data is None:
            return False
        bytes_ = np.frombuffer(data, np.uint8)
        return any(bool((bytes_ == ord(one)).any()) for one in characters)

    @property
    def are_videos(self) -> NDArray[np.bool_]:
        """Whether each part is a video, (parts,) bool."""
        videos: NDArray[np.bool_] = self.kinds == _VIDEO
        return videos

    @cached_property
    def row_of_medium(self) -> NDArray[np.int64]:
        """The row of each medium, (media,)."""
        import numpy as np

        return np.repeat(np.arange(len(self.batch)), self.num_media)

    @cached_property
    def media_are_videos(self) -> NDArray[np.bool_]:
        """Whether each medium is a video, (media,) bool."""
        videos: NDArray[np.bool_] = _codes(self.media.field("type"), _MEDIA) == _VIDEOS
        return videos


def find_plain(
    columns: Columns, *, without: Collection[Feature] = (), as_frames: bool = False
) -> NDArray[np.bool_]:
    """Return which rows of a batch are plain, (rows,) bool, and say nothing of what they are to be
    ``without``. Those that are to leave ``as_frames`` have of each video its cached frames, and the
    place of its file or the bounds of a clip in it are nothing that they say.
    """
    import numpy as np

    batch = columns.batch
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
    _refuse_suspects(plain, columns)
    _refuse_media(plain, columns, as_frames=as_frames)
    return plain


def _refuse_turns(plain: NDArray[np.bool_], columns: Columns) -> None:
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


def _refuse_suspects(plain: NDArray[np.bool_], columns: Columns) -> None:
    """Unset the rows whose words may be read as something else, in place."""
    import numpy as np

    # Nearly no text of a captioning set has any of these.
    if not columns.have_any(MARK_BEGINNINGS):
        return

    # The room of formats takes as long to import as thousands of rows to write.
    from mmdata.formats._suspects import find_suspect

    suspect = [find_suspect(text) is not None for text in columns.words]
    _refuse(plain, columns.row_of_part, np.array(suspect, np.bool_))


def _refuse_media(plain: NDArray[np.bool_], columns: Columns, *, as_frames: bool) -> None:
    """Unset the rows whose media are not known by their paths alone, or videos by their frames, or
    not each shown once in the order of images and then videos, in place.
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
    are_frames = columns.media_are_videos & as_frames
    _refuse(plain, row_of_medium, ~are_frames & ~_there(media.field("path")))
    for name in ("start", "end", "frame_paths"):
        _refuse(plain, row_of_medium, ~are_frames & _there(media.field(name)))
    if as_frames:
        _refuse(plain, row_of_medium, are_frames != _there(media.field("frames")))
    falls = (np.diff(types.astype(np.int8)) < 0) & (np.diff(row_of_medium) == 0)
    _refuse(plain, row_of_medium[1:], falls)


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
