"""How much a single media file may ask for before it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from mmdata._tools.options import NonNegativeInt, PositiveFloat, PositiveInt, check_fields

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost; beyond it the file is refused with the reason ``media_limit``.

    ``pixels``: width times height of one picture, by default Pillow's own limit (8K video has 33
    million); ``frames``: frames of a video; ``output_bytes``: decoded pixels that one call may give
    back; ``packet_bytes``: the encoded stream up to which it is kept in memory between indexing and
    decoding (a larger one is read twice instead); ``deadline`` (seconds) and ``memory`` (bytes):
    what a process that decodes may take (:mod:`mmdata.engine.local`).
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
