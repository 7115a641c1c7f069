from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmdata
from examples.synthetic import drifting, write_clip
from mmdata._tools.limits import Limits
from mmdata.conversion import Check
from mmdata.conversion.prober import Facts, File, Prober, media_faults
from mmdata.conversion.prober import look as look_now
from mmdata.errors import MediaError, RecordError
from mmdata.store.layout import partial_path
from mmdata.video import sample
from tests.source_files import record, write_records
from tests.video.clips import clip


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Sound media, and media that only looking inside tells from them."""
    write_clip(tmp_path / "sound.mp4", drifting(12, jump=3, seed=0), rate=10, codec="mpeg4")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "png_by_content.jpg", "PNG")
    (tmp_path / "page.mp4").write_text("<html><body>404 Not Found</body></html>")
    (tmp_path / "text.jpg").write_text("not a picture")
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-200])
    records = [
        record(0, image=None, video="sound.mp4"),
        record(1, image="png_by_content.jpg"),
        record(2, image=None, video="page.mp4"),
        record(3, image="text.jpg"),
        record(4, image="cut.png"),
        record(
            5,
            image=None,
            conversations=[{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}],
        ),
    ]
    return write_records(tmp_path / "source.json", records)


def test_probing_fills_in_what_media_are(mixed: Path, tmp_path: Path) -> None:
    mmdata.convert("llava", mixed, tmp_path / "store", check="probe")

    store = mmdata.open(tmp_path / "store")
    clip, picture = store[0].media[0], store[1].media[0]
    assert (clip.width, clip.height, clip.num_frames, clip.fps, clip.times) == (
        160,
        120,
        12,
        10.0,
        "stream",
    )
    assert clip.duration == pytest.approx(1.2)
    assert (picture.width, picture.height, picture.num_frames) == (60, 40, None)


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_media_that_are_not_what_they_are_called_are_rejects(
    mixed: Path, tmp_path: Path, check: Check
) -> None:
    mmdata.convert("llava", mixed, tmp_path / "store", check=check)

    store = mmdata.open(tmp_path / "store")
    lines = list(store.rejects())
    assert [line["record"] for line in lines] == [2, 3, 4]
    assert {line["reason"] for line in lines} <= {"unreadable_media", "damaged_media"}
    assert [row.id for row in store] == [f"r{n}" for n in (0, 1, 5)]


def test_what_a_stopped_attempt_found_out_is_believed_on_resume(
    mixed: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    partial = partial_path(store)
    partial.mkdir()
    clip = tmp_path / "sound.mp4"
    stamp = [clip.stat().st_size, clip.stat().st_mtime_ns]
    lines = [
        json.dumps(
            [
                "decode",
                str(clip),
                stamp,
                {"width": 7777, "size": 11, "hash": "xxh3:0011223344556677", "clock": None},
            ]
        ),
        json.dumps(
            [
                "decode",
                str(tmp_path / "png_by_content.jpg"),
                [1, 2],
                {"width": 8888, "size": 1, "hash": "x", "clock": None},
            ]
        ),
        '["decode", "cut li',
    ]
    (partial / "checks.jsonl").write_text("\n".join(lines))

    mmdata.convert("llava", mixed, store, check="decode", resume=True)

    believed = mmdata.open(store)[0].media[0]
    assert (believed.width, believed.size, believed.hash) == (7777, 11, "xxh3:0011223344556677")
    assert mmdata.open(store)[1].media[0].width == 60, "the file has changed since"
    assert not partial.exists()


def test_without_resume_an_earlier_journal_is_not_read(mixed: Path, tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "store")
    partial.mkdir()
    clip = tmp_path / "sound.mp4"
    stamp = [clip.stat().st_size, clip.stat().st_mtime_ns]
    facts = {"width": 7777, "size": 11, "hash": "xxh3:0011223344556677", "clock": None}
    (partial / "checks.jsonl").write_text(json.dumps(["decode", str(clip), stamp, facts]))

    mmdata.convert("llava", mixed, tmp_path / "store", check="decode")

    assert mmdata.open(tmp_path / "store")[0].media[0].width == 160


def test_an_answer_of_a_library_that_kept_no_hashes_is_asked_for_again(
    mixed: Path, tmp_path: Path
) -> None:
    partial = partial_path(tmp_path / "store")
    partial.mkdir()
    clip = tmp_path / "sound.mp4"
    stamp = [clip.stat().st_size, clip.stat().st_mtime_ns]
    (partial / "checks.jsonl").write_text(
        json.dumps(["probe", str(clip), stamp, {"width": 7777}]) + "\n"
    )

    mmdata.convert("llava", mixed, tmp_path / "store", check="probe", resume=True)

    found = mmdata.open(tmp_path / "store")[0].media[0]
    assert (found.width, found.size) == (160, clip.stat().st_size)


def test_the_journal_gives_what_was_found_out_and_no_file_is_read_again(
    mixed: Path, tmp_path: Path
) -> None:
    clip, picture = (tmp_path / name for name in ("sound.mp4", "png_by_content.jpg"))
    items = [
        [File(str(clip), "video")],
        [File(str(picture), "image")],
        [File(str(tmp_path / "page.mp4"), "video")],
    ]
    with Prober("decode", journal=tmp_path / "journal", workers=1) as first:
        before = [found for _, found in first.answers(items, lambda item: item)]
    stamps = {path: path.stat() for path in (clip, picture)}
    for path, stamp in stamps.items():  # other bytes that nothing tells from those that were read
        path.write_bytes(b"x" * stamp.st_size)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))

    with Prober("decode", journal=tmp_path / "journal", workers=1) as second:
        after = [found for _, found in second.answers(items, lambda item: item)]

    assert before[:2] == after[:2]
    assert (str(before[2]), before[2].reason) == (str(after[2]), after[2].reason)  # type: ignore[union-attr]


def test_the_journal_of_a_lighter_look_is_not_believed_by_a_harder_one(tmp_path: Path) -> None:
    Image.effect_noise((600, 400), 50).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-5000])
    cut = File(str(tmp_path / "cut.jpg"), "image")  # sound as far as its header says
    with Prober("probe", journal=tmp_path / "journal", workers=1) as first:
        [(_, before)] = first.answers([cut], lambda item: [item])

    with Prober("decode", journal=tmp_path / "journal", workers=1) as second:
        [(_, after)] = second.answers([cut], lambda item: [item])

    assert before[0]["width"] == 600  # type: ignore[index]
    assert isinstance(after, MediaError)


def look_late(*args: Any, **options: Any) -> list[Facts]:
    time.sleep(0.2)
    return look_now(*args, **options)


def test_what_met_a_limit_is_asked_anew_and_what_other_limits_gave_is_not_believed(
    mixed: Path, tmp_path: Path
) -> None:
    file, journal = File(str(tmp_path / "sound.mp4"), "video"), tmp_path / "journal"

    def look(**options: Any) -> list[Facts] | MediaError:
        with Prober("probe", journal=journal, workers=1, **options) as prober:
            [(_, found)] = prober.answers([file], lambda item: [item])
        return found

    late = look(limits=Limits(deadline=1e-4), job=look_late)
    assert isinstance(late, MediaError)
    assert late.reason == "media_limit"
    sound = look()
    assert not isinstance(sound, MediaError)
    assert isinstance(look(limits=Limits(pixels=1)), MediaError)
    assert look(limits=Limits(pixels=1 << 40), on_damage="keep") == sound
    assert look() == sound
    assert [json.loads(line)[0] for line in journal.read_text().splitlines()] == [
        "probe",
        f"probe on_damage=keep pixels={1 << 40}",
    ]


def test_a_damaged_clip_that_is_kept_has_the_clock_of_the_frames_that_decode(
    tmp_path: Path,
) -> None:
    whole = clip("h264", "mp4", range(60), gop=10, muxer={"movflags": "frag_keyframe+empty_moov"})
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    cut = File(str(tmp_path / "cut.mp4"), "video")

    for level in ("probe", "decode"):
        with Prober(level, workers=1, on_damage="keep") as prober:
            [(_, found)] = prober.answers([cut], lambda item: [item])

        expected = sample(tmp_path / "cut.mp4", "every:1", on_damage="keep")
        assert not isinstance(found, MediaError)
        assert found[0]["num_frames"] == len(expected)
        assert found[0]["oddities"] == ["damaged"]


def test_a_file_of_the_same_size_written_later_is_looked_at_again(
    mixed: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "sound.mp4"
    with Prober("probe", journal=tmp_path / "journal", workers=1) as first:
        [(_, before)] = first.answers([File(str(clip), "video")], lambda item: [item])
    stamp = clip.stat()
    clip.write_bytes(b"x" * stamp.st_size)
    os.utime(clip, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))

    with Prober("probe", journal=tmp_path / "journal", workers=1) as second:
        [(_, after)] = second.answers([File(str(clip), "video")], lambda item: [item])

    assert not isinstance(before, MediaError)
    assert isinstance(after, MediaError)


def test_of_a_record_of_several_files_the_faulty_one_is_noted_and_each_has_its_own_facts(
    mixed: Path, tmp_path: Path
) -> None:
    clip, picture = (
        File(str(tmp_path / "sound.mp4"), "video"),
        File(str(tmp_path / "png_by_content.jpg"), "image"),
    )
    page = File(str(tmp_path / "page.mp4"), "video")
    items = [[clip, page, picture], [clip, picture], [clip], [picture], [page]]

    for _ in range(2):  # the second time by the journal alone
        with Prober("probe", journal=tmp_path / "journal", workers=1) as prober:
            first, both, *alone = [found for _, found in prober.answers(items, lambda item: item)]

        assert isinstance(first, MediaError)
        assert first.path == page.source
        assert [facts["width"] for facts in both] == [160, 60]  # type: ignore[union-attr]
        assert [alone[0][0]["width"], alone[1][0]["width"]] == [160, 60]  # type: ignore[index]
        assert isinstance(alone[2], MediaError)


def test_a_conversion_publishes_no_journal_and_leaves_none(mixed: Path, tmp_path: Path) -> None:
    mmdata.convert("llava", mixed, tmp_path / "store", check="probe")

    assert sorted(file.name for file in (tmp_path / "store").iterdir()) == [
        "data-00000.arrow",
        "manifest.json",
        "rejects.jsonl",
    ]
    assert not partial_path(tmp_path / "store").exists()


def test_a_conversion_that_fails_leaves_its_journal_for_the_next(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    with pytest.raises(RecordError):
        mmdata.convert("llava", mixed, store, check="decode", strict=True)

    lines = (partial_path(store) / "checks.jsonl").read_text().splitlines()
    assert [Path(json.loads(line)[1]).name for line in lines][:2] == [
        "sound.mp4",
        "png_by_content.jpg",
    ]
    assert not store.exists()


def test_a_picture_of_a_folder_that_was_rewritten_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    picture = tmp_path / "clip" / "0.png"
    Image.new("RGB", (8, 8)).save(picture)
    file = File(str(tmp_path / "clip"), "video")
    with Prober("decode", journal=tmp_path / "journal", workers=1) as first:
        [(_, before)] = first.answers([file], lambda item: [item])
    Image.new("RGB", (8, 8), "red").save(picture)

    with Prober("decode", journal=tmp_path / "journal", workers=1) as second:
        [(_, after)] = second.answers([file], lambda item: [item])

    assert before[0]["hash"] != after[0]["hash"]  # type: ignore[index]


def test_answers_come_in_order_whatever_is_known_already(mixed: Path, tmp_path: Path) -> None:
    clip = (str(tmp_path / "sound.mp4"), "video")
    picture = (str(tmp_path / "png_by_content.jpg"), "image")
    items = [
        clip if number % 3 == 0 else picture if number % 3 == 1 else None for number in range(900)
    ]

    with Prober("probe", workers=2) as prober:
        answers = list(prober.answers(items, lambda item: [item] if item else []))  # type: ignore[list-item]

    assert [item for item, _ in answers] == items
    widths = [facts[0]["width"] if facts else None for _, facts in answers]  # type: ignore[index]
    assert widths == [160 if item == clip else 60 if item == picture else None for item in items]


def test_the_media_of_a_store_are_checked_again(mixed: Path, tmp_path: Path) -> None:
    mmdata.convert("llava", mixed, tmp_path / "store", check="decode")
    assert list(media_faults(mmdata.open(tmp_path / "store"))) == []

    (tmp_path / "sound.mp4").write_bytes(b"gone bad")

    (fault,) = media_faults(mmdata.open(tmp_path / "store"))
    assert (fault.row, fault.id, fault.reason) == (0, "r0", "unreadable_media")
    assert "sound.mp4" in fault.detail
