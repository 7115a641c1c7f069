"""Qwen-VL: ids, labels, prompts, lists and boxes,
as the published tokenizer and training script make them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from tests.pack.making.vocabularies import Bytes, qwen
from tests.pack.making.writing import GOLDEN, WORDS, runs, write_json

_FOLDER = GOLDEN / "qwen_vl"
_SPAN = 256
_HELPFUL = "You are a helpful assistant."
_PLACES = ("desk.jpg", "图/窗 台.png")


def make() -> None:
    """Write all that needs no picture."""
    write_json(_FOLDER / "tokenizer.json", _tokenizer())
    write_json(
        _FOLDER / "preprocess.json",
        [_training_case(name, *said) for name, said in _CONVERSATIONS.items()],
    )
    write_json(
        _FOLDER / "train_transform.json",
        [_by_mindformers(*each) for each in _CONVERSATIONS.items()],
    )
    write_json(_FOLDER / "chat_context.json", list(_asked()))
    write_json(_FOLDER / "predict_prompt.json", list(_prompt_cases()))
    write_json(_FOLDER / "list_format.json", {"from_list": _lists(), "to_list": _texts()})
    write_json(_FOLDER / "boxes.json", list(_boxes()))


class Spans:
    """The published tokenizer: control tokens are read from text,
    a reference becomes 256 ids of its bytes.
    """

    def __init__(self) -> None:
        self.bytes: Bytes = qwen()
        self.special = self.bytes.special

    def __call__(self, text: str, *, filled: bool = True) -> list[int]:
        """Return the ids of a text; with ``filled`` false a span holds no path."""
        ids: list[int] = []
        for number, piece in enumerate(
            re.split(r"<img>(.*?)</img>", unicodedata.normalize("NFC", text), flags=re.S)
        ):
            if number % 2:
                path = list(piece.encode()) if filled else []
                if len(path) > _SPAN:
                    raise ValueError("the reference is too long")
                pad = [self.special["<imgpad>"]] * (_SPAN - len(path))
                ids += [self.special["<img>"], *path, *pad, self.special["</img>"]]
            elif "<img>" in piece:
                raise ValueError("unclosed")
            else:
                ids += self.bytes.fast.encode(piece, allowed_special="all")
        return ids


def _tokenizer() -> dict[str, Any]:
    spans = Spans()
    texts = [
        *WORDS,
        "",
        "<img></img>",
        f"Picture 1: <img>{_PLACES[1]}</img>\n{WORDS[6]}",
        "<ref>lamp</ref><box>(1,2),(3,4)</box>",
    ]
    named = {
        name.strip("<|>").replace("/", ""): token
        for name, token in spans.special.items()
        if "/" not in name
    }
    named |= {
        f"{name.strip('</>')}_end": token for name, token in spans.special.items() if "/" in name
    }
    kept = (
        "endoftext",
        "im_start",
        "im_end",
        "extra_0",
        "extra_204",
        "ref",
        "ref_end",
        "box",
        "box_end",
    )
    named = {name: named[name] for name in (*kept, "quad", "quad_end", "img", "img_end", "imgpad")}
    return {
        "special": {**named, "n_vocab": spans.bytes.fast.n_vocab},
        "cases": [_case(spans, text) for text in texts],
        "errors": [
            {"text": text, "error": "ValueError"}
            for text in ("<img>unclosed", f"<img>{'窗' * 90}</img>")
        ],
        "decode": [_decode(spans, text) for text in (WORDS[0], WORDS[7])] + [_cut_character(spans)],
    }


def _case(spans: Spans, text: str) -> dict[str, Any]:
    ids = spans(text)
    whole = unicodedata.normalize("NFC", text)
    skipped = re.sub(r"<img>|</img>|</?ref>|</?box>", "", whole)
    case = {"text": text, "ids": runs(ids), "rle": True, "n": len(ids)}
    return {**case, "decoded": whole, "decoded_skip_special": skipped}


def _decode(spans: Spans, text: str) -> dict[str, Any]:
    end = spans.special["<|endoftext|>"]
    return {"ids": [*spans(text), end], "text": f"{text}<|endoftext|>", "text_skip": text}


def _cut_character(spans: Spans) -> dict[str, Any]:
    ids = spans("\U0001f6b2")[:-1]
    text = b"".join(spans.bytes.fast.decode_single_token_bytes(token) for token in ids).decode(
        errors="replace"
    )
    return {"ids": ids, "text": text, "text_skip": text}


def _turns(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("user", "assistant")[number % 2], "value": text}
        for number, text in enumerate(texts)
    ]


_PICTURE = f"Picture 1: <img>{_PLACES[0]}</img>\n"
_CONVERSATIONS: dict[str, tuple[list[dict[str, str]], int, str]] = {
    "grounded": (
        _turns(f"{_PICTURE}Find the lamp.", "<ref>the lamp</ref><box>(120,40),(388,907)</box>"),
        320,
        _HELPFUL,
    ),
    "rounds": (_turns(WORDS[1], "4", f"{_PICTURE}{WORDS[3]}", WORDS[4]), 700, "Be brief."),
    "two_pictures": (
        _turns(f"{_PICTURE}Picture 2: <img>{_PLACES[1]}</img>\n哪个近？", "右边的。"),
        640,
        _HELPFUL,
    ),
    "cut": (_turns(WORDS[2], WORDS[5], WORDS[6], WORDS[7]), 150, _HELPFUL),
}


def _training_case(
    name: str, said: list[dict[str, str]], limit: int, system: str
) -> dict[str, Any]:
    """What preprocess of finetune.py does: role, newline and text are tokenized one by one."""
    spans = Spans()
    start, end = spans.special["<|im_start|>"], spans.special["<|im_end|>"]
    newline = spans("\n")
    ids: list[int] = []
    labels: list[int] = []
    for role, value in [("system", system), *((turn["from"], turn["value"]) for turn in said)]:
        text = spans(value)
        part = [start, *spans(role), *newline, *text, end, *newline]
        ids += part
        head = len(spans(role)) + len(newline)
        said_here = text if role == "assistant" else [-100] * len(text)
        labels += [start, *[-100] * head, *said_here, end, *newline]
    return {
        "name": name,
        "conversations": said,
        "max_len": limit,
        "system": system,
        "input_ids": runs(_pad(ids, spans.special["<|endoftext|>"], limit)),
        "labels": runs(_pad(labels, -100, limit)),
    }


def _pad(values: list[int], pad: int, length: int) -> list[int]:
    return (values + [pad] * length)[:length]


def _by_mindformers(name: str, said: tuple[list[dict[str, str]], int, str]) -> dict[str, Any]:
    """What MindFormers' transform does: a turn is tokenized at once,
    spans hold no path, one id more than the limit.
    """
    turns, limit, system = said
    spans = Spans()
    ids: list[int] = []
    labels: list[int] = []
    for role, value in [("system", system), *((turn["from"], turn["value"]) for turn in turns)]:
        part = spans(f"<|im_start|>{role}\n{value}<|im_end|>\n", filled=False)
        hidden = len(spans(role)) + 1 if role == "assistant" else len(part) - 3
        ids += part
        labels += [part[0], *[-100] * hidden, *part[1 + hidden :]]
    first = [at + 1 for at, token in enumerate(ids) if token == spans.special["<img>"]]
    return {
        "name": name,
        "conversations": turns,
        "config": {"max_length": limit, "system_message": system, "image_size": 56},
        "input_ids": runs(_pad(ids, spans.special["<|endoftext|>"], limit + 1)),
        "labels": runs(_pad(labels, -100, limit + 1)),
        "ids_shape": [limit + 1],
        "image_context_pos_ranges": [[0, at, at + _SPAN - 1, True] for at in first],
    }


def _asked() -> Any:
    """What make_context does: the newest pairs of the history, as long as they fit the window."""
    spans = Spans()
    start, end = spans.special["<|im_start|>"], spans.special["<|im_end|>"]
    newline = spans("\n")

    def turn(role: str, text: str) -> list[int]:
        return [start, *spans(role), *newline, *spans(text), end]

    history = [[WORDS[1], "4"], [WORDS[6], WORDS[7]], ["And the stool?", "1"]]
    picture = f"<img>{_PLACES[1]}</img>{WORDS[3]}"
    for query, pairs, window in [
        (picture, [], 6144),
        (WORDS[0], history, 6144),
        (WORDS[0], history, 110),
    ]:
        system = turn("system", _HELPFUL)
        context: list[int] = []
        for asked, said in reversed(pairs):
            pair = [*newline, *turn("user", asked), *newline, *turn("assistant", said)]
            if len(system) + len(pair) + len(context) >= window:
                break
            context = pair + context
        opened = [*newline, *turn("user", query), *newline, start, *spans("assistant"), *newline]
        case = {"fmt": "chatml", "query": query, "history": pairs, "w": window}
        yield {**case, "ids": runs([*system, *context, *opened])}
    yield {"fmt": "raw", "query": picture, "history": [], "ids": runs(spans(picture))}


def _prompt_cases() -> Any:
    for parts in (
        [{"image": _PLACES[0]}, {"text": "Describe the image:"}],
        [{"image": "a.png"}, {"image": "b.png"}, {"text": "哪个近？"}],
    ):
        spans = Spans()
        texts, number = [], 0
        for part in parts:
            number += "image" in part
            texts.append(
                f"Picture {number}: <img>{part['image']}</img>\n"
                if "image" in part
                else part["text"]
            )
        ids = spans("".join(texts), filled=False)
        first = [at + 1 for at, token in enumerate(ids) if token == spans.special["<img>"]]
        ranges = [[0, at, at + _SPAN - 1] for at in first]
        yield {"query": parts, "input_ids": runs(ids), "img_pos_ranges": ranges}


def _lists() -> list[dict[str, Any]]:
    return [
        {
            "list": [{"image": "desk.jpg"}, {"text": "What is on the desk?"}],
            "hf_text": "Picture 1:<img>desk.jpg</img>\nWhat is on the desk?",
        },
        {
            "list": [{"image": "a.png"}, {"image": "b.png"}, {"text": "哪个近？"}],
            "hf_text": "Picture 1:<img>a.png</img>\nPicture 2:<img>b.png</img>\n哪个近？",
        },
        {
            "list": [
                {"text": "find "},
                {"ref": "a chair", "box": [[11, 22, 333, 444], [500, 22, 999, 444]]},
            ],
            "hf_text": "find <ref>a chair</ref>"
            "<box>(11,22),(333,444)</box><box>(500,22),(999,444)</box>",
        },
    ]


def _texts() -> list[dict[str, Any]]:
    return [
        {"text": "<ref> the lamp</ref><box>(1,20),(300,4)</box>", "boxes": []},
        {
            "text": "<ref>灯</ref><box>(536,59),(588,602)</box>。",
            "boxes": [{"box": [536, 59, 588, 602], "ref": "灯"}],
        },
        {
            "text": "<ref>two boats</ref><box>(2,3),(40,50)</box><box>(60, 7),(80,90)</box>",
            "boxes": [{"box": [2, 3, 40, 50], "ref": "two boats"}, {"box": [60, 7, 80, 90]}],
        },
        {"text": "<box>(1,2)</box>", "boxes_error": "AssertionError"},
    ]


def _boxes() -> Any:
    """The three conventions, in whole numbers: nothing is rounded twice."""
    for box, width, height in [
        ((0, 0, 64, 48), 64, 48),
        ((10, 7, 30, 20), 97, 41),
        ((96, 40, 1, 1), 97, 41),
        ((3, 5, 11, 9), 640, 426),
    ]:
        left, top, across, down = box
        corners = [left, top, left + across, top + down]
        sides = [width, height] * 2
        floored = [value * 1000 // side for value, side in zip(corners, sides, strict=True)]
        x1, y1, x2, y2 = (min(value, 999) for value in floored)
        yield {
            "coco_xywh": list(box),
            "width": width,
            "height": height,
            "xyxy": corners,
            "floor_1000": floored,
            "round_1000": [
                round(value * 1000 / side) for value, side in zip(corners, sides, strict=True)
            ],
            "floor_999": [value * 999 // side for value, side in zip(corners, sides, strict=True)],
            "text": f"<box>({x1},{y1}),({x2},{y2})</box>",
        }
