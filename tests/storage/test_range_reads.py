"""Of a remote file no more is fetched than is needed, and what is fetched is what is there."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata import video
from mmdata.storage import Access, remote_path
from mmdata.storage._file import RemoteFile, Spool
from tests.storage.web import Web, serve

GOP = 12


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as served:
        yield served


def noise(frames: int) -> bytes:
    """Return a clip that is large for its length, as films are for theirs."""
    chance, file = np.random.default_rng(0), io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"g": str(GOP), "sc_threshold": "0", "preset": "ultrafast", "crf": "20"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for number in range(frames):
            pixels = chance.integers(0, 255, (192, 256, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def bytes_that_hold(data: bytes, numbers: list[int]) -> int:
    """Return the bytes of the packets from the keyframe before each frame to the frame."""
    with av.open(io.BytesIO(data)) as container:
        packets = [
            (packet.size, packet.is_keyframe)
            for packet in container.demux(container.streams.video[0])
            if packet.size
        ]
    total = 0
    for number in numbers:
        start = max(place for place in range(number + 1) if packets[place][1])
        total += sum(size for size, _ in packets[start : number + 1])
    return total


def test_eight_frames_of_a_long_clip_cost_little_more_than_the_bytes_that_hold_them(
    web: Web,
) -> None:
    data = noise(400)
    clock = video.index(data).clock
    numbers = video.plan(video.index(data), "uniform:8").numbers.tolist()
    web.files["/long.mp4"] = data
    path = remote_path(web.url("/long.mp4"), Access(remote=True, hosts=("127.0.0.1",)))

    there = video.sample(path, "uniform:8", clock=clock)

    assert web.sent <= 1.5 * bytes_that_hold(data, numbers) < len(data) / 3
    assert np.array_equal(there.pixels, video.sample(data, "uniform:8", clock=clock).pixels)


@given(
    size=st.integers(0, 300_000),
    reads=st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 90_000)), max_size=8),
)
def test_pieces_from_any_place_are_those_of_the_file(
    size: int, reads: list[tuple[int, int]]
) -> None:
    data = np.random.default_rng(size).bytes(size)
    file = RemoteFile(lambda start, count: data[start : start + count], size, "file")

    for start, count in reads:
        file.seek(start)
        assert file.read(count) == data[start : start + count]


def test_who_reads_on_and_on_is_given_more_at_a_time_and_nothing_twice() -> None:
    asked: list[tuple[int, int]] = []
    data = bytes(8 << 20)

    def read(start: int, count: int) -> bytes:
        asked.append((start, count))
        return data[start : start + count]

    file = RemoteFile(read, len(data), "file")
    while file.read(1 << 14):
        pass

    assert sum(count for _, count in asked) == len(data)
    assert len(asked) < 25


def test_what_was_fetched_once_is_read_from_the_disk_after() -> None:
    asked: list[tuple[int, int]] = []
    data = np.random.default_rng(0).bytes(64 << 20)

    def read(start: int, count: int) -> bytes:
        asked.append((start, count))
        return data[start : start + count]

    # More than the memory of a file holds.
    with RemoteFile(read, len(data), "file", spool=Spool(1 << 30)) as file:
        first = [file.read(1 << 20) for _ in range(64)]
        fetched = len(asked)
        file.seek(0)
        again = [file.read(1 << 20) for _ in range(64)]

    assert b"".join(filter(None, first)) == b"".join(filter(None, again)) == data
    assert len(asked) == fetched


def test_a_spool_keeps_no_more_than_it_may() -> None:
    spool = Spool(100)

    spool.write(0, bytes(80))
    spool.write(1, bytes(80))

    assert spool.read(0) == bytes(80)
    assert spool.read(1) is None
    spool.close()
