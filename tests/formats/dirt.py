"""Good records of every JSON format,
and every kind of bad one with the reason it must be refused for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["FORMATS", "GOOD", "Fault", "assemble", "faults", "good"]

Layout = Literal["array", "lines"]


@dataclass(frozen=True)
class Fault:
    """One kind of bad record: its bytes in a file, and the reason code it must get."""

    kind: str
    data: bytes
    reason: str


def _spoken(
    number: int, speaker: str, text: str, names: tuple[str, str], lead: str = ""
) -> list[dict[str, str]]:
    return [
        {speaker: names[0], text: f"{lead}What is {number}?"},
        {speaker: names[1], text: f"It is {number}."},
    ]


def _llava(number: int) -> dict[str, Any]:
    turns = _spoken(number, "from", "value", ("human", "gpt"), "<image>\n")
    return {"id": f"r{number}", "image": f"media/{number}.jpg", "conversations": turns}


def _video178k(number: int) -> dict[str, Any]:
    turns = _spoken(number, "from", "value", ("human", "gpt"), "<image>\n")
    return {
        "id": f"r{number}",
        "conversations": turns,
        "data_source": "0_30_s",
        "video": f"media/{number}.mp4",
    }


def _fewshot(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "img": f"media/{number}.jpg",
        "prompt": "What?",
        "label": f"It is {number}.",
    }


def _messages(number: int) -> dict[str, Any]:
    turns = _spoken(number, "role", "content", ("user", "assistant"), "<image>")
    return {"id": f"r{number}", "messages": turns, "images": [f"media/{number}.jpg"]}


def _sharegpt(number: int) -> dict[str, Any]:
    turns = _spoken(number, "from", "value", ("human", "gpt"), "<video>")
    return {"id": f"r{number}", "conversations": turns, "videos": [f"media/{number}.mp4"]}


def _swift(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "query": "<image>What?",
        "response": f"It is {number}.",
        "images": [f"{number}.jpg"],
    }


def _qwen_vl(number: int) -> dict[str, Any]:
    lead = f"Picture 1: <img>media/{number}.jpg</img>\n"
    turns = _spoken(number, "from", "value", ("user", "assistant"), lead)
    return {"id": f"r{number}", "conversations": turns}


def _videochatgpt(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "video_name": f"v{number}",
        "question": "What?",
        "answer": f"It is {number}.",
    }


def _videochat2(number: int) -> dict[str, Any]:
    pair = {"i": "Be brief.", "q": "What?", "a": f"It is {number}."}
    return {"id": f"r{number}", "video": f"media/{number}.mp4", "QA": [pair], "start": 1, "end": 2}


def _sharegpt4video(number: int) -> dict[str, Any]:
    captions = [{"idx": "1", "content": "A cup."}, {"idx": "-1", "content": f"It is {number}."}]
    return {
        "video_id": f"r{number}",
        "video_path": f"panda/{number}.mp4",
        "timestamp": ["00:00:00.000"],
        "captions": captions,
    }


def _lavis(number: int) -> dict[str, Any]:
    return {"id": f"r{number}", "image": f"media/{number}.jpg", "caption": f"It is {number}."}


def _coco(number: int) -> dict[str, Any]:
    return {"id": number, "image_id": 9, "caption": f"It is {number}."}


GOOD: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "llava": _llava,
    "video178k": _video178k,
    "fewshot": _fewshot,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "swift": _swift,
    "qwen_vl": _qwen_vl,
    "videochatgpt": _videochatgpt,
    "coco": _coco,
    "videochat2": _videochat2,
    "sharegpt4video": _sharegpt4video,
    "lavis": _lavis,
}
"""A good record of each format by its number; the id of its conversation is its own."""

FORMATS: Final = sorted(GOOD)


def good(name: str, number: int) -> bytes:
    """Return a good record of a format as it stands in a file."""
    return json.dumps(GOOD[name](number), ensure_ascii=False).encode()


def assemble(name: str, records: Sequence[bytes], layout: Layout = "array") -> bytes:
    """Return a file of a format that holds the records in this order."""
    if name == "coco":
        parts = {
            "images": [{"id": 9, "file_name": "media/9.jpg", "width": 640, "height": 480}],
            "categories": [{"id": 1, "name": "cup"}],
        }
        return json.dumps(parts)[:-1].encode() + b', "annotations": [' + b", ".join(records) + b"]}"
    return b"\n".join(records) if layout == "lines" else b"[" + b", ".join(records) + b"]"


def faults(name: str) -> Iterator[Fault]:
    """Yield every kind of bad record of a format."""
    yield from _broken_json(GOOD[name](999))
    for kind, value in {
        "null": None,
        "a number": 3,
        "a string": "text",
        "a boolean": True,
        "an array": [1, 2],
    }.items():
        yield Fault(f"{kind} for a record", json.dumps(value).encode(), "malformed")
    for kind, change, reason in _FAULTS[name]:
        record = {
            key: value
            for key, value in {**GOOD[name](999), **change}.items()
            if value is not _ABSENT
        }
        yield Fault(kind, json.dumps(record).encode(), reason)


def _broken_json(record: dict[str, Any]) -> Iterator[Fault]:
    whole = json.dumps(record)
    first = next(iter(record))
    start = f'{{"{first}": '

    def fault(kind: str, text: str | bytes, reason: str = "bad_json") -> Fault:
        return Fault(kind, text.encode() if isinstance(text, str) else text, reason)

    yield fault("comma after the last field", whole[:-1] + ",}")
    yield fault("brace missing at the end", whole[:-1])
    yield fault(
        "quote missing", whole.replace('": "', '": ', 1) if '": "' in whole else start + '"}'
    )
    yield fault("colon missing", whole.replace(":", " ", 1))
    yield fault("comma missing", whole.replace(", ", " ", 1))
    yield fault("single quotes", whole.replace('"', "'"))
    yield fault("bad escape", start + '"\\q"}')
    yield fault("bare word", start + "nothing}")
    yield fault("no record at all", "garbage")
    yield fault("HTML", "<html><body>404 Not Found</body></html>")
    yield fault("infinity", start + "-Infinity}")
    yield fault("control character", start + '"a\tb"}')
    yield fault("key twice", start + f'1, "{first}": 1}}')
    yield fault("endless number", start + "9" * 5000 + "}")
    yield fault("NUL", start + '"\0"}', "bad_encoding")
    yield fault("NUL, escaped", start + '"\\u0000"}', "bad_encoding")
    yield fault("lone surrogate", start + '"\\ud834"}', "bad_encoding")
    yield fault("not UTF-8", start.encode() + b'"caf\xe9"}', "bad_encoding")
    yield fault("comment", "// to do")
    yield fault("too deep", start + "[" * 10_000 + "]" * 10_000 + "}", "too_deep")


_ABSENT: Final = object()
_Change = tuple[str, dict[str, Any], str]


def _turn_faults(key: str, speaker: str, text: str, names: tuple[str, str]) -> Iterator[_Change]:
    """Yield what can be wrong with the turns of a record that needs no media."""
    user, assistant = names
    question, answer = {speaker: user, text: "Q"}, {speaker: assistant, text: "A"}

    def turns(*found: Any) -> dict[str, Any]:
        return {key: list(found)}

    yield "no turns field", {key: _ABSENT}, "no_conversation"
    yield "turns null", {key: None}, "no_conversation"
    yield "turns empty", {key: []}, "no_conversation"
    yield "turns a string", {key: "hello"}, "malformed"
    yield "turns an object", {key: question}, "malformed"
    yield "turns strings", turns("Q", "A"), "malformed"
    yield "turn empty", turns({}, answer), "malformed"
    yield "text missing", turns({speaker: user}, answer), "malformed"
    yield "speaker missing", turns({text: "Q"}, answer), "malformed"
    yield "text a number", turns({speaker: user, text: 3}, answer), "malformed"
    yield "text an object", turns({speaker: user, text: {"a": 1}}, answer), "malformed"
    yield "speaker a number", turns({speaker: 3, text: "Q"}, answer), "malformed"
    yield "speaker unknown", turns({speaker: "narrator", text: "Q"}, answer), "unknown_role"
    yield "no answer", turns(question), "no_conversation"
    yield "answer empty", turns(question, {speaker: assistant, text: ""}), "empty_turn"
    yield "answer blank", turns(question, {speaker: assistant, text: " \n\t"}), "empty_turn"
    yield "answer first", turns(answer, question), "role_order"


def _media_faults(key: str, *, several: bool) -> Iterator[_Change]:
    """Yield what can be wrong with the field that lists media beside the turns."""
    yield "media a number", {key: 3}, "malformed"
    yield "media numbers", {key: [3]}, "malformed"
    yield "media an empty path", {key: [""]}, "missing_media"
    yield "media missing", {key: _ABSENT}, "media_mismatch"
    yield "media null", {key: None}, "media_mismatch"
    if not several:
        yield "media too many", {key: ["a", "b", "c"]}, "media_mismatch"


def _text_faults(key: str, missing: str = "malformed") -> Iterator[_Change]:
    """Yield what can be wrong with a field that must be a string."""
    yield f"{key} missing", {key: _ABSENT}, missing
    yield f"{key} null", {key: None}, missing
    yield f"{key} a number", {key: 3}, "malformed"
    yield f"{key} an object", {key: {"a": 1}}, "malformed"


_AUDIO: Final[list[_Change]] = [("audio", {"audios": ["a.mp3"]}, "unsupported_media")]
_BOXES: Final[list[_Change]] = [
    ("no box", {}, "bad_box"),
    ("box of three", {"bbox": [1, 2, 3]}, "bad_box"),
    ("box of strings", {"bbox": ["1", "2", "3", "4"]}, "bad_box"),
    ("box without area", {"bbox": [1, 2, 0, 4]}, "bad_box"),
    ("box outside", {"bbox": [1, 2, 700, 4]}, "bad_box"),
    ("crowd", {"bbox": [1, 2, 3, 4], "iscrowd": 1}, "bad_box"),
    ("category unknown", {"bbox": [1, 2, 3, 4], "category_id": 404}, "malformed"),
]
_FAULTS: Final[dict[str, list[_Change]]] = {
    "llava": [
        *_turn_faults("conversations", "from", "value", ("human", "gpt")),
        *_media_faults("image", several=False),
    ],
    "video178k": [
        *_turn_faults("conversations", "from", "value", ("human", "gpt")),
        *_media_faults("video", several=False),
    ],
    "fewshot": [
        *_text_faults("img"),
        *_text_faults("prompt"),
        *_text_faults("label"),
        ("img empty", {"img": ""}, "missing_media"),
        ("prompt empty", {"prompt": ""}, "empty_turn"),
        ("label blank", {"label": " \n"}, "empty_turn"),
    ],
    "messages": [
        *_turn_faults("messages", "role", "content", ("user", "assistant")),
        *_media_faults("images", several=True),
        *_AUDIO,
        (
            "part unknown",
            {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
            "unsupported_media",
        ),
        ("part a number", {"messages": [{"role": "user", "content": [3]}]}, "malformed"),
    ],
    "sharegpt": [
        *_turn_faults("conversations", "from", "value", ("human", "gpt")),
        *_media_faults("videos", several=True),
        *_AUDIO,
    ],
    "swift": [
        *_text_faults("response", "no_conversation"),
        *_media_faults("images", several=True),
        *_AUDIO,
        ("response an empty list", {"response": []}, "no_conversation"),
        ("response empty", {"response": ""}, "empty_turn"),
        ("query a number", {"query": 3}, "malformed"),
        ("query blank", {"query": " ", "images": []}, "empty_turn"),
        ("history a sentence", {"history": "we met before"}, "malformed"),
        ("history of strings", {"history": ["ab"]}, "malformed"),
        ("history of three", {"history": [["a", "b", "c"]]}, "malformed"),
        ("system a number", {"system": 3}, "malformed"),
    ],
    "qwen_vl": [
        *_turn_faults("conversations", "from", "value", ("user", "assistant")),
        *(
            (
                kind,
                {
                    "conversations": [
                        {"from": "user", "value": text},
                        {"from": "assistant", "value": "A"},
                    ]
                },
                reason,
            )
            for kind, text, reason in [
                ("image not closed", "<img>a.jpg", "malformed"),
                ("phrase not closed", "<img>a</img><ref>dog", "malformed"),
                ("picture misnumbered", "Picture 2: <img>a.jpg</img>\nQ", "media_mismatch"),
                ("placeholder left", "<image>\nQ", "media_mismatch"),
                ("reference empty", "<img></img>Q", "missing_media"),
                ("box of two numbers", "<img>a</img><box>(1,2)</box>", "bad_box"),
                ("box upside down", "<img>a</img><box>(9,9),(1,1)</box>", "bad_box"),
                ("box off the grid", "<img>a</img><box>(0,0),(1,2000)</box>", "bad_box"),
                ("quadrangle", "<img>a</img><quad>(1,1),(2,1),(2,2),(1,2)</quad>", "bad_box"),
            ]
        ),
    ],
    "videochatgpt": [
        *_text_faults("question", "no_conversation"),
        *_text_faults("answer", "no_conversation"),
        *_text_faults("video_name"),
        ("question None", {"question": "None"}, "no_conversation"),
        ("answer blank", {"answer": " "}, "empty_turn"),
        ("name empty", {"video_name": ""}, "missing_media"),
    ],
    "coco": [
        ("caption null", {"caption": None}, "malformed"),
        ("caption a number", {"caption": 3}, "malformed"),
        ("caption empty", {"caption": ""}, "empty_turn"),
        ("image unknown", {"image_id": 404}, "malformed"),
        ("image missing", {"image_id": _ABSENT}, "malformed"),
        *(
            (kind, {"caption": _ABSENT, "category_id": 1, **change}, reason)
            for kind, change, reason in _BOXES
        ),
    ],
    "videochat2": [
        ("no pairs", {"QA": _ABSENT}, "no_conversation"),
        ("pairs empty", {"QA": []}, "no_conversation"),
        ("pairs a string", {"QA": "Q A"}, "malformed"),
        ("pairs an object", {"QA": {"q": "Q", "a": "A"}}, "malformed"),
        ("pair a string", {"QA": ["QA"]}, "malformed"),
        ("answer missing", {"QA": [{"q": "Q"}]}, "malformed"),
        ("question missing", {"QA": [{"a": "A"}]}, "malformed"),
        ("question a number", {"QA": [{"q": 3, "a": "A"}]}, "malformed"),
        ("answer empty", {"QA": [{"q": "Q", "a": ""}]}, "empty_turn"),
        ("instruction a number", {"QA": [{"i": 3, "q": "Q", "a": "A"}]}, "malformed"),
        ("start a string", {"start": "1"}, "malformed"),
        ("end before start", {"end": 0.5}, "malformed"),
        ("bounds of no video", {"video": _ABSENT}, "media_mismatch"),
        ("bounds of two videos", {"video": ["a", "b"]}, "media_mismatch"),
        ("media a number", {"video": 3}, "malformed"),
        ("media an empty path", {"video": [""]}, "missing_media"),
    ],
    "sharegpt4video": [
        *_text_faults("video_path"),
        ("path empty", {"video_path": ""}, "missing_media"),
        ("no captions", {"captions": _ABSENT}, "no_conversation"),
        ("captions empty", {"captions": []}, "no_conversation"),
        ("captions a string", {"captions": "A cup."}, "malformed"),
        ("caption a string", {"captions": ["A cup."]}, "malformed"),
        ("no whole", {"captions": [{"idx": "1", "content": "A."}]}, "no_conversation"),
        ("whole twice", {"captions": [{"idx": "-1", "content": "A."}] * 2}, "malformed"),
        ("content missing", {"captions": [{"idx": "-1"}]}, "malformed"),
        ("content blank", {"captions": [{"idx": -1, "content": " "}]}, "empty_turn"),
    ],
    "lavis": [
        *_media_faults("image", several=False),
        ("caption missing", {"caption": _ABSENT}, "no_conversation"),
        ("caption null", {"caption": None}, "no_conversation"),
        ("caption a number", {"caption": 3}, "malformed"),
        ("caption an object", {"caption": {"a": 1}}, "malformed"),
        ("caption blank", {"caption": " "}, "empty_turn"),
        ("of an image and a video", {"video": "a.mp4"}, "media_mismatch"),
    ],
}
