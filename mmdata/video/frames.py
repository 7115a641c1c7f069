"""The frames of a clip: pixels and times, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mmdata._tools.markup import picture, text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.schema import TimeSource
    from mmdata.video.clock import Clock

__all__ = ["Frames"]

_SHOWN: Final = 64
_SIDE: Final = 160  # pixels of a picture in a notebook, at the most


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frames:
    """Frames of one video, in presentation order unless a strategy names another.

    ``pixels`` (frames, height, width, 3) uint8 are upright RGB; ``times`` (frames,) float64 seconds
    since the first presented frame; ``numbers`` (frames,) int64 the place of each in presentation
    order. ``times_source`` is "derived" where the container stores no times. ``damage`` says what
    was found to be wrong on the way, if that was let pass. ``clock`` is that of all frames of the
    file; None of frames of which no file was read.
    """

    pixels: NDArray[np.uint8]
    times: NDArray[np.float64]
    numbers: NDArray[np.int64]
    times_source: TimeSource = "stream"
    damage: tuple[str, ...] = field(default=())
    clock: Clock | None = None

    def __post_init__(self) -> None:
        """Check that the three arrays speak of the same frames."""
        pixels, count = self.pixels, len(self.pixels)
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != "uint8":
            raise ValueError(
                "pixels must be (frames, height, width, 3) uint8, "
                f"found {pixels.shape} {pixels.dtype}"
            )
        if self.times.shape != (count,) or self.numbers.shape != (count,):
            raise ValueError(
                f"{count} frames, but times {self.times.shape} and numbers {self.numbers.shape}"
            )
        if count and not (self.times >= 0).all():
            raise ValueError("times are seconds since the first presented frame, and never below 0")

    def __len__(self) -> int:
        return len(self.pixels)

    def _repr_html_(self) -> str:
        """Return the frames as small pictures with their times, for a notebook: the first 64."""
        import io

        from PIL import Image

        shown = []
        for pixels, time in zip(self.pixels[:_SHOWN], self.times, strict=False):
            small, file = Image.fromarray(pixels), io.BytesIO()
            small.thumbnail((_SIDE, _SIDE))
            small.save(file, "jpeg")
            shown.append(picture(file.getvalue(), f"{time:.3f} s"))
        more = len(self) - _SHOWN
        left = text(f"and {more:,} more frames") if more > 0 else ""
        return f"<div>{text(self)}<br>{''.join(shown)}{left}</div>"

    def __repr__(self) -> str:
        span = f"{self.times[0]:.3f}..{self.times[-1]:.3f} s" if len(self) else "none"
        source = f"times_source={self.times_source!r}"
        damage = f", damage={len(self.damage)}" if self.damage else ""
        return f"Frames(pixels={self.pixels.shape} uint8, times={span}, {source}{damage})"
