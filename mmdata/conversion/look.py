"""Looking into media files: what a worker does, and all that it needs for it.

It imports no more than that: every process that looks into files pays for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import to_builtins

from mmdata._tools.limits import Limits, OnDamage, count_bytes
from mmdata._tools.options import checked
from mmdata._tools.paths import is_url
from mmdata.conversion.fingerprint import Fingerprint, compare
from mmdata.conversion.probe import check
from mmdata.errors import MediaError
from mmdata.schema import CompactTimes, MediaType
from mmdata.storage import Access
from mmdata.storage._media import open_medium, reach
from mmdata.storage._path import RemotePath
from mmdata.video.folder import is_folder
from mmdata.video.pictures import Pictures

__all__ = ["Facts", "File", "Look", "MediaLevel", "apply_look", "look"]

Facts: TypeAlias = Mapping[str, Any]
"""What was found: fields of :class:`mmdata.schema.Media`."""
MediaLevel: TypeAlias = Literal["compare", "probe", "decode"]
"""How hard the media of a store are looked at:
compared with what was kept of them, and looked into besides.
"""

Look: TypeAlias = Callable[[Sequence["File"], MediaLevel, Limits], list[Facts]]
"""What looks into files, as :func:`look` does."""


class File(NamedTuple):
    """A medium to look into: the path or the bytes of a file, the pictures that a video is given
    as, or those of a frame cache.

    ``type`` is what it is said to be, ``kept`` the fingerprint it had, where one is known.
    ``clock`` says when the pictures of a folder are, and ``duration`` how many seconds a video
    lasts, where that is known.
    """

    source: str | RemotePath | bytes | Pictures | tuple[bytes, ...]
    type: MediaType
    kept: Fingerprint | None = None
    clock: CompactTimes | None = None
    duration: float | None = None

    @property
    def bytes(self) -> int:
        """How large it is; 0 where nothing is there to look at."""
        if isinstance(self.source, (str, RemotePath)):
            return 0 if is_url(str(self.source)) else count_bytes(str(self.source))
        if isinstance(self.source, Pictures):
            paths = map(str, self.source.paths)
            return sum(count_bytes(path) for path in paths if not is_url(path))
        return sum(map(len, self.source)) if isinstance(self.source, tuple) else len(self.source)


_KEPT: Final = (
    "width",
    "height",
    "duration",
    "fps",
    "num_frames",
    "times",
    "clock",
    "oddities",
    "size",
    "hash",
)


@checked
def look(
    files: Sequence[File],
    level: MediaLevel,
    limits: Limits,
    *,
    on_damage: OnDamage = "raise",
    access: Access | None = None,
) -> list[Facts]:
    """Return what each file is; of those that are only compared, and of cached frames, nothing.

    ``on_damage`` is that of :func:`mmdata.conversion.probe.check`; ``access`` says which URLs may
    be read.

    Raises:
        MediaError: one of them is not sound, or not the file it was.
    """
    return [_look(_reachable(file, level, access), level, limits, on_damage) for file in files]


@checked
def apply_look(job: Look, level: MediaLevel, limits: Limits, files: Sequence[File]) -> list[Facts]:
    """Return what a job says of files; with the files last, which differ from call to call."""
    return job(files, level, limits)


def _reachable(file: File, level: MediaLevel, access: Access | None) -> File:
    """Return a file whose URL, if it has one, is a path that may be read."""
    if isinstance(file.source, Pictures):
        return file._replace(source=file.source.below("", access))
    if not isinstance(file.source, str):
        return file
    source = reach(file.source, access)
    # What is looked into is hashed besides; what is compared is read once.
    if isinstance(source, RemotePath) and level != "compare":
        source = source.keep()
    return file._replace(source=source)


def _look(file: File, level: MediaLevel, limits: Limits, on_damage: OnDamage) -> Facts:
    source = file.source
    if isinstance(source, tuple):
        if level != "compare":
            _look_at_frames(source, limits, decoded=level == "decode")
        return {}
    paths = source.paths if isinstance(source, Pictures) else (source,)

    found: Facts = {}
    if level != "compare":
        sound = check(
            source, file.type, level=level, clock=file.clock, on_damage=on_damage, limits=limits
        )
        found = asdict(sound)
    if file.kept is not None:
        compare(source.paths if isinstance(source, Pictures) else source, file.kept)
    elif level == "compare":
        for path in paths:
            if isinstance(path, RemotePath) and not is_folder(path):
                open_medium(path).close()
            if isinstance(path, str) and not os.path.exists(path):  # noqa: PTH110
                raise MediaError(f"{path}: no such file", path=path, reason="missing_media")

    known = {key: value for key, value in found.items() if key in _KEPT}
    # As Arrow and JSON have it: it goes into a column, and into the journal.
    if (clock := known.get("clock")) is not None:
        fields = to_builtins(clock).items()
        known["clock"] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in fields
        }
    if "oddities" in known:
        known["oddities"] = list(known["oddities"]) or None
    return known


def _look_at_frames(frames: Sequence[bytes], limits: Limits, *, decoded: bool) -> None:
    from mmdata import image

    look_at = image.decode if decoded else image.size_of
    for number, frame in enumerate(frames):
        try:
            look_at(frame, limits=limits)
        except MediaError as error:
            raise MediaError(
                f"cached frame {number} is damaged: {error}", reason=error.reason
            ) from error
