"""What an exporter is: a target that rows can be written for, what it can say, and one row as a
record of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import msgspec

from mmdata._tools.options import check_fields
from mmdata.exporters._features import Feature
from mmdata.exporters._media import MediaMode, PlacedMedium
from mmdata.exporters._plain import PlainRows
from mmdata.exporters._writers import JsonWriter, Writer, encode_records
from mmdata.schema import Conversation

__all__ = ["Exporter", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row to be written: its conversation, and where each of its media is for whoever reads the
    record.
    """

    conversation: Conversation
    media: Sequence[PlacedMedium]


class Exporter(Protocol):
    """A target of exports. An implementation with options is a frozen dataclass whose fields they
    are, each with a default.

    It inherits this class: what has a default here need not be said. What a row says that is not
    in ``says`` makes the row a reject before it is asked for a record, unless the user drops it.
    """

    summary: ClassVar[str]
    """One line: what is written, and who reads it."""

    shape: ClassVar[str]
    """A record, as a user would sketch it."""

    says: ClassVar[frozenset[Feature]]
    """What it can say besides texts of user and assistant, and their media."""

    media_modes: ClassVar[tuple[MediaMode, ...]] = ("reference", "copy")
    """How media may leave, the usual way first."""

    fields: ClassVar[frozenset[str]] = frozenset()
    """The names of fields that its records, or other spellings of them, have: a field of ``extra``
    cannot have one.
    """

    read_by: ClassVar[str | None] = None
    """The format that reads the records back, where there is one. A row whose words would come back
    as something else, such as the mark of a medium, is then a reject, unless the user drops
    ``marks``.
    """

    def __post_init__(self) -> None:
        """Check the options, of a dataclass."""
        check_fields(self)

    def record(self, row: Row) -> Mapping[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: a record cannot say what the row says.
        """

    def records(self, rows: PlainRows) -> Any:
        """Return many rows at once, as what the writer takes, or None where each is to be asked for
        by itself; by default None.

        They are plain rows (:class:`PlainRows`), of which nothing can be unsayable but that they
        have several media, or of several kinds.
        """
        return None

    def reading_options(self, conversation: Conversation) -> Mapping[str, Any]:
        """Return the options under which the format of ``read_by`` gives a row back; by default
        none but its own.
        """
        return {}

    def as_read(self, record: Any) -> Any:
        """Return a record as whoever reads its file gets it; by default as JSON has it."""
        return msgspec.json.decode(encode_records([record]))

    def with_frames(self) -> Exporter | None:
        """Return what writes records that hold the pictures of videos, as placed media have them in
        ``frames``, where the target has a place for them; by default None.
        """
        return None

    most_parts: ClassVar[int] = 1
    """Into how many parts, of rows that follow one another, many rows may be cut: as many as are
    written at the same time, each into files of its own.
    """

    def open(self, folder: Path) -> Writer:
        """Return what writes records into files in a folder; by default a JSON array for each
        split.
        """
        return JsonWriter(folder)

    def open_part(self, folder: Path, part: int) -> Writer:
        """Return what writes the records of a part, whose number it is, into files in the folder
        that all parts share; by default, where there is but one, :meth:`open`.
        """
        return self.open(folder)

    def finish(self, folder: Path, splits: Mapping[str, int]) -> Sequence[str]:
        """Add to a folder of finished files what the target wants beside them, and return the names
        of the files added; ``splits`` has the records of each. By default there are none.
        """
        return ()
