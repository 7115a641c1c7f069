"""When frames are, from what is known of a video, without decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from mmdata._tools.limits import Limits
from mmdata.errors import ImageError, MediaError, PluginError, TokenError, UsageError, VideoError
from mmdata.schema import CompactTimes, Conversation, Image, Media, Video, assistant, replace, user
from mmdata.templates.toolkit import MediaFiles, ReadsFiles, plan_clip, read_size, with_limits
from mmdata.video import Clock, sample
from tests.conversion.test_faults import RAISED
from tests.reference import files
from tests.templates.families import FAMILIES, Family
from tests.video.clips import clip


def _about(medium: Media) -> Conversation:
    return Conversation("c", (user(Video(0) if medium.type == "video" else "?"),), (medium,))


def _taken(
    video: Media, frames: str, clock: object = None
) -> tuple[tuple[int, ...], tuple[float, ...], float]:
    found = plan_clip(_about(video), 0, frames, clock, resize="crop", size=224)  # type: ignore[arg-type]
    return found.pixels.frames, found.pixels.times, found.duration


def test_times_of_a_probed_video_are_those_of_its_clock() -> None:
    assert _taken(
        Media("video", "nowhere.mp4", num_frames=10, fps=5.0, clock=CompactTimes(step=1 / 5.0)),
        "every:5",
    ) == (
        (0, 5),
        (0.0, 1.0),
        2.0,
    )


def test_times_in_the_store_come_before_all_else() -> None:
    video = Media("video", "nowhere.mp4", num_frames=90, fps=30.0, frame_times=(0.0, 0.5, 2.0))

    assert _taken(video, "every:1", clock=_refuse)[:2] == ((0, 1, 2), (0.0, 0.5, 2.0))


def test_a_clock_that_is_given_is_asked_where_the_store_keeps_none() -> None:
    def clock(media: Media) -> object:
        return Clock(np.array([0.0, 0.1, 0.9]), 3.0)

    video = Media("video", "nowhere.mp4", num_frames=3, fps=1.0)

    assert _taken(video, "every:1", clock)[1] == (0.0, 0.1, 0.9)


def test_times_are_never_counted_from_a_rate() -> None:
    with pytest.raises(VideoError, match=r"nowhere\.mp4"):
        _taken(Media("video", "nowhere.mp4", num_frames=3, fps=1.0), "every:1")


def test_a_strategy_that_goes_by_keyframes_asks_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(30), gop=10))
    video = Media(
        "video",
        str(tmp_path / "a.mp4"),
        num_frames=30,
        fps=25.0,
        clock=CompactTimes(step=1 / 25, unit=1 / 12800),
    )

    assert _taken(video, "keyframes")[:2] == ((0, 10, 20), (0.0, 0.4, 0.8))


def test_times_of_a_clip_begin_at_its_first_frame() -> None:
    video = Media(
        "video",
        "nowhere.mp4",
        num_frames=100,
        fps=10.0,
        clock=CompactTimes(step=1 / 10.0),
        start=2.0,
        end=4.0,
    )

    frames, times, duration = _taken(video, "uniform:3")

    assert frames == (20, 29, 39)
    assert times == pytest.approx((0.0, 0.9, 1.9))
    assert duration == pytest.approx(2.0)


def test_cached_frames_are_the_clip() -> None:
    video = Media("video", "a.mp4", start=2.0, end=4.0, frame_times=(0.0, 1.0), frames=(b"a", b"b"))

    assert _taken(video, "every:1")[:2] == ((0, 1), (0.0, 1.0))


def _variable(**options: Any) -> Media:
    """Frames 0.3 s apart, then 0.05 s apart, in a file of 6 s."""
    times = [0.3 * number for number in range(10)] + [3 + 0.05 * number for number in range(60)]
    return Media(
        "video",
        "a.mp4",
        fps=70 / 6,
        num_frames=70,
        duration=6.0,
        frame_times=tuple(times),
        **options,
    )


# A cache cannot tell how long after its bound a clip begins, where that is more than a frame: 0.3 s
# at most here.
@pytest.mark.parametrize(
    ("start", "end", "off"),
    [
        (None, None, 0.0),
        (0.6, 2.4, 0.0),
        (None, 3.21, 0.0),
        (4.02, 5.5, 0.05),
        (0.65, 4.01, 0.3),
        (2.8, None, 0.3),
    ],
)
@pytest.mark.parametrize("strategy", ["uniform:4", "middle:3", "every:5", "fps:2", "hf_chat"])
def test_cached_frames_have_the_times_and_the_duration_of_the_clip(
    strategy: str, start: float | None, end: float | None, off: float
) -> None:
    video = _variable(start=start, end=end)
    assert video.frame_times is not None
    numbers, times, duration = _taken(video, strategy)

    kept = tuple(video.frame_times[number] for number in numbers)
    _, same, as_long = _taken(
        replace(video, frames=(b"",) * len(kept), frame_times=kept), "every:1"
    )

    assert same == pytest.approx(times, abs=off + 1e-9)
    assert as_long == pytest.approx(duration, abs=off + 1e-9)


def test_the_duration_of_a_video_is_not_counted_from_its_rate_where_it_is_known() -> None:
    assert _taken(_variable(), "uniform:2")[2] == 6.0
    assert _taken(replace(_variable(), fps=25.0), "uniform:2")[2] == 6.0
    assert _taken(replace(_variable(), duration=None, fps=20.0), "uniform:2")[2] == pytest.approx(
        6.0
    )


def test_a_clip_that_is_said_to_end_after_its_file_ends_with_it() -> None:
    assert _taken(_variable(start=0.6, end=99.0), "uniform:2")[2] == pytest.approx(5.4)


def test_a_bound_at_a_frame_takes_it_though_it_was_rounded() -> None:
    for first in range(1, 60):
        video = Media(
            "video",
            "a.mp4",
            num_frames=90,
            fps=30.0,
            clock=CompactTimes(step=1 / 30),
            start=round(first / 30, 4),
            end=round(first / 30 + 1, 4),
        )

        frames, times, duration = _taken(video, "every:1")

        assert (frames, times[0]) == (tuple(range(first, first + 30)), 0.0)
        assert duration == pytest.approx(1.0, abs=1e-4)


def test_bounds_without_a_frame_name_the_conversation_and_the_file() -> None:
    with pytest.raises(VideoError, match=r"conversation 'c', short.mp4: no frame"):
        _taken(
            Media(
                "video",
                "short.mp4",
                num_frames=30,
                fps=30.0,
                clock=CompactTimes(step=1 / 30.0),
                start=5.0,
                end=6.0,
            ),
            "hf_chat",
        )


@pytest.mark.parametrize("name", RAISED)
def test_whatever_asking_a_file_raises_is_an_error_that_names_conversation_and_file(
    name: str,
) -> None:
    def fail(media: Media) -> Any:
        raise RAISED[name]

    for medium, read in (
        (Media("video", "a.mp4"), lambda one: _taken(one, "uniform:2", fail)),
        (Media("image", "a.mp4"), lambda one: read_size(_about(one), 0, fail)),
    ):
        with pytest.raises(MediaError, match=r"conversation 'c', a\.mp4: ") as found:
            read(medium)

        assert found.value.path == "a.mp4"
        assert str(RAISED[name]) in str(found.value)


@pytest.mark.parametrize("kind", [UsageError, PluginError])
def test_what_is_no_fault_of_a_file_is_raised_as_it_is(kind: type[Exception]) -> None:
    def fail(media: Media) -> Any:
        raise kind("not the file's")

    with pytest.raises(kind, match=r"^not the file's$"):
        _taken(Media("video", "a.mp4"), "uniform:2", fail)


def _of_three_frames(**known: Any) -> Media:
    times = (0.0, 6.0, 12.0)
    return Media(
        "video", "a.mp4", frames=(b"1", b"2", b"3"), frame_times=times, duration=20.0, **known
    )


@pytest.mark.parametrize(
    ("strategy", "known"),
    [
        ("hf_fps:8", {}),
        ("hf_fps:8", {"num_frames": 500, "fps": 25.0, "clock": CompactTimes(step=0.04)}),
        ("hf_num_frames:9", {"num_frames": 500, "fps": 25.0, "clock": CompactTimes(step=0.04)}),
        ("mindie", {"num_frames": 500, "fps": 25.0, "clock": CompactTimes(step=0.04)}),
        ("llava_next:50", {}),
        ("llava_next_pyav:50", {}),
        ("mindie", {}),
    ],
)
def test_a_rule_that_refuses_so_few_frames_takes_all_that_a_cache_has(
    strategy: str, known: dict[str, Any]
) -> None:
    frames, times, _ = _taken(_of_three_frames(**known), strategy)

    assert frames == (0, 1, 2)
    assert times == (0.0, 6.0, 12.0)


def test_of_a_file_such_a_rule_refuses_what_its_program_does() -> None:
    clock = CompactTimes(step=0.5)
    video = Media("video", "a.mp4", num_frames=4, fps=2.0, duration=2.0, clock=clock)

    with pytest.raises(VideoError, match="hf_num_frames:8 of a clip of 4 frames"):
        _taken(video, "hf_fps:4")


@pytest.mark.parametrize("known", [False, True])
def test_the_clock_of_a_damaged_file_is_that_of_the_frames_that_decode(
    tmp_path: Path, known: bool
) -> None:
    whole = clip("h264", "mp4", range(60), gop=10, muxer={"movflags": "frag_keyframe+empty_moov"})
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    medium = Media("video", "cut.mp4", oddities=("damaged",) if known else None)

    found = MediaFiles(str(tmp_path)).clock(medium)

    expected = sample(tmp_path / "cut.mp4", "every:1", on_damage="keep")
    assert found.times.tolist() == expected.times.tolist()


def test_files_are_asked_under_the_limits_that_a_template_is_given(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(4)))
    limited = MediaFiles(str(tmp_path), Limits(pixels=64 * 48 - 1))

    with pytest.raises(MediaError, match="--max-pixels"):
        limited.clock(Media("video", "a.mp4"))
    assert repr(limited) == repr(MediaFiles(str(tmp_path)))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(VideoError, match=r"conversation 'c', nowhere\.mp4"):
        _taken(Media("video", "nowhere.mp4"), "hf_chat")
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        MediaFiles().size(Media("image", "nowhere.png"))


def test_an_unprobed_video_is_opened_for_its_times_alone(fixtures: Path) -> None:
    file = files(fixtures / "videos", "*.mp4")[0]

    frames, times, duration = _taken(Media("video", str(file)), "hf_chat")

    assert (frames, times) == _taken(
        Media("video", file.name), "hf_chat", MediaFiles(str(file.parent)).clock
    )[:2]
    assert len(frames) == len(times)
    assert duration > 0


def test_the_size_of_an_image_is_in_its_header(fixtures: Path) -> None:
    file = files(fixtures / "fewshot-data", "*.jpg")[0]

    size = MediaFiles(str(file.parent)).size(Media("image", file.name))

    assert size == MediaFiles().size(Media("image", "any", bytes=file.read_bytes()))


def _refuse(media: Media) -> object:
    raise AssertionError("not to be asked")


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.media != "none"], ids=str)
def test_a_family_that_asks_files_asks_them_under_the_limits_of_a_stream(
    family: Family, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(40)))
    Pictures.new("RGB", (64, 48)).save(tmp_path / "a.png")
    template = family.template()
    video = Media("video", str(tmp_path / "a.mp4"))
    image = Media("image", str(tmp_path / "a.png"))

    for medium, part in ((video, Video(0)), (image, Image(0))):
        asking = Conversation("c", (user(part, "What?"), assistant("That.")), (medium,))
        try:
            template.encode(asking)
        except TokenError:
            continue  # it reads none of this kind
        for pixels in (64 * 48, 64 * 48 - 1):
            limited = with_limits(template, Limits(pixels=pixels))
            if pixels == 64 * 48 or not isinstance(template, ReadsFiles):
                limited.encode(asking)
            else:
                with pytest.raises(MediaError, match=r"conversation 'c', .*--max-pixels"):
                    limited.encode(asking)
