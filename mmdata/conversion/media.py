"""The media of records on their way to a store: found under the media root, looked into, embedded.

Each step is one function over batches. A row whose media fail becomes a reject in its record's
place.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import to_builtins

from mmdata._tools.paths import is_url, join_path
from mmdata.conversion.fingerprint import Fingerprint, compare
from mmdata.conversion.locate import (
    SizeOf,
    all_exist,
    find,
    folders_of,
    is_below,
    size_of,
    slashed,
    under,
)
from mmdata.errors import MediaError, RecordError, StorageError, as_media_error
from mmdata.formats import Format, Origin
from mmdata.schema import CompactTimes, MediaType
from mmdata.storage import Access
from mmdata.storage._media import path_of_medium, reach
from mmdata.storage._path import RemotePath
from mmdata.store.arrays import sparse, valid_bytes
from mmdata.store.batch import ConversationBatch
from mmdata.store.clocks import clock_of, clock_row

if TYPE_CHECKING:
    import pyarrow as pa

    from mmdata._tools.limits import Limits
    from mmdata.conversion.prober import Facts, File, Prober
    from mmdata.engine.local import Pool

__all__ = ["MediaOptions", "embed_media", "find_media", "probe_media"]

_ARTICLED: Final = {"image": "a picture", "video": "a video", "audio": "a sound"}
_NO_ACCESS: Final = Access()
_TOGETHER: Final = 16  # requests that are on their way at once
_PATIENCE: Final = 3600.0  # seconds that reading the media of a row may take
_EMBEDDED: Final = 16 << 20
"""How many bytes of embedded media a batch holds before the next begins."""


@dataclass(frozen=True, slots=True)
class MediaOptions:
    """Where media are, whether and how they are looked for, and whether they are to be embedded.

    ``home`` is the folder that holds all the source files, where the ``root`` was named by the user
    and is not found from it. ``limits`` are those of what is read of a file in this process, and
    ``access`` says which URLs may be read.
    """

    root: str
    look: bool
    allow_outside: bool
    embed: bool = False
    size_of: SizeOf = size_of
    limits: Limits | None = None
    home: str | None = None
    access: Access = _NO_ACCESS

    @property
    def reads_urls(self) -> bool:
        """Whether media that are URLs in rows are read: others are there by name alone."""
        return self.access.remote or is_url(self.root)


@dataclass(frozen=True, slots=True)
class _Media:
    """The media of a batch: types and paths one after the other, whether each is in the batch, and
    where each row's begin and end.

    ``pictures`` are the paths of those that are given as pictures, ``clocks`` the times of frames
    where they are known, by the numbers of media. ``are_outside`` says which are not in the batch
    themselves: files, folders and pictures. ``are_looked_into`` says of which probing finds out
    what they are: those, and what is embedded, as a file or as the frames of a video.
    """

    types: Sequence[MediaType]
    paths: Sequence[str | None]
    are_kept: Sequence[bool]
    pictures: Mapping[int, Sequence[str]]
    clocks: Mapping[int, CompactTimes]
    are_outside: Sequence[bool]
    are_looked_into: Sequence[bool]
    starts: Sequence[int]

    @classmethod
    def of(cls, batch: ConversationBatch, *, reads_urls: bool = False) -> _Media:
        media = batch.media
        paths = media.field("path").to_pylist()
        is_embedded = _are_there(media.field("bytes"))
        is_cached = _are_there(media.field("frames"))
        is_kept = [one or other for one, other in zip(is_embedded, is_cached, strict=True)]

        pictures = _filled(media.field("frame_paths"))
        are_outside = [
            not kept and (number in pictures if path is None else reads_urls or not is_url(path))
            for number, (path, kept) in enumerate(zip(paths, is_kept, strict=True))
        ]
        are_looked_into = [
            outside or kept for outside, kept in zip(are_outside, is_kept, strict=True)
        ]
        clocks = {number: clock_of(one) for number, one in _filled(media.field("clock")).items()}
        starts = list(accumulate(batch.num_media.tolist(), initial=0))
        types = media.field("type").to_pylist()
        return cls(types, paths, is_kept, pictures, clocks, are_outside, are_looked_into, starts)

    def of_row(self, row: int) -> range:
        """Return the numbers of a row's media."""
        return range(self.starts[row], self.starts[row + 1])

    def looked_into(self, row: int) -> list[int]:
        """Return the numbers of those of a row's media that are looked into."""
        return [number for number in self.of_row(row) if self.are_looked_into[number]]

    def name(self, number: int) -> str:
        """Return how messages call a medium."""
        return self.paths[number] or f"{_ARTICLED[self.types[number]]} in the record"

    def rows(self) -> list[int]:
        """Return for each medium the number of its row."""
        import numpy as np

        # The difference of two starts is how many media a row has: its number stands so many times.
        rows = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        found: list[int] = rows.tolist()
        return found


def _are_there(column: pa.Array) -> list[bool]:
    """Return of which places a column has a value, without reading any."""
    if column.null_count == len(column):
        return [False] * len(column)
    return list(map(bool, valid_bytes(column)))


def _filled(column: pa.Array) -> dict[int, Any]:
    """Return the values of a column that are there, by their numbers."""
    if column.null_count == len(column):
        return {}  # as nearly always: the column is not even looked through
    return {number: one for number, one in enumerate(column.to_pylist()) if one is not None}


def find_media(batch: ConversationBatch, reader: Format, place: MediaOptions) -> ConversationBatch:
    """Return the batch with each medium's path under the media root; a row with one that is not
    there is a reject.
    """
    batch = _find_pictures(batch, reader, place)
    media = _Media.of(batch)
    # What has its bytes already is called by its path, and not looked for.
    named = [
        number for number, path in enumerate(media.paths) if path and not media.are_kept[number]
    ]
    if not named:
        return batch
    origins = _origins(batch, place)
    rows = media.rows()
    found = list(media.paths)
    errors: dict[int, Exception] = {}

    # Nearly always every medium is at the first place to look. Asking for all at once costs a
    # fraction of asking each.
    likeliest = [
        next(iter(reader.candidates(media.paths[n] or "", origins[rows[n]]))) for n in named
    ]
    if place.look and is_url(place.root):
        place = _with_sizes(place, likeliest, [media.types[number] for number in named])
    types = {media.types[number] for number in named}
    together = len(types) == 1 and "://" not in " ".join(filter(None, media.paths))
    if together and all_exist(
        place.root, likeliest, types.pop(), look=place.look, size_of=place.size_of
    ):
        for number, path in zip(named, likeliest, strict=True):
            found[number] = path
    else:
        for number in named:
            try:
                path = media.paths[number] or ""
                found[number] = _find_one(
                    path, media.types[number], reader, origins[rows[number]], place
                )
            except RecordError as error:
                errors.setdefault(rows[number], error)

    if found != media.paths:
        there = bytes([path is not None for path in found])
        paths = sparse(
            [path for path in found if path is not None], there, batch.media.type.field("path").type
        )
        batch = batch.with_media(path=paths)
    return batch.reject(errors)


def _with_sizes(
    place: MediaOptions, paths: Sequence[str], types: Sequence[MediaType]
) -> MediaOptions:
    """Return the place with the sizes of what is at some paths below its root, asked for many at a
    time: each answer takes a way through the network.
    """
    wanted = {
        (posixpath.join(place.root, path), kind)
        for path, kind in zip(paths, types, strict=True)
        if not is_url(path)
    }
    with ThreadPoolExecutor(_TOGETHER) as pool:
        ordered = sorted(wanted)
        sizes = dict(zip(ordered, pool.map(lambda one: place.size_of(*one), ordered), strict=True))

    def size_of(path: str, kind: MediaType) -> int | None:
        known = (path, kind)
        return sizes[known] if known in sizes else place.size_of(path, kind)

    return replace(place, size_of=size_of)


def _find_pictures(
    batch: ConversationBatch, reader: Format, place: MediaOptions
) -> ConversationBatch:
    """Return the batch with the paths of the pictures that videos are given as under the media
    root.
    """
    column = batch.media.field("frame_paths")
    if column.null_count == len(column):
        return batch

    origins, rows = _origins(batch, place), _Media.of(batch).rows()
    found: list[list[str] | None] = column.to_pylist()
    errors: dict[int, Exception] = {}
    for number, paths in enumerate(found):
        if paths is None:
            continue
        try:
            found[number] = [
                _find_one(path, "image", reader, origins[rows[number]], place) for path in paths
            ]
        except RecordError as error:
            errors.setdefault(rows[number], error)

    there = bytes([paths is not None for paths in found])
    return batch.with_media(
        frame_paths=sparse([paths for paths in found if paths], there, column.type)
    ).reject(errors)


def _origins(batch: ConversationBatch, place: MediaOptions) -> list[Origin]:
    extras = batch.columns.column("extra").to_pylist()
    origins = batch.origins
    root = place.root if is_url(place.root) else posixpath.realpath(place.root)
    folders = {file: folders_of(file, root, place.home) for file in set(origins.files)}
    each = [folders[file] for file in origins.files]
    return list(map(Origin, origins.files, origins.numbers, origins.ids, extras, each))


def _find_one(
    path: str, kind: MediaType, reader: Format, origin: Origin, place: MediaOptions
) -> str:
    if is_url(path):
        return _remote(path, kind, place)

    path = path.removeprefix("file://")
    is_of_windows = "\\" in path or path[1:3] == ":/"
    candidates = (
        _candidates_of_windows(path, reader, origin, place)
        if is_of_windows
        else reader.candidates(path, origin)
    )
    try:
        return find(
            place.root,
            candidates,
            kind,
            look=place.look,
            allow_outside=place.allow_outside,
            size_of=place.size_of,
        )
    except RecordError as error:
        if error.reason == "missing_media":
            found = _find_beside_target(path, kind, reader, origin, place)
            if found is not None:
                return found
        raise


def _find_beside_target(
    path: str, kind: MediaType, reader: Format, origin: Origin, place: MediaOptions
) -> str | None:
    """Return where a medium is beside the file that a source leads to by a link; None where the
    source is no link, or the medium is not there.

    Raises:
        RecordError: it is there, but outside of the media root, and may not be.
    """
    if is_url(origin.file) or not Path(origin.file).is_symlink():
        return None

    folder = posixpath.dirname(posixpath.realpath(origin.file))
    beside = Origin(origin.file, origin.number, origin.id, origin.extra_json, (folder,))
    for candidate in reader.candidates(slashed(path), beside):
        found = under(place.root, candidate, allow_outside=True)
        if place.size_of(posixpath.join(place.root, found), kind):
            if found.startswith("/") and not place.allow_outside:
                raise RecordError(
                    f"{path!r} is not beside the link {origin.file}, but in {folder!r}, the folder "
                    "of the file that it leads to, outside of the media root: --allow-outside "
                    "admits it, or name that file",
                    reason="outside_media_root",
                )
            return found
    return None


def _candidates_of_windows(
    path: str, reader: Format, origin: Origin, place: MediaOptions
) -> Iterator[str]:
    """Yield where a path with backslashes may lead to; here they may be part of a name, and a file
    of the very name comes first.
    """
    if place.look:
        yield from reader.candidates(path, origin)
    yield from reader.candidates(slashed(path), origin)


def _remote(url: str, kind: MediaType, place: MediaOptions) -> str:
    """Return a URL as it is where it may be read and something is there, or where media are kept by
    name alone; relative to the media root where it is below that.
    """
    if is_url(place.root) and is_below(place.root, url):
        inside = under(place.root, url)
        return find(place.root, [inside], kind, look=place.look, size_of=place.size_of)
    if not (place.look or place.embed):
        return url
    if not place.access.remote:
        without = "--check none without --embed" if place.embed else "--check none"
        raise RecordError(
            f"{url} is a URL, which is read with --allow-remote alone. {without} keeps it by name; "
            "or download the media and name the files.",
            reason="remote_media",
        )
    try:
        size = path_of_medium(url, place.access).stat().st_size
    except (OSError, StorageError) as error:
        found = as_media_error(error, url)
        raise RecordError(str(found), reason=found.reason) from error
    if not size:
        raise RecordError(f"{url} has no bytes", reason="empty_media")
    return url


def probe_media(
    batches: Iterable[ConversationBatch],
    place: MediaOptions,
    prober: Prober,
    seen: Callable[[int], object] = lambda records: None,
) -> Iterator[ConversationBatch]:
    """Yield the batches with what each medium's file is, looked into on other processes some rows
    ahead; in order. What is embedded is looked into as a file is. ``seen`` is called after each row
    with how many records are done with: a batch of long videos takes hours.
    """

    def questions() -> Iterator[_Question]:
        for batch in batches:
            media = _Media.of(batch, reads_urls=place.reads_urls)
            # One row at a time as the workers come free: of the bytes that are embedded in a batch
            # no more are copied than those of the few rows that are in their hands.
            for row in range(len(batch)):
                files = [_file(batch, media, number, place) for number in media.looked_into(row)]
                yield _Question(batch, media, row, files)
            if not len(batch):
                yield _Question(batch, media, 0, [])

    found: list[list[Facts] | MediaError] = []
    before = 0  # records of the batches that are done
    for question, answer in prober.answers(questions(), lambda question: question.files):
        if isinstance(answer, MediaError):
            answer = question.name_embedded(answer)
        found.append(answer)
        if len(found) < len(question.batch):
            seen(before + question.batch.positions[question.row] + 1)
            continue
        yield _with_facts(question.batch, question.media, found)
        before += question.batch.num_records
        found = []


@dataclass(frozen=True, slots=True)
class _Question:
    """The media files of one row of a batch."""

    batch: ConversationBatch
    media: _Media
    row: int
    files: list[File]

    def name_embedded(self, error: MediaError) -> MediaError:
        """Return the error with the name of an embedded medium, where it is about one, in the place
        of how many bytes that has.
        """
        from mmdata.video.source import name_of

        numbers = self.media.looked_into(self.row)
        names = {
            self.media.name(number)
            for number, file in zip(numbers, self.files, strict=True)
            if isinstance(file.source, bytes) and name_of(file.source) == error.path
        }
        if not names:
            return error
        # Of two with as many bytes the error may be about either.
        name = " or ".join(sorted(names))
        return MediaError(str(error).replace(error.path, name), path=name, reason=error.reason)


def _file(batch: ConversationBatch, media: _Media, number: int, place: MediaOptions) -> File:
    from mmdata.conversion.prober import File
    from mmdata.video.pictures import UNSAID, Pictures

    if not media.are_outside[number]:
        data, frames = (batch.media.field(name)[number].as_py() for name in ("bytes", "frames"))
        return File(data if frames is None else tuple(frames), media.types[number])
    clock = media.clocks.get(number)
    if media.paths[number] is None:
        pictures = Pictures(tuple(media.pictures[number]), clock or UNSAID)
        return File(pictures.below(place.root, place.access), media.types[number])
    return File(_path(media, number, place), media.types[number], clock=clock)


def _path(media: _Media, number: int, place: MediaOptions) -> str:
    return join_path(place.root, media.paths[number] or "")


def _with_facts(
    batch: ConversationBatch, media: _Media, found: Sequence[list[Facts] | MediaError]
) -> ConversationBatch:
    """Return the batch with the facts that were found of each row's files, and a reject for each
    row with an error, or with a clip that begins after its file has ended.
    """
    starts = _filled(batch.media.field("start"))
    errors: dict[int, Exception] = {}
    facts: dict[int, Facts] = {}
    for row in range(len(batch)):
        answer = found[row]
        if isinstance(answer, MediaError):
            errors[row] = answer
        else:
            facts.update(zip(media.looked_into(row), answer, strict=True))
            for number in starts.keys() & media.of_row(row):
                duration = facts.get(number, {}).get("duration")
                if duration is not None and starts[number] >= duration:
                    errors[row] = RecordError(
                        f"a clip begins at {starts[number]:g} s of {media.name(number)}, which "
                        f"lasts {duration:g} s: no frame is in it"
                    )

    if facts:
        struct = batch.media
        names = sorted({name for known in facts.values() for name in known})
        batch = batch.with_media(
            **{name: _overlay(struct.field(name), name, facts) for name in names}
        )

    return batch.reject(errors)


def _overlay(column: pa.Array, name: str, facts: dict[int, Facts]) -> pa.Array:
    """Return a column of media with what is known of some of them in the place of what was
    there.
    """
    values: list[Any] = (
        [None] * len(column) if column.null_count == len(column) else column.to_pylist()
    )
    for number, known in facts.items():
        value = known.get(name, values[number])
        if name == "clock" and value is not None:
            value = clock_row(clock_of(value))
        values[number] = value
    there = bytes([value is not None for value in values])
    return sparse([value for value in values if value is not None], there, column.type)


def embed_media(
    batches: Iterable[ConversationBatch], place: MediaOptions, pool: Pool | None = None
) -> Iterator[ConversationBatch]:
    """Yield the batches with the bytes of each medium's file beside its path; many bytes make
    smaller batches.

    A video that is given as pictures, or is a folder of them, has them as ``frames`` with their
    times, those between the bounds of its clip. The workers of a ``pool`` read some rows ahead,
    which is worth its while where media come through a network.
    """
    asked: deque[_Embedding] = deque()

    def questions() -> Iterator[tuple[list[_Wanted], Access, Limits | None]]:
        for batch in batches:
            media = _Media.of(batch, reads_urls=place.reads_urls)
            known = {
                name: _filled(batch.media.field(name)) for name in ("start", "end", "size", "hash")
            }
            for row in range(max(1, len(batch))):
                numbers = _outside(media, row) if len(batch) else []
                asked.append(_Embedding(batch, media, row, numbers))
                wanted = [_wanted(media, number, place, known) for number in numbers]
                yield wanted, place.access, place.limits

    found: dict[int, Facts] = {}
    errors: dict[int, Exception] = {}
    start, size = 0, 0
    for answer in _read_rows(questions(), pool):
        one = asked.popleft()
        if isinstance(answer, Exception):
            errors[one.row - start] = one.error(answer)
        else:
            found.update(zip(one.numbers, answer, strict=True))
            size += sum(sum(map(len, each.get("frames") or [each["bytes"]])) for each in answer)
        is_last = one.row >= len(one.batch) - 1
        if size >= _EMBEDDED or is_last:
            yield one.embed(start, found).reject(errors)
            found, errors, size = {}, {}, 0
            start = 0 if is_last else one.row + 1


@dataclass(frozen=True, slots=True)
class _Embedding:
    """A row whose media are read: those of the ``numbers``."""

    batch: ConversationBatch
    media: _Media
    row: int
    numbers: Sequence[int]

    def error(self, found: Exception) -> MediaError:
        """Return the record's error for whatever reading its media has raised."""
        if isinstance(found, OSError):
            return MediaError(f"cannot read {found.filename}: {found.strerror}")
        return as_media_error(found, ", ".join(map(self.media.name, self.numbers)))

    def embed(self, start: int, found: Mapping[int, Facts]) -> ConversationBatch:
        """Return the rows from ``start`` to this one with what was read of their media."""
        if not len(self.batch):
            return self.batch
        first = self.media.starts[start]
        length = self.media.starts[self.row + 1] - first
        some = {number - first: facts for number, facts in found.items()}
        columns = {
            name: _overlay(self.batch.media.field(name).slice(first, length), name, some)
            for name in sorted({name for facts in some.values() for name in facts})
        }
        return self.batch.slice(start, self.row + 1).with_media(**columns)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be read of a medium: the file or folder at ``path``, or ``pictures`` and when they
    are; those of the clip from ``start`` to ``end``.

    ``kept`` is its fingerprint, where it was looked into.
    """

    path: str | None
    pictures: tuple[str, ...]
    clock: CompactTimes | None
    start: float | None
    end: float | None
    kept: Fingerprint | None


def _outside(media: _Media, row: int) -> list[int]:
    """Return the numbers of those of a row's media that are not in the batch themselves."""
    return [number for number in media.of_row(row) if media.are_outside[number]]


def _wanted(
    media: _Media, number: int, place: MediaOptions, known: Mapping[str, Mapping[int, Any]]
) -> _Wanted:
    facts: dict[str, Any] = {name: found.get(number) for name, found in known.items()}
    # What was probed is known by its fingerprint. Another file may have taken its place since: its
    # bytes would be stored with the facts of the first.
    kept = None if facts["hash"] is None else Fingerprint(facts["size"], facts["hash"])
    is_file = media.paths[number] is not None
    pictures = () if is_file else media.pictures[number]
    return _Wanted(
        path=_path(media, number, place) if is_file else None,
        pictures=tuple(join_path(place.root, path) for path in pictures),
        clock=media.clocks.get(number),
        start=facts["start"],
        end=facts["end"],
        kept=kept,
    )


def _read_rows(
    questions: Iterable[tuple[list[_Wanted], Access, Limits | None]], pool: Pool | None
) -> Iterator[list[Facts] | Exception]:
    """Yield what is in the files of each row, or why one of them cannot be read."""
    if pool is not None:
        # Storage has a patience of its own, for each request.
        yield from pool.map(_read_row, questions, deadline_of=lambda *_: _PATIENCE)
        return
    for question in questions:
        try:
            yield _read_row(*question)
        except Exception as error:  # here whatever looking into a file raises becomes the record's
            yield error


def _read_row(wanted: Sequence[_Wanted], access: Access, limits: Limits | None) -> list[Facts]:
    return [_read(one, access, limits) for one in wanted]


def _read(wanted: _Wanted, access: Access, limits: Limits | None) -> Facts:
    """Return the bytes of a medium's file; or the frames of a video that is given as pictures, and
    when they are, of the clip that is wanted.
    """
    from mmdata.video import index, plan
    from mmdata.video.folder import is_folder, pictures_in
    from mmdata.video.pictures import UNSAID, Pictures

    clock = wanted.clock or UNSAID
    if wanted.path is None:
        pictures = Pictures(wanted.pictures, clock).below("", access)
    else:
        source = reach(wanted.path, access)
        if not is_folder(source):
            data = _path_of(source).read_bytes()
            if wanted.kept is not None:
                compare(data, wanted.kept, path=wanted.path)
            return {"bytes": data}
        pictures = pictures_in(source, clock)

    if wanted.kept is not None:
        compare(pictures.paths if wanted.path is None else source, wanted.kept)
    found = index(pictures, limits=limits)
    taken = plan(found, "every:1", start=wanted.start, end=wanted.end)
    frames = [_path_of(pictures.paths[one]).read_bytes() for one in taken.numbers.tolist()]
    return {
        "frames": frames,
        "frame_times": taken.times.tolist(),
        "times": found.times_source,
        "clock": to_builtins(pictures.clock),
        "num_frames": found.num_frames,
        "fps": found.fps,
        "duration": found.duration,
    }


def _path_of(source: str | RemotePath) -> Path:
    return source if isinstance(source, RemotePath) else Path(source)
