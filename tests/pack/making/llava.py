"""LLaVA-NeXT-Video: prompts, ids and labels, frames and mixing, worked as LLaVA's programs do.

Labels are found as LLaVA finds them: by writing the whole text, cutting it into rounds and counting
ids.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from tests.pack.making.vocabularies import Bytes, pieces, qwen
from tests.pack.making.writing import GOLDEN, WORDS, runs, write_arrays, write_json

_FOLDER = GOLDEN / "llava_next_video"
_IMAGE = -200
_VICUNA = (
    "A chat between a curious {0} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {0}'s questions."
)
_HELPFUL = "You are a helpful assistant."


def make() -> None:
    """Write all that needs no model."""
    _prompts()
    _chat_template()
    _frames()
    _strategies()
    _pooling()


def _turns(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)
    ]


_CONVERSATIONS = {
    "one_picture": _turns("<image>\nWhat is on the desk?", WORDS[0]),
    "three_rounds": _turns(
        "<image>\nHow many chairs?", "4", WORDS[3], WORDS[4], "And the stool?", "There is 1 stool."
    ),
    "text_alone": _turns(WORDS[6], WORDS[7]),
    "text_in_rounds": _turns("Hello!", WORDS[5], "12.5 + 30?", "42.5"),
    "picture_without_newline": _turns("<image>Describe it.", "A boat."),
    "pictures_in_the_words": _turns(
        "Left: <image> right: <image> which is nearer?", "The left one."
    ),
    "picture_in_the_second_round": _turns("Hello.", "Hi.", "<image>\nWhat is it?", "A lamp."),
    "answer_first": [
        {"from": "gpt", "value": "Welcome."},
        *_turns("<image>\nWhat is it?", "A sign."),
    ],
    "unanswered": _turns("<image>\nWhat is it?", "A lamp.", "Are you sure?"),
    "white_space": _turns("<image>\nWhat is it?  ", "  A lamp,\n\tgreen."),
    "many_scripts": _turns(f"<image>\n{WORDS[8]}", WORDS[6]),
}


class Llama:
    """The slow Llama tokenizer of transformers, as far as LLaVA uses it: bos, text, ``</s>``."""

    def __init__(self, legacy: bool) -> None:
        self.legacy = legacy
        self._first = pieces("llama2_tokenizer.model")
        self._later = self._first if legacy else pieces("llama2_tokenizer.model", prefix=False)

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text, bos first;
        what follows ``</s>`` has no blank before it unless legacy.
        """
        ids = [self._first.bos_id()]
        for number, piece in enumerate(text.split("</s>")):
            ids += [self._first.eos_id()] * (number > 0)
            ids += (self._later if number else self._first).encode(piece)
        return ids

    def with_images(self, text: str) -> list[int]:
        """Return ids with -200 for ``<image>``:
        each piece begins as a text does, and has lost its bos.
        """
        first, *others = (self(piece) for piece in text.split("<image>"))
        return first + [token for piece in others for token in (_IMAGE, *piece[1:])]


def _vicuna(turns: list[dict[str, str]], speaker: str = "user") -> str:
    text = f"{_VICUNA.format(speaker)} "
    for turn in turns:
        text += (
            f"USER: {turn['value']} "
            if turn["from"] == "human"
            else f"ASSISTANT: {turn['value']}</s>"
        )
    return text if turns[-1]["from"] == "gpt" else text.rstrip(" ")


def _mistral(turns: list[dict[str, str]]) -> str:
    texts = (
        f"[INST] {t['value']} [/INST]" if t["from"] == "human" else f" {t['value']} </s>"
        for t in turns
    )
    return "".join(texts)


def _count(tokenizer: Llama, text: str, mark: str, *, corrected: bool) -> dict[str, Any]:
    """Return ids and labels; the warning where the count of the rounds is not that of the whole."""
    ids = tokenizer.with_images(text)
    trained = np.ones(len(ids), bool)
    trained[0], at = False, 1
    for number, turn in enumerate(text.split("</s>")):
        parts = turn.split(mark)
        if not turn or len(parts) != 2:
            break
        lost = int(corrected and number > 0 and not tokenizer.legacy)
        length = len(tokenizer.with_images(turn)) - lost
        asked = len(tokenizer.with_images(parts[0] + mark)) - 2 - lost
        trained[at : at + asked] = False
        at += length
    trained[at:] = False
    return {"input_ids": ids, "labels_rle": runs(int(each) for each in trained)} | (
        {} if at == len(ids) else {"warning": True}
    )


def _chatml(tokenizer: Bytes, turns: list[dict[str, str]]) -> dict[str, Any]:
    marks = {name: tokenizer.special[name] for name in ("<|im_start|>", "<|im_end|>")} | {
        "<image>": _IMAGE
    }
    always = {*tokenizer.encode("\n"), marks["<|im_start|>"], marks["<|im_end|>"]}
    ids: list[int] = []
    trained: list[int] = []
    for role, value in [
        ("system", _HELPFUL),
        *((_ROLES[turn["from"]], turn["value"]) for turn in turns),
    ]:
        text = f"<|im_start|>{role}\n{value}<|im_end|>\n"
        found = [
            token
            for piece in re.split(r"(<\|im_start\|>|<\|im_end\|>|<image>)", text)
            for token in ([marks[piece]] if piece in marks else tokenizer.encode(piece))
        ]
        ids += found
        trained += [int(role == "assistant" or token in always) for token in found]
    return {"input_ids": ids, "labels_rle": runs(trained)}


_ROLES = {"human": "user", "gpt": "assistant"}


def _prompts() -> None:
    cases = []
    for name, said in _CONVERSATIONS.items():
        turns = said[1:] if said[0]["from"] == "gpt" else said
        case: dict[str, Any] = {
            "name": name,
            "has_image": "<image>" in str(said),
            "conversations": said,
        }
        for legacy in (True, False):
            tokenizer, tail = Llama(legacy), f"_legacy_{str(legacy).lower()}"
            case[f"vicuna_v1{tail}"] = _count(
                tokenizer, _vicuna(turns), " ASSISTANT: ", corrected=True
            )
        mistral = _count(Llama(legacy=True), _mistral(turns), "[/INST] ", corrected=False)
        case["mistral_instruct_llama2tok_legacy_true"] = mistral
        if len(turns) == 2 and turns[0]["value"].startswith("<image>\n"):
            case["plain_legacy_false"] = _plain(Llama(legacy=False), turns)
        case["qwen_1_5"] = _chatml(qwen(), turns)
        case["vicuna_v1_prompt"], case["mistral_instruct_prompt"] = _vicuna(turns), _mistral(turns)
        cases.append(case)
    write_json(
        _FOLDER / "prompts.json",
        {"cases": cases, "predict_prompts": list(_asked()), "max_length": list(_cut())},
    )


def _plain(tokenizer: Llama, turns: list[dict[str, str]]) -> dict[str, Any]:
    """The question is thrown away: picture, answer, newline."""
    ids = tokenizer.with_images(f"<image>{turns[1]['value']}\n")
    return {"input_ids": ids, "labels_rle": [[0, 2], [1, len(ids) - 2]]}


def _asked() -> Iterator[dict[str, Any]]:
    for question in (WORDS[1], "图里有什么？"):
        turns = _turns(f"<image>\n{question}")
        vicuna = f"{_vicuna(turns)} ASSISTANT:"
        chatml = f"<|im_start|>user\n<image>\n{question}<|im_end|>\n<|im_start|>assistant\n"
        yield {
            "question": question,
            "vicuna_v1": vicuna,
            "llava_v1": f"{_vicuna(turns, 'human')} ASSISTANT:",
            "mistral_instruct": _mistral(turns),
            "qwen_1_5": f"<|im_start|>system\n{_HELPFUL}<|im_end|>\n{chatml}",
            "vicuna_v1_ids_legacy_true": Llama(legacy=True).with_images(vicuna),
            "vicuna_v1_ids_legacy_false": Llama(legacy=False).with_images(vicuna),
        }


def _cut() -> Iterator[dict[str, Any]]:
    """Samples of text are cut at the end by the tokenizer, the labels with them."""
    turns = _CONVERSATIONS["text_in_rounds"]
    case: dict[str, Any] = {"name": "text_in_rounds", "has_image": False, "conversations": turns}
    for limit in (40, 90, 130, 400):
        whole = _count(Llama(legacy=False), _vicuna(turns), " ASSISTANT: ", corrected=True)
        labels = [each for each, count in whole["labels_rle"] for _ in range(count)][:limit]
        cut = {
            "input_ids": whole["input_ids"][:limit],
            "labels_rle": runs(labels),
            "num_target": sum(labels),
        }
        yield {**case, "model_max_length": limit, "vicuna_v1_legacy_false": cut}


def _chat_template() -> None:
    """The chat template of transformers' conversion script for Vicuna:
    pictures of a turn before its words.
    """
    cases = []
    for name, turns in {
        "picture_last": [("user", ["What is shown?", "<image>"])],
        "rounds": [
            ("user", ["<image>", WORDS[3]]),
            ("assistant", [WORDS[4]]),
            ("user", ["And 4 chairs?"]),
        ],
        "two_pictures": [("user", ["<image>", "Compare", "<image>", "them."])],
    }.items():
        text = ""
        for role, parts in turns:
            text += f"{role.upper()}: " + "<image>\n" * parts.count("<image>")
            text += "".join(f"{part} " for part in parts if part != "<image>")
        messages = [
            {
                "role": role,
                "content": [
                    {"type": "image"} if p == "<image>" else {"type": "text", "text": p}
                    for p in parts
                ],
            }
            for role, parts in turns
        ]
        cases.append(
            {
                "name": name,
                "messages": messages,
                "add_generation_prompt": True,
                "text": f"{text}ASSISTANT:",
            }
        )
    write_json(_FOLDER / "hf_chat_template.json", cases)


def _frames() -> None:
    files = [
        _file_case(count, fps, rate, bound, force)
        for count, fps, rate, bound, force in [
            (75, 25.0, 1, 0, False),
            (75, 25.0, 2, 0, False),
            (91, 29.97, 1, 0, False),
            (91, 29.97, 1, 4, False),
            (240, 24.0, 1, 8, True),
            (14, 12.5, 5, 0, False),
            (9, 0.4, 1, 0, False),
            (1, 30.0, 1, 6, True),
        ]
    ]
    uniform = [
        {
            "total_frames": n,
            "fps": f,
            "num_frames": k,
            "target_fps": r,
            "indices": _or_error(_transformers, n, f, k, r),
        }
        for n, f, k, r in [
            (75, 25.0, 8, None),
            (10, 30.0, 7, None),
            (91, 29.97, None, 2.0),
            (5, 30.0, 8, None),
        ]
    ]
    example = [
        {
            "total_frames": n,
            "num_frames": 8,
            "indices": [int(each) for each in np.arange(0, n, n / 8)],
        }
        for n in (5, 8, 75, 91)
    ]
    folders = [
        {
            "total_files": n,
            "frames_upbound": k,
            "force_sample": force,
            "indices": _spread(n, k if force else 10),
        }
        for n, k, force in [(23, 0, False), (23, 6, True), (4, 9, True)]
    ]
    write_json(
        _FOLDER / "frame_sampling.json",
        {
            "video_file": files,
            "hf_processor_uniform": uniform,
            "hf_doc_example_arange": example,
            "frame_directory": folders,
        },
    )


def _spread(count: int, wanted: int) -> list[int]:
    return [int(each) for each in np.linspace(0, count - 1, wanted, dtype=int)]


def _file_case(count: int, fps: float, rate: int, bound: int, force: bool) -> dict[str, Any]:
    case = {
        "total_frames": count,
        "fps": fps,
        "video_fps": rate,
        "frames_upbound": bound,
        "force_sample": force,
    }
    found = _or_error(_decord, count, fps, rate, bound, force)
    if isinstance(found, list):
        stepped = not (bound and (len(range(0, count, max(round(fps / rate), 1))) > bound or force))
        step = round(fps / rate)
        times = ",".join(f"{number / step if stepped else number / fps:.2f}s" for number in found)
        sentence = (
            f"The video lasts for {count / fps:.2f} seconds, "
            f"and {len(found)} frames are uniformly sampled from it. "
            f"These frames are located at {times}."
            "Please answer the following questions related to this video."
        )
        found = {"frame_idx": found, "frame_time": times, "time_instruction": sentence}
    average = {"frame_idx": _spread(count, bound)} if bound else None
    return {**case, "llava_next_decord": found, "mindformers_cv2": average}


def _decord(count: int, fps: float, rate: int, bound: int, force: bool) -> list[int]:
    found = list(range(0, count, round(fps / rate)))
    return _spread(count, bound) if bound and (len(found) > bound or force) else found


def _transformers(count: int, fps: float, wanted: int | None, rate: float | None) -> list[int]:
    """What BaseVideoProcessor.sample_frames does."""
    wanted = max(1, int(count / fps * rate)) if rate else wanted
    assert wanted
    if wanted > count:
        raise ValueError("more frames than there are")
    return [int(each) for each in torch.arange(0, count, count / wanted, dtype=torch.float64)]


def _or_error(rule: Callable[..., list[int]], *arguments: Any) -> Any:
    try:
        return rule(*arguments)
    except ValueError as error:
        return {"error": "ValueError", "message": str(error)}


def _strategies() -> None:
    single = [
        {
            "n": n,
            "strategy": text,
            "llava_next": {"indices": _kept(text, n)},
            "mindformers": {"indices": _kept(text, n)},
        }
        for n in (1, 7, 20, 100)
        for text in (
            "all",
            "first:3",
            "end:4",
            "first:35%",
            "end:35%",
            "first:55%",
            "first:1%",
            "random:5",
            "random:40%",
        )
    ]
    files = {"lamps.json": 6, "boats.jsonl": 5, "below/chairs.json": 9}
    entries = [
        ("lamps.json", "first:2"),
        ("boats.jsonl", "end:60%"),
        ("below/chairs.json", "first:15%"),
    ]
    ids = [
        f"{name.rpartition('.')[0]}-{n}" for name, text in entries for n in _kept(text, files[name])
    ]
    datasets = [{"json_path": name, "sampling_strategy": text} for name, text in entries]
    mixed = [{"datasets": datasets, "llava_next": {"ids": ids}}]
    write_json(
        _FOLDER / "sampling_strategies.json",
        {"single_dataset": single, "files": files, "multi_dataset": mixed},
    )


def _kept(text: str, count: int) -> list[int]:
    which, _, amount = text.partition(":")
    share = amount.endswith("%")
    number = math.ceil(float(amount[:-1]) * count / 100) if share else int(amount or count)
    rows = list(range(count))
    return rows[-number:] if which == "end" else rows[:number]


def _pooling() -> None:
    """Frames pooled by torch, and how many tokens the four ways to set newlines give."""
    arrays, cases = {}, []
    for frames, side, width in [(3, 4, 6), (2, 5, 4)]:
        name = f"F{frames}_g{side}_D{width}"
        x = torch.randn(frames, side * side, width, generator=torch.Generator().manual_seed(side))
        grid = x.reshape(frames, side, side, width).permute(0, 3, 1, 2)
        arrays[f"{name}/x"] = x.numpy()
        for mode in ("average", "max", "bilinear"):
            pooled = {
                "average": lambda each: torch.nn.functional.avg_pool2d(each, 2),
                "max": lambda each: torch.nn.functional.max_pool2d(each, 2),
                "bilinear": lambda each: torch.nn.functional.interpolate(
                    each,
                    (math.ceil(each.shape[2] / 2), math.ceil(each.shape[3] / 2)),
                    mode="bilinear",
                ),
            }[mode](grid)
            arrays[f"{name}/{mode}_s2"] = (
                pooled.permute(0, 2, 3, 1).reshape(frames, -1, width).numpy()
            )
            rows, tokens = pooled.shape[2], pooled.shape[2] * pooled.shape[3]
            counts = {
                "no_token": frames * tokens,
                "one_token": frames * tokens + 1,
                "frame": frames * (tokens + 1),
                "grid": frames * (tokens + rows),
            }
            cases.append({"case": name, "mode": mode, "stride": 2, **counts})
    write_arrays(_FOLDER / "video_pool_newline.npz", arrays)
    write_json(_FOLDER / "video_pool_newline.json", cases)
