"""The order of presentation, read from the coded frames themselves where a container stores no times (AVI)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.video.packets import Packets

__all__ = ["coded_order"]

# Codecs that present frames in the order in which they code them.
_IN_ORDER: Final = frozenset(
    {"av1", "cinepak", "dvvideo", "ffv1", "flv1", "h263", "huffyuv", "mjpeg", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3"}
    | {"png", "rawvideo", "utvideo", "vp8", "vp9"}
)


def coded_order(codec: str, packets: Packets) -> NDArray[np.int64] | None:
    """Return the presentation number of each packet, (packets,) int64, or None where only decoding can tell."""
    import numpy as np

    if codec in _IN_ORDER or len(packets.rows) <= 1:
        return np.arange(len(packets.rows))
    return None
