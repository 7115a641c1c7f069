"""VisualGLM: ids, labels, positions, masks,
prompts and learning rates, from the published rules.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

import numpy as np

from tests.pack.making.vocabularies import pieces
from tests.pack.making.writing import GOLDEN, WORDS, write_arrays, write_json

_FOLDER = GOLDEN / "visualglm"
_RECORDS = [
    {"prompt": "桌上有什么？", "label": "一盏绿色的灯，"},
    {"prompt": WORDS[6], "label": WORDS[7]},
    {"prompt": "How many chairs?", "label": "4 chairs\nand 1 stool."},
    {"prompt": "", "label": "灯  开了。"},
]


def make() -> None:
    """Write all that needs no picture."""
    write_json(
        _FOLDER / "tokenizer_cases.json", [_tokenize(text) for text in (*_ROUND_TRIPS, *WORDS[:8])]
    )
    for image, source, target in [(6, 24, 14), (32, 80, 90)]:
        _samples(image, source, target)
    write_json(_FOLDER / "chat_prompts.json", list(_prompts()))
    write_json(_FOLDER / "response_postprocess.json", [_clean(text) for text in _ANSWERS])
    write_json(_FOLDER / "annealing_lr.json", list(_rates()))


_ROUND_TRIPS = ("问：窗台？\n答：三盆花。", "a  b     c\td\n\ne", "", "<img>", "Ａ１ﬁ！")


class ChatGLM:
    """The published tokenizer in plain mode:
    newlines, tabs and runs of blanks have tokens of their own.
    """

    def __init__(self) -> None:
        self.model = pieces("ice_text.model")
        self.token = self.model.piece_to_id

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text, none of them a control token."""
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        for count in range(80, 1, -1):
            text = text.replace(" " * count, f"<|blank_{count}|>")
        ids: list[int] = self.model.encode(text)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""
        text: str = self.model.decode(ids)
        text = text.replace("<n>", "\n").replace("<|tab|>", "\t")
        for count in range(80, 1, -1):
            text = text.replace(f"<|blank_{count}|>", " " * count)
        return text


def _tokenize(text: str) -> dict[str, Any]:
    tokenizer = ChatGLM()
    ids = tokenizer(text)
    marked = [*ids, tokenizer.token("[gMASK]"), tokenizer.token("<sop>")]
    return {
        "text": text,
        "ids_plain": ids,
        "ids_hf": marked,
        "decode_plain": tokenizer.decode(ids),
        "decode_hf": tokenizer.decode(ids),
    }


def _parts(tokenizer: ChatGLM, prompt: str, slots: int) -> list[int]:
    pad = tokenizer.token("<pad>")
    return tokenizer("<img>") + [pad] * slots + tokenizer(f"</img>问：{prompt}\n答：")


def _samples(slots: int, source: int, target: int) -> None:
    tokenizer = ChatGLM()
    asked = [_parts(tokenizer, each["prompt"], slots) for each in _RECORDS]
    said = [tokenizer(each["label"]) for each in _RECORDS]
    rows = [_sample(tokenizer, *each, source, target) for each in zip(asked, said, strict=True)]
    name = f"sft_{slots}_{source}_{target}"
    lengths = {
        "source_len_before_truncation": [len(each) for each in asked],
        "target_len_before_truncation": [len(each) for each in said],
    }
    sizes = {"max_source_length": source, "max_target_length": target, "image_length": slots}
    write_json(_FOLDER / f"{name}.json", {**sizes, "records": _RECORDS, **lengths})
    arrays = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    write_arrays(
        _FOLDER / f"{name}.npz", {**arrays, "pre_image": np.array(len(tokenizer("<img>")))}
    )


def _sample(
    tokenizer: ChatGLM, asked: list[int], said: list[int], source: int, target: int
) -> dict[str, Any]:
    mask, begin, end, pad = (
        tokenizer.token(name) for name in ("[gMASK]", "<sop>", "<eop>", "<pad>")
    )
    ids = [*asked[: source - 1], mask, begin, *said[: target - 2], end]
    length, context = source + target, ids.index(begin)
    labels = [-100] * context + ids[context:]
    rest = length - len(ids)
    at = np.arange(length)
    positions = np.stack([np.minimum(at, context - 1), np.maximum(at - context + 1, 0)])
    blocked = (at[None, :] > at[:, None]) & (at[None, :] >= context)
    packed = np.packbits(blocked[None].astype(np.uint8)).tobytes()
    return {
        "input_ids": ids + [pad] * rest,
        "labels": labels + [-100] * rest,
        "position_ids": positions,
        "context_length": context,
        "attention_mask_sha256": hashlib.sha256(packed).hexdigest(),
    }


def _prompts() -> Any:
    tokenizer = ChatGLM()
    pairs = [["桌上有什么？", "一盏灯。"], [WORDS[1], "4"]]
    for query, history, image, english in [
        ("是什么颜色？", [], True, False),
        ("是什么颜色？", pairs, True, False),
        ("你好", pairs[:1], False, False),
        ("Which colour?", pairs[1:], True, True),
    ]:
        ask, say = ("Q:", "A:") if english else ("问：", "答：")
        text = "".join(f"{ask}{q}\n{say}{a}\n" for q, a in history) + f"{ask}{query}\n{say}"
        before = tokenizer("<img>") if image else []
        slots = [tokenizer.token("<pad>")] * 32 if image else []
        after = tokenizer(f"</img>{text}" if image else text)
        ids = [*before, *slots, *after, tokenizer.token("[gMASK]"), tokenizer.token("<sop>")]
        case = {"query": query, "history": history, "image": image, "english": english}
        yield {**case, "pre_image": len(before), "input_ids": ids}


_ANSWERS = (
    "问:桌上有什么?\n答: 一盏灯,绿色的!",
    "灯;a,b 桌:c",
    "[[训练时间]]写的",
    " 答：一 答：二 ",
    "Q: what?\nA: a lamp, green",
)


def _clean(raw: str) -> dict[str, str]:
    text = raw.strip().replace("[[训练时间]]", "2023年")
    for half, full in zip(",!:;?", "，！：；？", strict=True):
        text = re.sub(rf"([\u4e00-\u9fff]){re.escape(half)}", rf"\1{full}", text)
        text = re.sub(rf"{re.escape(half)}([\u4e00-\u9fff])", rf"{full}\1", text)
    last = {"final_zh": text.split("答：")[-1].strip(), "final_en": text.split("A:")[-1].strip()}
    return {"raw": raw, "processed": text, **last}


def _rates() -> Any:
    defaults = {
        "last_iter": -1,
        "decay_ratio": 0.1,
        "auto_warmup_steps": 20,
        "auto_warmup_rate": 0.05,
    }
    steps = [0, 1, 2, 7, 19, 20, 21, 39, 40, 41, 90, 200, 239, 240, 241, 400]
    for style in ("cosine", "linear", "exponential"):
        params = {"learning_rate": 3e-4, "warmup_steps": 40, "num_iters": 200, "decay_style": style}
        yield {
            "params": params,
            "defaults": defaults,
            "steps": steps,
            "lr": [_rate(step, params, defaults) for step in steps],
        }


def _rate(step: int, params: dict[str, Any], defaults: dict[str, Any]) -> float:
    peak, warm = float(params["learning_rate"]), float(params["warmup_steps"])
    if step <= defaults["last_iter"] + defaults["auto_warmup_steps"]:
        return min(float(defaults["auto_warmup_rate"]) * peak, peak * step / warm)
    if step <= warm:
        return peak * step / warm
    done = (step - warm) / float(params["num_iters"])
    if params["decay_style"] == "cosine":
        low = float(defaults["decay_ratio"])
        return peak * (low + (1 - low) * (math.cos(math.pi * min(1.0, done)) + 1) / 2)
    return peak * (1 - done) if params["decay_style"] == "linear" else peak
