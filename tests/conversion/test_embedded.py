"""What is embedded in a source is looked into as a file is: what it is goes into the store, and
what is damaged is a reject.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image as Pictures

import mmdata
from mmdata.conversion import Check, ConvertReport
from mmdata.conversion.media import MediaOptions, probe_media
from mmdata.conversion.prober import Prober
from mmdata.schema import Conversation, Image, Media, Region, Video, assistant, user
from mmdata.store.batch import ConversationBatch
from tests.sources.tables import write
from tests.video.clips import clip

WIDTH, HEIGHT = 64, 48
PLACE = MediaOptions("/nowhere", look=True, allow_outside=False)


def picture() -> bytes:
    buffer = io.BytesIO()
    Pictures.effect_noise((WIDTH, HEIGHT), 50).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


SOUND = picture()
CUT = SOUND[: len(SOUND) // 2]


def showing(*media: Media, answer: str | Region = "A cup.") -> Conversation:
    question = user(*(Image(number) for number in range(len(media))), "What?")
    return Conversation("1", (question, assistant(answer)), media=media, source="t")


def look(*rows: Conversation, level: Check = "decode") -> ConversationBatch:
    assert level in ("probe", "decode")
    with Prober(level, workers=1) as prober:
        [found] = probe_media([ConversationBatch.from_conversations(rows)], PLACE, prober)
    return found


def convert(folder: Path, *pictures: bytes, check: Check) -> ConvertReport:
    records = [
        {
            "messages": [
                {"role": "user", "content": "<image>What?"},
                {"role": "assistant", "content": "A cup."},
            ],
            "images": [{"bytes": data, "path": None}],
        }
        for data in pictures
    ]
    source = write(folder / "source.parquet", "parquet", records)
    return mmdata.convert("messages", source, folder / "store", check=check)


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_a_store_keeps_what_an_embedded_picture_is(tmp_path: Path, check: Check) -> None:
    convert(tmp_path, SOUND, check=check)

    (medium,) = mmdata.open(tmp_path / "store")[0].media

    assert (medium.bytes, medium.width, medium.height) == (SOUND, WIDTH, HEIGHT)
    assert (medium.size, medium.hash is not None) == (len(SOUND), True)


def test_an_embedded_picture_that_is_none_costs_its_own_record(tmp_path: Path) -> None:
    report = convert(tmp_path, SOUND, b"no picture", SOUND, check="probe")

    [reject] = mmdata.open(tmp_path / "store").rejects()
    assert (report.rows, report.rejects) == (2, {"unreadable_media": 1})
    assert (reject["record"], reject["detail"][:23]) == (1, "a picture in the record")


@pytest.mark.parametrize("check", ["none", "exists"])
def test_nobody_looks_into_what_is_embedded_unless_asked_to(tmp_path: Path, check: Check) -> None:
    assert convert(tmp_path, b"no picture", check=check).rows == 1


def test_decoding_finds_an_embedded_picture_that_is_cut() -> None:
    [(_, reject)] = look(showing(Media("image", bytes=CUT))).rejects

    assert reject.reason.value == "damaged_media"


def test_the_reject_names_the_embedded_picture_by_its_path() -> None:
    row = showing(Media("image", bytes=SOUND), Media("image", "b.png", bytes=b"no picture"))

    [(_, reject)] = look(row).rejects

    assert reject.detail.startswith("b.png")
    assert "bytes>" not in reject.detail


def test_what_is_found_stays_with_its_medium_among_files_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(SOUND)
    rows = [
        showing(),
        showing(Media("image", bytes=SOUND), Media("image", str(tmp_path / "a.png"))),
        showing(Media("image", frames=(SOUND,)), Media("image", bytes=SOUND)),
    ]

    found = look(*rows)

    sizes = [[medium.width for medium in row.media] for row in found.conversations()]
    assert sizes == [[], [WIDTH, WIDTH], [None, WIDTH]]


def test_a_box_in_pixels_of_an_embedded_picture_gets_the_size_that_probing_finds(
    tmp_path: Path,
) -> None:
    record = {
        "messages": [
            {"role": "user", "content": "<image>Where is <ref-object>?"},
            {"role": "assistant", "content": "<bbox>"},
        ],
        "images": [{"bytes": SOUND, "path": None}],
        "objects": {"ref": ["the cup"], "bbox": [[16, 12, 32, 24]]},
    }
    source = write(tmp_path / "source.parquet", "parquet", [record])

    mmdata.convert("swift", source, tmp_path / "store", check="probe")

    (row,) = mmdata.open(tmp_path / "store")
    boxes = [part.boxes for turn in row.messages for part in turn.content if type(part) is Region]
    assert ((0.25, 0.25, 0.5, 0.5),) in boxes
    assert (row.media[0].width, row.media[0].height) == (WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def two_seconds() -> bytes:
    return clip("mpeg4", "mp4", range(0, 50, 5), lasting=5)


@pytest.mark.parametrize("is_embedded", [True, False])
@pytest.mark.parametrize("level", ["probe", "decode"])
def test_a_clip_that_begins_after_its_file_has_ended_is_a_reject(
    tmp_path: Path, two_seconds: bytes, level: Check, is_embedded: bool
) -> None:
    (tmp_path / "a.mp4").write_bytes(two_seconds)
    where = {"bytes": two_seconds} if is_embedded else {"path": str(tmp_path / "a.mp4")}

    def row(start: float | None, end: float | None) -> Conversation:
        medium = Media("video", start=start, end=end, **where)
        return Conversation(
            f"{start}", (user(Video(0), "What?"), assistant("A cup.")), media=(medium,), source="t"
        )

    found = look(row(50, 60), row(2.5, None), row(1, 60), row(None, None), level=level)

    assert [row.id for row in found.conversations()] == ["1", "None"]
    assert [reject.reason.value for _, reject in found.rejects] == ["malformed", "malformed"]
    assert "begins at 50 s" in found.rejects[0][1].detail
    assert "lasts 2 s" in found.rejects[0][1].detail
