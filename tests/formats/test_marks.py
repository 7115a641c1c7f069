"""Marks of media in words: each spelling is understood where the numbers fit, and refused where
they do not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mmdata.errors import RecordError
from mmdata.formats import make
from mmdata.formats._batches import read_batches
from mmdata.formats._marks import ALL_MARKS, parse_mark
from mmdata.formats._parts import Place
from mmdata.formats._placement import Missing, Placed, place_media
from mmdata.schema import Conversation, Image, Media, MediaType, Part, Text, Video, user

IMAGES: Final = (
    "<image>", "<image></image>", "<|image|>", "<|image_pad|>",
    "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>", "<|IMAGE|>",
    "<|vision_bos|><|IMAGE|><|vision_eos|>", "<IMG_CONTEXT>",
    "<img><IMG_CONTEXT><IMG_CONTEXT></img>", "<|begin_of_image|><|image|><|end_of_image|>",
    "<ImageHere>", "<Img><ImageHere></Img>", "<start_of_image>", "<image_soft_token>",
    "<image_placeholder>", "<__dj__image>", "<Image>", "<IMAGE>", "<img>", "[IMG]",
    "<fake_token_around_image><image><fake_token_around_image>", "<Image><image></Image>",
    "<|image_start|><|image|><|image_end|>", "<vila/image>", "[IMG][IMG_BREAK][IMG][IMG_END]",
    "<image/>", "<image />", "< image >", "[image]", "[Image]", "{image}", "{{image}}",
)  # fmt: skip
VIDEOS: Final = (
    "<video>", "<video></video>", "<|video|>", "<|video_pad|>",
    "<|vision_start|><|video_pad|><|vision_end|>", "<|VIDEO|>",
    "<|vision_bos|><|VIDEO|><|vision_eos|>", "<VIDEO_CONTEXT>",
    "<video><VIDEO_CONTEXT></video>", "<|begin_of_video|><|video|><|end_of_video|>",
    "<VideoHere>", "<Video><VideoHere></Video>", "<__dj__video>", "<Video>", "<VIDEO>", "[VIDEO]",
    "<vila/video>", "[video]", "{video}",
)  # fmt: skip
NUMBERED: Final = (
    "<image 1>", "<image1>", "<image-1>", "<image_1>", "<image_01>", "<image_00>", "<|image_1|>",
    "<Image 1>", "<Image1>", "<IMG_1>", "<img1>", "<Picture 1>", "<image#1>", "<image:1>",
    "[image 1]", "[Image1]", "{image_1}",
)  # fmt: skip
WITH_PATH: Final[tuple[tuple[str, MediaType], ...]] = (
    ("<img>1.jpg</img>", "image"),
    ("<image>1.jpg</image>", "image"),
    ("<video>1.mp4</video>", "video"),
    ("<|vision_start|>1.jpg<|vision_end|>", "image"),
    ("<|vision_start|>1.mp4<|vision_end|>", "video"),
    ("<|reserved_special_token_3|>1.mp4<|reserved_special_token_4|>", "video"),
    ("<|reserved_special_token_3|>1.mp4<|reserved_special_token_4|><text>", "video"),
    ("<|reserved_special_token_3|>1.jpg<|reserved_special_token_4|>", "image"),
)
AUDIO: Final = (
    "<audio>", "<audio></audio>", "<|audio|>", "<|AUDIO|>", "<|audio_bos|><|AUDIO|><|audio_eos|>",
    "<__dj__audio>", "<audio 1>", "<|audio_1|>", "<audio>1.wav</audio>",
)  # fmt: skip
CHATS: Final = ("messages", "sharegpt", "swift")
FORMATS: Final = (*CHATS, "llava")
SINGLE: Final = [(mark, "image") for mark in IMAGES] + [(mark, "video") for mark in VIDEOS]
MEDIA: Final = {"image": "1.jpg", "video": "1.mp4"}
PART_OF: Final[dict[str, Part]] = {"image": Image(0), "video": Video(0)}


def record(name: str, question: str, **media: Any) -> dict[str, Any]:
    """Return a record of a format with one question."""
    if name == "messages":
        said = [{"role": "user", "content": question}, {"role": "assistant", "content": "A"}]
        return {"messages": said, **media}
    if name == "swift":
        return {"query": question, "response": "A", **media}
    said = [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}]
    return {"conversations": said, **media}


def convert(folder: Path, name: str, *records: dict[str, Any]) -> list[Conversation | str]:
    """Return the conversation of each record, or the reason that it is refused for."""
    file = folder / "source.json"
    file.write_text(json.dumps(records))
    found: dict[int, Conversation | str] = {}
    for batch in read_batches(make(name), [file]):
        found |= dict(zip(batch.origins.numbers, batch.conversations(), strict=True))
        found |= {reject.record: reject.reason.value for _, reject in batch.rejects}
    return [found[number] for number in range(len(records))]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("mark", "kind"), SINGLE, ids=[mark for mark, _ in SINGLE])
def test_a_mark_in_every_spelling_is_the_place_of_the_medium(
    tmp_path: Path, name: str, mark: str, kind: str
) -> None:
    texts = (f"{mark}\nQ", f"Q\n{mark}", f"See {mark} now")
    records = [record(name, text, **{kind: MEDIA[kind]}) for text in texts]

    found = convert(tmp_path, name, *records)

    part = PART_OF[kind]
    expected = [user(part, "Q"), user("Q", part), user("See ", part, " now")]
    assert [row if isinstance(row, str) else row.messages[0] for row in found] == expected


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("mark", "kind"), SINGLE, ids=[mark for mark, _ in SINGLE])
def test_more_marks_in_every_spelling_than_media_are_refused(
    tmp_path: Path, name: str, mark: str, kind: str
) -> None:
    three = f"{mark} and {mark} and {mark}?"

    found = convert(tmp_path, name, record(name, three, **{f"{kind}s": [MEDIA[kind]] * 2}))

    assert found == ["media_mismatch"]


@pytest.mark.parametrize("mark", NUMBERED)
@pytest.mark.parametrize("name", FORMATS)
def test_a_mark_with_a_number_is_the_place_of_the_only_image(
    tmp_path: Path, name: str, mark: str
) -> None:
    (found,) = convert(tmp_path, name, record(name, f"See {mark}.", image="1.jpg"))

    assert isinstance(found, Conversation)
    assert found.messages[0] == user("See ", Image(0), ".")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("first", "second"),
    [("<image 2>", "<image 1>"), ("<image_01>", "<image_00>"), ("<|image_2|>", "<|image_1|>")],
)
def test_marks_with_numbers_take_the_media_of_their_numbers(
    tmp_path: Path, name: str, first: str, second: str
) -> None:
    question = f"Is it {first} or {second}?"

    right, wrong, more = convert(
        tmp_path,
        name,
        record(name, question, images=["1.jpg", "2.jpg"]),
        record(name, question, images=["1.jpg"]),
        record(name, question, images=["1.jpg", "2.jpg", "3.jpg"]),
    )

    assert isinstance(right, Conversation)
    assert right.messages[0] == user("Is it ", Image(1), " or ", Image(0), "?")
    assert (wrong, more) == ("media_mismatch", "media_mismatch")


@pytest.mark.parametrize(("mark", "kind"), WITH_PATH, ids=[mark for mark, _ in WITH_PATH])
@pytest.mark.parametrize("name", CHATS)
def test_a_mark_with_a_path_brings_its_medium(
    tmp_path: Path, name: str, mark: str, kind: MediaType
) -> None:
    (found,) = convert(tmp_path, name, record(name, f"{mark}Q"))

    assert isinstance(found, Conversation)
    assert found.messages[0] == user(PART_OF[kind], "Q")
    assert found.media == (Media(kind, MEDIA[kind]),)


@pytest.mark.parametrize("mark", AUDIO)
@pytest.mark.parametrize("name", FORMATS)
def test_a_mark_of_audio_is_refused(tmp_path: Path, name: str, mark: str) -> None:
    assert convert(tmp_path, name, record(name, f"{mark}Q")) == ["unsupported_media"]


@pytest.mark.parametrize("name", CHATS)
def test_parts_with_an_index_take_the_media_of_their_numbers(tmp_path: Path, name: str) -> None:
    parts: list[Any] = [{"type": "image", "index": number} for number in (1, 0)]
    said = [{"role": "user", "content": [*parts, "Q"]}, {"role": "assistant", "content": "A"}]

    (found,) = convert(tmp_path, name, {"messages": said, "images": ["1.jpg", "2.jpg"]})

    assert isinstance(found, Conversation)
    assert found.messages[0] == user(Image(1), Image(0), "Q")


MARKS: Final = [*IMAGES, *VIDEOS, *NUMBERED, "<image 2>", "<|image_3|>"]
WORDS: Final = ("What?", " or ", "\n", "a < b", "<b>", "[1]")


@given(
    turns=st.lists(
        st.lists(st.sampled_from([*MARKS, *WORDS]), max_size=4).map("".join),
        min_size=1,
        max_size=3,
    ),
    num_images=st.integers(0, 3),
    num_videos=st.integers(0, 2),
    missing=st.sampled_from(["lead", "refuse"]),
)
@example(turns=["[IMG]"], num_images=1, num_videos=0, missing="lead")
@example(turns=["<image></image>"], num_images=1, num_videos=0, missing="refuse")
@settings(max_examples=400)
def test_every_listed_medium_is_placed_once_or_the_record_is_refused(
    turns: list[str], num_images: int, num_videos: int, missing: Missing
) -> None:
    images = [Media("image", f"{number}.jpg") for number in range(num_images)]
    videos = [Media("video", f"{number}.mp4") for number in range(num_videos)]
    try:
        placed = place_media(
            turns, ["user"] * len(turns), images=images, videos=videos, missing=missing
        )
    except RecordError as error:
        assert error.reason == "media_mismatch"
        return

    assert sorted(numbers_of(placed)) == list(range(num_images + num_videos))
    assert list(placed.media) == [*images, *videos]


@given(
    st.permutations([0, 1, 2]),
    st.lists(st.sampled_from(WORDS), min_size=3, max_size=3),
    st.booleans(),
)
def test_numbers_bind_in_whatever_order_they_stand(
    order: list[int], words: list[str], as_parts: bool
) -> None:
    images = [Media("image", f"{number}.jpg") for number in range(3)]
    pieces: list[str | Place] = []
    for number, text in zip(order, words, strict=True):
        pieces += [Place("image", number) if as_parts else f"<image {number + 1}>", text]

    placed = place_media([pieces], ["user"], images=images)

    assert numbers_of(placed) == order


@given(st.lists(st.sampled_from([*MARKS, *WORDS]), min_size=1, max_size=6), st.integers(1, 3))
def test_no_mark_stays_in_words_beside_a_medium(pieces: list[str], num_images: int) -> None:
    images = [Media("image", f"{number}.jpg") for number in range(num_images)]
    text = " ".join(pieces)
    assume(any(piece in MARKS for piece in pieces))
    try:
        placed = place_media([text], ["user"], images=images)
    except RecordError as error:
        assert error.reason == "media_mismatch"
        return

    said = [part.text for parts in placed.contents for part in parts if isinstance(part, Text)]
    left = [mark for words in said for mark in ALL_MARKS.findall(words)]
    marks = [mark for mark in ALL_MARKS.findall(text) if parse_mark(mark).type is not None]
    # What stays may be words, and only where every medium has a mark of its own.
    assert len(marks) - len(left) == num_images if left else True


def numbers_of(placed: Placed) -> Sequence[int]:
    """Return the numbers of the media in the order in which they are placed."""
    parts = [part for content in (placed.leading, *placed.contents) for part in content]
    return [part.media for part in parts if isinstance(part, (Image, Video))]
