"""Colours as they are meant: odd matrices, HDR, fields and palettes."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata.conversion.probe import check
from mmdata.errors import VideoError
from mmdata.video import sample
from mmdata.video.reader import index_by_decoding
from tests.video.clips import clip, numbers_in


def tagged(colours: str, *, pix_fmt: str = "yuv420p") -> bytes:
    """A clip of three frames that says ``colours`` of itself, whatever it was made from."""
    return clip("h264", "mp4", range(3), options={"x264-params": colours}, pix_fmt=pix_fmt)


UNDONE = ["YCgCo", "ICtCp", "chroma-derived-nc", "chroma-derived-c"]


@pytest.mark.parametrize("size", [None, 32])
@pytest.mark.parametrize("matrix", UNDONE)
def test_frames_of_a_matrix_that_nothing_undoes_are_an_error_that_names_it(
    matrix: str, size: int | None
) -> None:
    with pytest.raises(VideoError, match=r"bytes>: its colour matrix is .*encode it anew") as found:
        sample(tagged(f"colormatrix={matrix}"), "every:1", size=size)

    assert found.value.reason == "unreadable_media"
    assert found.value.path


@pytest.mark.parametrize("matrix", UNDONE)
def test_a_full_decode_refuses_what_training_refuses(matrix: str) -> None:
    with pytest.raises(VideoError, match="its colour matrix is"):
        check(tagged(f"colormatrix={matrix}"), "video", level="decode")


@pytest.mark.parametrize("size", [None, 32])
@pytest.mark.parametrize(
    ("odd", "like"),
    [
        ("colormatrix=bt2020c", "colormatrix=bt2020nc"),
        ("colormatrix=chroma-derived-nc:colorprim=bt709", "colormatrix=bt709:colorprim=bt709"),
        ("colormatrix=chroma-derived-nc:colorprim=bt2020", "colormatrix=bt2020nc:colorprim=bt2020"),
        ("colormatrix=chroma-derived-c:colorprim=bt2020", "colormatrix=bt2020nc:colorprim=bt2020"),
    ],
)
def test_a_matrix_that_another_stands_for_is_converted_by_it(
    odd: str, like: str, size: int | None
) -> None:
    found, expected = sample(tagged(odd), "every:1"), sample(tagged(like), "every:1")

    np.testing.assert_array_equal(found.pixels, expected.pixels)
    assert numbers_in(sample(tagged(odd), "every:1").pixels) == [0, 1, 2]
    assert sample(tagged(odd), "every:1", size=size).pixels.shape[0] == 3
    assert index_by_decoding(tagged(odd)).damage == ()


def grey(share: float, transfer: str) -> int:
    """What a grey frame becomes whose signal is a ``share`` of white's, in a clip of BT.2020."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        colours = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
        stream.codec_context.options = {"qp": "0", "x264-params": colours}
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, level in zip(frame.planes, (16 + 219 * share, 128, 128), strict=True):
            plane.update(bytes([round(level)]) * plane.buffer_size)
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        output.mux(stream.encode(frame) + stream.encode(None))

    pixels = sample(file.getvalue(), "every:1", size=32).pixels

    assert np.ptp(pixels) <= 2  # a grey stays one
    return int(pixels[0, 16, 16, 0])


@pytest.mark.slow
def test_hdr_is_tone_mapped_so_that_its_white_is_white() -> None:
    # BT.2408, 2.1: reference white is at 58 % of PQ, and at 75 % of HLG.
    assert grey(0.58, "smpte2084") >= 245
    assert grey(0.75, "arib-std-b67") >= 235
    # Of an ordinary clip the same signal stays as it is.
    assert abs(grey(0.58, "bt2020-10") - 0.58 * 255) <= 2


def combs(pixels: NDArray[np.uint8]) -> float:
    """How much each row differs from the mean of its neighbours."""
    green = pixels[..., 1].astype(float)
    return float(np.abs(2 * green[:, 1:-1] - green[:, :-2] - green[:, 2:]).mean())


def interlaced(*, marked: bool) -> bytes:
    """A clip in which a bar is 12 pixels further in each second field."""
    frames = np.full((4, 288, 352, 3), 16, np.uint8)
    for field in range(8):
        left = 40 + 12 * field
        frames[field // 2, field % 2 :: 2, :, :][:, left : left + 60] = 235

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        mark = {"x264-params": "interlaced=1"} if marked else {}
        stream.codec_context.options = {"preset": "ultrafast", "qp": "4", **mark}
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("size", [56, 112, (112, 160)])
def test_a_fast_resize_of_interlaced_frames_leaves_no_combs(size: int | tuple[int, int]) -> None:
    data = interlaced(marked=True)

    assert combs(sample(data, "every:1").pixels) > 10
    assert combs(sample(data, "every:1", size=size).pixels) < 1


def test_interlaced_frames_at_full_size_and_exactly_resized_are_as_decoded() -> None:
    marked, unmarked = interlaced(marked=True), interlaced(marked=False)

    for resize, size in (("fast", None), ("crop", 112)):
        found = sample(marked, "every:1", size=size, resize=resize).pixels.astype(int)
        expected = sample(unmarked, "every:1", size=size, resize=resize).pixels
        assert np.abs(found - expected).mean() < 3  # they are encoded with a loss


def paletted(changes: int) -> bytes:
    """Eight frames of place 3 of a palette, whose colour changes with frame ``changes``."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 8, "pal8"
        for number in range(8):
            palette = np.zeros((256, 4), np.uint8)
            palette[3] = (255, 10 if number < changes else 200, 20, 30)  # alpha, red, green, blue
            places = np.full((8, 16), 3, np.uint8)
            frame = av.VideoFrame.from_ndarray((places, palette), format="pal8")  # type: ignore[arg-type]  # as PyAV's documentation has it
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("wanted", range(8))
def test_a_frame_asked_for_alone_has_the_palette_that_came_before_it(wanted: int) -> None:
    data = paletted(changes=4)

    alone = sample(data, f"frames:{wanted}").pixels[0]

    np.testing.assert_array_equal(alone, sample(data, "every:1").pixels[wanted])
    assert (alone == (10 if wanted < 4 else 200, 20, 30)).all()
