"""Files whose containers say less than a full decode finds, or say it wrongly: frames, times and
damage are those of the full decode, whatever is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata import video
from mmdata._tools.limits import Limits
from mmdata.conversion.probe import probe
from mmdata.errors import VideoError
from mmdata.video.reader import index_by_decoding
from tests.video.clips import clip, cut, number_in, numbers_in

RATE = 25
COUNT = 30
BEYOND = Limits(packet_bytes=1)
"""Limits that make every packet be read again."""
VARIABLE = [0, 1, 2, 3, 4, 5, 6, 7, 16, 25, 34, 43]


def coloured(
    codec: str,
    container: str,
    pix_fmt: str,
    *,
    ticks: Sequence[int] = range(5),
    size: tuple[int, int] = (48, 64),
    options: dict[str, str] | None = None,
) -> bytes:
    """The bytes of a clip of coloured noise."""
    file = io.BytesIO()
    pictures = np.random.default_rng(1).integers(0, 256, (len(ticks), *size, 3), np.uint8)
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=RATE)
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.options = options or {}
        for tick, picture in zip(ticks, pictures, strict=True):
            if pix_fmt == "pal8":
                places, palette = picture[:, :, 0], rng_palette(tick)
                frame = av.VideoFrame.from_ndarray((places, palette), format="pal8")  # type: ignore[arg-type]  # as PyAV's documentation has it
            else:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = tick, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def rng_palette(seed: int) -> NDArray[np.uint8]:
    """256 colours, opaque, as PyAV lays them out."""
    colours = np.random.default_rng(seed).integers(0, 256, (256, 4), np.uint8)
    colours[:, 0] = 255
    return colours


def assert_one_numbering(data: bytes, numbers: Sequence[int] | None = None) -> None:
    """Frame k is the k-th of a full decode, and so are its time and what a probe says of it."""
    quick, thorough = video.index(data), index_by_decoding(data, strict=True)
    whole = video.sample(data, "every:1")

    assert (quick.damage, thorough.damage) == ((), ())
    assert quick.times.tolist() == thorough.times.tolist() == whole.times.tolist()
    assert (quick.duration, quick.fps) == (thorough.duration, thorough.fps)
    if numbers is not None:
        assert numbers_in(whole.pixels) == list(numbers)
    for limits in (Limits(), BEYOND):
        for number in (0, 1, 7, len(whole) - 1):
            alone = video.sample(data, f"frames:{number}", limits=limits)
            np.testing.assert_array_equal(alone.pixels[0], whole.pixels[number])


# --- times that containers lack
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["mxf", "asf"])
def test_b_frames_of_a_container_without_times_for_them_are_in_order(container: str) -> None:
    data = clip("h264", container, range(COUNT), b_frames=2)

    assert_one_numbering(data, range(COUNT))
    np.testing.assert_allclose(video.index(data).times, np.arange(COUNT) / RATE, atol=1e-3)


@pytest.mark.parametrize("codec", ["h264", "mpeg4", "mpeg2video"])
@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_b_frames_that_were_given_the_times_of_decoding_are_in_order(
    codec: str, container: str
) -> None:
    assert_one_numbering(decoding_times(codec, container), range(COUNT))


def decoding_times(codec: str, container: str) -> bytes:
    """A clip with B-frames whose times ascend as it is coded, as a copy out of an AVI has."""
    file = io.BytesIO()
    source = io.BytesIO(clip(codec, "matroska", range(COUNT), b_frames=2))
    with av.open(source) as opened, av.open(file, "w", format=container) as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in opened.demux(stream) if packet.size]
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = 40 * number
            packet.time_base, packet.stream = Fraction(1, 1000), copy
            output.mux(packet)
    return file.getvalue()


def test_they_are_in_order_where_an_edit_list_hides_some() -> None:
    """As where a raw stream was copied into an MP4: the times of its first packets are below 0."""
    data = cut(decoding_times("h264", "mp4"), "mp4", keyframe=0, start=2)
    with av.open(io.BytesIO(data)) as opened:
        shown = [number_in(one.to_ndarray(format="rgb24")) for one in opened.decode(video=0)]

    assert len(shown) < COUNT
    assert_one_numbering(data, shown)


def test_a_program_stream_that_times_some_packets_alone_is_told_by_those() -> None:
    few = clip("h264", "mpeg", range(COUNT), b_frames=2)  # all in the first of its packets
    some = coloured("libx264", "mpeg", "yuv420p", ticks=VARIABLE, options={"bf": "2", "qp": "30"})

    assert_one_numbering(few, range(COUNT))
    np.testing.assert_allclose(video.index(few).times, np.arange(COUNT) / RATE, atol=1e-3)
    assert_one_numbering(some)
    assert video.index(some).times_source == "derived"
    assert video.index(some).times[-1] == pytest.approx(VARIABLE[-1] / RATE, abs=1e-3)


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_raw_mpeg_has_the_times_of_its_rate(codec: str) -> None:
    data = clip(codec, codec, range(COUNT), b_frames=2, options={"qscale": "2"})

    assert_one_numbering(data, range(COUNT))
    np.testing.assert_allclose(video.index(data).times, np.arange(COUNT) / RATE, atol=1e-9)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_raw_stream_that_begins_between_keyframes_counts_what_decodes(codec: str) -> None:
    whole = clip(codec, codec, range(COUNT), b_frames=2, gop=10)

    assert_one_numbering(whole[len(whole) * 35 // 100 :])


def test_a_last_frame_of_unsaid_length_lasts_as_long_at_every_level() -> None:
    data = clip("wmv2", "asf", VARIABLE, options={"qscale": "2"})

    assert_one_numbering(data, range(len(VARIABLE)))


# --- keyframes, palettes, seeking
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["msmpeg4", "msmpeg4v2", "flv", "cinepak"])
def test_an_avi_without_its_index_has_no_keyframes_but_the_first(codec: str) -> None:
    whole = clip(codec, "avi", range(20), pix_fmt="rgb24" if codec == "cinepak" else "")
    data = whole[: whole.rindex(b"idx1")]

    assert video.index(data).keyframes.tolist() == [0]
    assert_one_numbering(data, range(20))


@pytest.mark.parametrize("container", ["avi", "mov"])
def test_a_palette_is_found_again_where_packets_are_read_again(container: str) -> None:
    data = coloured("rawvideo", container, "pal8", ticks=range(9))

    whole = video.sample(data, "every:1")
    again = video.sample(data, "every:1", limits=BEYOND)

    assert len(np.unique(whole.pixels)) > 2
    np.testing.assert_array_equal(again.pixels, whole.pixels)


@pytest.mark.parametrize(("codec", "container"), [("h264", "asf"), ("mpeg4", "m4v")])
def test_a_file_that_cannot_be_sought_in_is_opened_again(codec: str, container: str) -> None:
    data = clip(codec, container, range(COUNT), b_frames=1)

    frames = video.sample(data, "frames:20,3,20", limits=BEYOND)

    assert numbers_in(frames.pixels) == [20, 3, 20]


# --- pixels
# -------------------------------------------------------------------------------------------


def test_the_lines_of_an_interlaced_frame_are_converted_as_they_stand() -> None:
    data = coloured("mpeg2video", "mpegts", "yuv420p", options={"flags": "+ildct+ilme"})
    with av.open(io.BytesIO(data)) as opened:
        frames = list(opened.decode(video=0))
    # The same planes in frames that nobody has marked.
    unmarked = [av.VideoFrame.from_ndarray(one.to_ndarray(), format="yuv420p") for one in frames]

    found = video.sample(data, "every:1").pixels

    assert all(frame.interlaced_frame for frame in frames)
    np.testing.assert_array_equal(found, [frame.to_ndarray(format="rgb24") for frame in unmarked])


@pytest.mark.parametrize(("pix_fmt", "size"), [("yuv411p", (48, 64)), ("yuv420p", (49, 65))])
def test_colours_at_a_fraction_of_the_size_are_made_larger_as_ffmpeg_does(
    pix_fmt: str, size: tuple[int, int]
) -> None:
    data = coloured("ffv1", "matroska", pix_fmt, size=size)
    with av.open(io.BytesIO(data)) as opened:
        frames = [
            frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()
            for frame in opened.decode(video=0)
        ]

    np.testing.assert_array_equal(video.sample(data, "every:1").pixels, np.stack(frames))


# --- damage
# -------------------------------------------------------------------------------------------


def test_what_sampling_refuses_is_damage_to_the_check_that_decodes() -> None:
    data = bytearray(coloured("mjpeg", "avi", "yuvj420p", ticks=range(8)))
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(3).bytes(200)

    with pytest.raises(VideoError, match="cannot be decoded"):
        video.sample(bytes(data), "every:1")

    assert "cannot be decoded" in " ".join(probe(bytes(data), "video", level="decode").damage)


def test_frames_that_a_missing_keyframe_takes_with_it_are_damage() -> None:
    file = io.BytesIO()
    source = io.BytesIO(clip("h264", "matroska", range(COUNT), gop=10, b_frames=2))
    with av.open(source) as opened, av.open(file, "w", format="mp4") as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(opened.demux(stream)):
            if packet.size and number != 10:
                packet.stream = copy
                output.mux(packet)
    data = file.getvalue()

    assert "packets give no frame" in probe(data, "video", level="decode").damage[0]
    with pytest.raises(VideoError, match="packets give no frame"):
        video.sample(data, "every:1")


def test_tiff_frames_are_sound_although_its_strict_decoder_would_refuse_them() -> None:
    data = coloured("tiff", "mov", "rgb24", options={"compression_algo": "raw"})

    assert len(video.sample(data, "every:1")) == 5
    assert probe(data, "video", level="decode").damage == ()


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt"),
    [("h264", "matroska", ""), ("vp9", "webm", ""), ("gif", "gif", "rgb8")],
)
def test_a_file_that_was_cut_short_says_so(
    codec: str, container: str, pix_fmt: str, tmp_path: Path
) -> None:
    whole = clip(codec, container, range(COUNT), pix_fmt=pix_fmt)
    (tmp_path / "whole").write_bytes(whole)
    (tmp_path / "cut").write_bytes(whole[: len(whole) * 6 // 10 + 3])

    assert video.index(whole).damage == video.index(tmp_path / "whole").damage == ()
    for level in ("probe", "decode"):
        assert "cut short" in probe(str(tmp_path / "cut"), "video", level=level).damage[0]
    with pytest.raises(VideoError, match="cut short"):
        video.sample(tmp_path / "cut", "uniform:3")
    assert len(video.sample(tmp_path / "cut", "uniform:3", on_damage="keep")) == 3


def test_a_live_recording_that_never_said_its_length_is_whole() -> None:
    data = clip("h264", "matroska", range(COUNT), muxer={"live": "1"})

    assert video.index(data).damage == ()


def test_bytes_that_are_no_block_of_a_gif_are_named() -> None:
    whole = clip("gif", "gif", range(COUNT), pix_fmt="rgb8")
    block = whole.index(b"\x21\xf9\x04", len(whole) // 2)  # where a frame begins

    without_trailer = video.index(whole[:-1])
    broken = video.index(whole[:block] + b"\x07" + whole[block + 1 :])

    assert without_trailer.damage == ()
    assert broken.damage[0] == f"what is at byte {block} is no block of a GIF"
