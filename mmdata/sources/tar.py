"""The records of a WebDataset: a tar archive, plain or gzip, in which the members of a sample
follow one another and share a name up to its first dot.

Of a sample ``0001``:

- ``0001.json`` is the record. Without it, an object is made of the texts of the sample, each under
  its suffix, as ``caption`` that of ``0001.txt``.
- Pictures, videos and sounds are its media, as bytes in :attr:`Record.files`, under each name that
  a record may call them: ``0001.jpg`` as it stands in the archive, without its folders, and what
  follows the first dot.
- Any other member is one more field of the record, under its suffix: text where it is text, else
  bytes.
- The record's id is its own, or else the name of the sample.

Of media that the record names in no field, paths are added as ``image`` or ``images``, ``video`` or
``videos``, in the order of the archive.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

from mmdata._tools.options import checked
from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._json import identity, parse_value
from mmdata.sources._run import read_strictly
from mmdata.sources._table import bad_source
from mmdata.sources.kinds import describe_fault
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.record import Record

__all__ = ["has_records", "tar_runs"]

_NAME: Final = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""A member's name: the key of its sample, and its suffix."""
_KINDS: Final[dict[str, frozenset[str]]] = {
    "image": frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "jfif"}),
    "video": frozenset({"mp4", "webm", "mkv", "mov", "avi", "m4v", "mpg", "mpeg", "flv", "wmv"}),
    "audio": frozenset({"wav", "mp3", "flac", "ogg", "m4a", "opus", "aac"}),
}
_KIND_OF: Final = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}
_CAPTION: Final = {"txt": "caption"}
"""What the field is called that a text becomes in a sample without record, or whose record lacks a
caption.
"""
_PLAIN_NUMBERS: Final = re.compile(
    rb"[0-7]{7}\0[0-7]{7}\0[0-7]{7}\0"  # mode, user, group
    rb"([0-7]{11})\0[0-7]{11}\0"  # size, time
    rb"([0-7]{6})\0 0"  # checksum, and that it is a file
)
"""How the numbers in the header of a file are spelt, from byte 100 to byte 157."""
_PLAIN_DEVICES: Final = re.compile(rb"(?:[0-7]{7}\0|\0{8}){2}\0")
"""How those of devices are, from byte 329, where no more of the name follows."""
_LONGEST_PATH: Final = 1024
_GZIP: Final = b"\x1f\x8b"
_FAULTS: Final = (tarfile.TarError, OSError, EOFError, zlib.error)
"""What is raised of an archive that is damaged."""
_BUFFER: Final = 1 << 20
_TOGETHER_BYTES: Final = 4 << 20
_TOGETHER: Final = 256


class _Header(NamedTuple):
    """What the header of a member says: its name, where its bytes begin, how many they are, and as
    tarfile has it, where that had to read it.
    """

    name: str
    start: int
    size: int
    info: tarfile.TarInfo | None = None


class _Member(NamedTuple):
    """A member of a sample: its name in the archive, its suffix, its bytes, and what kind of medium
    it is, if it is one; and which share of the archive comes before its end, 0 where that is packed
    and nobody can say.
    """

    name: str
    suffix: str
    data: bytes
    kind: str | None
    is_link: bool = False
    share: float = 0.0


class _StrictHeader(tarfile.TarInfo):
    """A member's header; one that cannot be read is said, where tarfile takes it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _StrictHeader:
        """Return a header from its block."""
        plain = _read_plain_header(bytes(buf), encoding, errors)
        if plain is None:
            return super().frombuf(buf, encoding, errors)
        name, size = plain
        found = cls(name)
        found.size = size
        return found

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _StrictHeader:
        """Return the next header of an archive.

        Raises:
            ReadError: there is none, nor the mark of the end.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error}; was it cut?") from error


def _read_plain_header(block: bytes, encoding: str, errors: str) -> tuple[str, int] | None:
    """Return name and size of a file from a header that is spelt as nearly all are; None where
    tarfile has to read it.

    That parses thirteen fields, in as long as the bytes of a picture take to be read.
    """
    numbers = _PLAIN_NUMBERS.fullmatch(block, 100, 157)
    if numbers is None or _PLAIN_DEVICES.fullmatch(block, 329, 346) is None:
        return None
    # The sum of all bytes, in which those of the sum itself count as spaces. Adler-32 has it in its
    # lower half, modulo 65521, which 512 bytes of ASCII do not reach.
    total = zlib.adler32(b"%b        %b" % (block[:148], block[156:]), 0) & 0xFFFF
    if not block.isascii() or total != int(numbers[2], 8):
        return None
    return block[:100].partition(b"\0")[0].decode(encoding, errors), int(numbers[1], 8)


@checked
def tar_runs(
    file: Path, *, id_key: str = "id", tell: Tell = tell_nobody
) -> Iterator[list[Record | Reject]]:
    """Yield the samples of a tar as records, in lists of what was read together.

    What cannot be made a record is a reject in its place. Where an archive is damaged or cut, what
    is whole before comes, and one reject stands for the rest. ``tell`` is called before each list.
    """
    name, number, size = file.as_posix(), 0, 0
    some: list[tuple[str, Sequence[_Member]]] = []
    for key, members in _samples(file):
        if isinstance(members, Exception):
            what = f"the archive cannot be read to its end, from sample {key!r} on: "
            what += describe_fault(file, members)
            yield [
                *_records(some, name, number, id_key),
                bad_source(name, number + len(some), what),
            ]
            return
        some.append((key, members))
        size += sum(len(member.data) for member in members)
        if size >= _TOGETHER_BYTES or len(some) >= _TOGETHER:
            tell(members[-1].share)
            yield _records(some, name, number, id_key)
            number += len(some)
            some, size = [], 0
    if some:
        tell(1.0)
        yield _records(some, name, number, id_key)


def has_records(file: Path) -> bool:
    """Return whether the first sample of a tar holds a record or a text, not media alone; of a tar
    that cannot be read, too, so that somebody says why.
    """
    first: str | None = None
    try:
        with _open(file) as archive:
            for _, key, suffix in _headers(archive):
                if first is not None and key != first:
                    return False
                if _kind_of(suffix) is None:
                    return True
                first = key
    except _FAULTS:
        return True
    return first is None


def _samples(file: Path) -> Iterator[tuple[str, Sequence[_Member] | Exception]]:
    """Yield the samples of an archive by their keys; last why it cannot be read to its end."""
    key: str | None = None
    members: list[_Member] = []
    for found, member in _members(file):
        if isinstance(member, Exception):
            # What was gathered is not kept: nobody knows what else the sample had. Without its
            # picture it might be read as another conversation.
            yield key or "", member
            return
        if key is not None and found != key:
            yield key, members
            members = []
        key = found
        members.append(member)
    if key is not None:
        yield key, members


def _members(file: Path) -> Iterator[tuple[str, _Member | Exception]]:
    """Yield the files in an archive by the keys of their samples; last why it cannot be read to its
    end.
    """
    try:
        with _open(file) as archive:
            is_plain = isinstance(archive.fileobj, io.BufferedReader)
            whole = file.stat().st_size
            for found, key, suffix in _headers(archive):
                share = (found.start + found.size) / whole if is_plain else 0.0
                is_link = found.info is not None and not found.info.isfile()
                data = b"" if is_link else _read_member(archive, found)
                yield key, _Member(found.name, suffix, data, _kind_of(suffix), is_link, share)
    except _FAULTS as error:
        yield "", error


def _read_member(archive: tarfile.TarFile, member: _Header) -> bytes:
    """Return the bytes of a file in an archive."""
    if member.info is not None and member.info.sparse is not None:
        content = archive.extractfile(member.info)
        return b"" if content is None else content.read()
    # As `extractfile` does, without two buffers between.
    file: Any = archive.fileobj
    file.seek(member.start)
    data: bytes = file.read(member.size)
    if len(data) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return data


@contextmanager
def _open(file: Path) -> Iterator[tarfile.TarFile]:
    with io.BufferedReader(file.open("rb", buffering=0), _BUFFER) as opened:
        mode: Any = "r:gz" if opened.peek(2)[:2] == _GZIP else "r:"
        with tarfile.open(fileobj=opened, mode=mode, tarinfo=_StrictHeader) as archive:
            yield archive


def _headers(archive: tarfile.TarFile) -> Iterator[tuple[_Header, str, str]]:
    """Yield the headers of the files in an archive, each with the key of its sample and its
    suffix.
    """
    while (found := _next_plain(archive) or _next_header(archive)) is not None:
        if found.info is not None and found.info.isdir():
            continue
        if parts := _NAME.fullmatch(found.name):
            yield found, parts[1], parts[2].lower()
        elif not PurePosixPath(found.name).name.startswith("."):
            yield found, found.name, ""


def _next_plain(archive: Any) -> _Header | None:
    """Return the next header of an archive where it is plain, as tarfile would read it; None where
    that has to.

    tarfile takes ten steps for it, which for a small member take longer than all else.
    """
    # The first header tarfile has read already. What an archive says once for all its members may
    # change any header; and in what is compressed there is no quick way back.
    is_read = archive.offset == 0 or archive.firstmember is not None
    if is_read or archive.pax_headers or not isinstance(archive.fileobj, io.BufferedReader):
        return None

    # As tarfile does, from one byte before: behind the end of a file that was cut one can seek.
    archive.fileobj.seek(archive.offset - 1)
    block = archive.fileobj.read(1 + tarfile.BLOCKSIZE)[1:]
    plain = _read_plain_header(block, archive.encoding, archive.errors)
    if plain is None:
        return None
    name, size = plain
    start = archive.offset + tarfile.BLOCKSIZE
    archive.offset = start + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return _Header(name, start, size)


def _next_header(archive: tarfile.TarFile) -> _Header | None:
    """Return the next header of an archive as tarfile reads it; None at the end."""
    found = archive.next()
    archive.members = []  # type: ignore[attr-defined]  # else it grows with the archive
    return None if found is None else _Header(found.name, found.offset_data, found.size, found)


def _records(
    samples: Sequence[tuple[str, Sequence[_Member]]], file: str, number: int, id_key: str
) -> list[Record | Reject]:
    """Return the records that samples are; the first of them has the ``number``."""
    # Read strictly, one by one takes ten times as long as all of them as one array.
    texts = [_json_of(members) for _, members in samples]
    values = read_strictly(b",".join(text for text in texts if text is not None), True)
    read = iter(values if len(values) == sum(text is not None for text in texts) else ())
    return [
        _record(key, members, None if text is None else next(read, None), file, place, id_key)
        for place, ((key, members), text) in enumerate(zip(samples, texts, strict=True), number)
    ]


def _json_of(members: Sequence[_Member]) -> bytes | None:
    """Return the text of the record of a sample, None where it has none."""
    return next((member.data for member in members if member.suffix == "json"), None)


def _record(
    key: str, members: Sequence[_Member], read: Any, file: str, number: int, id_key: str
) -> Record | Reject:
    """Return the record that a sample is; what has been ``read`` of it, if anything has."""
    try:
        value = _read_value(members, read)
        files = _name_media(value, [member for member in members if member.kind])
    except RecordError as error:
        return Record(None, file, number, key).rejected(error)
    size = sum(len(member.data) for member in members)
    return Record(value, file, number, identity(value, id_key) or key, size, None, files)


@lru_cache(1024)  # an archive has few suffixes, and each is asked of several times
def _kind_of(suffix: str) -> str | None:
    """Return what kind of medium a member with this suffix is, or None where it is none."""
    return _KIND_OF.get(suffix.rpartition(".")[2])


def _read_value(members: Sequence[_Member], read: Any) -> Any:
    """Return the record of a sample without its media."""
    if links := [member.name for member in members if member.is_link]:
        raise RecordError(f"{links[0]} is a link, and links in archives are not followed")
    others = [member for member in members if member.kind is None]
    main = next((member for member in others if member.suffix == "json"), None)
    if not others:
        raise RecordError(
            f"the sample has neither a record (.json) nor a text (.txt): {members[0].name}",
            reason="no_conversation",
        )
    if main is not None:
        value = parse_value(main.data) if read is None else read
        others.remove(main)
    else:
        value = {}
    for member in others:
        if not isinstance(value, dict):
            raise RecordError(f"{member.name} stands beside a record that is no JSON object")
        field = member.suffix
        if field not in value and (main is None or _lacks_caption(value)):
            field = _CAPTION.get(member.suffix, member.suffix)
        if value.get(field) is not None:
            raise RecordError(f"{member.name} and the record both have the field {field!r}")
        value[field] = _content_of(member)
    return value


def _lacks_caption(value: dict[str, Any]) -> bool:
    """Return whether a record says no more than where its picture came from, as img2dataset's does
    beside a text: it has no caption, and nothing nested, as turns are.
    """
    if value.get("caption"):
        return False
    return not any(isinstance(found, (list, dict)) for found in value.values())


def _content_of(member: _Member) -> Any:
    """Return what a member is as a field: JSON, text, or else bytes."""
    if member.suffix.endswith(".json"):
        return parse_value(member.data)
    try:
        text = member.data.decode()
    except UnicodeDecodeError:
        return member.data
    return member.data if "\0" in text else text


def _name_media(value: Any, media: Sequence[_Member]) -> Mapping[str, bytes]:
    """Return the media of a sample by all names that its record may call them; to a record that
    names none, fields that do are added.
    """
    names = [_names_of(member) for member in media]
    files = {
        name: member.data for member, known in zip(media, names, strict=True) for name in known
    }
    # A text longer than any path and any name can name no member; hashing it would only cost time.
    longest = max([_LONGEST_PATH, *map(len, files)])

    # Nearly always a field of the record itself names its medium, and what is deeper need not be
    # looked through.
    fields = value.values() if isinstance(value, dict) else ()
    said = {text for text in fields if isinstance(text, str) and len(text) <= longest}
    if not any(map(said.isdisjoint, names)):
        return files

    said = {text for text in _texts(value) if len(text) <= longest}
    for kind in _KINDS:
        unnamed = [
            member
            for member, known in zip(media, names, strict=True)
            if member.kind == kind and said.isdisjoint(known)
        ]
        if not unnamed:
            continue
        paths = {text for text in said - files.keys() if _is_path(text, kind)}
        if len(paths) == len(unnamed) == 1:
            # The one picture of a sample is its record's, however that spells it.
            files[paths.pop()] = unnamed[0].data
        elif not paths and isinstance(value, dict) and not value.get(kind):
            found = [member.name for member in unnamed]
            value[kind] = found[0] if len(found) == 1 else found
    return files


def _names_of(member: _Member) -> tuple[str, str, str]:
    return member.name, member.name.rpartition("/")[2], member.suffix


def _is_path(text: str, kind: str) -> bool:
    return len(text) <= _LONGEST_PATH and text.lower().rpartition(".")[2] in _KINDS[kind]


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            left += item.values()
        elif isinstance(item, list):
            left += item
