"""What a source format is: a way to find the records of a source, and a way to read one as a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from msgspec import Struct, to_builtins

from mmdata.dialogues import Dialogues
from mmdata.errors import DataError
from mmdata.rejects import Reason, Reject
from mmdata.schema import Conversation

__all__ = ["Format", "Record", "Sample", "Spoken"]


class Record(Struct, frozen=True, gc=False):
    """One record of a source: its ``raw`` value, which may be typed, and where it stands.

    ``file`` is the source file as POSIX text, ``number`` the record's number in it counted from 0, ``id`` the record's
    own id as text, or None; ``size`` how many characters its text has, or None where nobody has counted.
    """

    raw: Any
    file: str
    number: int
    id: str | None = None
    size: int | None = None

    @property
    def value(self) -> Any:
        """The record as JSON has it: dictionaries, lists, text, numbers."""
        return to_builtins(self.raw) if isinstance(self.raw, Struct) else self.raw

    def rejected(self, error: Exception) -> Reject:
        """Return the reject that the record becomes by an error."""
        reason = Reason.of(getattr(error, "reason", Reason.MALFORMED.value))
        detail = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        return Reject(self.number, self.file, self.id, reason, detail)


class Spoken(NamedTuple):
    """Records with the dialogues that they are, as many; and the rejects that others between them have become."""

    records: Sequence[Record]
    dialogues: Dialogues
    rejects: Sequence[Reject] = ()

    def take(self, places: Sequence[int]) -> Spoken:
        """Return those at the places, and all the rejects."""
        return self._replace(records=[self.records[place] for place in places], dialogues=self.dialogues.take(places))

    def without(self, errors: Mapping[int, Exception]) -> Spoken:
        """Return those that have no error, by their places, the others as rejects, which are in the records' order."""
        if not errors:
            return self
        rejects = [*self.rejects, *(self.records[place].rejected(error) for place, error in errors.items())]
        kept = [place for place in range(len(self.records)) if place not in errors]
        return self.take(kept)._replace(rejects=sorted(rejects, key=attrgetter("record")))


@dataclass(frozen=True, slots=True)
class Sample:
    """What a format is told from: the ``sources``, and of their first JSON file, if there is one, the first
    ``records`` that are objects and the ``head``, its first characters.
    """

    sources: Sequence[Path]
    records: Sequence[Mapping[str, Any]] = ()
    head: str = ""

    def every(self, *keys: str) -> bool:
        """Return whether there are records and each has all of the keys."""
        return bool(self.records) and all(key in record for record in self.records for key in keys)

    def some(self, *keys: str) -> bool:
        """Return whether a record has one of the keys."""
        return any(key in record for record in self.records for key in keys)


class Format(Protocol):
    """A source format. An implementation is a frozen dataclass whose fields are its options, each with a default.

    The two halves are apart so that a record that cannot be read costs itself alone: :meth:`records` goes on after it.
    A format that :func:`mmdata.formats.detect` shall know has a static method ``recognises(sample)`` besides. One that
    can read many records faster than one by one has a method ``dialogues(sources)``, which yields what :meth:`records`
    does, with as many together as are dialogues one after the other (:class:`Spoken`); :meth:`conversation` reads those
    that are none.
    """

    summary: ClassVar[str]
    """One line: what sources of this format are."""

    shape: ClassVar[str]
    """The shape of a source, as a user would sketch it."""

    @property
    def source(self) -> str:
        """The data set name that rows get in the column ``source``."""

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder that media paths are relative to when the user names none."""

    def files(self, sources: Sequence[Path]) -> list[Path]:
        """Return the files whose size and hash the manifest records, sorted; not the media."""

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield every record of the sources in order; what cannot even be parsed comes as a reject in its place."""

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record, its media paths as the source spells them.

        Raises:
            RecordError: the record cannot be one; with a reason code.
            SchemaError: the conversation breaks a rule of the schema.
        """

    def candidates(self, path: str, record: Record) -> Iterable[str]:
        """Return where a media path of a record may be found under the media root, likeliest first; at least one."""
