from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import Origin, make
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, Region, assistant, user
from mmdata.sources.record import Record

COCO = make("coco")
IMAGES = [
    {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480, "license": 3},
    {"id": 25, "file_name": "000000000025.jpg", "width": 100, "height": 50, "coco_url": "http://x"},
]
CATEGORIES = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 47, "name": "cup"}]


def box(
    number: int, image: int = 9, category: int = 1, bbox: Any = (64, 48, 64, 48), **more: Any
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(bbox),
        "iscrowd": 0,
    } | more


def caption(number: int, text: Any = "A cup.", image: Any = 9) -> dict[str, Any]:
    return {"id": number, "image_id": image, "caption": text}


def write(
    folder: Path, annotations: list[Any], name: str = "instances_val2017.json", **more: Any
) -> Path:
    file = folder / name
    whole = {
        "info": {"year": 2017},
        "images": IMAGES,
        "annotations": annotations,
        "categories": CATEGORIES,
    } | more
    file.write_text(json.dumps(whole))
    return file


def read(file: Path) -> list[Conversation | tuple[int, str]]:
    """What becomes of the records:
    conversations, or a record's number and the reason it is refused for.
    """
    found: list[Conversation | tuple[int, str]] = []
    for item in COCO.records([file]):
        if isinstance(item, Reject):
            found.append((item.record, item.reason.value))
            continue
        try:
            found.append(COCO.conversation(item))
        except (RecordError, SchemaError) as error:
            found.append((item.number, error.reason))
    return found


@pytest.mark.parametrize("depth", [900, 980, 985, 990, 1000])
def test_an_annotation_however_deep_costs_itself_at_the_most(tmp_path: Path, depth: int) -> None:
    file = write(tmp_path, [{**caption(1), "x": "?"}, caption(2)], "captions_train2014.json")
    file.write_text(file.read_text().replace('"?"', "[" * depth + "]" * depth))

    first, second = read(file)
    assert isinstance(first, Conversation) or first == (0, "too_deep")
    assert isinstance(second, Conversation)


def test_a_caption_becomes_the_description_of_its_image(tmp_path: Path) -> None:
    file = write(tmp_path, [caption(7)], "captions_train2014.json")

    assert read(file) == [
        Conversation(
            "7",
            (user(Image(0), "Describe the image in one sentence."), assistant("A cup.")),
            (Media("image", "000000000009.jpg"),),
            "coco",
            "train",
            {
                "image": {"id": 9, "width": 640, "height": 480, "license": 3},
                "annotations": [{"id": 7, "image_id": 9}],
            },
        )
    ]


def test_all_boxes_of_a_category_in_an_image_are_one_record(tmp_path: Path) -> None:
    annotations = [
        box(1),
        box(2, 25, bbox=(0, 0, 50, 50)),
        box(3, category=47),
        box(4, bbox=(0, 0, 640, 480), area=1),
    ]

    found = read(write(tmp_path, annotations))

    assert [one.id for one in found if isinstance(one, Conversation)] == ["9:1", "25:1", "9:47"]
    first = found[0]
    assert isinstance(first, Conversation)
    assert first.messages == (
        user(Image(0), "Find every person in the image."),
        assistant(Region("person", ((0.1, 0.1, 0.2, 0.2), (0.0, 0.0, 1.0, 1.0)))),
    )
    assert first.split == "val"
    assert [one["id"] for one in first.extra["annotations"]] == [1, 4]
    assert first.extra["annotations"][1]["area"] == 1
    assert first.extra["category"] == CATEGORIES[0]


def test_a_crowd_and_a_box_without_area_cost_themselves_alone(tmp_path: Path) -> None:
    bad = [
        box(1, iscrowd=1),
        box(2, bbox=(1, 1, 0, 5)),
        box(3, bbox=(1, 1, 5, -1)),
        box(4, bbox=[1, 2, 3]),
    ]
    worse = [box(5, bbox=["1", 2, 3, 4]), box(6) | {"bbox": None}, box(7, bbox=[True, 1, 1, 1])]

    found = read(write(tmp_path, [box(0), *bad, *worse, box(8)]))

    assert [one if isinstance(one, tuple) else one.id for one in found] == [
        "9:1", *((number, "bad_box") for number in range(1, 8)),
    ]  # fmt: skip
    assert isinstance(found[0], Conversation)
    assert len(found[0].extra["annotations"]) == 2


@pytest.mark.parametrize("bbox", [(-1, 0, 10, 10), (630, 470, 11, 10), (0.5, 0.25, 640, 480)])
def test_a_box_that_overruns_by_a_pixel_is_clipped(tmp_path: Path, bbox: tuple[float, ...]) -> None:
    (found,) = read(write(tmp_path, [box(1, bbox=bbox)]))

    assert isinstance(found, Conversation)


@pytest.mark.parametrize("bbox", [(-1.1, 0, 10, 10), (700, 0, 10, 10), (0, 0, 10, 490)])
def test_a_box_that_leaves_the_image_is_refused(tmp_path: Path, bbox: tuple[float, ...]) -> None:
    assert read(write(tmp_path, [box(1, bbox=bbox)])) == [(0, "bad_box")]


def test_annotations_that_cannot_be_joined_are_refused(tmp_path: Path) -> None:
    strange = [
        box(1, image=404),
        box(2, category=404),
        caption(3, image=404),
        caption(4, image=None),
        5,
        "six",
        None,
    ]

    assert read(write(tmp_path, strange)) == [(number, "malformed") for number in range(7)]


def test_bad_captions_are_refused(tmp_path: Path) -> None:
    strange = [caption(1, ""), caption(2, " \n"), caption(3, None), caption(4, ["a"])]

    assert [one[1] for one in read(write(tmp_path, strange)) if isinstance(one, tuple)] == [
        "empty_turn", "empty_turn", "malformed", "malformed",
    ]  # fmt: skip


def test_the_order_of_the_parts_of_the_file_does_not_matter(tmp_path: Path) -> None:
    annotations = [box(1), caption(2), box(3, 25)]
    first = read(write(tmp_path, annotations))
    whole = json.loads((tmp_path / "instances_val2017.json").read_text())

    for order in (
        ["annotations", "categories", "images", "info"],
        ["categories", "annotations", "info", "images"],
    ):
        file = tmp_path / "instances_val2017.json"
        file.write_text(json.dumps({key: whole[key] for key in order}))

        assert read(file) == first


def test_a_broken_annotation_costs_itself_alone(tmp_path: Path) -> None:
    file = write(tmp_path, [box(1), {"id": "BROKEN"}, box(3, 25, bbox=(1, 1, 2, 2))])
    file.write_text(
        file.read_text().replace('{"id": "BROKEN"}', '{"id": 2, "image_id": 9, "bbox": [1,, 2]}')
    )

    found = read(file)

    assert [one if isinstance(one, tuple) else one.id for one in found] == [
        "9:1",
        (1, "bad_json"),
        "25:1",
    ]
    assert [item.number for item in COCO.records([file]) if isinstance(item, Record)] == [0, 2]


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ('"height": 7}]', '"height": NaN}]'),
        ('"height": 7}]', '"height": 7, "height": 7}]'),
        ('"height": 7}]', '"height": 7}}]'),
        ('"height": 7}]', '"height: 7}]'),
        ('"height": 7}]', '"height" 7}]'),
        ('"height": 7}]', '"height": 7,}]'),
        ('"height": 7}]', '"height": 7]'),
    ],
)
def test_a_broken_last_image_costs_no_annotation_of_others(
    tmp_path: Path, sound: str, broken: str
) -> None:
    last = {"id": 26, "file_name": "26.jpg", "width": 9, "height": 7}
    file = write(tmp_path, [box(1), box(2, 25, bbox=(1, 1, 2, 2))], images=[*IMAGES, last])
    file.write_text(file.read_text().replace(sound, broken))

    found = read(file)

    assert [one.id for one in found if isinstance(one, Conversation)] == ["9:1", "25:1"]
    assert [one for one in found if isinstance(one, tuple)] == [(2, "bad_json")]


def test_annotations_behind_what_does_not_close_are_counted(tmp_path: Path) -> None:
    last = {"id": 26, "file_name": "26.jpg", "width": 9, "height": 7}
    file = write(tmp_path, [box(1), box(2, 25)], images=[*IMAGES, last])
    file.write_text(file.read_text().replace('"height": 7}]', '"height": 7}'))

    assert read(file) == [(0, "bad_json"), (1, "bad_json"), (2, "bad_json")]


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"images": [], "annotations": [', '{"images"', "{3: 4}"]
)
def test_a_file_of_another_shape_says_so_once(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)

    assert [one[1] for one in read(file) if isinstance(one, tuple)] == ["bad_json"]


def test_the_media_root_is_the_folder_above_annotations(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    file = write(tmp_path / "annotations", [caption(1)], "captions_val2017.json")

    assert COCO.media_root([file]) == tmp_path
    places = list(COCO.candidates("000000000009.jpg", Origin(file.as_posix())))
    assert places[0] == "val2017/000000000009.jpg"
    assert "val2014/COCO_val2014_000000000009.jpg" in places


@given(
    st.lists(
        st.tuples(st.sampled_from([9, 25]), st.sampled_from([1, 47]), st.booleans()), max_size=30
    )
)
def test_every_annotation_is_in_one_record(
    tmp_path_factory: Any, drawn: list[tuple[int, int, bool]]
) -> None:
    annotations = [
        box(number, image, category, (1, 1, 2, 2), iscrowd=int(crowd))
        for number, (image, category, crowd) in enumerate(drawn)
    ]
    file = write(tmp_path_factory.mktemp("coco"), annotations)

    found = [item for item in COCO.records([file]) if isinstance(item, Record)]

    assert sorted(one["id"] for item in found for one in item.value["annotations"]) == list(
        range(len(drawn))
    )
    assert [item.number for item in found] == sorted(item.number for item in found)
    assert all(item.number == item.value["annotations"][0]["id"] for item in found)


def test_memory_is_small_beside_the_file(tmp_path: Path) -> None:
    import tracemalloc

    draw = random.Random(0)
    annotations = [box(number, draw.choice([9, 25]), note="x" * 500) for number in range(20_000)]
    file = write(tmp_path, [one | {"image_id": one["id"]} for one in annotations], images=IMAGES)

    tracemalloc.start()
    assert sum(1 for _ in COCO.records([file])) == len(annotations)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < file.stat().st_size
