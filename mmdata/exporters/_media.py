"""The media of rows on their way out: by their paths, as copies, or as bytes in the record."""

from __future__ import annotations

import base64
import os
import posixpath
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from threading import get_ident
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct

from mmdata._tools.paths import is_url
from mmdata.errors import MediaError
from mmdata.exporters._features import UnsayableError
from mmdata.schema import CompactTimes, Conversation, Media, MediaType, replace
from mmdata.store.publish import NO_ROOM

__all__ = [
    "MEDIA_FOLDER",
    "FramesMode",
    "MediaMode",
    "MediaPlacer",
    "Paths",
    "PlacedMedium",
    "clock_of_pictures",
    "data_uri",
]

MediaMode: TypeAlias = Literal["reference", "copy", "embed"]
"""How media leave: by their paths, as copies beside the records, or inside the records."""
Paths: TypeAlias = Literal["relative", "absolute"]
"""How paths are spelt: relative to the media root as a store has them, or absolute."""
FramesMode: TypeAlias = Literal["file", "pictures"]
"""How a video with cached frames leaves: as the file they were taken from, or as the frames."""

_MILLISECOND: Final = 1e-3
_TICK: Final = 1e-4  # 2 ** 31 of them, which a clock holds between two pictures, are 59 hours
MEDIA_FOLDER: Final = "media"
"""The folder of an export that copies are in."""
_SIGNATURES: Final[tuple[tuple[bytes, int, str, str], ...]] = (
    (b"\xff\xd8\xff", 0, "jpg", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", 0, "png", "image/png"),
    (b"GIF8", 0, "gif", "image/gif"),
    (b"WEBP", 8, "webp", "image/webp"),
    (b"BM", 0, "bmp", "image/bmp"),
    (b"ftyp", 4, "mp4", "video/mp4"),
    (b"\x1aE\xdf\xa3", 0, "mkv", "video/x-matroska"),
    (b"AVI ", 8, "avi", "video/x-msvideo"),
)
"""What files begin with, at which byte; the suffix and the MIME type that it stands for."""
_USUAL: Final[dict[MediaType, tuple[str, str]]] = {
    "image": ("img", "image/png"),
    "video": ("mp4", "video/mp4"),
    "audio": ("wav", "audio/wav"),
}
"""The suffix and the MIME type of a file that begins with none of them."""


class PlacedMedium(Struct, frozen=True):
    """Where a medium is for whoever reads a record: at ``path``, in ``data``, or, for a video that
    is given as pictures, at ``frame_paths`` or in ``frames``. ``start`` and ``end`` are the bounds
    of a clip in seconds, ``clock`` says when the pictures are, and ``frame_times``, in seconds, of
    those that leave in a record.
    """

    type: MediaType
    path: str | None = None
    data: bytes | None = None
    frame_paths: tuple[str, ...] | None = None
    start: float | None = None
    end: float | None = None
    clock: CompactTimes | None = None
    frames: tuple[bytes, ...] | None = None
    frame_times: tuple[float, ...] | None = None

    @property
    def is_pictures(self) -> bool:
        """Whether it is a video that is given as pictures."""
        return self.frame_paths is not None or self.frames is not None

    @property
    def num_bytes(self) -> int:
        """How many bytes of it are in the record."""
        return len(self.data or b"") + sum(map(len, self.frames or ()))

    @property
    def reference(self) -> Any:
        """What a JSON record has for the medium: a path, a data URI, or a list of paths."""
        if self.frame_paths is not None:
            return list(self.frame_paths)
        return self.path if self.data is None else data_uri(self.data, self.type)

    @property
    def suffix(self) -> str:
        """The suffix of the file that ``data`` is, without a dot."""
        return _kind_of(self.data or b"", self.type)[0]


@dataclass(frozen=True, slots=True)
class MediaPlacer:
    """Says where the media of rows are for whoever reads the records, and puts them there.

    Copies go into ``folder``. ``root`` is the media root of the store.
    """

    mode: MediaMode
    paths: Paths
    root: Path | None
    folder: Path
    frames: FramesMode = "file"

    def choose_frames(self, conversation: Conversation) -> Conversation:
        """Return a row as it leaves: where frames leave as pictures, its videos have names and the
        clock of those, and no bounds, for no more than the pictures of a clip are there.

        Raises:
            UnsayableError: a video is a file, and has no cached frames.
        """
        if self.frames == "file":
            return conversation
        media = tuple(map(self._as_pictures, conversation.media))
        return replace(conversation, media=media)

    def _as_pictures(self, medium: Media) -> Media:
        if medium.type != "video":
            return medium
        if medium.frames is not None:
            return _name_pictures(medium, medium.frames, are_files=self.mode == "copy")
        if medium.frame_paths is None:
            raise UnsayableError(
                f"{medium.path or 'the video'} has no cached frames; `mmdata frames` makes them",
                what="frames",
            )
        if self.mode == "copy" or medium.clock is None:
            return medium

        from mmdata.video.clock import times_of

        times = times_of(medium.clock, len(medium.frame_paths))
        return replace(medium, frame_times=tuple(times.tolist()))

    def place(self, media: Sequence[Media]) -> list[PlacedMedium]:
        """Return where each of a row's media is.

        Raises:
            UnsayableError: one has no path, and paths are wanted.
            MediaError: one cannot be copied or read.
        """
        return [self._place(medium) for medium in media]

    def _place(self, medium: Media) -> PlacedMedium:
        start, end = medium.start, medium.end
        if self.frames == "pictures" and medium.frame_paths is not None:
            return self._place_pictures(medium, medium.frame_paths)
        if medium.frame_paths is not None:
            if self.mode == "embed":
                raise UnsayableError(
                    "a video that is given as pictures cannot be embedded as a file; --frames "
                    "pictures keeps them inside, where the target can, --media copy as files",
                    what="media",
                )
            pictures = tuple(map(self._refer, medium.frame_paths))
            return PlacedMedium(medium.type, None, None, pictures, start, end, medium.clock)
        if medium.path is None and medium.bytes is None:
            raise UnsayableError(
                f"of the {medium.type} the store has frames alone, and no file; --frames pictures "
                "writes those, where the target can have them",
                what="media",
            )
        if self.mode == "embed":
            return PlacedMedium(medium.type, data=self._read(medium), start=start, end=end)
        if medium.path is not None:
            return PlacedMedium(medium.type, self._refer(medium.path), start=start, end=end)
        if self.mode == "copy" and medium.bytes is not None:
            return PlacedMedium(
                medium.type, self._write(medium.bytes, medium.type), start=start, end=end
            )
        raise UnsayableError(
            f"the {medium.type} is in the store itself and has no path; --media copy writes it "
            "out, --media embed keeps it inside, where the target can",
            what="media",
        )

    def _place_pictures(self, medium: Media, names: tuple[str, ...]) -> PlacedMedium:
        """Return where the pictures of a video are: in files of the export, or in the record, but
        for those that are files and are wanted by their paths.
        """
        frames = medium.frames
        if self.mode == "copy":
            written = tuple(
                map(self._copy, names) if frames is None else map(self._write_as, names, frames)
            )
            return PlacedMedium(
                medium.type,
                frame_paths=written,
                start=medium.start,
                end=medium.end,
                clock=medium.clock,
            )

        if frames is None and self.mode == "embed":
            frames = tuple(map(self._read_file, names))
        return PlacedMedium(
            medium.type,
            frame_paths=tuple(map(self._refer, names)) if frames is None else None,
            start=medium.start,
            end=medium.end,
            frames=frames,
            frame_times=medium.frame_times,
        )

    def _refer(self, path: str) -> str:
        if self.mode == "copy":
            return self._copy(path)
        return self._locate(path) if self.paths == "absolute" else path

    def _locate(self, path: str) -> str:
        if is_url(path) or self.root is None:
            return path
        found = os.fspath(self.root / path)
        return found if is_url(found) else os.path.abspath(found)  # noqa: PTH100 - links stay

    def _copy(self, path: str) -> str:
        source = self._local(path)
        inside = posixpath.normpath(path)
        if inside.startswith(("/", "..")):
            # Not below the media root: the folder's name keeps files of one name apart.
            inside = posixpath.join(_digest(os.fsencode(source)), PurePosixPath(path).name)
        target = self.folder / inside
        if "\0" in inside or not target.exists():
            # Under its own name it is whole: another row, or another part of the export, takes what
            # is there for the copy that it needs.
            half = self.folder / f".{get_ident()}.part"
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, half)
                half.replace(target)
            except (OSError, ValueError) as error:  # the latter of a name with NUL in it
                half.unlink(missing_ok=True)
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    # It would name the file that is copied, which nothing is wrong with.
                    raise OSError(error.errno, error.strerror) from error
                raise _lost(path, error) from error
        return f"{MEDIA_FOLDER}/{inside}"

    def _write(self, data: bytes, kind: MediaType) -> str:
        return self._write_as(f"{_digest(data)}.{_kind_of(data, kind)[0]}", data)

    def _write_as(self, inside: str, data: bytes) -> str:
        target = self.folder / inside
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return f"{MEDIA_FOLDER}/{inside}"

    def _read(self, medium: Media) -> bytes:
        if medium.bytes is not None:
            return medium.bytes
        assert medium.path is not None, "what has frames alone is refused before"
        return self._read_file(medium.path)

    def _read_file(self, path: str) -> bytes:
        try:
            return Path(self._local(path)).read_bytes()
        except (OSError, ValueError) as error:  # the latter of a name with NUL in it
            raise _lost(path, error) from error

    def _local(self, path: str) -> str:
        found = self._locate(path)
        if is_url(found):
            raise MediaError(
                f"{found} is a URL; only files can be copied or embedded",
                path=found,
                reason="remote_media",
            )
        return found


def _name_pictures(medium: Media, frames: Sequence[bytes], *, are_files: bool) -> Media:
    """Return a video with the names of its cached frames, and when they are; where they become
    files, in a folder that is named by what they hold.
    """
    folder = _digest(b"".join(frames)) if are_files else "frames"
    names = [
        f"{folder}/{number:06}.{_kind_of(frame, 'image')[0]}" for number, frame in enumerate(frames)
    ]
    clock = clock_of_pictures(medium.frame_times or ())
    return replace(medium, frame_paths=tuple(names), clock=clock, start=None, end=None)


def clock_of_pictures(times: Sequence[float]) -> CompactTimes | None:
    """Return the clock of pictures at such seconds: a rate where they are at a constant one, to a
    millisecond, which is as finely as Matroska keeps times; None for one at 0, which is nothing to
    say.

    >>> clock_of_pictures([0.0, 0.5, 1.0004]).step
    0.5002
    """
    if not times or (len(times) == 1 and times[0] == 0):
        return None
    first, steps = times[0], max(len(times) - 1, 1)
    step = (times[-1] - first) / steps
    expected = (first + number * step for number in range(len(times)))
    pairs = zip(times, expected, strict=True)
    if step > 0 and all(abs(time - even) <= _MILLISECOND for time, even in pairs):
        return CompactTimes(start=first, step=step)
    ticks = [round(time / _TICK) for time in times]
    deltas = tuple(after - before for before, after in pairwise(ticks))
    return CompactTimes(start=first, deltas=deltas, unit=_TICK)


def data_uri(data: bytes, kind: MediaType) -> str:
    """Return the file of a medium as a data URI.

    >>> data_uri(b"GIF8", "image")
    'data:image/gif;base64,R0lGOA=='
    """
    return f"data:{_kind_of(data, kind)[1]};base64,{base64.b64encode(data).decode('ascii')}"


def _kind_of(data: bytes, kind: MediaType) -> tuple[str, str]:
    for magic, place, suffix, mime in _SIGNATURES:
        if data[place : place + len(magic)] == magic and mime.startswith(kind):
            return suffix, mime
    return _USUAL[kind]


def _digest(data: bytes) -> str:
    import xxhash

    return xxhash.xxh3_64_hexdigest(data)


def _lost(path: str, error: Exception) -> MediaError:
    reason = "missing_media" if isinstance(error, FileNotFoundError) else "unreadable_media"
    what = error.strerror if isinstance(error, OSError) else None
    return MediaError(f"{path}: {what or error}", path=path, reason=reason)
