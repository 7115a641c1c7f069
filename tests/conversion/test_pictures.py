"""Videos that are given as pictures, and sounds,
on their way through the rooms that do not read them yet.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.conversion.media import MediaOptions, find_media
from mmdata.conversion.probe import probe
from mmdata.errors import MediaError
from mmdata.formats.llava import Llava
from mmdata.mixture import Mixture, write_mixture
from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.store.batch import ConversationBatch
from tests.conversations import plain
from tests.stores import write


def showing(*paths: str) -> Conversation:
    video = Media("video", frame_paths=paths)
    return Conversation("v", (user(Video(0), "What?"), assistant("That.")), (video,), "numbers")


def test_each_picture_of_a_video_is_looked_for_under_the_media_root(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(b"picture")
    rows = [plain(0), showing("./1.jpg", "2.jpg"), showing("1.jpg", "3.jpg")]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "000000.jpg").write_bytes(b"picture")

    found = find_media(
        ConversationBatch.from_conversations(rows),
        Llava(),
        MediaOptions(str(tmp_path), True, False),
    )

    assert [row.media[0].frame_paths for row in found.conversations()] == [None, ("1.jpg", "2.jpg")]
    [(position, reject)] = found.rejects
    assert (position, reject.reason.value) == (2, "missing_media")
    assert "3.jpg" in reject.detail


def test_pictures_are_located_and_mixed_as_paths_are(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [showing("a/1.jpg", "a/2.jpg")])
    assert store.located(0).media[0].frame_paths == ("/media/a/1.jpg", "/media/a/2.jpg")

    (tmp_path / "mix.yaml").write_text("datasets: [{store: store}]")
    mixed = write_mixture(Mixture.from_yaml(tmp_path / "mix.yaml"), tmp_path / "mixed")

    assert mixed.located(0).media == store.located(0).media


def test_audio_is_not_looked_into_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")

    with pytest.raises(MediaError, match=r"a\.wav: is audio") as caught:
        probe(tmp_path / "a.wav", "audio")
    assert caught.value.reason == "unsupported_media"
