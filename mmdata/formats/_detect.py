"""Telling which format a source is, by records from all over it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from mmdata._tools.registry import Registry
from mmdata.errors import PluginError, RecordError, UsageError
from mmdata.formats._format import Format, Sample, undeclared
from mmdata.formats._heard import check_heard
from mmdata.formats._nested import open_wrappers
from mmdata.formats._turn_reader import list_turns
from mmdata.rejects import Reason, Reject
from mmdata.sources.files import SourceFile, list_files
from mmdata.sources.parquet import sample_groups
from mmdata.sources.read import read_runs
from mmdata.sources.record import Record
from mmdata.sources.sample import FileSample, pick_places, sample_file

__all__ = ["Detection", "detect"]

_log: Final = logging.getLogger("mmdata.formats")
_TURNS: Final = ("messages", "conversations", "conversation")
_MOST_FILES: Final = 100
"""Of more files, so many are looked into: a folder of ten thousand costs about a second."""
_FEW_FILES: Final = 5
_RECORDS: Final = 20
"""How many records are taken from each place of a file, where there are few files; else fewer."""
_RECORDS_OF_MANY: Final = 4
_LARGEST_READ: Final = 1 << 26
"""Up to how many bytes a JSON file of which no record was found is read for what is wrong: what is
one object of gigabytes is not.
"""
_LARGEST_TABLE: Final = 1 << 24
"""Up to how many bytes a CSV or Arrow file is read whole for records from all over it: nothing in
either says where its rows begin.
"""
_FAR: Final = frozenset({Reason.MALFORMED, Reason.NO_CONVERSATION})
"""The reasons of which a format says that a record has not its shape."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The ``format`` of a source, and what was ``seen`` of it, for people."""

    format: str
    seen: str


@dataclass(frozen=True, slots=True)
class _Look:
    """One record of a file, or the head of one that has no records; and the formats that recognise
    it by itself.
    """

    file: Path
    sample: Sample
    formats: frozenset[str]


def detect(registry: Registry[type[Format]], sources: Sequence[Path]) -> Detection:
    """Return the one format that recognises the sources.

    Raises:
        UsageError: there is none, or there are several, or the sources are mixed; the message says
            what was seen.
    """
    files, total = _choose_files(sources)
    if not files:
        sample = Sample(sources)
        return Detection(_only(registry, _recognise(registry, sample), sample, ""), "its folders")

    count = _RECORDS if len(files) <= _FEW_FILES else _RECORDS_OF_MANY
    samples = {file.path: _sample(file, count) for file in files}
    objects = [value for found in samples.values() for value in _objects(found)]
    whole = Sample(sources, objects, next(iter(samples.values())).head)
    seen = _describe(samples, len(objects), total)

    found = _recognise(registry, whole)
    unread = [file for file, sample in samples.items() if not sample.records]
    if len(found) == 1 and not (objects and unread):
        return Detection(found[0], seen)

    # Not all are alike: which are of which format shows where each is looked at by itself.
    looks = _look_at_each(registry, sources, samples)
    known = [look for look in looks if look.formats]
    if known and len(known) * 2 > len(looks):
        rest = [value for look in known for value in look.sample.records]
        found = found or _recognise(registry, Sample(sources, rest, known[0].sample.head))
        of_all = frozenset.intersection(*(look.formats for look in known))
        found = found or sorted(of_all)
        others = [look for look in known if not look.sample.records]
        if len(found) == 1 and all(found[0] in look.formats for look in others):
            odd = len(looks) - len(known)
            return Detection(found[0], f"{seen}; {odd} of no format" if odd else seen)
        if not of_all:
            raise UsageError(_mixed(sources, known, seen))
    why = "" if found else _why_none(registry, files, samples)
    return Detection(_only(registry, found, whole, why), seen)


def _sample(file: SourceFile, count: int) -> FileSample:
    """Return records of a file: of JSON, Parquet and tables that are not large from all over it, of
    others from its head.
    """
    if file.kind == "json":
        return sample_file(file.path, count)
    if file.kind == "parquet":
        groups = sample_groups(file.path, count)
        found = [item.value for group in groups for item in group if isinstance(item, Record)]
        places = ("head", "middle", "end") if len(groups) > 1 else ("the head",)
        return FileSample("", tuple(found), places)
    read = chain.from_iterable(read_runs(file))
    values = (item.value for item in read if isinstance(item, Record))
    if file.kind in ("csv", "arrow") and file.path.stat().st_size <= _LARGEST_TABLE:
        return pick_places("", list(values), count)
    return FileSample("", tuple(islice(values, count)), ("the head",))


def _choose_files(sources: Sequence[Path]) -> tuple[list[SourceFile], int]:
    """Return the files to look into, and how many there are: of many, some that lie evenly spread
    among them.
    """
    files = list_files(sources)
    count = min(len(files), _MOST_FILES)
    # The first and the last are among them.
    places = [number * (len(files) - 1) // max(1, count - 1) for number in range(count)]
    return [files[place] for place in places], len(files)


def _objects(sample: FileSample) -> list[dict[str, Any]]:
    """Return the records of a sample that are objects, as they are read: without what stands around
    several, without fields that are null, which a table gives to every row, and with turns that are
    text taken for what they say.
    """
    return [_read_turns(_without_null(value)) for value in open_wrappers(sample.records)]


def _without_null(value: dict[str, Any]) -> dict[str, Any]:
    return {name: field for name, field in value.items() if field is not None and field == field}


def _read_turns(value: dict[str, Any]) -> dict[str, Any]:
    texts = [name for name in _TURNS if isinstance(value.get(name), str)]
    try:
        return {**value, **{name: list_turns(value[name]) for name in texts}} if texts else value
    except RecordError:
        return value


def _describe(samples: dict[Path, FileSample], records: int, total: int) -> str:
    """Return what was looked at, for people."""
    places = sorted({", ".join(sample.places) for sample in samples.values()})
    of_files = "1 file" if total == 1 else f"{total:,} files"
    if total > len(samples):
        of_files = f"{len(samples):,} of {of_files}"
    return f"{records:,} record{'s' * (records != 1)} ({'; '.join(places)}) of {of_files}"


def _look_at_each(
    registry: Registry[type[Format]], sources: Sequence[Path], samples: dict[Path, FileSample]
) -> list[_Look]:
    looks: list[_Look] = []
    for file, found in samples.items():
        records = _objects(found)
        alone = [Sample(sources, [value], found.head) for value in records]
        for sample in alone or [Sample(sources, (), found.head)]:
            formats = frozenset(_recognise(registry, sample))
            if formats or sample.records:
                looks.append(_Look(file, sample, formats))
    return looks


def _mixed(sources: Sequence[Path], looks: Sequence[_Look], seen: str) -> str:
    """Return what a mixed source is made of: the few formats that recognise all between them."""
    made_of: list[str] = []
    left = list(looks)
    while left:
        names = sorted({name for look in left for name in look.formats})
        best = max(names, key=lambda name: sum(name in look.formats for look in left))
        taken = [look for look in left if best in look.formats]
        made_of.append(f"{best} ({len(taken):,} of {len(looks):,}, the first in {taken[0].file})")
        left = [look for look in left if best not in look.formats]
    return (
        f"{', '.join(map(str, sources))} is mixed, made of {' and '.join(made_of)}; looked at: "
        f"{seen}. Convert the files of each format by themselves, and mix the stores; or name one "
        "format, and the records of the others are rejects."
    )


def _why_none(
    registry: Registry[type[Format]], files: Sequence[SourceFile], samples: dict[Path, FileSample]
) -> str:
    """Return why no format recognises the sources, for people: what keeps their records from being
    read at all, or what the one format that comes near has against all of them; else nothing.
    """
    records = [
        Record(value, file.as_posix(), 0)
        for file, sample in samples.items()
        for value in _objects(sample)
    ]
    if not records:
        for file in files:
            reject = _first_fault(file)
            if reject is not None:
                return f"no record of {file.path} can be read: {reject.detail}"
        return ""

    near: dict[str, Reject] = {}
    for name in registry.names():
        try:
            kind = registry.get(name)
        except PluginError:
            continue  # which has been logged
        if undeclared(kind) or registry.plugin_of(kind) is not None:
            continue
        # A format may refuse what has nothing to do with it for the want of something.
        if not all(any(f'"{key}"' in kind.shape for key in one.value) for one in records):
            continue
        rejects = [_refusal(kind(), record) for record in records]
        if rejects[0] and all(one and one.reason not in _FAR for one in rejects):
            near[name] = rejects[0]
    if len(near) != 1:
        return ""
    [(name, reject)] = near.items()
    return (
        f"{name} comes nearest, and refuses all records that were looked at, the first because: "
        f"{reject.detail} [{reject.reason.value}]"
    )


def _first_fault(file: SourceFile) -> Reject | None:
    """Return what is wrong with the first record of a file, if anything is."""
    if file.kind == "json" and file.path.stat().st_size > _LARGEST_READ:
        return None
    first = next(chain.from_iterable(read_runs(file)), None)
    return first if isinstance(first, Reject) else None


def _refusal(reader: Format, record: Record) -> Reject | None:
    """Return the reject that a format makes of a record; None where it reads it."""
    try:
        conversation = reader.conversation(record)
        check_heard(conversation, reader.harmless_fields, reader.meaning_fields)
    except Exception as error:  # one record's border, and nobody has said that it is this format's
        return record.rejected(error)
    return None


def _only(registry: Registry[type[Format]], found: Sequence[str], sample: Sample, why: str) -> str:
    """Return the one format that was found; ``why`` there is none is said where it is known."""
    if len(found) == 1:
        return found[0]
    if why:
        raise UsageError(f"{why}. Name the format to have every reject listed.")
    names = registry.names()
    which = f"could be {' or '.join(found)}" if found else "is none of " + ", ".join(names)
    keys = sorted({key for record in sample.records for key in record})
    seen = f"; its records have the fields {', '.join(keys)[:300]}" if keys else ""
    raise UsageError(f"{', '.join(map(str, sample.sources))} {which}{seen}. Name the format.")


def _recognise(registry: Registry[type[Format]], sample: Sample) -> list[str]:
    """Return the formats that recognise a sample, but for those of which one is a special case."""
    found = [name for name in registry.names() if _recognises(registry, name, sample)]
    refined = {general for name in found for general in registry.get(name).refines}
    return [name for name in found if name not in refined]


def _recognises(registry: Registry[type[Format]], name: str, sample: Sample) -> bool:
    """Return whether a format recognises a sample; what another package's stumbles over is logged,
    and counts as no.
    """
    try:
        kind = registry.get(name)
    except PluginError as error:
        _log.warning("passed over: %s", error)
        return False
    if missing := undeclared(kind):
        _log.warning("passed over: the format %r declares no %s", name, ", ".join(missing))
        return False
    try:
        return bool(kind.recognises(sample))
    except Exception as error:  # another package's code, which must not keep ours from being found
        plugin = registry.plugin_of(kind)
        if plugin is None:
            raise
        _log.warning(
            "passed over: %s cannot tell whether it recognises the sources: %r", plugin, error
        )
        return False
