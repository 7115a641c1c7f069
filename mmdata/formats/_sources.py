"""What all formats whose sources are JSON files have in common: which files they are, and where
media may be.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

from mmdata._tools.options import check_fields
from mmdata.errors import RecordError, UsageError
from mmdata.formats._format import Origin
from mmdata.formats._nested import unpack
from mmdata.rejects import Reject
from mmdata.sources._json import runs
from mmdata.sources._run import Way, read_strictly
from mmdata.sources._sniff import binary_kind
from mmdata.sources._walk import is_folder, walk
from mmdata.sources._window import head_of
from mmdata.sources.record import Record
from mmdata.store.layout import is_store

__all__ = [
    "JsonSource",
    "add_fields",
    "conversation_id",
    "json_files",
    "mapping",
    "unmapped_fields",
]

_SUFFIXES: Final = tuple(
    f".{kind}{packed}" for kind in ("json", "jsonl", "ndjson") for packed in ("", ".gz", ".zst")
)
_NO_NAMES: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True)
class JsonSource:
    """Reads JSON files, arrays or lines, compressed or not; a folder stands for those in it, at any
    depth.

    A format inherits it and adds its options, ``summary``, ``shape`` and ``conversation(record)``.
    ``id_key`` is the field that holds a record's own id.
    """

    id_key: ClassVar[str] = "id"

    def __init_subclass__(cls, **options: Any) -> None:
        """Take ``flatten`` from a format that says what a conversation is and not how to flatten
        some: what it may have inherited reads records as another format does.
        """
        super().__init_subclass__(**options)
        if "conversation" in vars(cls) and "flatten" not in vars(cls):
            cls.flatten = None  # type: ignore[attr-defined]

    def __post_init__(self) -> None:
        """Check the options, those of the format that this is."""
        check_fields(self)

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the deepest folder that holds all the files."""
        folders = [os.path.dirname(os.path.abspath(file)) for file in self.files(sources)]  # noqa: PTH100, PTH120
        return Path(os.path.commonpath(folders))

    def files(self, sources: Sequence[Path]) -> list[Path]:
        """Return the JSON files of the sources, in their order."""
        return json_files(sources)

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield the records of the files in order."""
        return chain.from_iterable(self.runs(sources))

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = (read_strictly,)
    ) -> Iterator[list[Record | Reject]]:
        """Yield what :meth:`records` does, in lists of what was read together, in the first of the
        ways that can.
        """
        for file in self.files(sources):
            yield from unpack(runs(file, id_key=self.id_key, ways=ways), self.id_key)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path as the source spells it, then below the folder of the record's file."""
        yield path
        yield from below_folder(path, origin)


def below_folder(path: str, origin: Origin) -> tuple[str, ...]:
    """Return ``path`` below the last two and below the last folder of the record's file, for
    sources side by side.

    >>> below_folder("1.mp4", Origin("videos/part1/nextqa/captions.json"))
    ('part1/nextqa/1.mp4', 'nextqa/1.mp4')
    """
    if path.startswith("/"):
        return ()
    folders = [folder for folder in origin.file.split("/")[-3:-1] if folder not in _NO_NAMES]
    return tuple("/".join((*folders[first:], path)) for first in range(len(folders)))


def json_files(sources: Sequence[Path]) -> list[Path]:
    """Return the sources in their order: files as they are, for a folder the JSON files below it,
    sorted; each once.

    What we wrote below a folder ourselves, or are writing now, is none of its sources.

    Raises:
        UsageError: a source is not there, or is binary, or no JSON file is in them.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            files = map(Path, walk(os.fspath(source), skip=_is_ours))
            found += [
                file for file in files if file.name.lower().endswith(_SUFFIXES) and file.is_file()
            ]
        elif source.is_file():
            if kind := binary_kind(head_of(source)):
                raise UsageError(f"{source} is {kind}")
            found.append(source)
        else:
            raise UsageError(f"file or folder not found: {source}")
    if not found:
        raise UsageError(f"no JSON file ({', '.join(_SUFFIXES)}) in {', '.join(map(str, sources))}")
    return list(dict.fromkeys(found))


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return is_folder(entry) and is_store(Path(entry.path))


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
    if isinstance(record.value, dict):
        return record.value
    raise RecordError(f"a record must be a JSON object, found {json_type(record.value)}")


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
