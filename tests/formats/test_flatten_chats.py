"""Bulk = single: what a format reads of many records at once is what it reads of each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import DataError
from mmdata.formats import Record, make
from mmdata.schema import Conversation
from mmdata.sources._json import identity
from mmdata.store.decode import BatchView
from mmdata.store.encode import encode


def read(values: list[Any]) -> list[Record]:
    return [
        Record(value, "sources/chat.json", number, identity(value, "id"))
        for number, value in enumerate(values)
    ]


def at_once(name: str, values: list[Any]) -> list[Conversation] | None:
    """Return what a format reads of records together;
    None where it leaves them to be read one by one.
    """
    flat = make(name).flatten(read(values))  # type: ignore[attr-defined]
    if flat is None:
        return None
    columns = encode([flat])
    columns.validate(full=True)
    view = BatchView(columns)
    return [view[row] for row in range(columns.num_rows)]


def one_by_one(name: str, values: list[Any]) -> list[Conversation | str]:
    found: list[Conversation | str] = []
    for record in read(values):
        try:
            found.append(make(name).conversation(record))
        except DataError as error:
            found.append(str(error))
    return found


words = st.lists(
    st.sampled_from(
        [
            "<image>",
            "<video>",
            "\n",
            " ",
            "What?",
            "<",
            "é",
            "<audio>",
            "<img>a.jpg</img>",
            "Picture 1: ",
        ]
    ),
    max_size=4,
).map("".join)
said = words | st.just("Why?") | st.none()
parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": said})
    | st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.sampled_from([{"url": "a.jpg"}, "b.jpg", "", {}]),
        }
    )
    | st.fixed_dictionaries(
        {
            "type": st.just("image"),
            "image": st.sampled_from(["a.jpg", "data:image/png;base64,aGk="]),
        }
    )
    | st.sampled_from(["text", {"type": "image"}, {"type": "video", "video": "a.mp4"}, 3]),
    max_size=3,
)
speakers = st.sampled_from(["user", "assistant", "system", "human", "gpt", "User", 5])
turn = st.fixed_dictionaries(
    {"role": speakers, "content": said | parts},
    optional={"loss": st.booleans(), "name": st.just("n")},
) | st.fixed_dictionaries({"from": speakers, "value": said})
usual = st.lists(words | st.just("Why?"), min_size=2, max_size=4).map(
    lambda texts: [
        {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
    ]
)
usual_parts = st.lists(parts, min_size=2, max_size=3).map(
    lambda texts: [
        {"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
    ]
)
paths = st.sampled_from(
    ["a.jpg", "", None, ["a.jpg"], ["a.jpg", "b.jpg"], [""], [{"path": "a.jpg"}], 3, "data:x"]
)
beside = {
    "id": st.sampled_from(["1", "", 1, None]),
    "images": paths,
    "image": paths,
    "videos": paths,
    "system": said | st.just(7),
    "audios": st.sampled_from([[], ["a.wav"]]),
    "source": st.just("coco"),
    "objects": st.sampled_from([{}, {"ref": ["a"]}]),
}
turns_fields = {
    field: st.lists(turn, max_size=3)
    | usual
    | usual_parts
    | st.sampled_from([None, "text", [], [3]])
    for field in ("messages", "conversations", "conversation")
}
queries = {
    "query": said,
    "response": said | st.just(["a", "b"]),
    "history": st.sampled_from(
        [None, "", [], [["Hi", "Hello"]], [["Hi"]], [{"a": 1}], "[('a', 'b')]", [["", "b"]]]
    ),
    "instruction": said,
    "answer": said,
    "System": said,
}
questions = {
    "img": st.sampled_from(["a.jpg", "", " ", None, 3]),
    "prompt": said,
    "label": said,
    "video_name": st.sampled_from(["v", "", None, 3]),
    "question": said,
    "question_1": said,
    "answer": said | st.just("None"),
}
record: st.SearchStrategy[dict[str, Any]] = (
    st.fixed_dictionaries({"messages": usual}, optional=beside)
    | st.fixed_dictionaries({"messages": usual_parts}, optional={"id": beside["id"]})
    | st.fixed_dictionaries({}, optional={**beside, **turns_fields})
    | st.fixed_dictionaries({}, optional={**beside, **queries})
    | st.fixed_dictionaries(
        {"query": words, "response": words},
        optional={"images": paths, "history": queries["history"]},
    )
    | st.fixed_dictionaries({}, optional={"id": beside["id"], **questions})
    | st.sampled_from([None, [], "text", 1])
)
NAMES = ["messages", "sharegpt", "swift", "qwen_vl", "fewshot", "videochatgpt"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=300)
@given(values=st.lists(record, min_size=1, max_size=3))
def test_what_is_read_at_once_is_what_is_read_one_by_one(name: str, values: list[Any]) -> None:
    for some in (values, *([value] for value in values)):
        together = at_once(name, some)

        assert together is None or together == one_by_one(name, some)


def chat(role: str, content: str, user: str, **fields: Any) -> dict[str, Any]:
    return {
        "messages" if role == "role" else "conversations": [
            {role: user, content: "<image>\nWhat is it?"},
            {role: "assistant", content: "A cup."},
        ],
        **fields,
    }


PLAIN: dict[str, list[dict[str, Any]]] = {
    "messages": [
        chat("role", "content", "user", images=["a.jpg"]),
        chat("role", "content", "user", images=["a.jpg"], source="coco", id=7),
    ],
    "sharegpt": [chat("from", "value", "human", images=["a.jpg"], system="Be brief.")],
    "swift": [
        {
            "query": "<image>What?",
            "response": "A cup.",
            "history": [["Hi", "Hello"]],
            "images": ["a.jpg"],
        },
        {"query": "Who?", "response": "Me.", "system": "Be brief."},
    ],
    "qwen_vl": [
        {
            "id": "1",
            "conversations": [
                {"from": "user", "value": "Picture 1: <img>a.jpg</img>\nWhat is it?"},
                {"from": "assistant", "value": "A cup."},
            ],
        }
    ],
    "fewshot": [{"img": "a.jpg", "prompt": "What is it?", "label": "A cup."}],
    "videochatgpt": [{"video_name": "v", "question": "What happens?", "answer": "Rain."}],
}


@pytest.mark.parametrize("name", NAMES)
def test_plain_records_are_read_at_once(name: str) -> None:
    assert at_once(name, PLAIN[name]) == one_by_one(name, PLAIN[name])


def test_parts_that_bring_their_images_are_read_at_once() -> None:
    question = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "a.jpg"}},
    ]
    answer = [{"type": "text", "text": "A cup."}]
    values = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
    ] * 2

    assert at_once("messages", values) == one_by_one("messages", values)
