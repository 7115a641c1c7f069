from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmdata
from examples.synthetic import drifting, write_clip
from mmdata.conversion import Check
from mmdata.conversion.prober import Prober, media_faults
from mmdata.store.layout import partial_path
from tests.source_files import record, write_records


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
        record(5, image=None, conversations=[{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]),
    ]
    return write_records(tmp_path / "source.json", records)


def test_probing_fills_in_what_media_are(mixed: Path, tmp_path: Path) -> None:
    mmdata.convert("llava", mixed, tmp_path / "store", check="probe")

    store = mmdata.open(tmp_path / "store")
    clip, picture = store[0].media[0], store[1].media[0]
    assert (clip.width, clip.height, clip.num_frames, clip.fps, clip.times) == (160, 120, 12, 10.0, "stream")
    assert clip.duration == pytest.approx(1.2)
    assert (picture.width, picture.height, picture.num_frames) == (60, 40, None)


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_media_that_are_not_what_they_are_called_are_rejects(mixed: Path, tmp_path: Path, check: Check) -> None:
    mmdata.convert("llava", mixed, tmp_path / "store", check=check)

    store = mmdata.open(tmp_path / "store")
    lines = list(store.rejects())
    assert [line["record"] for line in lines] == [2, 3, 4]
    assert {line["reason"] for line in lines} <= {"unreadable_media", "damaged_media"}
    assert [row.id for row in store] == [f"r{n}" for n in (0, 1, 5)]


def test_what_a_stopped_attempt_found_out_is_believed_on_resume(mixed: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    partial = partial_path(store)
    partial.mkdir()
    clip = tmp_path / "sound.mp4"
    stamp = [clip.stat().st_size, clip.stat().st_mtime_ns]
    lines = [
        json.dumps(["decode", str(clip), stamp, {"width": 7777}]),
        json.dumps(["decode", str(tmp_path / "png_by_content.jpg"), [1, 2], {"width": 8888}]),
        '["decode", "cut li',
    ]
    (partial / "checks.jsonl").write_text("\n".join(lines))

    mmdata.convert("llava", mixed, store, check="decode", resume=True)

    assert mmdata.open(store)[0].media[0].width == 7777
    assert mmdata.open(store)[1].media[0].width == 60, "the file has changed since"
    assert not partial.exists()


def test_without_resume_an_earlier_journal_is_not_read(mixed: Path, tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "store")
    partial.mkdir()
    clip = tmp_path / "sound.mp4"
    stamp = [clip.stat().st_size, clip.stat().st_mtime_ns]
    (partial / "checks.jsonl").write_text(json.dumps(["decode", str(clip), stamp, {"width": 7777}]))

    mmdata.convert("llava", mixed, tmp_path / "store", check="decode")

    assert mmdata.open(tmp_path / "store")[0].media[0].width == 160


def test_answers_come_in_order_whatever_is_known_already(mixed: Path, tmp_path: Path) -> None:
    clip = (str(tmp_path / "sound.mp4"), "video")
    picture = (str(tmp_path / "png_by_content.jpg"), "image")
    items = [clip if number % 3 == 0 else picture if number % 3 == 1 else None for number in range(900)]

    with Prober("probe", workers=2) as prober:
        answers = list(prober.answers(items, lambda item: [item] if item else []))  # type: ignore[arg-type, list-item]

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
