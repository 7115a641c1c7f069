"""The media of records on their way to a store: found under the media root, looked into, embedded.

One generator for each. A record whose media fail becomes a reject in its place.
"""

from __future__ import annotations

import heapq
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_not
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mmdata.errors import MediaError, RecordError
from mmdata.formats import Format, Record, Spoken
from mmdata.locate import SizeOf, are_there, find, is_file, is_url, size_of
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, MediaType, replace

if TYPE_CHECKING:
    from mmdata.checks import Prober

__all__ = ["Item", "Opened", "Place", "embed_media", "find_media", "opened", "probe_media"]

Opened: TypeAlias = tuple[Record, Conversation] | Reject
"""A record with its conversation, or the reject it has become."""
Item: TypeAlias = Opened | Spoken
"""What goes through a conversion."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where media are, whether and how they are looked for, and whether they are to be embedded."""

    root: str
    look: bool
    allow_outside: bool
    embed: bool = False
    size_of: SizeOf = size_of


def find_media(items: Iterable[Item], reader: Format, place: Place) -> Iterator[Item]:
    """Give each medium its path under the media root, or refuse the record if one of its media is not there."""
    for item in items:
        if isinstance(item, Spoken):
            yield _found_together(item, reader, place)
        else:
            yield item if isinstance(item, Reject) else _found(*item, reader, place)


def _found_together(spoken: Spoken, reader: Format, place: Place) -> Spoken:
    """Find the media of dialogues: all at once where each is at the first place to look, else one by one."""
    records, paths = spoken.records, list(spoken.dialogues.paths)
    named = [number for number, path in enumerate(paths) if path]
    likeliest = [next(iter(reader.candidates(paths[number], records[number]))) for number in named]
    urls = "://" in " ".join(paths)
    if urls or not are_there(place.root, likeliest, spoken.dialogues.type, look=place.look, size_of=place.size_of):
        return _found_apart(spoken, reader, place)
    for number, path in zip(named, likeliest, strict=True):
        paths[number] = path
    return spoken._replace(dialogues=replace(spoken.dialogues, paths=paths))


def _found_apart(spoken: Spoken, reader: Format, place: Place) -> Spoken:
    paths, errors = list(spoken.dialogues.paths), {}
    for number, path in enumerate(paths):
        try:
            paths[number] = path and _path(path, spoken.dialogues.type, spoken.records[number], reader, place)
        except RecordError as error:
            errors[number] = error
    return spoken._replace(dialogues=replace(spoken.dialogues, paths=paths)).without(errors)


def _found(record: Record, conversation: Conversation, reader: Format, place: Place) -> Opened:
    try:
        media = tuple([_placed(medium, record, reader, place) for medium in conversation.media])
    except RecordError as error:
        return record.rejected(error)
    moved = any(map(is_not, media, conversation.media))
    return record, (replace(conversation, media=media) if moved else conversation)


def _placed(medium: Media, record: Record, reader: Format, place: Place) -> Media:
    path = medium.path and _path(medium.path, medium.type, record, reader, place)
    return medium if path == medium.path else replace(medium, path=path)


def _path(path: str, kind: MediaType, record: Record, reader: Format, place: Place) -> str:
    if is_url(path):
        return _remote(path, place)
    candidates = reader.candidates(path.removeprefix("file://"), record)
    return find(place.root, candidates, kind, look=place.look, allow_outside=place.allow_outside, size_of=place.size_of)


def _remote(url: str, place: Place) -> str:
    """Return a URL where media are kept by name alone: nobody has read what is behind it."""
    if not (place.look or place.embed):
        return url
    without = "--check none without --embed" if place.embed else "--check none"
    raise RecordError(
        f"{url} is a URL: nothing behind URLs is read yet, so nothing can be said of it. {without} keeps it by name; "
        "or download the media and name the files.",
        reason="remote_media",
    )


def opened(items: Iterable[Item]) -> Iterator[Opened]:
    """Yield the items with each dialogue as a conversation, in the order of the records."""
    for item in items:
        if isinstance(item, Spoken):
            rows: Iterable[Opened] = zip(item.records, item.dialogues.conversations(), strict=True)
            rejects: Iterable[Opened] = item.rejects
            yield from heapq.merge(rows, rejects, key=_number)
        else:
            yield item


def _number(item: Opened) -> int:
    return item.record if isinstance(item, Reject) else item[0].number


def probe_media(items: Iterable[Opened], place: Place, prober: Prober) -> Iterator[Item]:
    """Look inside each medium, some records ahead on other processes, and keep the order."""
    from mmdata.checks import File

    def files_of(item: Opened) -> list[File]:
        media: Sequence[Media] = () if isinstance(item, Reject) else item[1].media
        return [File(_file(medium, place), medium.type) for medium in media if is_file(medium)]

    for item, found in prober.answers(items, files_of):
        if isinstance(item, Reject) or not found:
            yield item
        elif isinstance(found, MediaError):
            yield item[0].rejected(found)
        else:
            facts = iter(found)
            media = tuple(replace(m, **next(facts)) if is_file(m) else m for m in item[1].media)
            yield item[0], replace(item[1], media=media)


def embed_media(items: Iterable[Opened], place: Place) -> Iterator[Item]:
    """Put the bytes of each medium's file beside its path."""
    for item in items:
        if isinstance(item, Reject):
            yield item
            continue
        record, conversation = item
        try:
            media = tuple(
                replace(m, bytes=Path(_file(m, place)).read_bytes()) if is_file(m) else m for m in conversation.media
            )
        except OSError as error:
            yield record.rejected(MediaError(f"cannot read {error.filename}: {error.strerror}"))
        else:
            yield record, replace(conversation, media=media)


def _file(medium: Media, place: Place) -> str:
    return posixpath.join(place.root, medium.path or "")
