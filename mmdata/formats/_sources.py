"""What all formats of records have in common: which files they are read from, and where media may
be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from mmdata._tools.options import check_fields
from mmdata.errors import RecordError
from mmdata.formats._format import Format, Origin
from mmdata.formats._nested import unpack
from mmdata.rejects import Reject
from mmdata.sources._run import Way, read_strictly
from mmdata.sources.files import SourceFile, find_files, tell_by_file
from mmdata.sources.kinds import KINDS, SUFFIXES, Kind
from mmdata.sources.read import read_runs
from mmdata.sources.record import Record
from mmdata.storage._path import common_folder

__all__ = [
    "RecordSource",
    "add_fields",
    "conversation_id",
    "json_files",
    "mapping",
    "unmapped_fields",
]

_SUFFIXES: Final = tuple(chain.from_iterable(SUFFIXES.values()))


@dataclass(frozen=True)
class RecordSource(Format):
    """Reads records from files of any kind: JSON, Parquet, Arrow, CSV, tar; a folder stands for
    those in it, at any depth (:mod:`mmdata.sources`).

    A format inherits it and adds its options, ``summary``, ``shape`` and ``conversation(record)``.
    ``id_key`` is the field that holds a record's own id, ``kinds`` are those of the files that it
    reads.
    """

    id_key: ClassVar[str] = "id"
    kinds: ClassVar[frozenset[Kind]] = KINDS
    splits_by_name: ClassVar[bool] = True
    reads_parts: ClassVar[bool] = True
    """Whether the records of a part of a file are those which reading the whole of it would give
    there, so that parts can be read apart; of a format that says anew what its records are, only
    where it says so.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Take ``flatten`` from a format that says what a conversation is and not how to flatten
        some: what it may have inherited reads records as another format does. Take ``reads_parts``
        from one that says anew what records are.
        """
        super().__init_subclass__(**options)
        if not vars(cls).keys().isdisjoint({"runs", "records"}) and "reads_parts" not in vars(cls):
            cls.reads_parts = False
        if "conversation" in vars(cls) and "flatten" not in vars(cls):
            cls.flatten = None  # type: ignore[attr-defined]

    def __post_init__(self) -> None:
        """Check the options, those of the format that this is."""
        check_fields(self)

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the deepest folder that holds all the files."""
        return common_folder(self.files(sources))

    def source_files(self, sources: Sequence[Path]) -> list[SourceFile]:
        """Return the files that records are read from, in their order; a format that reads not all
        of those which are there says here which it does.

        Raises:
            UsageError: there is none.
        """
        return find_files(sources, self.kinds)

    def files(self, sources: Sequence[Path]) -> list[Path]:
        """Return the files of the sources, in their order."""
        return [file.path for file in self.source_files(sources)]

    def declared_files(self, sources: Sequence[Path]) -> set[str]:
        """Return the files of which their folder declares the split."""
        found = self.source_files(sources)
        return {file.path.as_posix() for file in found if file.split is not None}

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield the records of the files in order."""
        return chain.from_iterable(self.runs(sources))

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = (read_strictly,)
    ) -> Iterator[list[Record | Reject]]:
        """Yield what :meth:`records` does, in lists of what was read together, in the first of the
        ways that can.
        """
        for file, tell in tell_by_file(sources, self.source_files(sources)):
            read = read_runs(file, id_key=self.id_key, ways=ways, tell=tell)
            yield from unpack(read, self.id_key) if file.kind == "json" else read

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Return the path below each folder that it may start from: that of the record's file, and
        the media root.
        """
        return below_folders(path, origin)


def below_folders(path: str, origin: Origin) -> Iterator[str]:
    """Yield ``path`` below each of the folders that it may start from; an absolute one as it is.

    >>> list(below_folders("1.mp4", Origin("videos/part1/captions.json", folders=("part1", ""))))
    ['part1/1.mp4', '1.mp4']
    """
    # A conversion asks for the first place of every medium, and hardly ever for the second.
    if path.startswith("/"):
        yield path
        return
    for folder in origin.folders:
        yield f"{folder}/{path}" if folder else path


def json_files(sources: Sequence[Path]) -> list[Path]:
    """Return the sources in their order: files as they are, for a folder the JSON files below it,
    sorted; each once.

    Raises:
        UsageError: a source is not there, or is no JSON, or no JSON file is in them.
    """
    return [file.path for file in find_files(sources, {"json"})]


def conversation_id(record: Record) -> str:
    """Return the record's own id, else the stem of its file and its number.

    >>> conversation_id(Record({}, "data/clips.jsonl.gz", 7))
    'clips:7'
    """
    if record.id is not None:
        return record.id
    name = PurePosixPath(record.file).name
    stem = next(
        (name[: -len(suffix)] for suffix in _SUFFIXES if name.lower().endswith(suffix)), name
    )
    printable = os.fsencode(stem).decode(errors="backslashreplace")
    return f"{printable}:{record.number}"


def mapping(record: Record) -> dict[str, Any]:
    """Return the record's value, a JSON object.

    >>> mapping(Record({"id": "1"}, "a.json", 0))
    {'id': '1'}

    Raises:
        RecordError: it is something else.
    """
    value = record.value
    if isinstance(value, dict):
        return value
    raise RecordError(f"a record must be a JSON object, found {json_type(value)}")


def unmapped_fields(
    value: dict[str, Any], record: Record, mapped_fields: frozenset[str]
) -> dict[str, Any]:
    """Return what goes into ``extra``: the fields that are not mapped, and the ``id`` where it is
    not a string.

    >>> record = Record({"id": "1", "image": "cup.jpg", "license": "MIT"}, "a.json", 0, "1")
    >>> unmapped_fields(record.value, record, frozenset({"id", "image"}))
    {'license': 'MIT'}
    """
    # Most records have no other field: one comparison of sets is many times faster than a look at
    # each.
    extra = (
        {}
        if mapped_fields.issuperset(value)
        else {k: v for k, v in value.items() if k not in mapped_fields}
    )
    if "id" in value and value["id"] != record.id:
        extra["id"] = value["id"]
    return extra


def add_fields(extra: Mapping[str, Any], **ours: Any) -> dict[str, Any]:
    """Return ``extra`` with values of our own beside its fields, as ``name#2``, ``name#3`` … where
    a name is taken.

    >>> add_fields({"group": "g"}, group=0)
    {'group': 'g', 'group#2': 0}
    """
    return {**extra, **{_free(name, extra): value for name, value in ours.items()}}


def _free(name: str, taken: Mapping[str, Any]) -> str:
    return next(
        free for free in chain([name], (f"{name}#{n}" for n in count(2))) if free not in taken
    )


def json_type(value: object) -> str:
    """Return what a JSON value is, in JSON's words, for a message.

    >>> json_type([]), json_type(None)
    ('an array', 'null')
    """
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), "a number")
