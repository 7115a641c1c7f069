"""CogVLM2-Video: ids, token types, positions and labels,
frames and records, from the published rules.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.pack.making.vocabularies import llama3
from tests.pack.making.writing import GOLDEN, WORDS, runs, write_json

_FOLDER = GOLDEN / "cogvlm2_video"
_PER_FRAME = 66
_QUESTION = "视频里的人在做什么？输出1为开门，输出0为其他。"


def make() -> None:
    """Write all that needs no clip and no model."""
    write_json(
        _FOLDER / "llama3_tokenizer_cases.json",
        [_tokenize(text) for text in (*WORDS, "", _MARKED)],
    )
    write_json(_FOLDER / "token_sequences.json", [*_sequences(), _of_mindformers()])
    write_json(_FOLDER / "frame_indices.json", list(_frames()))
    write_json(_FOLDER / "rwf2000_paths.json", list(_paths()))
    write_json(_FOLDER / "swift_records.json", _RECORDS)


_MARKED = "He typed <|end_of_text|> and <|reserved_special_token_0|>, then left."


def _tokenize(text: str) -> dict[str, Any]:
    tokenizer = llama3()
    marked = tokenizer.fast.encode(text, allowed_special="all")
    return {"text": text, "ids_plain": tokenizer.encode(text), "ids_parse_special": marked}


def _sequences() -> list[dict[str, Any]]:
    history = [["What does he open?", "The door."], [WORDS[3], WORDS[4]]]
    return [
        _sequence("c0", "chat", 2, _QUESTION, "1"),
        _sequence("c1", "chat", 1, WORDS[1], None),
        _sequence("c2", "chat", 0, WORDS[6], WORDS[7], history),
        _sequence("c3", "chat", 12, WORDS[2], "At 5.", history[:1]),
        _sequence("b0", "base", 2, WORDS[0], "A lamp."),
        _sequence("v0", "vqa", 2, "How many stools?", "1", [["How many chairs?", "4"]]),
    ]


def _sequence(
    name: str,
    template: str,
    frames: int,
    query: str,
    answer: str | None,
    history: list[list[str]] | None = None,
) -> dict[str, Any]:
    tokenizer = llama3()
    mark = {"chat": "Answer:", "vqa": "Short answer:"}.get(template)
    text = query
    if mark:
        earlier = "".join(f"Question: {asked} {mark} {said}\n" for asked, said in history or ())
        text = f"{earlier}Question: {query} {mark}"
    begin, end, pad = (tokenizer.special[each] for each in _CONTROL)
    ids, types = [begin], [0]
    for number in range(frames):
        index = tokenizer.encode(str(number)) if template == "chat" else []
        ids += [pad] * _PER_FRAME + index
        types += [1] * _PER_FRAME + [0] * len(index)
    said = [] if answer is None else [*tokenizer.encode(answer), end]
    asked = tokenizer.encode(text)
    ids += asked + said
    types += [0] * len(asked + said)
    labels = None if answer is None else [-100] * (len(ids) - len(said)) + said
    return {
        "id": name,
        "template": template,
        "num_frames": frames,
        "query": query,
        "history": history or [],
        "answer": answer,
        "prompt_text": text,
        "length": len(ids),
        "input_ids": ids,
        "token_type_ids_rle": runs(types),
        "position_ids": positions(types),
        "labels_rle": None if labels is None else runs(labels),
    }


_CONTROL = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>")


def positions(types: list[int]) -> list[int]:
    """Count tokens;
    of a run of video tokens only the two ends and what follows the first of them.
    """
    last = len(types) - 1
    ends = [
        kind and (at in (0, last) or not types[at - 1] or not types[at + 1])
        for at, kind in enumerate(types)
    ]
    video = [bool(kind) and not end for kind, end in zip(types, ends, strict=True)]
    found = [0]
    for at in range(1, len(types)):
        found.append(found[-1] + (not video[at] or not video[at - 1]))
    return found


def _of_mindformers() -> dict[str, Any]:
    """MindFormers' training layout: no time index, another placeholder, padded to 2049 ids."""
    tokenizer, frames, length = llama3(), 3, 2049
    begin, end, pad = (tokenizer.special[each] for each in _CONTROL)
    placeholder = tokenizer.special["<|reserved_special_token_2|>"]
    asked = tokenizer.encode(unicodedata.normalize("NFC", f"Question: {_QUESTION} Answer:"))
    said = [*tokenizer.encode("1"), end]
    ids = [begin] + [placeholder] * (frames * _PER_FRAME) + asked + said
    labels = [-100] * (len(ids) - len(said)) + said
    rest = length - len(ids)
    return {
        "id": "m0",
        "template": "mindformers_train",
        "num_frames": frames,
        "query": _QUESTION,
        "history": [],
        "answer": "1",
        "length": length,
        "valid_length": len(ids),
        "input_ids_rle": runs(ids + [pad] * rest),
        "labels_rle": runs(labels + [-100] * rest),
        "position_ids_rle": [
            [0, 1],
            [1, 1],
            [2, frames * _PER_FRAME - 2],
            [3, 1],
            ["then one more a token", 1],
        ],
    }


def _frames() -> Any:
    clocks = [(75, 25, 1), (91, 30000, 1001), (13, 30, 1), (640, 10, 1), (700, 24, 1), (30, 1, 2)]
    for number, (count, above, below) in enumerate(clocks):
        times = (np.arange(count) * below / above).astype(np.float32)
        for strategy, rule in _RULES.items():
            found = rule(times, above / below)
            case = {
                "id": f"{strategy}-{number}",
                "strategy": strategy,
                "fps_num": above,
                "fps_den": below,
            }
            bounds = {"clip_start_sec": 0, "clip_end_sec": 60} if strategy == "hf_base" else {}
            told = {"indices": found} if found else {"indices": None, "error": "no frame is left"}
            yield {**case, "total_frames": count, "num_frames": 24, **bounds, **told}
    uneven = np.cumsum(0.03 + 0.05 * (np.arange(50) % 7)).astype(np.float32)
    uneven -= uneven[0]
    found = _chat(uneven, 0)
    case = {
        "id": "uneven",
        "strategy": "hf_chat",
        "fps_num": 50,
        "fps_den": 9,
        "total_frames": 50,
        "num_frames": 24,
    }
    seconds = [float(uneven[each]) for each in found]
    yield {
        **case,
        "timestamps": [float(each) for each in uneven],
        "indices": found,
        "seconds": seconds,
    }


def _chat(times: NDArray[Any], fps: float) -> list[int]:
    seconds = range(round(float(times.max())) + 1)
    return [int(np.abs(times - np.float32(second)).argmin()) for second in seconds][:24]


def _base(times: NDArray[Any], fps: float) -> list[int]:
    end = min(len(times), int(60 * fps))
    return [int(each) for each in np.linspace(0, end - 1, 24)]


def _predict(times: NDArray[Any], fps: float) -> list[int]:
    exact = np.arange(len(times)) / fps
    seconds = range(round(float(exact.max())) + 1)
    return [int(np.abs(exact - second).argmin()) for second in seconds][:-1][:24]


def _average(times: NDArray[Any], fps: float) -> list[int]:
    return [int(each) for each in np.linspace(0, len(times) - 1, 24)]


_RULES = {"hf_chat": _chat, "hf_base": _base, "mf_predict": _predict, "mf_train_average": _average}


def _paths() -> Any:
    """Class and split are names of folders;
    the number of a clip is what follows the last underscore.
    """
    taken = [
        ("train/Fight/street_12.avi", "train", "Fight", "street", 12),
        ("train/NonFight/a_b_0.avi", "train", "NonFight", "a_b", 0),
        ("val/NonFight/-x7_3.avi", "val", "NonFight", "-x7", 3),
        ("train/Train_Fight/门口_1.avi", "train", "Fight", "门口", 1),
        ("val/val_NonFight/valley.avi", "val", "NonFight", "valley", None),
        ("train/Fight/evaluation_2.AVI", "train", "Fight", "evaluation", 2),
    ]
    for path, split, label, source, number in taken:
        response = "1" if label == "Fight" else "0"
        told = {
            "split": split,
            "label": label,
            "response": response,
            "source_id": source,
            "clip_index": number,
        }
        yield {"path": path, "accept": True, **told}
    for path in ("train/Fight/notes.txt", "train/Other/clip_1.avi"):
        yield {"path": path, "accept": False}


def _record(
    given: dict[str, Any],
    *turns: str,
    videos: tuple[str, ...] = (),
    images: tuple[str, ...] = (),
    **lead: int,
) -> dict[str, Any]:
    spoken = [[("user", "assistant")[number % 2], text] for number, text in enumerate(turns)]
    media = {"videos": list(videos), "images": list(images), "system": given.get("system")}
    return {
        "input": given,
        "turns": spoken,
        **media,
        "default_tags_prepended_to_first_message": lead,
    }


_ASKED = {"query": "What does he open?", "response": "The door."}
_RECORDS = [
    _record({**_ASKED, "videos": ["door.mp4"]}, *_ASKED.values(), videos=("door.mp4",), video=1),
    _record({**_ASKED, "history": []}, *_ASKED.values()),
    _record(
        {
            **_ASKED,
            "history": [["Hello.", "Hi."]],
            "images": ["a.png", "b.png"],
            "system": "Be brief.",
        },
        *("Hello.", "Hi.", *_ASKED.values()),
        images=("a.png", "b.png"),
        image=2,
    ),
    _record(
        {
            "messages": [
                {"role": "user", "content": "Look: <image> who?"},
                {"role": "assistant", "content": "A boy."},
            ],
            "images": ["boy.png"],
        },
        *("Look: <image> who?", "A boy."),
        images=("boy.png",),
    ),
    {
        "input": {"query": "What does he open?", "response": None, "videos": ["door.mp4"]},
        "error": "no response",
    },
]
