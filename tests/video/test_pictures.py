"""Videos that are given as pictures are sampled as any other, and cached, and embedded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

import mmdata
from mmdata import video
from mmdata.conversion.media import MediaOptions, embed_media
from mmdata.conversion.probe import probe
from mmdata.conversion.prober import File, Prober, count_without_hash, media_faults
from mmdata.errors import MediaError, UsageError, VideoError
from mmdata.formats.toolkit import Origin, Record, RecordSource, mapping
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.pipeline.encode import decode_views
from mmdata.schema import CompactTimes, Conversation, Media, Video, assistant, user
from mmdata.store import Store
from mmdata.store.batch import ConversationBatch
from mmdata.templates import PixelPlan
from mmdata.templates._media import MediaFiles, plan_clip
from mmdata.video import Pictures
from mmdata.video.clock import times_of
from mmdata.video.pictures import VideoSource
from tests.templates.families import FAMILIES, Family
from tests.video.clips import HEIGHT, WIDTH, numbers_in, picture

COUNT = 8
TEN_A_SECOND = CompactTimes(step=0.1)
UNEVEN = CompactTimes(start=0.5, deltas=(1, 1, 4, 1, 1, 1, 1), unit=0.25)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, ...]:
    """Numbered pictures whose names are in another order than they are shown in."""
    return draw_pictures(tmp_path)


def draw_pictures(folder: Path) -> tuple[str, ...]:
    (folder / "shots").mkdir()
    names = [f"shots/{COUNT - number}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        Pillow.fromarray(picture(number)).save(folder / name)
    return tuple(str(folder / name) for name in names)


def shown(paths: Sequence[str], **facts: Any) -> Conversation:
    media = (Media("video", frame_paths=tuple(paths), **facts),)
    return Conversation("v", (user(Video(0), "What?"), assistant("That.")), media, "shots")


@dataclass(frozen=True)
class Shots(RecordSource):
    """Records that list pictures and, where they know it, how many of them are a second."""

    summary: ClassVar[str] = "videos as lists of pictures"
    shape: ClassVar[str] = '[{"frames": ["1.png"], "rate": 2}]'

    dataset_name: str = "shots"

    def conversation(self, record: Record) -> Conversation:
        value = mapping(record)
        clock = CompactTimes(step=1 / value["rate"]) if "rate" in value else None
        bounds = {key: value[key] for key in ("start", "end") if key in value}
        return shown(value["frames"], clock=clock, **bounds)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        yield path


def convert(folder: Path, paths: Sequence[str], *, to: str = "store", **options: Any) -> Path:
    """Convert one record of pictures, and return the store."""
    names = [Path(path).relative_to(folder).as_posix() for path in paths]
    fields = {key: options.pop(key) for key in ("rate", "start", "end") if key in options}
    (folder / "shots.json").write_text(json.dumps([{"frames": names, **fields}]))
    report = mmdata.convert(Shots(), folder / "shots.json", folder / to, **options)
    assert report.rejects == {}
    return report.store


# --- the video room
# --------------------------------------------------------------------------------------


def test_pictures_are_frames_in_the_order_of_the_list(paths: tuple[str, ...]) -> None:
    frames = video.sample(Pictures(paths, TEN_A_SECOND), "uniform:4")

    assert numbers_in(frames.pixels) == frames.numbers.tolist()
    assert frames.times.tolist() == pytest.approx((frames.numbers * 0.1).tolist())
    assert frames.times_source == "derived"


def test_pictures_of_which_nobody_says_when_are_two_a_second(paths: tuple[str, ...]) -> None:
    found = video.index(Pictures(paths))

    assert found.times.tolist() == [number / 2 for number in range(COUNT)]
    assert (found.fps, found.duration, found.times_source) == (2.0, COUNT / 2, "derived")
    assert (found.height, found.width) == (HEIGHT, WIDTH)


def test_strategies_that_count_seconds_go_by_the_clock(paths: tuple[str, ...]) -> None:
    slow, fast = (
        video.sample(Pictures(paths, CompactTimes(step=step)), "fps:1").numbers.tolist()
        for step in (1.0, 0.25)
    )

    assert slow == list(range(COUNT))
    assert fast == [0, 4]


def test_uneven_times_are_those_of_the_clock(paths: tuple[str, ...]) -> None:
    frames = video.sample(Pictures(paths, UNEVEN), "every:1", start=1.0, end=2.25)

    assert frames.times.tolist() == [1.0, 2.0]
    assert numbers_in(frames.pixels) == [2, 3]


@given(st.lists(st.integers(0, 2**31 - 1), max_size=9).map(tuple), st.floats(0, 1e6))
def test_ticks_are_summed_exactly(deltas: tuple[int, ...], start: float) -> None:
    clock = CompactTimes(start, deltas=deltas, unit=1 / 90000)

    found = times_of(clock, len(deltas) + 1)

    wanted = [start + sum(deltas[:number]) * (1 / 90000) for number in range(len(deltas) + 1)]
    assert found.tolist() == wanted


def test_a_clock_of_another_number_of_frames_is_refused(paths: tuple[str, ...]) -> None:
    with pytest.raises(VideoError, match=r"1\.png.*the times of 8 frames are given, of 7"):
        video.index(Pictures(paths[1:], UNEVEN))
    with pytest.raises(VideoError, match="before 0"):
        video.index(Pictures(paths, CompactTimes(-1.0, step=1.0)))


def test_a_picture_that_cannot_be_decoded_is_named(paths: tuple[str, ...]) -> None:
    Path(paths[3]).write_text("no picture")

    with pytest.raises(VideoError, match=r"5\.png"):
        video.sample(Pictures(paths), "every:1")
    assert len(video.sample(Pictures(paths), "frames:0,1")) == 2


def test_no_picture_is_no_video() -> None:
    with pytest.raises(UsageError, match="needs one at least"):
        Pictures(())


def test_many_videos_of_pictures_are_sampled_beside_others(paths: tuple[str, ...]) -> None:
    folder = str(Path(paths[0]).parent)
    sources: list[VideoSource] = [Pictures(paths), Pictures(("absent.png",)), folder]

    first, second, third = video.sample_many(sources, "frames:0")

    assert isinstance(second, VideoError)
    assert not isinstance(first, VideoError)
    assert not isinstance(third, VideoError)
    assert numbers_in(first.pixels) == [0]
    assert numbers_in(third.pixels) == [COUNT - 1]  # a folder goes by the names of its files


# --- templates and the pipeline
# --------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [TEN_A_SECOND, UNEVEN, None])
def test_a_template_is_told_the_times_of_the_clock(
    paths: tuple[str, ...], clock: CompactTimes | None
) -> None:
    conversation = shown(paths, clock=clock)

    clip = plan_clip(conversation, 0, "every:3", None, resize="crop", size=16)

    wanted = video.sample(Pictures(paths, clock or CompactTimes(step=0.5)), "every:3")
    assert clip.pixels.frames == (0, 3, 6)
    assert list(clip.pixels.times) == pytest.approx(wanted.times.tolist())


def test_a_probed_store_needs_no_file_to_know_when_frames_are() -> None:
    facts = {"clock": UNEVEN, "fps": 10.0, "num_frames": COUNT, "duration": 3.25}
    conversation = shown([f"absent/{number}.png" for number in range(COUNT)], **facts)

    clip = plan_clip(conversation, 0, "every:3", None, resize="crop", size=16)

    assert clip.pixels.times == (0.5, 2.0, 2.75)


def test_the_pixels_of_a_plan_are_those_of_its_pictures(paths: tuple[str, ...]) -> None:
    plan = PixelPlan(0, "crop", 32, (1, 5), (0.1, 0.5))
    medium = Media("video", frame_paths=paths, clock=TEN_A_SECOND)
    known = Media("video", frame_paths=paths, clock=TEN_A_SECOND, width=WIDTH, height=HEIGHT)

    views = decode_views(medium, plan)

    expected = video.sample(Pictures(paths), "times:0.5,2.5", size=32, resize="crop").pixels
    np.testing.assert_array_equal(views, expected)
    assert decode_views(known, plan, fast=True).shape == (2, 32, 32, 3)


def test_relative_pictures_are_below_the_root(tmp_path: Path, paths: tuple[str, ...]) -> None:
    names = tuple(Path(path).relative_to(tmp_path).as_posix() for path in paths)

    found = MediaFiles(str(tmp_path)).clock(Media("video", frame_paths=names, clock=UNEVEN))

    assert found.times.tolist() == video.index(Pictures(paths, UNEVEN)).times.tolist()


# --- conversion
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_probing_says_what_pictures_are(tmp_path: Path, paths: tuple[str, ...], check: str) -> None:
    (row,) = mmdata.open(convert(tmp_path, paths, rate=10, check=check))
    medium = row.media[0]

    assert (medium.width, medium.height, medium.num_frames) == (WIDTH, HEIGHT, COUNT)
    assert medium.fps == 10.0
    assert medium.duration == pytest.approx(0.8)
    assert (medium.times, medium.clock) == ("derived", TEN_A_SECOND)
    assert medium.size == sum(Path(path).stat().st_size for path in paths)


def test_a_chat_that_lists_pictures_is_about_a_video_of_them(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    names = [Path(path).relative_to(tmp_path).as_posix() for path in paths]
    part = {"type": "video", "video": names, "fps": 4}
    answer = {"role": "assistant", "content": "That."}
    beside = {"messages": [{"role": "user", "content": "<video>What?"}, answer], "videos": [names]}
    inside = {"messages": [{"role": "user", "content": [part]}, answer]}
    (tmp_path / "chats.json").write_text(json.dumps([beside, inside]))

    report = mmdata.convert(
        "messages", tmp_path / "chats.json", tmp_path / "store", check="probe", workers=1
    )
    rows = list(mmdata.open(report.store))

    assert [row.media[0].frame_paths for row in rows] == [tuple(names)] * 2
    assert [row.media[0].fps for row in rows] == [2.0, 4.0]
    assert [row.media[0].duration for row in rows] == [COUNT / 2, COUNT / 4]


def test_a_record_with_a_picture_that_is_none_is_a_reject(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    Path(paths[3]).write_text("no picture")
    convert(tmp_path, paths, check="probe")

    (tmp_path / "shots.json").write_text('[{"frames": ["shots/8.png", "shots/5.png"]}]')
    report = mmdata.convert(Shots(), tmp_path / "shots.json", tmp_path / "s", check="decode")

    assert report.rejects == {"unreadable_media": 1}


def test_a_fault_of_pictures_is_not_remembered_of_a_file_beside_them(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    Path(paths[3]).write_text("no picture")
    good, bad = File(paths[0], "image"), File(Pictures(paths[3:4]), "video")

    for files, is_refused in [([good, bad], True), ([good], False)]:
        with Prober("probe", journal=tmp_path / "journal", workers=1) as prober:
            [(_, found)] = prober.answers([files], lambda files: files)
        assert isinstance(found, MediaError) == is_refused


@pytest.mark.parametrize("level", ["compare", "probe"])
def test_another_picture_in_the_place_of_one_is_found(
    tmp_path: Path, paths: tuple[str, ...], level: Any
) -> None:
    store = mmdata.open(convert(tmp_path, paths, check="probe"))
    assert list(media_faults(store, level, workers=1)) == []
    assert count_without_hash(store) == 0

    Path(paths[2]).write_bytes(Path(paths[3]).read_bytes())

    (fault,) = media_faults(store, level, workers=1)
    assert fault.reason == "changed_media"


def test_a_store_that_was_not_probed_knows_only_whether_they_are_there(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    store = mmdata.open(convert(tmp_path, paths))
    assert count_without_hash(store) == 1
    assert list(media_faults(store, "compare", workers=1)) == []

    Path(paths[2]).unlink()

    (fault,) = media_faults(store, "compare", workers=1)
    assert (fault.reason, "6.png" in fault.detail) == ("missing_media", True)


@pytest.mark.parametrize(
    ("rate", "bounds", "numbers"),
    [
        (10, {}, list(range(COUNT))),
        (10, {"start": 0.2, "end": 0.5}, [2, 3, 4]),
        (None, {"start": 3.0}, [6, 7]),
    ],
)
def test_embedded_pictures_are_frames_with_their_times(
    tmp_path: Path, paths: tuple[str, ...], rate: int | None, bounds: Any, numbers: list[int]
) -> None:
    fields = bounds if rate is None else {"rate": rate, **bounds}
    (row,) = mmdata.open(convert(tmp_path, paths, embed=True, **fields))
    medium = row.media[0]

    assert medium.frames == tuple(Path(paths[number]).read_bytes() for number in numbers)
    assert medium.frame_times == pytest.approx([number / (rate or 2) for number in numbers])
    assert medium.times == "derived"
    assert numbers_in(cached_frames(medium).pixels) == numbers


def test_pictures_that_changed_since_they_were_probed_are_not_embedded(
    paths: tuple[str, ...],
) -> None:
    known = probe(Pictures(paths), "video")
    row = shown(paths, size=known.size, hash=known.hash)
    batches = [ConversationBatch.from_conversations([row])]
    place = MediaOptions("/", look=True, allow_outside=False, embed=True)
    [kept] = embed_media(batches, place)
    Path(paths[2]).write_bytes(Path(paths[3]).read_bytes())

    [refused] = embed_media(batches, place)

    assert (len(kept), len(refused)) == (1, 0)
    assert [reject.reason.value for _, reject in refused.rejects] == ["changed_media"]


def test_an_embedded_store_needs_no_pictures(tmp_path: Path, paths: tuple[str, ...]) -> None:
    store = mmdata.open(convert(tmp_path, paths, embed=True, rate=10, check="probe"))
    for path in paths:
        Path(path).unlink()

    row = store.located(0)
    clip = plan_clip(row, 0, "every:3", None, resize="crop", size=16)

    assert clip.pixels.times == pytest.approx((0.0, 0.3, 0.6))
    assert decode_views(row.media[0], clip.pixels).shape == (3, 16, 16, 3)
    assert list(media_faults(store, "decode", workers=1)) == []


def test_a_folder_of_pictures_is_embedded_in_the_same_way(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    folder = tmp_path / "RWF" / "train" / "Fight" / "a_0"
    folder.mkdir(parents=True)
    for number, path in enumerate(paths):
        (folder / f"{number}.png").write_bytes(Path(path).read_bytes())

    report = mmdata.convert(
        "rwf2000", tmp_path / "RWF", tmp_path / "store", embed=True, check="probe"
    )
    (row,) = mmdata.open(report.store)

    assert row.media[0].path == "train/Fight/a_0"
    assert row.media[0].frame_times == pytest.approx([number / 30 for number in range(COUNT)])
    assert row.media[0].fps == pytest.approx(30)
    assert row.media[0].num_frames == COUNT
    assert numbers_in(cached_frames(row.media[0]).pixels) == list(range(COUNT))


@pytest.fixture(scope="module")
def named_and_embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Store]:
    """A store of a record of pictures, and one that holds them."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = draw_pictures(folder)
    named = convert(folder, paths, rate=4, check="probe")
    embedded = convert(folder, paths, to="embedded", rate=4, check="probe", embed=True)
    return mmdata.open(named), mmdata.open(embedded)


@pytest.mark.slow
@pytest.mark.parametrize("family", [one for one in FAMILIES if one.media != "image"], ids=str)
def test_a_family_reads_pictures_as_it_reads_their_frames(
    named_and_embedded: tuple[Store, Store], family: Family
) -> None:
    template = family.template()

    (row, encoded), (other, wanted) = (
        (store.located(0), template.encode(store.located(0))) for store in named_and_embedded
    )

    np.testing.assert_array_equal(encoded.input_ids, wanted.input_ids)
    assert encoded.pixels == wanted.pixels
    np.testing.assert_array_equal(
        decode_views(row.media[0], encoded.pixels[0]),
        decode_views(other.media[0], wanted.pixels[0]),
    )


# --- the frame cache
# --------------------------------------------------------------------------------------------


def test_a_cache_of_pictures_holds_what_sampling_them_gives(
    tmp_path: Path, paths: tuple[str, ...]
) -> None:
    store = convert(tmp_path, paths, rate=10, start=0.2)

    cache_frames(store, tmp_path / "cache", "uniform:3", codec="webp", workers=1)
    (row,) = mmdata.open(tmp_path / "cache")

    wanted = video.sample(Pictures(paths, TEN_A_SECOND), "uniform:3", start=0.2)
    assert row.media[0].frame_times == pytest.approx(wanted.times.tolist())
    np.testing.assert_array_equal(cached_frames(row.media[0]).pixels, wanted.pixels)


def test_pictures_are_no_one_image(paths: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="pictures are a video"):
        probe(Pictures(paths), "image")
