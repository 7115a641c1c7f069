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
from mmdata.storage._file import HoledFile, RemoteFile, Spool
from mmdata.storage._path import RemotePath
from mmdata.video.index import Index
from tests.storage.web import Web, serve

GOP = 12


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as served:
        yield served


def noise(
    frames: int,
    codec: str = "libx264",
    kind: str = "mp4",
    pix_fmt: str = "yuv420p",
    *,
    movflags: str = "",
    **more: str,
) -> bytes:
    """Return a clip that is large for its length, as films are for theirs."""
    chance, file = np.random.default_rng(0), io.BytesIO()
    written = {"movflags": movflags} if movflags else {}
    with av.open(file, "w", format=kind, options=written) as container:
        options = {"g": str(GOP), "sc_threshold": "0", "preset": "ultrafast", "crf": "20"}
        known = options if codec.startswith("libx") else {"g": str(GOP)}
        stream = container.add_stream(codec, rate=25, options={**known, **more})
        stream.width, stream.height, stream.pix_fmt = 256, 192, pix_fmt
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


def path_to(web: Web, data: bytes) -> RemotePath:
    web.files["/clip"] = data
    return remote_path(web.url("/clip"), Access(remote=True, hosts=("127.0.0.1",)))


def facts(found: Index) -> list[object]:
    arrays = (found.times, found.keyframes, found.order)
    each = [None if array is None else array.tolist() for array in arrays]
    pixels = (found.width, found.height, found.fps, found.duration, found.codec)
    said = (found.times_source, found.damage, found.stored, found.oddities, found.refusal)
    return [*each, *pixels, *said, found.packets]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "kind", "pix_fmt", "more"),
    [
        ("libx264", "mp4", "yuv420p", {"bf": "2"}),
        ("libx264", "mov", "yuv420p", {"bf": "0"}),
        ("libx264", "mp4", "yuv420p", {"bf": "2", "x264-params": "open-gop=1"}),
        ("libx265", "mp4", "yuv420p", {"bf": "2", "x265-params": "log-level=none"}),
        ("prores_ks", "mov", "yuv422p10le", {}),
    ],
)
def test_of_a_film_no_more_than_its_tables_and_its_first_frame_is_fetched_to_look_into_it(
    web: Web, codec: str, kind: str, pix_fmt: str, more: dict[str, str]
) -> None:
    data = noise(80, codec, kind, pix_fmt, **more)

    found = video.index(path_to(web, data))

    assert web.sent < len(data) / 3
    assert facts(found) == facts(video.index(data))


@pytest.mark.parametrize(
    ("kind", "movflags"), [("mp4", "frag_keyframe+empty_moov"), ("matroska", ""), ("mpegts", "")]
)
def test_a_film_whose_packets_alone_say_when_its_frames_are_is_read_once(
    web: Web, kind: str, movflags: str
) -> None:
    data = noise(60, "libx264", kind, movflags=movflags)

    found = video.index(path_to(web, data))

    assert len(data) <= web.sent < 1.05 * len(data) + (1 << 16)
    assert facts(found) == facts(video.index(data))


def test_a_film_is_damaged_whose_tables_promise_more_than_there_is(web: Web) -> None:
    # Its tables come first, and so are whole.
    whole = rewrite_with_tables_first(noise(60))
    cut = whole[: len(whole) * 2 // 3]

    found = video.index(path_to(web, cut))

    assert facts(found) == facts(video.index(cut))
    assert found.damage


def rewrite_with_tables_first(data: bytes) -> bytes:
    """Return an MP4 with its tables before its media."""
    at = data.index(b"moov") - 4
    tables = bytearray(data[at:])
    place = tables.index(b"stco") + 8
    count = int.from_bytes(tables[place : place + 4], "big")
    for number in range(count):
        entry = slice(place + 4 + 4 * number, place + 8 + 4 * number)
        moved = int.from_bytes(tables[entry], "big") + len(tables)
        tables[entry] = moved.to_bytes(4, "big")
    start = int.from_bytes(data[:4], "big")  # of ftyp
    return data[:start] + bytes(tables) + data[start:at]


def test_keyframes_that_the_table_lacks_are_looked_for_in_the_packets(web: Web) -> None:
    data = noise(60)
    # A group of frames at which decoding can start, empty, in the place of the table's end.
    group = b"\0\0\0\x14sgpd\x01\0\0\0roll\0\0\0\x02\0\0\0\0"
    group = (len(group)).to_bytes(4, "big") + group[4:]
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = data.index(kind) - 4
        length = int.from_bytes(data[at : at + 4], "big")
        data = data[:at] + (length + len(group)).to_bytes(4, "big") + data[at + 4 :]
        if kind == b"stbl":
            data = data[: at + length] + group + data[at + length :]

    found = video.index(path_to(web, data))

    assert web.sent >= len(data)
    assert facts(found) == facts(video.index(data))


def test_frames_of_a_film_without_a_clock_are_those_of_the_file(web: Web) -> None:
    data = noise(240, bf="2")

    there = video.sample(path_to(web, data), "uniform:3")

    assert web.sent < len(data) / 2
    assert np.array_equal(there.pixels, video.sample(data, "uniform:3").pixels)


@given(
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 90)), min_size=1, max_size=6),
    reads=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 200)), max_size=8),
)
def test_holes_read_as_zeros_and_are_not_fetched(
    pieces: list[tuple[bool, int]], reads: list[tuple[int, int]]
) -> None:
    data, holes = b"", []
    for is_hole, size in pieces:
        holes += [range(len(data), len(data) + size)] if is_hole else []
        data += (b"\0" if is_hole else b"x") * size
    file = HoledFile(
        RemoteFile(lambda start, count: data[start : start + count], len(data), "f"), holes
    )

    for start, count in reads:
        file.seek(start)
        found = b""
        while piece := file.read(count - len(found)):
            found += piece
        assert found == data[start : start + count]


def test_a_path_that_keeps_what_was_fetched_asks_for_it_once(web: Web) -> None:
    data = np.random.default_rng(0).bytes(3 << 20)
    path = path_to(web, data).keep()

    first = path.read_bytes()
    asked = len(web.asked)
    with path.like(str(path)).open("rb") as file:
        second = file.read()

    assert first == second == data
    assert len(data) <= web.sent < len(data) + 10
    assert len(web.asked) == asked


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
