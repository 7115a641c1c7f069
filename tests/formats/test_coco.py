from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.errors import RecordError, SchemaError, UsageError
from mmdata.formats import Origin, make
from mmdata.formats._batches import read_batches
from mmdata.formats.coco import Coco
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, Region, assistant, user
from mmdata.sources._run import LENGTH
from mmdata.sources.record import Record

COCO = make("coco")
IMAGES = [
    {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480, "license": 3},
    {"id": 25, "file_name": "000000000025.jpg", "width": 100, "height": 50, "coco_url": "http://x"},
]
CATEGORIES = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 47, "name": "cup"}]

PADDING = {"id": "padding", "file_name": "x" * LENGTH}
"""An image after which annotations are read at once: no stretch of text has them and what is before
them.
"""


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
        "categories": CATEGORIES,
        "images": IMAGES,
        "annotations": annotations,
    } | more
    file.write_text(json.dumps(whole))
    return file


def read(file: Path) -> list[Conversation | tuple[int, str]]:
    """What becomes of the records: conversations, or a record's number and the reason it is refused
    for; the same read one by one and at once.
    """
    found = read_one_by_one(file)
    batches = list(read_batches(COCO, [file]))
    assert [
        (reject.record, reject.reason.value) for batch in batches for _, reject in batch.rejects
    ] == [one for one in found if isinstance(one, tuple)]
    assert [row for batch in batches for row in batch.conversations()] == [
        one for one in found if isinstance(one, Conversation)
    ]
    return found


def read_one_by_one(file: Path) -> list[Conversation | tuple[int, str]]:
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

    first, second = read_one_by_one(file)
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
        ('"height": 7}]', '"height": Infinity}]'),
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


@pytest.mark.slow
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


def exchanges(item: Conversation | tuple[int, str]) -> list[tuple[Any, ...]]:
    """The prompts of a conversation and the answers to them."""
    assert isinstance(item, Conversation), item
    said = [
        message.content[1:] if not number else message.content
        for number, message in enumerate(item.messages)
    ]
    return [
        (getattr(prompt, "text", None), getattr(answer, "text", None), getattr(answer, "boxes", ()))
        for (prompt,), (answer,) in zip(said[::2], said[1::2], strict=True)
    ]


TENTH = ((0.1, 0.1, 0.2, 0.2),)
"""The box of :func:`box` where nothing else is said."""


def boxes_are(found: Any, wanted: tuple[tuple[float, ...], ...]) -> bool:
    return all(
        x == pytest.approx(y) for one, other in zip(found, wanted, strict=True)
        for x, y in zip(one, other, strict=True)
    )  # fmt: skip


def test_the_words_of_a_region_stay_about_their_region(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path, [{**caption(1, "the corner"), "bbox": [64, 48, 64, 48]}]))

    ((prompt, answer, boxes),) = exchanges(found)
    assert (prompt, answer) == ("Find this in the image: the corner", "the corner")
    assert boxes_are(boxes, TENTH)


@pytest.mark.parametrize("nothing", [{"bbox": None}, {"bbox": []}, {"segmentation": []}])
def test_a_caption_without_any_region_is_about_the_image(
    tmp_path: Path, nothing: dict[str, Any]
) -> None:
    (found,) = read(write(tmp_path, [caption(1) | nothing]))

    assert exchanges(found) == [("Describe the image in one sentence.", "A cup.", ())]


@pytest.mark.parametrize(
    "region",
    [{"bbox": [1, 2, 3]}, {"segmentation": [[1, 2, 3, 4, 5, 6]]}, {"bbox": [0, 0, 9000, 9000]}],
)
def test_a_region_that_has_no_sound_box_never_becomes_the_whole_image(
    tmp_path: Path, region: dict[str, Any]
) -> None:
    assert read(write(tmp_path, [caption(1) | region])) == [(0, "bad_box")]


SENTENCES = [{"sent": "the man", "raw": "The man!"}, {"sent": "left one"}, {"sent": "the man"}]


@pytest.mark.parametrize(
    ("field", "value", "phrases"),
    [
        ("sentences", SENTENCES, ["the man", "left one"]),
        ("sentences", ["the man"], ["the man"]),
        ("expressions", ["the man", "left one"], ["the man", "left one"]),
        ("expression", "the man", ["the man"]),
        ("phrase", "the man", ["the man"]),
    ],
)
def test_referring_expressions_are_about_one_box_each_in_a_turn(
    tmp_path: Path, field: str, value: Any, phrases: list[str]
) -> None:
    """Two boxes of one category, and the words of one: the other is no answer to them."""
    referred = box(2, **{field: value, "ref_id": 5})

    plain, found = read(write(tmp_path, [box(1, bbox=(0, 0, 64, 48)), referred]))

    assert exchanges(plain)[0][:2] == ("Find every person in the image.", "person")
    assert [(prompt, answer) for prompt, answer, _ in exchanges(found)] == [
        (f"Find this in the image: {phrase}", phrase) for phrase in phrases
    ]
    assert all(boxes_are(boxes, TENTH) for _, _, boxes in exchanges(found))
    assert isinstance(found, Conversation)
    assert found.extra["annotations"][0][field] == value


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sentences": []}, "empty_turn"),
        ({"sentences": [""]}, "empty_turn"),
        ({"sentences": [{"words": "?"}]}, "malformed"),
        ({"sentences": 5}, "malformed"),
        ({"sentences": ["a"], "caption": "b"}, "malformed"),
        ({"sentences": ["a"], "bbox": None}, "bad_box"),
        ({"segments_info": [], "bbox": None}, "no_conversation"),
        ({"segments_info": "?"}, "malformed"),
        ({"tokens_positive": [[0, 3]]}, "malformed"),
    ],
)
def test_words_that_cannot_be_told_are_refused(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    assert read(write(tmp_path, [box(1) | fields])) == [(0, reason)]


@pytest.mark.parametrize(
    ("split", "wanted"), [("testA", "test"), ("val", "val"), ("train", "train"), ("?", "val")]
)
def test_a_referring_expression_is_in_the_split_that_it_names(
    tmp_path: Path, split: str, wanted: str
) -> None:
    (found,) = read(write(tmp_path, [box(1, phrase="the man", split=split)]))

    assert isinstance(found, Conversation)
    assert found.split == wanted


def test_boxes_that_mark_words_of_a_caption_are_of_these_words(tmp_path: Path) -> None:
    """MDETR's files: the caption of an image is in the image; annotations mark words of it."""
    images = [
        {**IMAGES[0], "caption": "a man in a hat"},
        {**IMAGES[1], "caption": "the man on the left"},
    ]
    annotations = [
        box(1, tokens_positive=[[0, 5]]),
        box(2, tokens_positive=[[9, 14]]),
        box(3, 25, bbox=(10, 5, 10, 5), tokens_positive=[[4, 7]]),
    ]

    phrases, referred = read(write(tmp_path, annotations, images=images))

    assert [answer for _, answer, _ in exchanges(phrases)] == ["a man", "a hat"]
    assert [answer for _, answer, _ in exchanges(referred)] == ["the man on the left"]


def test_the_segments_of_a_panorama_are_a_turn_for_each_category(tmp_path: Path) -> None:
    segments = [box(5), box(6, category=47), box(7, bbox=(0, 0, 64, 48))]
    annotation = {"image_id": 9, "file_name": "9.png", "segments_info": segments}

    (found,) = read(write(tmp_path, [annotation]))

    assert [(prompt, answer, len(boxes)) for prompt, answer, boxes in exchanges(found)] == [
        ("Find every person in the image.", "person", 2),
        ("Find every cup in the image.", "cup", 1),
    ]
    assert isinstance(found, Conversation)
    assert found.extra["annotations"] == [annotation]


@pytest.mark.parametrize(
    ("segment", "reason"),
    [({"iscrowd": 1}, "bad_box"), ({"category_id": 404}, "malformed"), ({"bbox": 1}, "bad_box")],
)
def test_a_segment_that_is_no_box_costs_its_image(
    tmp_path: Path, segment: dict[str, Any], reason: str
) -> None:
    annotation = {"image_id": 9, "segments_info": [box(5), box(6) | segment]}

    assert read(write(tmp_path, [annotation, caption(1)]))[0] == (0, reason)


@pytest.mark.parametrize("other", [{"file_name": "b.jpg"}, {"width": 9}])
def test_two_images_with_one_id_are_never_mixed(tmp_path: Path, other: dict[str, Any]) -> None:
    images = [*IMAGES, IMAGES[0] | other]

    found = read(write(tmp_path, [caption(1), box(2), caption(3, image=25)], images=images))

    assert found[:2] == [(0, "malformed"), (1, "malformed")]
    assert isinstance(found[2], Conversation)


def test_an_image_that_is_there_twice_is_one(tmp_path: Path) -> None:
    found = read(write(tmp_path, [caption(1), box(2)], images=[*IMAGES, IMAGES[0]]))

    assert all(isinstance(one, Conversation) for one in found)


def test_two_categories_with_one_id_are_never_mixed(tmp_path: Path) -> None:
    categories = [*CATEGORIES, {"id": 1, "name": "dog"}]

    assert read(write(tmp_path, [box(1)], categories=categories)) == [(0, "malformed")]


def test_an_image_is_found_by_the_end_of_its_url(tmp_path: Path) -> None:
    image = {"id": 9, "width": 640, "height": 480, "coco_url": "http://x.org/z/val2017/9.jpg"}
    file = write(tmp_path, [box(1), caption(2)], "lvis_v1_val.json", images=[image])

    assert [one.media[0].path for one in read(file) if isinstance(one, Conversation)] == [
        "val2017/9.jpg",
        "val2017/9.jpg",
    ]
    assert next(iter(COCO.candidates("val2017/9.jpg", Origin(file.as_posix())))) == "val2017/9.jpg"


def test_boxes_of_which_there_may_be_more_answer_no_prompt_for_every_one(tmp_path: Path) -> None:
    images = [IMAGES[0] | {"not_exhaustive_category_ids": [1]}]

    first, second = read(write(tmp_path, [box(1), box(2, category=47)], images=images))

    assert first == (0, "malformed")
    assert exchanges(second)[0][1] == "cup"


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("folders", [["train", "valid", "test"], ["valid"]])
def test_the_folders_of_roboflow_are_splits_with_their_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool, folders: list[str]
) -> None:
    """Images have one name in every folder: each is that beside its own file."""
    for folder in folders:
        (tmp_path / "set" / folder).mkdir(parents=True)
        write(tmp_path / "set" / folder, [caption(1)], "_annotations.coco.json")
        (tmp_path / "set" / folder / "000000000009.jpg").write_bytes(b"?")
    sources = [tmp_path / "set" / folder for folder in folders]
    if relative:
        monkeypatch.chdir(sources[0])
        sources = [Path("_annotations.coco.json"), *sources[1:]]

    mmdata.convert("coco", sources, tmp_path / "store")

    names = {"train": "train", "valid": "val", "test": "test"}
    assert [(row.split, row.media[0].path) for row in mmdata.open(tmp_path / "store")] == [
        (names[folder], f"{folder}/000000000009.jpg") for folder in folders
    ]


@pytest.mark.parametrize("name", ["refs(unc).p", "refs(google).json"])
def test_expressions_in_a_file_of_their_own_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"[]")
    file = write(tmp_path, [box(1)], "instances.json")

    for source in (tmp_path, tmp_path / name):
        with pytest.raises(UsageError, match=re.escape(f"{tmp_path / name} is not read")):
            COCO.files([source])
    assert COCO.files([file]) == [file]


def test_every_shape_that_is_shown_is_read(tmp_path: Path) -> None:
    file = tmp_path / "shape.json"
    file.write_text(Coco.shape)

    found = read(file)

    assert [[answer for _, answer, _ in exchanges(one)] for one in found] == [
        ["A cup."],
        ["cup"],
        ["the red cup"],
        ["the cup on the left", "the full one"],
        ["cup"],
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"bbox": [64, 48, 64, 48]},
        {"segmentation": [[1, 2, 3, 4, 5, 6]]},
        {"sentences": ["the man"]},
        {"segments_info": [box(5)]},
        {"split": "test"},
        {"category_id": 47},
        {"caption": None},
        {"caption": " "},
        {"image_id": 404},
        {"image_id": "9"},
        {"tokens_positive": [[0, 1]]},
    ],
)
def test_an_odd_caption_among_many_is_read_as_it_is_alone(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    images = [*IMAGES, PADDING]
    (alone,) = read(write(tmp_path, [caption(2) | odd], images=images))

    many = [caption(1), caption(2) | odd, caption(3, image=25), caption(4)]
    found = read(write(tmp_path, many, images=images))

    assert found[1] == (alone if isinstance(alone, Conversation) else (1, alone[1]))
    assert len(found) == len(many)


@pytest.mark.parametrize("field", ["score", "weight", "train", "Label", "video_start", "bboxes"])
@pytest.mark.parametrize("annotation", [box(2, category=47), caption(2)])
def test_a_field_that_changes_what_an_annotation_means_is_no_extra(
    tmp_path: Path, annotation: dict[str, Any], field: str
) -> None:
    """Among many that are read at once, and where the user admits it."""
    many = [box(1), annotation | {field: 0.5}, box(3, 25, bbox=(1, 1, 2, 2)), box(4, 9, 1)]
    file = write(tmp_path, many, images=[*IMAGES, PADDING])

    def rejects(**options: Any) -> list[tuple[int, str]]:
        mmdata.convert("coco", file, tmp_path / "s", check="none", overwrite=True, **options)
        found = mmdata.open(tmp_path / "s").rejects()
        return [(reject["record"], reject["reason"]) for reject in found]

    assert rejects() == [(1, "unsupported_field")]
    assert rejects(allow_fields=field) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"caption": "the corner"},
        {"caption": None},
        {"sentences": SENTENCES},
        {"expressions": ["the man"]},
        {"expression": "the man"},
        {"phrases": ["the man"]},
        {"phrase": "the man"},
        {"segments_info": [box(5)]},
        {"tokens_positive": [[0, 5]]},
        {"iscrowd": 1},
        {"bbox": [1, 2, 0, 4]},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, 1e10]},
        {"bbox": [600, 0, 100, 10]},
        {"category_id": "47"},
        {"category_id": None},
        {"image_id": 404},
        {"image_id": 1.5},
    ],
)
def test_an_odd_annotation_among_many_boxes_is_read_as_it_is_alone(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    images = [IMAGES[0] | {"caption": "a man in a hat"}, IMAGES[1], PADDING]
    annotation = box(2, category=47) | odd
    (alone,) = read(write(tmp_path, [annotation], images=images))

    many = [box(1), annotation, box(3, 25, bbox=(1, 1, 2, 2)), box(4, 25, 47, (1, 1, 2, 2))]
    found = read(write(tmp_path, many, images=images))

    assert found[1] == (alone if isinstance(alone, Conversation) else (1, alone[1]))
    assert len(found) == len(many)


@pytest.mark.parametrize(
    "bbox", [(-0.5, 0, 10, 10), (-0.0, 1, 10, 10), (630, 470, 10.5, 10.5), (0.1, 0.3, 1e-9, 1e-9)]
)
@pytest.mark.parametrize("more", [{}, {"area": 1e-7}, {"area": 2**70}, {"note": "8e5"}])
def test_a_box_at_an_edge_and_odd_numbers_are_read_at_once_as_one_by_one(
    tmp_path: Path, bbox: tuple[float, ...], more: dict[str, Any]
) -> None:
    (found,) = read(write(tmp_path, [box(1, bbox=bbox, **more)]))

    assert isinstance(found, Conversation)


numbers = st.sampled_from([1, 2.5, 0, -0.0, -0.5, 1e-5, 639.5, 700, 1e10])
drawn_boxes = st.lists(numbers, min_size=4, max_size=4) | st.sampled_from([None, [], [1], "?"])
drawn_annotations = st.fixed_dictionaries(
    {"image_id": st.sampled_from([9, 25, 26, 27, "9", 404])},
    optional={
        "id": st.sampled_from([1, "1", None, 1.5, 2**70]),
        "category_id": st.sampled_from([1, 47, 5, 404]),
        "bbox": drawn_boxes,
        "iscrowd": st.sampled_from([0, 1, False]),
        "caption": st.sampled_from(["A cup.", "", " ", None, "\u00e9"]),
        "split": st.sampled_from(["testA", "?", None]),
        "sentences": st.sampled_from([["the man"], [{"sent": "a"}, {"sent": "b"}], []]),
        "segments_info": st.just([{"id": 1, "category_id": 47, "bbox": [1, 2, 3, 4]}]),
        "tokens_positive": st.just([[0, 5]]),
        "area": st.sampled_from([1e-7, 2**70, 1.5e20, 3]),
    },
)
MORE_IMAGES = [
    {"id": 26, "file_name": "a.jpg", "width": 64, "height": 48, "caption": "a man"},
    {"id": 27, "coco_url": "http://x.org/val2017/b.jpg", "width": 64.5, "height": 0.00001},
    {"id": 25, "file_name": "another.jpg"},
]


@pytest.mark.slow
@given(
    st.lists(drawn_annotations, max_size=8),
    st.lists(st.sampled_from(MORE_IMAGES), max_size=3),
    st.integers(0, 4),
)
def test_what_is_read_at_once_says_what_is_read_one_by_one(
    tmp_path_factory: Any, drawn: list[dict[str, Any]], more: list[dict[str, Any]], sound: int
) -> None:
    annotations = [*drawn, *(box(100 + number, image=9) for number in range(sound))]
    annotations += [caption(200 + number) for number in range(sound)]
    file = write(
        tmp_path_factory.mktemp("coco"), annotations, images=[*IMAGES, *more, PADDING],
        categories=[*CATEGORIES, {"id": 5}],
    )  # fmt: skip

    read(file)
