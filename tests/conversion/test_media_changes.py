"""A media file that another has taken the place of is found,
by whatever way its conversion looked at it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

import mmdata
from mmdata.conversion import Check
from mmdata.conversion.fingerprint import fingerprint
from mmdata.conversion.media import MediaOptions, embed_media, probe_media
from mmdata.conversion.prober import MediaFault, Prober, count_without_hash, media_faults
from mmdata.errors import UsageError
from mmdata.frame_cache import cache_frames
from mmdata.mixture import Mixture, write_mixture
from mmdata.rejects import Reason
from mmdata.schema import Conversation, Media, assistant, user
from mmdata.schema import Image as ImagePart
from mmdata.store import Store
from mmdata.store.batch import ConversationBatch
from tests.command import mmdata as run_command
from tests.source_files import record, write_records
from tests.video.clips import clip

LEVELS = ("compare", "probe", "decode")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A clip, a picture and a clip that is a folder of pictures."""
    (tmp_path / "clip.mp4").write_bytes(clip("h264", "mp4", range(10)))
    (tmp_path / "folder").mkdir()
    for path in ("picture.png", "folder/0.png", "folder/1.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / path)
    records = [
        record(0, image=None, video="clip.mp4"),
        record(1, image="picture.png"),
        record(2, image=None, video="folder"),
        record(
            3,
            image=None,
            conversations=[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        ),
    ]
    return write_records(tmp_path / "source.json", records)


def faults(store: Store, level: str) -> list[MediaFault]:
    return list(media_faults(store, level, workers=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_probing_keeps_the_size_and_a_hash_of_every_file(
    source: Path, tmp_path: Path, check: Check
) -> None:
    mmdata.convert("llava", source, tmp_path / "store", check=check, workers=1)

    store = mmdata.open(tmp_path / "store")
    for row, name in enumerate(("clip.mp4", "picture.png", "folder")):
        [medium] = store[row].media
        assert (medium.size, medium.hash) == fingerprint(tmp_path / name, whole=check == "decode")
    assert count_without_hash(store) == 0
    assert [faults(store, level) for level in LEVELS] == [[]] * 3


@pytest.mark.parametrize("check", ["none", "exists"])
def test_without_probing_no_file_is_read(source: Path, tmp_path: Path, check: Check) -> None:
    mmdata.convert("llava", source, tmp_path / "store", check=check, workers=1)

    store = mmdata.open(tmp_path / "store")
    assert [(medium.size, medium.hash) for row in store for medium in row.media] == [
        (None, None)
    ] * 3
    assert count_without_hash(store) == 3
    assert faults(store, "compare") == []


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_a_sound_file_in_the_place_of_another_is_found(
    source: Path, tmp_path: Path, check: Check
) -> None:
    mmdata.convert("llava", source, tmp_path / "store", check=check, workers=1)
    names = ("clip.mp4", "picture.png", "folder")
    (tmp_path / "clip.mp4").write_bytes(clip("h264", "mp4", range(10), first=20))
    for name in ("picture.png", "folder/1.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / name)

    for level in LEVELS:
        found = faults(mmdata.open(tmp_path / "store"), level)

        assert [(fault.row, fault.id) for fault in found] == [(0, "r0"), (1, "r1"), (2, "r2")]
        for fault, name in zip(found, names, strict=True):
            assert fault.reason == "changed_media"
            assert f"{tmp_path / name}: is not the file that was converted: it" in fault.detail


def test_a_file_that_is_gone_is_found_also_where_no_hash_is_kept(
    source: Path, tmp_path: Path
) -> None:
    mmdata.convert("llava", source, tmp_path / "store")
    (tmp_path / "picture.png").unlink()

    for level in LEVELS:
        [fault] = faults(mmdata.open(tmp_path / "store"), level)
        assert (fault.row, fault.reason) == (1, "missing_media")


def test_two_rows_that_keep_different_hashes_of_one_file_are_both_answered(
    source: Path, tmp_path: Path
) -> None:
    mmdata.convert("llava", source, tmp_path / "old", check="probe", workers=1)
    (tmp_path / "clip.mp4").write_bytes(clip("h264", "mp4", range(10), first=20))
    mmdata.convert("llava", source, tmp_path / "new", check="decode", workers=1)
    (tmp_path / "mix.yaml").write_text("datasets: [{store: old}, {store: new}]")
    mixed = write_mixture(Mixture.from_yaml(tmp_path / "mix.yaml"), tmp_path / "mixed")

    for level in LEVELS:
        assert [(fault.row, fault.reason) for fault in faults(mixed, level)] == [
            (0, "changed_media")
        ]


def test_a_mixture_and_a_frame_cache_keep_what_is_known_of_files(
    source: Path, tmp_path: Path
) -> None:
    mmdata.convert("llava", source, tmp_path / "store", check="decode", workers=1)
    store = mmdata.open(tmp_path / "store")
    (tmp_path / "mix.yaml").write_text("datasets: [{store: store}]")

    mixed = write_mixture(Mixture.from_yaml(tmp_path / "mix.yaml"), tmp_path / "mixed")
    cache_frames(store.path, tmp_path / "frames", "uniform:2", workers=1)

    kept = [facts(medium) for row in store for medium in row.media]
    assert [facts(medium) for row in mixed for medium in row.media] == kept
    assert [
        facts(medium) for row in mmdata.open(tmp_path / "frames") for medium in row.media
    ] == kept


def facts(medium: Media) -> tuple[object, ...]:
    return (
        medium.width,
        medium.height,
        medium.duration,
        medium.fps,
        medium.num_frames,
        medium.size,
        medium.hash,
    )


def test_embedded_media_and_cached_frames_are_decoded_too(tmp_path: Path) -> None:
    for name in ("sound.png", "cut.png"):
        Image.effect_noise((64, 64), 50).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-100])
    path = write_records(
        tmp_path / "source.json", [record(0, image="sound.png"), record(1, image="cut.png")]
    )
    mmdata.convert("llava", path, tmp_path / "store", embed=True)

    assert count_without_hash(mmdata.open(tmp_path / "store")) == 0
    assert [fault.row for fault in faults(mmdata.open(tmp_path / "store"), "decode")] == [1]
    assert faults(mmdata.open(tmp_path / "store"), "compare") == []


def test_embedded_bytes_are_compared_with_the_hash_of_their_file(
    source: Path, tmp_path: Path
) -> None:
    records = [record(1, image="picture.png")]
    mmdata.convert(
        "llava",
        write_records(tmp_path / "one.json", records),
        tmp_path / "store",
        check="probe",
        embed=True,
    )

    [medium] = mmdata.open(tmp_path / "store")[0].media
    assert medium.bytes is not None
    assert (medium.size, medium.hash) == fingerprint(medium.bytes, whole=False)
    assert faults(mmdata.open(tmp_path / "store"), "compare") == []


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_a_file_that_changes_between_probing_and_embedding_is_a_reject(
    tmp_path: Path, check: Literal["probe", "decode"]
) -> None:
    paths = [tmp_path / name for name in ("kept.png", "swapped.png", "grown.png")]
    for path in paths:
        Image.new("RGB", (16, 16)).save(path)
    rows = [
        Conversation(
            path.name, (user(ImagePart(0)), assistant("So.")), (Media("image", path.name),)
        )
        for path in paths
    ]
    place = MediaOptions(str(tmp_path), look=True, allow_outside=False, embed=True)

    with Prober(check, workers=1) as prober:
        probed = list(probe_media([ConversationBatch.from_conversations(rows)], place, prober))
    swapped = bytearray(paths[1].read_bytes())
    swapped[-1] ^= 1
    paths[1].write_bytes(swapped)
    paths[2].write_bytes(paths[2].read_bytes() + b"more")
    [embedded] = embed_media(probed, place)

    [kept] = embedded.conversations()
    assert kept.media[0].bytes == paths[0].read_bytes()
    assert [position for position, _ in embedded.rejects] == [1, 2]
    for (_, reject), path in zip(embedded.rejects, paths[1:], strict=True):
        assert reject.reason is Reason.CHANGED_MEDIA
        assert reject.detail.startswith(f"{path}: is not the file that was")


def test_what_is_behind_a_url_is_not_said_to_be_sound(tmp_path: Path) -> None:
    path = write_records(tmp_path / "source.json", [record(0, image="https://host.invalid/a.jpg")])
    mmdata.convert("llava", path, tmp_path / "store", check="none")

    for level in LEVELS:
        [fault] = faults(mmdata.open(tmp_path / "store"), level)
        assert fault.reason == "remote_media"


def test_a_frame_cache_of_what_is_behind_a_url_has_a_reject_that_says_so(tmp_path: Path) -> None:
    path = write_records(
        tmp_path / "source.json",
        [record(0, image=None, video="https://host.invalid/a.mp4"), *text_only()],
    )
    mmdata.convert("llava", path, tmp_path / "store", check="none")

    assert cache_frames(tmp_path / "store", tmp_path / "frames", "uniform:2").rejects == {
        "remote_media": 1
    }


def text_only() -> list[dict[str, object]]:
    return [
        record(
            9,
            image=None,
            conversations=[{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}],
        )
    ]


def test_a_level_that_is_none_is_refused(source: Path, tmp_path: Path) -> None:
    mmdata.convert("llava", source, tmp_path / "store")

    with pytest.raises(UsageError, match="Did you mean 'decode'"):
        media_faults(mmdata.open(tmp_path / "store"), "decod")  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["--media", "--decode"])
def test_the_command_names_the_file_and_what_differs(
    source: Path, tmp_path: Path, option: str
) -> None:
    mmdata.convert("llava", source, tmp_path / "store", check="decode", workers=1)
    assert "is whole: 4 rows" in command(tmp_path, option).stdout
    (tmp_path / "clip.mp4").write_bytes(clip("h264", "mp4", range(11)))

    done = command(tmp_path, option)

    assert done.returncode == 1
    assert "row 0, id 'r0': " in done.stderr
    assert "clip.mp4: is not the file that was converted: it has" in done.stderr


def test_the_command_says_of_how_many_files_nothing_is_known(source: Path, tmp_path: Path) -> None:
    mmdata.convert("llava", source, tmp_path / "store")

    done = command(tmp_path, "--media")

    assert done.returncode == 0
    assert "of 3 media files it keeps no hash" in done.stdout


def command(folder: Path, option: str) -> subprocess.CompletedProcess[str]:
    return run_command(folder, "check", "store", option, "--workers", "1")
