"""What a source format is: a way to find the records of a source, and a way to read one as a
conversation.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

from msgspec import Struct

from mmdata.errors import PluginError
from mmdata.formats._meaning import is_said
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["FlatFormat", "Format", "Origin", "Sample", "require_declared", "undeclared"]


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

    def some_said(self, *keys: str) -> bool:
        """Return whether a record has one of the keys with something in it, as
        :func:`mmdata.formats.toolkit.is_said` tells: a table gives every record all of them.
        """
        return any(is_said(record.get(key)) for record in self.records for key in keys)


class Format(Protocol):
    """A source format. An implementation is a frozen dataclass whose fields are its options, each
    with a default.

    It inherits this class, or :class:`mmdata.formats.toolkit.RecordSource`, which does: what has a
    default here need not be said. The two halves, :meth:`records` and :meth:`conversation`, are
    apart so that a record that cannot be read costs itself alone: reading goes on after it. One
    that can read many records faster than one by one is a :class:`FlatFormat`.
    """

    summary: ClassVar[str]
    """One line: what sources of this format are."""

    shape: ClassVar[str]
    """The shape of a source, as a user would sketch it."""

    examples: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What the format reads besides its ``shape``: a few words for each shape, and a source of it
    as JSON, the name of its file and ``": "`` before it where that matters.
    """

    harmless_fields: ClassVar[frozenset[str]] = frozenset()
    """Names of fields that may go to ``extra`` although they could change what a record means. One
    that is not among them makes its record a reject.
    """

    meaning_fields: ClassVar[frozenset[str]] = frozenset()
    """Names of fields, in lower case, that change what a record of this format means, beside those
    that do in every format. One that stays in ``extra`` makes its record a reject.
    """

    refines: ClassVar[frozenset[str]] = frozenset()
    """The formats of which this one is a special case: they recognise its sources too."""

    splits_by_name: ClassVar[bool] = False
    """Whether rows of the split "train" are put into the one that the name of their file or folder
    says, if it says one.
    """

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether sources are of this format, for :func:`mmdata.formats.detect`; by default
        no, and the format is found by its name alone.
        """
        return False

    def without_splits(self) -> Format:
        """Return the format for records that need not say their split, because the user does; by
        default the format itself.
        """
        return self

    def declared_files(self, sources: Sequence[Path]) -> Collection[str]:
        """Return the files, as POSIX text, of which their folder declares the split, which goes
        before their names; by default none.
        """
        return ()

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


def undeclared(format: object) -> list[str]:  # noqa: A002
    """Return what a format, or its class, does not declare of what :class:`Format` asks.

    >>> undeclared(object())[:2]
    ['candidates', 'conversation']
    """
    asked = Format.__annotations__.keys() | vars(Format).keys()
    public = sorted(name for name in asked if not name.startswith("_"))
    return [name for name in public if not hasattr(format, name)]


def require_declared(format: object, name: str | None) -> None:  # noqa: A002
    """Refuse a format, or its class, that does not declare all that :class:`Format` asks.

    Raises:
        PluginError: it does not; the message names it and what lacks.
    """
    if missing := undeclared(format):
        raise PluginError(
            f"{name} does not declare {', '.join(missing)}; a format inherits "
            "mmdata.formats.Format, which has what is the same for most"
        )
