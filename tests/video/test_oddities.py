"""What is said of sound videos that are oddly made, by its name, at every level of looking."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mmdata.conversion.probe import check
from mmdata.errors import VideoError
from mmdata.schema import Oddity
from mmdata.video import index, sample
from mmdata.video.reader import index_by_decoding
from tests.video.clips import clip, numbers_in
from tests.video.test_colours import UNDONE, tagged
from tests.video.test_source import with_cover

# Ticks of 1 / 25 s: an even clip, a pause of three seconds, an even clip.
PAUSED = [*range(30), *range(105, 135)]
# A screen recording: it stops wherever nothing moves, for as long as that is.
STOPPING = [tick + 75 * (tick // 13) for tick in range(60)]


def ends_joined(container: str) -> bytes:
    """Two recordings end to end, the second made three seconds after the first."""
    return clip("h264", container, PAUSED, gop=30, b_frames=0)


def sizes_joined() -> bytes:
    """Two recordings end to end, of frames of two sizes."""
    small = clip("h264", "h264", range(12), size=(48, 64))
    return small + clip("h264", "h264", range(12), size=(96, 128), first=12)


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
def test_a_leap_of_an_even_clock_to_a_keyframe_is_said_to_be_a_joint(container: str) -> None:
    data = ends_joined(container)

    assert index(data).oddities == index_by_decoding(data).oddities == ("joined",)
    assert index(data).damage == ()
    assert numbers_in(sample(data, "frames:29,30").pixels) == [29, 30]
    assert sample(data, "frames:30").times == pytest.approx(105 / 25, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("times", [range(60), STOPPING, [0, 2, 3, 7, 8, 12, 40, 44, 45, 47]])
@pytest.mark.parametrize("gop", [1, 15, 60])
def test_a_clock_that_runs_evenly_or_in_leaps_of_its_own_is_none(
    times: list[int], gop: int
) -> None:
    assert index(clip("h264", "matroska", times, gop=gop)).oddities == ()


def test_frames_of_two_sizes_are_said_to_be_a_joint_where_all_are_decoded() -> None:
    found = index_by_decoding(sizes_joined())

    assert found.num_frames == 24
    assert found.oddities == ("joined",)


@pytest.mark.slow
@pytest.mark.parametrize("read", [index, index_by_decoding])
@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ("colormatrix=bt709", ()),
        ("colormatrix=bt2020nc:colorprim=bt2020", ()),
        ("colormatrix=bt2020c", ("odd_matrix",)),
        ("colormatrix=chroma-derived-nc:colorprim=bt709", ("odd_matrix",)),
        ("colormatrix=bt2020nc:colorprim=bt2020:transfer=arib-std-b67", ("hdr",)),
    ],
)
def test_odd_colours_are_said(
    colours: str, said: tuple[Oddity, ...], read: Callable[[bytes], object]
) -> None:
    assert read(tagged(colours)).oddities == said  # type: ignore[attr-defined]


@pytest.mark.parametrize("matrix", UNDONE)
def test_probing_refuses_a_matrix_that_decoding_refuses_in_the_same_words(matrix: str) -> None:
    data = tagged(f"colormatrix={matrix}")
    said = []
    for level in ("probe", "decode"):
        with pytest.raises(VideoError, match="its colour matrix is") as found:
            check(data, "video", level=level)
        said.append((str(found.value), found.value.path, found.value.reason))

    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("colours", "words"),
    [
        ("colormatrix=YCgCo", "its colour matrix is YCgCo"),
        ("colormatrix=bt2020c", r"gets wrong the colours .*odd_matrix.*backend='av'"),
        ("colorprim=bt2020:transfer=smpte2084", r"gets wrong the colours .*hdr"),
    ],
)
def test_decord_is_not_used_on_colours_that_it_takes_for_others(colours: str, words: str) -> None:
    with pytest.raises(VideoError, match=words):
        sample(tagged(colours), "every:1", backend="decord")


@pytest.mark.parametrize("read", [index, index_by_decoding])
def test_a_picture_that_is_attached_is_said(read: Callable[[bytes], object]) -> None:
    film = with_cover(clip("h264", "mp4", range(8)), "mp4")

    assert read(film).oddities == ("attached_picture",)  # type: ignore[attr-defined]
