"""Which stream of a file is its video."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import pytest
from av.stream import Disposition

from mmdata.conversion.probe import check
from mmdata.errors import VideoError
from mmdata.video import index, sample
from tests.video.clips import clip, numbers_in, picture


def with_cover(source: bytes, container: str) -> bytes:
    """The streams of a file, and a picture attached to them."""
    file = io.BytesIO()
    with av.open(io.BytesIO(source)) as opened, av.open(file, "w", format=container) as output:
        copies = {
            stream.index: output.add_stream_from_template(stream) for stream in opened.streams
        }
        cover = output.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 480, 640, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(picture(99, 480, 640), format="rgb24").reformat(
            format="yuvj420p"
        )
        frame.pts = 0
        for packet in cover.encode(frame) + cover.encode(None):
            output.mux(packet)
        for packet in opened.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return file.getvalue()


def song() -> bytes:
    """A second of silence."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as output:
        stream = output.add_stream("mp3", rate=44100)
        for start in range(0, 44100, 1152):
            sound = av.AudioFrame.from_ndarray(
                np.zeros((1, 1152), np.float32), format="fltp", layout="mono"
            )
            sound.sample_rate, sound.pts = 44100, start
            output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    "read",
    [
        index,
        lambda data: sample(data, "every:1"),
        lambda data: check(data, "video"),
        lambda data: check(data, "video", level="decode"),
    ],
    ids=["index", "sample", "probe", "decode"],
)
def test_a_song_with_a_cover_is_no_video(read: Callable[[bytes], object]) -> None:
    with pytest.raises(VideoError, match="holds no video stream, only an attached picture"):
        read(with_cover(song(), "mp3"))


def test_of_a_film_with_a_larger_cover_the_film_is_read() -> None:
    film = with_cover(clip("h264", "mp4", range(8)), "mp4")

    assert numbers_in(sample(film, "every:1").pixels) == list(range(8))
