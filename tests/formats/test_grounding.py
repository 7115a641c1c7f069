"""Phrases and boxes in the words of a conversation become regions, and nothing else changes."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import RecordError
from mmdata.formats._boxes import PIXEL_TOLERANCE, Size, read_sizes, scale_pixels
from mmdata.formats._grounding import BoxStyle, ground, may_have_boxes
from mmdata.formats._objects import read_objects
from mmdata.schema import (
    Box,
    Image,
    Media,
    Message,
    Part,
    Region,
    Text,
    Video,
    assistant,
    system,
    tool,
    user,
)
from mmdata.templates.toolkit import GRIDS

CUP = (Media("image", "cup.jpg"),)
TWO = (Media("image", "a.jpg"), Media("image", "b.jpg"))
CLIP = (Media("video", "clip.mp4"),)
STYLES: tuple[BoxStyle, ...] = get_args(BoxStyle)

grid = st.integers(0, 1000)
words = st.text(st.sampled_from("ab c.,<>[](){}\n:0é"), max_size=12)
phrases = st.text(st.sampled_from("ab c.é\n"), max_size=8)
sides = st.integers(1, 20_000)


@st.composite
def corners(draw: st.DrawFn, side: st.SearchStrategy[int] = grid) -> tuple[int, int, int, int]:
    x1, x2 = sorted([draw(side), draw(side)])
    y1, y2 = sorted([draw(side), draw(side)])
    return x1, y1, x2, y2


def float32(value: float) -> float:
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def fractions(box: Sequence[float], width: float, height: float) -> Box:
    x1, y1, x2, y2 = box
    return float32(x1 / width), float32(y1 / height), float32(x2 / width), float32(y2 / height)


def answer(text: str, boxes: BoxStyle = "auto", **options: Any) -> tuple[Part, ...]:
    """The parts of an answer about one picture."""
    said = [user(Image(0), "Where?"), assistant(text)]
    return ground(said, CUP, boxes=boxes, **options)[1].content


def grounded(*messages: Message, objects: Any, sizes: Sequence[Size | None] = ()) -> list[Part]:
    """The parts of messages about one picture, with ms-swift's objects in them."""
    found = ground(messages, CUP, objects=read_objects(objects), sizes=sizes)
    return [part for message in found for part in message.content if not isinstance(part, Image)]


def qwen_vl(phrase: str, boxes: Sequence[Sequence[int]]) -> str:
    said = "".join(f"<box>({x1},{y1}),({x2},{y2})</box>" for x1, y1, x2, y2 in boxes)
    return f"<ref>{phrase}</ref>{said}"


def qwen2_vl(phrase: str, boxes: Sequence[Sequence[int]]) -> str:
    said = "".join(f"<|box_start|>({a},{b}),({c},{d})<|box_end|>" for a, b, c, d in boxes)
    return f"<|object_ref_start|>{phrase}<|object_ref_end|>{said}"


def internvl(phrase: str, boxes: Sequence[Sequence[int]]) -> str:
    return f"<ref>{phrase}</ref><box>{json.dumps([list(box) for box in boxes])}</box>"


# --- marks that say what they are


@pytest.mark.slow
@pytest.mark.parametrize("spell", [qwen_vl, qwen2_vl, internvl])
@settings(max_examples=30)
@given(data=st.data())
def test_every_phrase_box_and_word_comes_back(spell: Any, data: st.DataObject) -> None:
    said = data.draw(
        st.lists(st.tuples(words, phrases, st.lists(corners(), min_size=1, max_size=3)))
    )
    last = data.draw(words)

    found = answer("".join(between + spell(*region) for between, *region in said) + last)

    regions = [part for part in found if isinstance(part, Region)]
    assert [(part.text, part.boxes, part.media) for part in regions] == [
        (phrase, tuple(fractions(box, 1000, 1000) for box in boxes), 0) for _, phrase, boxes in said
    ]
    texts = [part.text for part in found if isinstance(part, Text) and part.text]
    assert texts == [text for text in (*[between for between, *_ in said], last) if text]


@given(st.lists(words), st.sampled_from(STYLES))
def test_words_without_marks_are_returned_as_they_are(texts: list[str], boxes: BoxStyle) -> None:
    said = [user(Image(0), *texts), assistant(*texts)]

    assert list(ground(said, CUP, boxes=boxes)) == said


@given(st.lists(words | corners().map(lambda box: internvl("cup", [box]))))
def test_boxes_none_is_the_identity(texts: list[str]) -> None:
    said = [user(Image(0), *texts), assistant("<box>", "</ref>", *texts)]

    assert list(ground(said, CUP, boxes="none")) == said


@pytest.mark.slow
@given(st.lists(words | corners().map(lambda box: qwen_vl("cup", [box]))), st.sampled_from(STYLES))
def test_where_no_text_may_have_boxes_nothing_is_read(texts: list[str], boxes: BoxStyle) -> None:
    if not may_have_boxes(texts, boxes):
        said = [user(Image(0), *texts)]

        assert list(ground(said, CUP, boxes=boxes)) == said


def test_a_box_without_phrase_and_a_phrase_without_box_are_regions() -> None:
    found = answer("<ref>the cup</ref> is <box>[10, 20, 30, 40]</box>.")

    assert found == (
        Region("the cup", ()),
        Text(" is "),
        Region("", ((0.01, 0.02, 0.03, 0.04),)),
        Text("."),
    )


def test_a_point_is_a_box_without_area() -> None:
    found = answer("click(start_box='<|box_start|>(246,113)<|box_end|>')")

    assert found[1] == Region("", ((0.246, 0.113, 0.246, 0.113),))


def test_the_points_of_molmo_are_boxes_without_area() -> None:
    one = answer('See <point x="10.5" y="20" alt="a cup">a cup</point>.')
    two = answer('<points x1="1" y1="2.5" x2="100" y2="0" alt="cups">cups</points>')

    assert one == (Text("See "), Region("a cup", ((0.105, 0.2, 0.105, 0.2),)), Text("."))
    assert two == (Region("cups", ((0.01, 0.025, 0.01, 0.025), (1, 0, 1, 0))),)


@pytest.mark.parametrize(
    "text",
    [
        '<point x="10.5" y="120">a cup</point>',
        '<point x="10.5">a cup</point>',
        '<point x="10.5" y="20" alt="a hat">a cup</point>',
        '<points x1="1" y1="2" x2="3" y3="4">cups</points>',
        '<points y1="1" x1="2">cups</points>',
        '<point x="1" y="2">a cup',
        '<point x="ten" y="2">a cup</point>',
    ],
)
def test_points_that_are_not_plain_are_refused(text: str) -> None:
    assert may_have_boxes([text])

    with pytest.raises(RecordError) as caught:
        answer(f"It is {text}")

    assert caught.value.reason == "bad_box"
    said = [user("Draw it."), assistant(f"It is {text}")]
    assert ground(said, ()) == tuple(said)


def test_a_part_is_trained_on_as_its_text_was() -> None:
    said = Message("assistant", (Text("It: <box>[[0, 0, 1, 1]]</box>", train=False),), True)

    found = ground([user(Image(0), "Q"), said], CUP)[1]

    assert found.train
    assert [part.train for part in found.content] == [False, False]


def test_a_region_speaks_of_the_picture_that_was_shown_last() -> None:
    box = "<box>[[0, 0, 500, 500]]</box>"
    said = [user(box, Image(1), box, Image(0), "Q"), assistant(box)]

    found = ground(said, TWO)

    regions = [part for one in found for part in one.content if isinstance(part, Region)]
    assert [region.media for region in regions] == [1, 1, 0]


@pytest.mark.parametrize("message", [system, tool])
def test_instructions_show_boxes_and_are_not_read(message: Any) -> None:
    shape = message("Answer <ref>phrase</ref><box>[[x1, y1, x2, y2]]</box>")

    found = ground([shape, user(Image(0), "Q"), assistant("<ref>a</ref>")], CUP)

    assert found[0] == shape
    assert found[2] == assistant(Region("a", ()))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<box>(1,2)", "bad_box"),
        ("<box>", "bad_box"),
        ("</box>", "bad_box"),
        ("<box></box>", "bad_box"),
        ("<box>(1,2),(3,1001)</box>", "bad_box"),
        ("<box>(9,8),(7,6)</box>", "bad_box"),
        ("<box>(1,2),(3,4.5)</box>", "bad_box"),
        ("<box>[[1, 2, 3]]</box>", "bad_box"),
        ("<box>[[1, 2, 3, 4]</box>", "bad_box"),
        ("<box>[]</box>", "bad_box"),
        ("<box>[[1, 2, 3, 1e3000]]</box>", "bad_box"),
        ('<box>[[1, 2, 3, "4"]]</box>', "bad_box"),
        ("<box>[[x1, y1, x2, y2]]</box>", "bad_box"),
        ("<box>[[-1, 2, 3, 4]]</box>", "bad_box"),
        ("<box>[[" + "[" * 5000 + "</box>", "bad_box"),
        ("<quad>(1,2),(3,4),(5,6),(7,8)</quad>", "bad_box"),
        ("<|quad_start|>(1,2),(3,4),(5,6),(7,8)<|quad_end|>", "bad_box"),
        ("<|box_start|>(1,2),(3,4)</box>", "bad_box"),
        ("<|box_start|>", "bad_box"),
        ("<ref>dog", "malformed"),
        ("dog</ref>", "malformed"),
        ("<ref>a <ref>dog</ref>", "malformed"),
        ("<ref>dog<box>(1,2),(3,4)</box></ref>", "malformed"),
        ("<|object_ref_start|>dog</ref>", "malformed"),
    ],
)
def test_what_is_malformed_is_refused_and_named(text: str, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        answer(f"It is {text}")

    assert caught.value.reason == reason
    assert any(text[start : start + 6] in str(caught.value) for start in range(len(text)))


def test_the_cells_of_kosmos_are_refused_and_not_kept_as_words() -> None:
    text = "<phrase>a cup</phrase><object><patch_index_0044><patch_index_0863></object> on a table"
    said = (user(Image(0), "Q"), assistant(text))

    with pytest.raises(RecordError, match=r"<patch_index_0044> .* not supported") as caught:
        ground(said, CUP)

    assert caught.value.reason == "bad_box"
    assert ground(said, CUP, boxes="none") == said


def test_a_box_of_a_record_without_picture_is_refused() -> None:
    with pytest.raises(RecordError, match="has none") as caught:
        ground([user("Q"), assistant("<box>[[1, 2, 3, 4]]</box>")], ())

    assert caught.value.reason == "media_mismatch"


def test_a_wikis_footnote_beside_no_picture_is_words() -> None:
    said = [user("Q"), assistant("Old<ref>Book, 1900</ref>.")]

    assert list(ground(said, ())) == said


def test_a_box_in_a_video_is_refused() -> None:
    with pytest.raises(RecordError, match="frames of a video") as caught:
        ground([user(Video(0), "Q"), assistant("<box>[[1, 2, 3, 4]]</box>")], CLIP)

    assert caught.value.reason == "unsupported_media"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        *(mark * 50_000 for mark in ("<ref>", "<box>", "<|box_start|>", "```", "[0.1,", "<bbox>")),
        *(start + " " * 50_000 for start in ('```json "bbox_2d": [1', "<box>[", "<box>(1", "[0.1")),
    ],
    ids=lambda text: text[:12],
)
def test_a_long_text_of_marks_takes_no_time(text: str) -> None:
    started = time.monotonic()
    for boxes in STYLES:
        try:
            answer(text, boxes)
        except RecordError as error:
            assert len(str(error)) < 1000
    assert time.monotonic() - started < 5


# --- spellings that must be asked for


@given(st.lists(corners(sides), min_size=1, max_size=3), words)
def test_qwens_json_is_read_where_it_is_asked_for(
    boxes: list[tuple[int, int, int, int]], around: str
) -> None:
    entries = [{"bbox_2d": list(box), "label": f"cup {n}"} for n, box in enumerate(boxes)]
    text = f"{around}```json\n{json.dumps(entries, indent=1)}\n```{around}"

    for found in (answer(text, "qwen2_5"), answer(json.dumps(entries), "qwen2_5")):
        assert [part for part in found if isinstance(part, Region)] == [
            Region(f"cup {number}", (box,), unit="pixel") for number, box in enumerate(boxes)
        ]
    assert [part.text for part in answer(text, "qwen2_5") if isinstance(part, Text)] == (
        [around, around] if around else []
    )
    assert answer(text) == answer(text, "llava") == (Text(text),)


@given(corners())
def test_qwen3s_json_is_of_thousandths(box: tuple[int, int, int, int]) -> None:
    entry = json.dumps({"bbox_2d": box, "label": "cup"})

    assert answer(entry, "qwen3") == (Region("cup", (fractions(box, 1000, 1000),)),)


@given(corners(), sides, sides)
def test_pixels_are_scaled_by_the_size_that_the_record_says(
    thousandths: tuple[int, int, int, int], width: int, height: int
) -> None:
    x1, y1, x2, y2 = thousandths
    box = [x1 * width // 1000, y1 * height // 1000, x2 * width // 1000, y2 * height // 1000]

    (found,) = answer(json.dumps({"bbox_2d": box}), "qwen2_5", sizes=[(width, height)])

    assert found == Region("", (fractions(box, width, height),))


@given(corners(st.integers(0, 100)))
def test_llavas_fractions_are_read_where_they_are_asked_for(box: tuple[int, ...]) -> None:
    text = f"[{', '.join(f'{side / 100:.2f}' for side in box)}]"

    assert answer(f"at {text}.", "llava") == (
        Text("at "),
        Region("", (fractions(box, 100, 100),)),
        Text("."),
    )
    assert answer(text) == answer(text, "qwen3") == (Text(text),)


def test_a_list_of_whole_numbers_is_no_box() -> None:
    text = "the set [1, 2, 3, 4], [0.5], [0.1, 0.2]"

    assert answer(text, "llava") == (Text(text),)


def test_the_shape_that_an_answer_shall_have_is_words() -> None:
    text = 'Answer as ```json {"bbox_2d": [x1, y1, x2, y2], "label": "…"}```'

    assert answer(text, "qwen2_5") == (Text(text),)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ('{"bbox_2d": [1, 2, 3]}', "qwen2_5"),
        ('{"bbox_2d": [9, 2, 3, 4]}', "qwen2_5"),
        ('{"bbox_2d": [1, 2, 3, 4], "sub_label": "x"}', "qwen2_5"),
        ('[{"bbox_2d": [1, 2, 3, 4]}', "qwen2_5"),
        ('It is {"bbox_2d": [1, 2, 3, 4]}', "qwen2_5"),
        ('{"bbox_2d": [1, 2, 3, 1001]}', "qwen3"),
        ("[0.1, 0.2, 1.3, 0.4]", "llava"),
        ("[0.9, 0.2, 0.3, 0.4]", "llava"),
    ],
)
def test_what_is_malformed_in_them_is_a_bad_box(text: str, boxes: BoxStyle) -> None:
    with pytest.raises(RecordError) as caught:
        answer(text, boxes)

    assert caught.value.reason == "bad_box"
    assert text[-12:] in str(caught.value)


# --- the way back


@given(corners(), sides, sides)
def test_the_numbers_of_every_spelling_are_had_back(
    box: tuple[int, int, int, int], width: int, height: int
) -> None:
    """What a family that spells boxes so would write of the fractions that a store keeps."""
    x1, y1, x2, y2 = box
    grid_1000 = GRIDS["round_1000"]

    for spell in (qwen_vl, internvl, qwen2_vl):
        (region,) = answer(spell("cup", [box]))
        assert isinstance(region, Region)
        assert grid_1000.box_text(region.boxes[0]) == f"({x1},{y1}),({x2},{y2})"

    (said,) = answer(json.dumps({"bbox_2d": box}), "qwen2_5", sizes=[(width + 1000, height + 1000)])
    assert isinstance(said, Region)
    x1, y1, x2, y2 = said.boxes[0]  # type: ignore[assignment]
    pixels = (x1 * (width + 1000), y1 * (height + 1000), x2 * (width + 1000), y2 * (height + 1000))
    assert tuple(map(round, pixels)) == box


# --- ms-swift's objects


def test_objects_take_the_places_of_their_marks() -> None:
    """The example of ms-swift's documentation."""
    found = grounded(
        user(Image(0), "Describe the image."),
        assistant("<ref-object><bbox> and <ref-object><bbox> are playing on the beach"),
        objects={
            "ref": ["a dog", "a woman"],
            "bbox": [[331.5, 761.4, 853.5, 1594.8], [676.5, 685.8, 1099.5, 1427.4]],
        },
        sizes=[(1500, 1800)],
    )

    assert found[1:] == [
        Region("a dog", (fractions([331.5, 761.4, 853.5, 1594.8], 1500, 1800),)),
        Text(" and "),
        Region("a woman", (fractions([676.5, 685.8, 1099.5, 1427.4], 1500, 1800),)),
        Text(" are playing on the beach"),
    ]


def test_phrases_and_boxes_are_taken_each_in_their_own_order() -> None:
    found = grounded(
        user(Image(0), "Find the <ref-object> in the image"),
        assistant("<bbox><bbox>"),
        objects={"ref": ["sheep"], "bbox": [[90, 160, 135, 212], [360, 480, 495, 532]]},
    )

    assert found[1] == Region("sheep", ())
    assert found[3] == Region("", ((90, 160, 135, 212), (360, 480, 495, 532)), unit="pixel")


@pytest.mark.parametrize(("bbox_type", "scale"), [("norm1", 1), ("norm1000", 1000)])
@given(boxes=st.lists(corners(), min_size=1, max_size=4))
def test_boxes_of_a_known_scale_need_no_size(
    boxes: list[tuple[int, int, int, int]], bbox_type: str, scale: int
) -> None:
    numbers = [[side * scale / 1000 for side in box] for box in boxes]

    found = grounded(
        user(Image(0), "Q"),
        assistant("<bbox>" * len(boxes)),
        objects={"ref": [], "bbox": numbers, "bbox_type": bbox_type},
    )

    assert found[1:] == [Region("", tuple(fractions(box, scale, scale) for box in numbers))]


@pytest.mark.parametrize(
    "said",
    [
        {"objects": {"bbox": [[16, 12, 32, 24]], "width": [64], "height": [48]}},
        {"objects": {"bbox": [[16, 12, 32, 24]]}, "width": 64, "height": 48},
        {"objects": {"bbox": [[16, 12, 32, 24]]}, "width_list": [64], "height_list": [48]},
        {"objects": '{"bbox": [[16, 12, 32, 24]], "width": [64], "height": [48]}'},
    ],
)
def test_the_size_is_where_the_record_says_it(said: dict[str, Any]) -> None:
    found = grounded(
        user(Image(0), "Q"), assistant("<bbox>"), objects=said["objects"], sizes=read_sizes(said)
    )

    assert found[1:] == [Region("", ((0.25, 0.25, 0.5, 0.5),))]


def test_a_point_of_objects_is_a_box_without_area() -> None:
    found = grounded(
        user(Image(0), "Q"),
        assistant("click('<bbox>')"),
        objects={"ref": [], "bbox": [[615, 226]]},
    )

    assert found[2] == Region("", ((615, 226, 615, 226),), unit="pixel")


def test_each_box_is_of_the_image_that_it_names() -> None:
    said = [user(Image(0), Image(1), "Q"), assistant("<ref-object><bbox><bbox>")]
    objects = read_objects(
        {
            "ref": ["cup"],
            "bbox": [[1, 1, 2, 2], [1, 1, 2, 2]],
            "image_id": [0, 1],
            "width": [2, 4],
            "height": [2, 4],
        }
    )

    found = ground(said, TWO, objects=objects)[1].content

    assert found == (
        Region("cup", ((0.5, 0.5, 1, 1),), 0),
        Region("", ((0.25, 0.25, 0.5, 0.5),), 1),
    )


def test_images_are_counted_apart_from_other_media() -> None:
    said = [user(Video(0), Image(1), "Q"), assistant("<bbox>")]
    objects = read_objects({"bbox": [[1, 1, 2, 2]], "image_id": [0]})

    found = ground(said, (*CLIP, *CUP), objects=objects, sizes=[(4, 4)])[1].content

    assert found == (Region("", ((0.25, 0.25, 0.5, 0.5),), 1),)


def test_a_box_that_names_no_image_is_of_the_first() -> None:
    said = [user(Image(0), Image(1), "Q"), assistant("<bbox>")]
    objects = read_objects({"bbox": [[0, 0, 1, 1]], "bbox_type": "norm1"})

    assert ground(said, TWO, objects=objects)[1].content == (Region("", ((0, 0, 1, 1),), 0),)


def test_the_objects_of_ms_swift_2_are_pairs() -> None:
    pair = {"caption": "guy in red", "bbox": [138, 136, 235, 359], "bbox_type": "norm_1000"}
    box = fractions(pair["bbox"], 1000, 1000)  # type: ignore[arg-type]

    for objects in ([{**pair, "image": 0}], json.dumps([pair])):
        assert grounded(
            user(Image(0), "Find <ref-object>"), assistant("<bbox>"), objects=objects
        ) == [Text("Find "), Region("guy in red", ()), Region("", (box,))]
        assert grounded(user(Image(0), "Q"), assistant("<bbox>"), objects=objects)[1:] == [
            Region("", (box,))
        ]


def test_phrases_of_a_record_without_picture_are_words() -> None:
    found = ground([user("What is <ref-object>?")], (), objects=read_objects({"ref": ["a cup"]}))

    assert found == (user("What is a cup?"),)


def test_boxes_none_leaves_texts_and_not_objects() -> None:
    said = [user(Image(0), "<ref>a</ref>"), assistant("<ref-object>")]

    found = ground(said, CUP, objects=read_objects({"ref": ["b"]}), boxes="none")

    assert found == (said[0], assistant(Region("b", ())))


@given(
    refs=st.integers(0, 3), boxes=st.integers(0, 3), said=st.integers(0, 3), drawn=st.integers(0, 3)
)
def test_marks_and_objects_correspond_or_are_refused(
    refs: int, boxes: int, said: int, drawn: int
) -> None:
    objects = read_objects(
        {"ref": ["x"] * refs, "bbox": [[0, 0, 1, 1]] * boxes, "bbox_type": "norm1"}
    )
    messages = [user(Image(0), "Q"), assistant("<ref-object>," * said + "<bbox>," * drawn + "end")]

    if (refs, boxes) == (said, drawn):
        content = ground(messages, CUP, objects=objects)[1].content
        assert sum(isinstance(part, Region) for part in content) == refs + boxes
    else:
        with pytest.raises(RecordError) as caught:
            ground(messages, CUP, objects=objects)
        assert caught.value.reason == "media_mismatch"


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({"bbox": [[0, 0, 1]]}, "bad_box"),
        ({"bbox": [[0, 0, 1, "1"]]}, "bad_box"),
        ({"bbox": [[0, 0, 1, True]]}, "bad_box"),
        ({"bbox": [[0, 0, 1, float("inf")]]}, "bad_box"),
        ({"bbox": [[0, 0, 1, 10**400]]}, "bad_box"),
        ({"bbox": [[2, 0, 1, 1]]}, "bad_box"),
        ({"bbox": [[0, 0, 2, 1]], "bbox_type": "norm1"}, "bad_box"),
        ({"bbox": [[0, 0, 70, 1]], "width": [64], "height": [48]}, "bad_box"),
        ({"bbox": [[0, 0, 1, 1]], "bbox_type": "corners"}, "bad_box"),
        ({"bbox": [[0, 0, 1, 1]], "bbox_type": 3}, "bad_box"),
        ({"bbox": [[0, 0, 1, 1]], "image_id": [0, 0]}, "media_mismatch"),
        ({"bbox": [[0, 0, 1, 1]], "image_id": [1]}, "media_mismatch"),
        ({"bbox": [[0, 0, 1, 1]], "image_id": [-1]}, "media_mismatch"),
        ({"bbox": [[0, 0, 1, 1]], "image_id": ["0"]}, "malformed"),
        ({"bbox": [[0, 0, 1, 1]], "depth": [3]}, "unsupported_field"),
        ([{"caption": "cup", "bbox": [0, 0, 1, 1], "depth": 3}], "unsupported_field"),
        ({"bbox": "here"}, "malformed"),
        ({"ref": [3], "bbox": []}, "malformed"),
        ("{bbox: 1}", "malformed"),
        ("[" * 100_000, "malformed"),
        (3, "malformed"),
        ([3], "malformed"),
    ],
)
def test_objects_that_cannot_be_read_say_why(objects: Any, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        grounded(user(Image(0), "Q"), assistant("<bbox>"), objects=objects)

    assert caught.value.reason == reason


@pytest.mark.parametrize("objects", [None, "", " ", "null", {}, [], {"ref": [], "bbox": []}])
def test_marks_for_which_there_are_no_objects_are_refused(objects: Any) -> None:
    with pytest.raises(RecordError, match="<bbox> stands for") as caught:
        grounded(user(Image(0), "Q"), assistant("<bbox>"), objects=objects)

    assert caught.value.reason == "media_mismatch"


def test_a_tag_that_is_closed_is_no_mark_of_objects() -> None:
    said = [user(Image(0), "Q"), assistant("<bbox>1 2 3 4</bbox>")]

    assert list(ground(said, CUP)) == said


def test_a_box_of_objects_beside_a_video_alone_is_refused() -> None:
    objects = read_objects({"bbox": [[0, 0, 1, 1]]})

    with pytest.raises(RecordError) as caught:
        ground([user(Video(0), "Q"), assistant("<bbox>")], CLIP, objects=objects)

    assert caught.value.reason == "unsupported_media"


# --- pixels


@given(corners(sides), sides, sides)
def test_pixels_become_fractions_or_leave_the_picture(
    box: tuple[int, int, int, int], width: int, height: int
) -> None:
    x1, y1, x2, y2 = box

    if x2 <= width + PIXEL_TOLERANCE and y2 <= height + PIXEL_TOLERANCE:
        found = scale_pixels(box, (width, height))
        assert found == (
            min(x1 / width, 1),
            min(y1 / height, 1),
            min(x2 / width, 1),
            min(y2 / height, 1),
        )
    else:
        with pytest.raises(RecordError, match="leaves the picture"):
            scale_pixels(box, (width, height))


def test_a_box_that_leaves_the_picture_by_a_pixel_is_clipped() -> None:
    assert scale_pixels((-1, -1, 65, 49), (64, 48)) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    "box", [(-1.5, 0, 1, 1), (0, -1.5, 1, 1), (0, 0, 65.5, 1), (0, 0, 1, 49.5)]
)
def test_a_box_that_leaves_the_picture_by_more_than_a_pixel_is_bad(box: Box) -> None:
    with pytest.raises(RecordError, match=r"leaves the picture of 64 x 48 pixels") as caught:
        scale_pixels(box, (64, 48))

    assert caught.value.reason == "bad_box"


@pytest.mark.parametrize(
    ("value", "sizes"),
    [
        ({"width": 64, "height": 48}, ((64, 48),)),
        ({"width_list": [64, 2], "height_list": [48, 3]}, ((64, 48), (2, 3))),
        ({"width": [64, "x"], "height": [48, 3]}, ((64, 48), None)),
        ({"width": [64, 2], "height": [48]}, ()),
        ({"width": 0, "height": 48}, (None,)),
        ({"width": 64}, ()),
        ({}, ()),
    ],
)
def test_sizes_are_read_where_both_sides_are_numbers(
    value: dict[str, Any], sizes: tuple[Size | None, ...]
) -> None:
    assert read_sizes(value) == sizes


@pytest.mark.parametrize(
    "words",
    ["cup<loc_52><loc_332><loc_932><loc_774>", "<loc0052><loc0332><loc0932><loc0774> cup",
     "{<10><20><30><40>}", "Sure, [SEG].", "<region1> is a cup", "at <boxes>", "<mask>"],
)  # fmt: skip
def test_places_by_the_tokens_of_a_family_are_refused(words: str) -> None:
    shown = [Media("image", "a.jpg")]
    said = [user(Image(0), "Where?"), assistant(words)]

    assert may_have_boxes([words])
    with pytest.raises(RecordError, match="is not supported"):
        ground(said, shown)
    assert ground(said, shown, boxes="none") == tuple(said)
