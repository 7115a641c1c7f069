from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import Origin, make
from mmdata.schema import Conversation, Image, Media, Part, Region, Text, assistant, user
from mmdata.sources.record import Record
from mmdata.templates.toolkit import GRIDS
from tests.reference import cases, files


def read(*texts: str, **options: Any) -> Conversation:
    turns = [
        {"from": ("user", "assistant")[index % 2], "value": text}
        for index, text in enumerate(texts)
    ]
    return make("qwen_vl", options).conversation(
        Record({"id": "1", "conversations": turns}, "a.json", 0, "1")
    )


def content(text: str) -> tuple[Part, ...]:
    """The parts of an answer about a picture."""
    return read("Picture 1: <img>a.png</img>\nQ", text).messages[1].content


def test_a_record_becomes_a_conversation() -> None:
    found = read("Picture 1: <img>a.png</img>\nPicture 2: <img>b.png</img>\nCompare.", "Alike.")

    assert found == Conversation(
        "1",
        (user(Image(0), Image(1), "Compare."), assistant("Alike.")),
        (Media("image", "a.png"), Media("image", "b.png")),
        "qwen_vl",
    )


@pytest.mark.parametrize(
    "mark", ["Picture 1: <img>a</img>\n", "Picture 1:<img>a</img>\n", "<img>a</img>"]
)
def test_every_spelling_of_the_mark_is_an_image(mark: str) -> None:
    assert read(f"{mark}Describe it:", "A.").messages[0].content == (Image(0), Text("Describe it:"))
    assert read(f"Like {mark}this?", "A.").messages[0].content == (
        Text("Like "),
        Image(0),
        Text("this?"),
    )


def test_pictures_are_counted_over_the_whole_conversation() -> None:
    found = read(
        "Picture 1: <img>a</img>\nQ", "A", "Picture 2: <img>b</img>\nR", "<box>(1,2),(3,4)</box>"
    )

    assert found.messages[2].content == (Image(1), Text("R"))
    assert found.messages[3].content == (Region("", ((0.001, 0.002, 0.003, 0.004),), 1),)


def test_a_number_met_before_with_the_same_file_is_the_same_picture() -> None:
    found = read("Picture 1: <img>a</img>\nfirst Picture 1: <img>a</img>\nsecond", "A")

    assert found.messages[0].content == (Image(0), Text("first "), Image(0), Text("second"))
    assert len(found.media) == 1


def test_a_box_after_a_picture_that_is_shown_again_speaks_of_that_picture() -> None:
    box = "<box>(1,2),(3,4)</box>"
    shown = [f"Picture {number}: <img>{number}.png</img>\n" for number in (1, 2, 3)]
    found = read(
        "".join(shown),
        f"{shown[0]}here {box}",
        f"{box}?",
        f"{box}{shown[1]}{box}{shown[2]}<ref>it</ref>{box}{box}",
    )

    regions = [
        part for message in found.messages for part in message.content if isinstance(part, Region)
    ]
    assert [(region.media, len(region.boxes)) for region in regions] == [
        (0, 1),
        (0, 1),
        (0, 1),
        (1, 1),
        (2, 2),
    ]
    assert len(found.media) == 3


def test_phrases_and_boxes_become_regions_and_the_words_between_stay() -> None:
    text = (
        "<ref> Two apples</ref><box>(302,257),(582,671)</box><box>(603, 252),(878,642)</box>"
        " and<ref> a bowl</ref>."
    )

    assert content(text) == (
        Region(" Two apples", ((0.302, 0.257, 0.582, 0.671), (0.603, 0.252, 0.878, 0.642))),
        Text(" and"),
        Region(" a bowl", ()),
        Text("."),
    )


@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=2),
    st.lists(st.integers(0, 999), min_size=2, max_size=2),
)
def test_every_box_on_the_grid_is_written_back_as_it_was(x: list[int], y: list[int]) -> None:
    (x1, x2), (y1, y2) = sorted(x), sorted(y)
    (region,) = content(f"<box>({x1},{y1}),({x2},{y2})</box>")

    assert isinstance(region, Region)
    assert GRIDS["floor_1000"].box_text(region.boxes[0]) == f"({x1},{y1}),({x2},{y2})"


def test_both_ends_of_both_grids_are_kept() -> None:
    ends = "<box>(0,0),(999,999)</box>"

    assert content(ends) == (Region("", ((0, 0, 0.999, 0.999),)),)
    assert read("<img>a</img>Q", ends, grid="999").messages[1].content == (
        Region("", ((0, 0, 1, 1),)),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<box>(1,2)</box>", "bad_box"),
        ("<box>(9,8),(7,6)</box>", "bad_box"),
        ("<box>(1,2),(3,1001)</box>", "bad_box"),
        ("<box>(1,2),(3,4.5)</box>", "bad_box"),
        ("<box>", "bad_box"),
        ("<quad>(1,2),(3,4),(5,6),(7,8)</quad>", "bad_box"),
        ("<ref>dog", "malformed"),
        ("<img>a.png", "malformed"),
        ("</img>", "malformed"),
        ("<img></img>x", "missing_media"),
        ("Picture 7: <img>b.png</img>", "media_mismatch"),
        ("Picture 0: <img>a.png</img>", "media_mismatch"),
        ("Picture 1: <img>b.png</img>", "media_mismatch"),
        ("Look at <image> there.", "media_mismatch"),
        ("", "empty_turn"),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(text: str, reason: str) -> None:
    with pytest.raises((RecordError, SchemaError)) as caught:
        content(text)

    assert isinstance(caught.value, RecordError | SchemaError)
    assert caught.value.reason == reason


def test_a_box_without_any_image_is_refused() -> None:
    with pytest.raises(SchemaError) as caught:
        read("Q", "<box>(1,2),(3,4)</box>")

    assert caught.value.reason == "media_mismatch"


def written(parts: tuple[Part, ...], paths: list[str]) -> str:
    """What the original's own ``from_list_format`` writes for the parts."""
    text = ""
    for part in parts:
        if isinstance(part, Image):
            text += f"Picture {part.media + 1}:<img>{paths[part.media]}</img>\n"
        elif isinstance(part, Region):
            boxes = "".join(f"<box>{GRIDS['floor_1000'].box_text(box)}</box>" for box in part.boxes)
            text += (f"<ref>{part.text}</ref>" if part.text else "") + boxes
        elif isinstance(part, Text):
            text += part.text
    return text


def test_what_the_original_writes_is_read_and_written_back(golden: Path) -> None:
    for case in cases(golden, "list_format.json", "from_list"):
        has_image = any("image" in item for item in case["list"])
        start = "" if has_image else "<img>x</img>"

        found = read(f"{start}{case['hf_text']}", "A.")

        parts = found.messages[0].content[0 if has_image else 1 :]
        assert written(parts, [str(medium.path) for medium in found.media]) == case["hf_text"]


def test_boxes_that_the_original_refuses_are_refused(golden: Path) -> None:
    for case in cases(golden, "list_format.json", "to_list"):
        if "boxes_error" in case:
            with pytest.raises(RecordError):
                content(case["text"])


def test_converted_coco_records_read_as_proposed(golden: Path) -> None:
    """LLaVA's detail_23k through our ``llava`` format gives what Qwen-VL should have been given."""
    llava, beside = make("llava"), ("existing_images.json", "input.json")
    for folder in [
        path.parent for path in files(golden, "data_convert/proposal_output.json", *beside)
    ]:
        existing = set(json.loads((folder / "existing_images.json").read_text()))
        proposal = json.loads((folder / "proposal_output.json").read_text())
        kept = {record["id"]: record["conversations"] for record in proposal["kept"]}
        refused = {record["id"]: record["reason"] for record in proposal["rejected"]}
        for number, value in enumerate(json.loads((folder / "input.json").read_text())):
            record = Record(value, "detail_23k.json", number, value["id"])
            if refused.get(value["id"]) == "placeholder_in_answer":
                with pytest.raises(RecordError):
                    llava.conversation(record)
                continue
            found = llava.conversation(record)
            place = next(
                (
                    path
                    for path in llava.candidates(value["image"], Origin(record.file))
                    if path in existing
                ),
                None,
            )

            assert (place is None) == (refused.get(value["id"]) == "missing_image")
            if value["id"] in kept:
                texts = [message.text for message in found.messages]
                texts[0] = f"Picture 1: <img>{place}</img>\n{texts[0]}"
                assert texts == [turn["value"] for turn in kept[value["id"]]]


@pytest.mark.parametrize("mark", ["<ref>", "<box>", "<img>", "<ref>x<box>", "</ref><ref>"])
def test_very_many_marks_that_nothing_closes_are_refused(mark: str) -> None:
    with pytest.raises(RecordError, match="stands alone"):
        read("Picture 1: <img>a.png</img>\nQ", mark * 200_000)


LAZY = re.compile(r"<ref>(.*?)</ref>((?:<box>.*?</box>)*)|((?:<box>.*?</box>)+)", re.DOTALL)
"""Regions up to the nearest closing mark, whatever is between; it is slow on marks left open."""


@given(
    st.lists(
        st.sampled_from(["<ref>", "</ref>", "<box>(1,2),(3,4)</box>", "<box>", "</box>", "a", "<"]),
        min_size=1,
        max_size=9,
    ).map("".join)
)
def test_a_text_is_read_as_its_nearest_marks_say_or_refused(text: str) -> None:
    phrases = [found[1] for found in LAZY.finditer(text)]
    left = re.split(r"</?(?:ref|box)>", LAZY.sub("", text) + "".join(filter(None, phrases)))

    try:
        parts = content(text)
    except RecordError:
        numbers = re.findall(r"<box>(.*?)</box>", text, re.DOTALL)
        assert len(left) > 1 or set(numbers) - {"(1,2),(3,4)"}
    else:
        assert len(left) == 1
        regions = [part for part in parts if isinstance(part, Region)]
        assert [region.text for region in regions] == [phrase or "" for phrase in phrases]
