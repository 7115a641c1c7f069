"""What swscale must be told of a frame so that its colours come out as they are meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mmdata.errors import VideoError

if TYPE_CHECKING:
    from av.filter import Graph
    from av.video.frame import VideoFrame

    from mmdata.schema import Oddity

__all__ = ["ToneMapper", "as_progressive", "colour_oddities", "conversion_of", "refusal_of"]


# Numbers of ITU-T H.273, which are FFmpeg's too: of primaries, transfer functions and matrices.
_BT709: Final = 1
_BT2020: Final = 9
_PQ: Final = 16
_HLG: Final = 18

# By matrix and primaries. swscale refuses these matrices, but has their like: what is derived from
# primaries is the matrix of those primaries, and BT.2020 with constant luminance is to FFmpeg's own
# program BT.2020 without.
_LIKE: Final = {(12, _BT709): _BT709, (12, _BT2020): _BT2020, (13, _BT2020): _BT2020}
_CONSTANT_LUMINANCE: Final = 10
_REFUSED: Final = {
    8: "YCgCo",
    11: "Y'D'zD'x",
    12: "derived from primaries",
    13: "derived from primaries, of constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}


def refusal_of(frame: VideoFrame) -> str:
    """Return why ``frame`` cannot be made RGB, in words that do not name the file; empty where its
    colour matrix can be undone.
    """
    matrix = int(frame.colorspace)
    if matrix not in _REFUSED or (matrix, int(frame.color_primaries)) in _LIKE:
        return ""
    return (
        f"its colour matrix is {_REFUSED[matrix]} (number {matrix}), "
        "which cannot be converted to RGB; encode it anew as BT.709"
    )


def colour_oddities(frame: VideoFrame) -> Iterator[Oddity]:
    """Yield how the colours of ``frame`` are odd: its matrix is undone by its like, its brightness
    is tone-mapped.
    """
    conversion = conversion_of(frame) if not refusal_of(frame) else {}
    if "src_colorspace" in conversion:
        yield "odd_matrix"
    if "dst_color_trc" in conversion:
        yield "hdr"


def conversion_of(frame: VideoFrame) -> dict[str, int]:
    """Return the arguments of PyAV's ``reformat`` that make ordinary RGB of ``frame``; most need
    none. HDR (PQ and HLG) is tone-mapped to BT.709.

    swscale takes about a second to prepare for HDR, once a file.

    Raises:
        VideoError: a colour matrix that nothing here can undo; the message does not name the file.
    """
    if refusal := refusal_of(frame):
        raise VideoError(refusal)
    wanted: dict[str, int] = {}

    matrix = int(frame.colorspace)
    if matrix == _CONSTANT_LUMINANCE:
        wanted["src_colorspace"] = _BT2020
    elif matrix in _REFUSED:
        wanted["src_colorspace"] = _LIKE[matrix, int(frame.color_primaries)]

    if int(frame.color_trc) in (_PQ, _HLG):
        # BT.709, in which the other clips are, so that greys are alike.
        wanted["dst_color_trc"] = wanted["dst_color_primaries"] = _BT709
    return wanted


class ToneMapper:
    """FFmpeg's filter that makes BT.709 of HDR, for PyAV before 18: there ``reformat`` takes the
    arguments of :func:`conversion_of` and leaves the brightness as it is.

    It is for one thread, and best at frames of one size: each size is prepared for a second.
    """

    def __init__(self) -> None:
        self._made_for: tuple[int, int, str] | None = None
        self._graph: Graph | None = None

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return ``frame`` as RGB of BT.709, in its own size."""
        kind = frame.width, frame.height, frame.format.name
        if self._graph is None or kind != self._made_for:
            to_bt709 = "out_transfer=bt709:out_primaries=bt709"
            self._graph = _chain(frame, ("scale", to_bt709), ("format", "rgb24"))
            self._made_for = kind
        self._graph.push(frame)
        return self._graph.vpull()


def as_progressive(frame: VideoFrame) -> VideoFrame:
    """Return an interlaced frame without the mark of being so; the pixels are the same memory.

    swscale scales the two fields of a marked frame apart and weaves them again, and so a smaller
    frame has combs as high as the full one. PyAV cannot take the mark off; FFmpeg's filter can.
    """
    graph = _chain(frame, ("setfield", "prog"))
    graph.push(frame)
    return graph.vpull()


def _chain(frame: VideoFrame, *filters: tuple[str, str]) -> Graph:
    """Return FFmpeg's ``filters``, one after the other, for frames like ``frame``."""
    from fractions import Fraction

    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    graph.link_nodes(
        source, *(graph.add(name, options) for name, options in filters), graph.add("buffersink")
    )
    graph.configure()
    return graph
