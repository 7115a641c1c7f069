"""A store as a data set of Hugging Face's ``datasets``."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image as Pictures

import mmdata
from mmdata.errors import DataError
from mmdata.schema import Conversation, Image, Media, Region, Time, Video, assistant, user
from mmdata.store import Store
from tests.conversations import plain
from tests.stores import write

pytestmark = pytest.mark.filterwarnings("default")  # other people's code


def picture(colour: str) -> bytes:
    file = io.BytesIO()
    Pictures.new("RGB", (8, 6), colour).save(file, "png")
    return file.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A picture by its path, one in the store, a video, and words; of two splits."""
    (tmp_path / "red.png").write_bytes(picture("red"))
    asked = user(Image(0), "Which colour?")
    rows = [
        Conversation("1", (asked, assistant("Red.")), (Media("image", "red.png"),)),
        Conversation("2", (asked, assistant("Blue.")), (Media("image", bytes=picture("blue")),)),
        Conversation("3", (user(Video(0), "?"), assistant("Up.")), (Media("video", "/a/b.mp4"),)),
        Conversation("4", (user("Hi"), assistant("Ho")), (), extra={"k": [1]}, split="val"),
    ]
    return write(tmp_path / "store", rows, media_root=str(tmp_path))


def test_pictures_are_opened_when_a_row_is_asked_for(store: Store) -> None:
    data = mmdata.to_datasets(store)

    assert len(data) == 4
    [red], [blue] = data[0]["images"], data[1]["images"]
    assert red.getpixel((0, 0)) == (255, 0, 0)
    assert blue.getpixel((0, 0)) == (0, 0, 255)


def test_without_decode_media_are_where_the_store_finds_them(store: Store) -> None:
    rows = list(mmdata.to_datasets(store, decode=False))

    assert rows[0]["images"] == [{"bytes": None, "path": store.locate(store[0].media[0])}]
    assert rows[1]["images"] == [{"bytes": picture("blue"), "path": None}]
    assert rows[2]["videos"] == [{"bytes": None, "path": "/a/b.mp4"}]
    assert [row["extra"] for row in rows] == [None, None, None, '{"k":[1]}']


def test_it_holds_what_an_export_for_datasets_holds(store: Store, tmp_path: Path) -> None:
    from datasets import load_dataset

    mmdata.export(store, "datasets", tmp_path / "out", media="embed", split="val")
    read = load_dataset(str(tmp_path / "out"), split="validation", cache_dir=str(tmp_path / "c"))
    data = mmdata.to_datasets(store, split="val")

    assert data.split == "validation"
    assert data.features == read.features
    assert list(data) == list(read)


def test_texts_stay_in_the_files_of_the_store(tmp_path: Path) -> None:
    rows = [
        Conversation(str(n), (user("Q"), assistant(f"{n} " * 400)), source="test")
        for n in range(2000)
    ]
    opened = write(tmp_path / "store", rows)
    texts = sum(len(row.messages[1].text) for row in rows)

    before = pa.total_allocated_bytes()
    data = mmdata.to_datasets(opened)

    assert len(data) == 2000
    assert pa.total_allocated_bytes() - before < texts / 4


def test_equal_stores_give_data_sets_of_one_fingerprint(tmp_path: Path) -> None:
    rows = list(map(plain, range(3)))
    one, same = write(tmp_path / "one", rows), write(tmp_path / "same", rows)

    def fingerprint(store: Store, **options: Any) -> str:
        return str(mmdata.to_datasets(store, **options)._fingerprint)

    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint(write(tmp_path / "fewer", rows[:2]))
    assert fingerprint(one) != fingerprint(one, decode=False)


def test_it_can_be_mapped_shuffled_and_sent_to_another_process(store: Store) -> None:
    data = mmdata.to_datasets(store, decode=False)
    lengths = data.map(lambda row: {"turns": len(row["messages"])}, remove_columns=["images"])

    assert lengths["turns"][:] == [2, 2, 2, 2]
    assert sorted(data.shuffle(seed=1)["id"]) == ["1", "2", "3", "4"]
    assert list(pickle.loads(pickle.dumps(data))) == list(data)


def test_what_the_columns_cannot_say_is_refused_by_name_or_dropped(tmp_path: Path) -> None:
    box = Region("a cat", ((0.0, 0.0, 0.5, 0.5),), 0)
    shown, clip = Media("image", "cat.png"), Media("video", "cat.mp4")
    rows = [
        Conversation("boxed", (user(Image(0), "?"), assistant(box)), (shown,)),
        Conversation("timed", (user(Video(0)), assistant("Soon, at", Time(0, 2.0))), (clip,)),
    ]
    store = write(tmp_path / "store", rows)

    with pytest.raises(DataError, match=r"2 rows .*1 say boxes, 1 say times.*boxed"):
        mmdata.to_datasets(store)
    told = mmdata.to_datasets(store, drop="boxes,times", decode=False)["messages"]
    assert told[0][1]["content"] == [{"type": "text", "text": "a cat"}]


def test_a_split_without_a_row_is_an_error_that_names_it(store: Store) -> None:
    with pytest.raises(DataError, match="no row of the split test"):
        mmdata.to_datasets(store, split="test")
