"""How much a single media file may ask for before it is refused."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mmdata._tools.options import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
    checked,
)

__all__ = ["LimitName", "Limits", "OnDamage", "count_bytes", "how_to_raise", "parse_bytes"]

LimitName: TypeAlias = Literal["pixels", "frames", "output_bytes", "deadline", "memory"]
OnDamage: TypeAlias = Literal["raise", "keep"]
"""What becomes of a video that decodes in part: an error, or what there is of it."""

# Where one deadline is enough. Decoding on one busy core is slow by length, by size, or by both: an
# hour of a still screen is 50 MB and takes minutes, 10 bits at 1080p of 1 Mbit/s come at 0.4 MB a
# second. A deadline for each 8 MiB (0.14 MB a second at the default), or for each minute where the
# length is known (as slow as it plays), is at least twice what these took, and short clips, of
# which most data sets are made, still cost no more than one.
_DEADLINE_BYTES: Final = 8 << 20
_DEADLINE_SECONDS: Final = 60.0

# As memory is counted: 1K is 1024.
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BYTES: Final = re.compile(r"(\d+(?:\.\d+)?)([KMGT])(?:i?B)?", re.IGNORECASE)

# What a limit is called where it is set; of the others only `Limits` knows.
_OPTIONS: Final = {
    "pixels": "max_pixels (--max-pixels, Limits(pixels=...))",
    "deadline": "deadline (--deadline, Limits(deadline=...))",
    "memory": "memory (--memory, Limits(memory=...))",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost; beyond it the file is refused with the reason ``media_limit``.

    ``pixels``: width times height of one picture, by default Pillow's own limit (8K video has 33
    million); ``frames``: frames of a video; ``output_bytes``: decoded pixels that one call may give
    back; ``packet_bytes``: the encoded stream up to which it is kept in memory between indexing and
    decoding (a larger one is read twice instead); ``deadline`` (seconds) and ``memory`` (bytes):
    what a process that decodes may take (:mod:`mmdata.engine.local`). The deadline is that of a
    short file: :meth:`deadline_of` says how it grows.

    Commands have the options ``--max-pixels``, ``--deadline`` and ``--memory``.
    """

    pixels: PositiveInt = 89_478_485
    frames: PositiveInt = 2_000_000
    output_bytes: PositiveInt = 4 << 30
    packet_bytes: NonNegativeInt = 32 << 20
    deadline: PositiveFloat = 60.0
    memory: PositiveInt = 4 << 30

    def __post_init__(self) -> None:
        """Check the limits."""
        check_fields(self)

    @checked
    def deadline_of(self, size: NonNegativeInt, duration: NonNegativeFloat = 0.0) -> float:
        """Return the seconds that work on media of ``size`` bytes and ``duration`` seconds may
        take.

        That is one ``deadline`` for each 8 MiB, or for each minute of a video whose length is
        known, whichever is more; and one at least.

        >>> Limits(deadline=60).deadline_of(5 << 20)
        60.0
        >>> Limits(deadline=60).deadline_of(64 << 20, duration=3600)
        3600.0
        """
        return self.deadline * max(1.0, size / _DEADLINE_BYTES, duration / _DEADLINE_SECONDS)


@checked
def how_to_raise(limit: LimitName) -> str:
    """Return what to do about a limit that was met; the end of a message.

    >>> how_to_raise("deadline")
    'raise deadline (--deadline, Limits(deadline=...)) if it is meant'
    """
    return f"raise {_OPTIONS.get(limit, f'Limits({limit}=...)')} if it is meant"


def count_bytes(path: str) -> int:
    """Return the bytes of a file, or of those in a folder; 0 where nothing is there to look at.

    >>> count_bytes("no such file")
    0
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - as bare as can be: once a medium
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size
        with os.scandir(path) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except (OSError, ValueError):  # the latter of a name that no file can have
        return 0


def parse_bytes(text: str) -> int | None:
    """Return the bytes that text spells with a unit, as in ``2G`` or ``1.5GiB``; None where it
    does not.

    >>> parse_bytes("1.5G"), parse_bytes("1.5")
    (1610612736, None)
    """
    found = _BYTES.fullmatch(text)
    return None if found is None else int(float(found[1]) * _UNITS[found[2].upper()])
