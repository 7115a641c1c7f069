"""What a source format is: a way to find the records of a source, and a way to read one as a
conversation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from msgspec import Struct

from mmdata.formats._meaning import is_said
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["FlatFormat", "Format", "Origin", "Sample"]


class Origin(Struct, frozen=True, gc=False):
    """Where a row came from: the source ``file`` as POSIX text, its record's ``number`` in it, the
    record's own ``id``.

    ``extra_json`` is the row's column ``extra``. ``folders`` are those below the media root which a
    relative path may start from, in the order in which they are tried; ``""`` is the root itself.
    """

    file: str
    number: int = 0
    id: str | None = None
    extra_json: str = "{}"
    folders: tuple[str, ...] = ("",)

    @property
    def extra(self) -> dict[str, Any]:
        """The fields of the record that have no column of their own."""
        return json.loads(self.extra_json) if self.extra_json != "{}" else {}


@dataclass(frozen=True, slots=True)
class Sample:
    """What a format is told from: the ``sources``, and of their JSON files, if there are any,
    ``records`` that are objects, from all over them, and the ``head``, the first characters of the
    first.
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

    def some_say(self, *keys: str) -> bool:
        """Return whether a record has one of the keys with something in it, as
        :func:`mmdata.formats.toolkit.is_said` tells: a table gives every record all of them.
        """
        return any(is_said(record.get(key)) for record in self.records for key in keys)


class Format(Protocol):
    """A source format. An implementation is a frozen dataclass whose fields are its options, each
    with a default.

    A row that keeps a field in ``extra`` which could change what its record means is a reject, but
    for those in ``harmless_fields``, a set of names, where a format has it.

    The two halves are apart so that a record that cannot be read costs itself alone:
    :meth:`records` goes on after it. A format that :func:`mmdata.formats.detect` shall know has a
    static method ``recognises(sample)`` besides, and, where it is a special case of formats that
    recognise its sources too, their names in the class variable ``refines``. One that can read many
    records faster than one by one is a :class:`FlatFormat`.

    A format whose ``splits_by_name`` is true has its rows put into the split that the names of
    their files say. One that refuses records which say no split has ``without_splits()``, which
    returns the format for those that have none, because the user says the split.

    What a format reads besides its ``shape`` it may show in a class variable ``examples``: a few
    words for each shape, and a source of it as JSON, the name of its file and ``": "`` before it
    where that matters.
    """

    summary: ClassVar[str]
    """One line: what sources of this format are."""

    shape: ClassVar[str]
    """The shape of a source, as a user would sketch it."""

    @property
    def dataset_name(self) -> str:
        """The data set name that rows get in the column ``source``."""

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder that media paths are relative to when the user names none."""

    def files(self, sources: Sequence[Path]) -> list[Path]:
        """Return the files whose size and hash the manifest records, sorted; not the media."""

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield every record of the sources in order; what cannot even be parsed comes as a reject
        in its place.
        """

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record, its media paths as the source spells them.

        Raises:
            RecordError: the record cannot be one; with a reason code.
            SchemaError: the conversation breaks a rule of the schema.
        """

    def candidates(self, path: str, origin: Origin) -> Iterable[str]:
        """Return where a media path of a row may be found under the media root, likeliest first; at
        least one.

        Each is a place that the format documents, never a file of a like name.
        """


@runtime_checkable
class FlatFormat(Protocol):
    """What a format has besides that can read many records faster than one by one.

    A class without it may say so: ``flatten = None``. A format that inherits from one that flattens
    and says anew what a conversation is must do that or flatten anew; of a
    :class:`~mmdata.formats._sources.RecordSource` it is done for it.
    """

    def runs(self, sources: Sequence[Path]) -> Iterator[list[Record | Reject]]:
        """Yield what :meth:`Format.records` does, in lists."""

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return what :meth:`Format.conversation` would say of each of some records, column by
        column, or None where it cannot tell; ``conversation`` reads those.
        """
