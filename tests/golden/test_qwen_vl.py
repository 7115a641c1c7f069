"""Qwen-VL's ids, labels and boxes as the original programs make them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import TokenError
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Region,
    Text,
    assistant,
    system,
    user,
)
from mmdata.templates import IGNORE
from mmdata.templates.qwen_vl import QwenVL
from mmdata.templates.qwen_vl._markup import decode_spans, encode_spans, parts
from mmdata.templates.toolkit import GRIDS
from mmdata.tokenizers import TiktokenTokenizer
from tests.golden.runs import unroll
from tests.reference import cases
from tests.vocabularies import published

_PICTURE = re.compile(r"Picture \d+: <img>(.*?)</img>\n")
_REFERENCE = re.compile(r"<img>(.*?)</img>")


@pytest.fixture(scope="session")
def tokenizer(fixtures: Path) -> TiktokenTokenizer:
    found = published("qwen", fixtures)
    assert isinstance(found, TiktokenTokenizer)
    return found


def test_ids_of_text_with_image_references_are_those_of_the_original(
    golden: Path, tokenizer: TiktokenTokenizer
) -> None:
    for case in cases(golden / "qwen_vl", "tokenizer.json", "cases"):
        ids = unroll(case["ids"]) if case["rle"] else case["ids"]

        assert encode_spans(tokenizer, case["text"]) == ids
        for skip, name in [(False, "decoded"), (True, "decoded_skip_special")]:
            if f"{name}_error" in case:
                with pytest.raises(TokenError):
                    decode_spans(tokenizer, ids, skip_special=skip)
            else:
                assert decode_spans(tokenizer, ids, skip_special=skip) == case[name]


def test_what_the_original_refuses_is_refused(golden: Path, tokenizer: TiktokenTokenizer) -> None:
    for case in cases(golden / "qwen_vl", "tokenizer.json", "errors"):
        with pytest.raises(TokenError):
            encode_spans(tokenizer, case["text"])


def test_training_ids_and_labels_are_those_of_finetune_py(
    golden: Path, tokenizer: TiktokenTokenizer
) -> None:
    for case in cases(golden / "qwen_vl", "preprocess.json"):
        template = QwenVL(
            tokenizer=tokenizer, system=case["system"], span="path", last_image="stay"
        )

        for sample, reader in _readings(case["conversations"], template):
            _same_up_to_the_limit(case, sample, reader, case["max_len"])


def test_training_ids_and_labels_are_those_of_mindformers(
    golden: Path, tokenizer: TiktokenTokenizer
) -> None:
    for case in cases(golden / "qwen_vl", "train_transform.json"):
        config = case["config"]
        if case["conversations"][0]["from"] == config.get("assistant_role_name", "assistant"):
            continue  # no conversation begins with an answer; MindFormers keeps such turns
        template = QwenVL(
            tokenizer=tokenizer, compat="mindformers", last_image="stay", **_options(config)
        )

        for sample, reader in _readings(case["conversations"], template):
            _same_up_to_the_limit(case, sample, reader, case["ids_shape"][0])
            found = [[0, slot.start, slot.stop - 1, True] for slot in reader.encode(sample).slots]
            wanted = case["image_context_pos_ranges"][: len(found)]
            assert found[: len(wanted)] == wanted


def test_prompts_are_those_of_make_context(golden: Path, tokenizer: TiktokenTokenizer) -> None:
    for case in cases(golden / "qwen_vl", "chat_context.json"):
        turns = [turn for pair in case.get("history", []) for turn in pair]
        rows = [{"from": "user", "value": value} for value in [*turns, case["query"]]]
        template = QwenVL(
            tokenizer=tokenizer,
            span="path",
            picture="{image}",
            layout=case["fmt"],
            history=case.get("w"),
            **{name: case[name] for name in ("system",) if name in case},
        )

        found = template.prompt(_conversation(rows, pattern=_REFERENCE))

        assert found.input_ids.tolist() == unroll(case["ids"])


def test_prompts_are_those_of_mindformers_prediction(
    golden: Path, tokenizer: TiktokenTokenizer
) -> None:
    template = QwenVL(tokenizer=tokenizer, layout="raw")
    for case in cases(golden / "qwen_vl", "predict_prompt.json"):
        found = template.prompt(_from_list(case["query"]))

        assert found.input_ids.tolist() == unroll(case["input_ids"])
        assert [[0, slot.start, slot.stop - 1] for slot in found.slots] == case["img_pos_ranges"]


def test_lists_of_parts_read_as_from_list_format_writes_them(
    golden: Path, tokenizer: TiktokenTokenizer
) -> None:
    template = QwenVL(
        tokenizer=tokenizer, layout="raw", span="path", picture="Picture {number}:{image}\n"
    )
    for case in cases(golden / "qwen_vl", "list_format.json", "from_list"):
        found = template.prompt(_from_list(case["list"]))

        assert found.input_ids.tolist() == encode_spans(tokenizer, case["hf_text"])


def test_boxes_in_answers_are_those_of_the_original(golden: Path) -> None:
    grid = GRIDS["floor_1000"]
    for case in cases(golden / "qwen_vl", "list_format.json", "to_list"):
        found = [part for part in parts(case["text"], grid) if isinstance(part, Region)]
        boxes = [[grid.to_grid(value) for value in box] for region in found for box in region.boxes]
        phrases = [
            text
            for region in found
            for text in [region.text.strip(), *[""] * (len(region.boxes) - 1)]
        ]
        wanted = [box for box in case.get("boxes", []) if _in_order(box["box"])]

        assert boxes == [box["box"] for box in wanted]
        assert phrases == [box.get("ref", "") for box in wanted]


def test_boxes_are_written_as_the_formulas_say(golden: Path) -> None:
    for case in cases(golden / "qwen_vl", "boxes.json"):
        sides = [case["width"], case["height"]] * 2
        fractions = [
            min(max(value / side, 0), 1) for value, side in zip(case["xyxy"], sides, strict=True)
        ]
        region = Region("", ((fractions[0], fractions[1], fractions[2], fractions[3]),))

        assert f"<box>{GRIDS['floor_1000'].box_text(region.boxes[0])}</box>" == case["text"]
        for name in ("round_1000", "floor_999"):
            grid = GRIDS[name]
            wanted = [min(max(value, 0), grid.last) for value in case[name]]
            assert [grid.to_grid(value) for value in region.boxes[0]] == wanted


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "system_message": "system",
        "user_role_name": "user",
        "assistant_role_name": "assistant",
        "user_prompt": "user_prompt",
        "assistant_prompt": "assistant_prompt",
        "num_queries": "image_tokens",
        "image_size": "image_size",
    }
    return {names[key]: value for key, value in config.items() if key in names}


def _conversation(
    rows: list[dict[str, str]], *, pattern: re.Pattern[str] = _PICTURE, grounded: bool = True
) -> Conversation:
    media: list[Media] = []
    messages: list[Message] = []
    rows = rows[1:] if rows[0]["from"] in ("assistant", "gpt") else rows
    for row in rows:
        make = system if row["from"] == "system" else user if len(messages) % 2 == 0 else assistant
        messages.append(make(*_parts(row["value"], media, pattern, grounded)))
    return Conversation("golden", tuple(messages), tuple(media))


def _parts(
    value: str, media: list[Media], pattern: re.Pattern[str], grounded: bool
) -> Iterator[Part]:
    for number, piece in enumerate(pattern.split(value)):
        if number % 2:
            media.append(Media("image", piece))
            yield Image(len(media) - 1)
        elif piece or value == "":
            yield from (grounded and parts(piece, GRIDS["floor_1000"])) or (Text(piece),)


def _from_list(elements: list[dict[str, Any]]) -> Conversation:
    media: list[Media] = []
    content: list[Part] = []
    for element in elements:
        if "image" in element:
            media.append(Media("image", element["image"]))
            content.append(Image(len(media) - 1))
        elif "box" in element:
            boxes = tuple(GRIDS["floor_1000"].box(tuple(box)) for box in element["box"])
            media = media or [Media("image", "any")]
            content.append(Region(element.get("ref", ""), boxes))
        else:
            content.append(Text(element["text"]))
    return Conversation("golden", (user(*content),), tuple(media))


def _readings(
    rows: list[dict[str, str]], template: QwenVL
) -> Iterator[tuple[Conversation, QwenVL]]:
    """Give the conversation with boxes in its text,
    read as the original does, and with regions, read as we do.
    """
    yield _conversation(rows, grounded=False), replace(template, marks="all")
    ours = _conversation(rows)
    if not any(
        name in message.text for message in ours.messages for name in template.tokenizer.special
    ):
        yield ours, template


def _same_up_to_the_limit(
    case: dict[str, Any], sample: Conversation, template: QwenVL, limit: int
) -> None:
    found = template.encode(sample)
    room = limit - len(found)
    assert (found.input_ids.tolist() + [template.pad_id] * room)[:limit] == unroll(
        case["input_ids"]
    ), case["name"]
    assert (found.labels.tolist() + [IGNORE] * room)[:limit] == unroll(case["labels"]), case["name"]
    answers = replace(template, labels="answers").encode(sample).labels
    if (answers[:limit] == IGNORE).all() and (answers != IGNORE).any():
        return  # nothing to learn is before the limit, such samples are dropped
    cut = replace(template, max_length=limit, over_long="truncate_right").encode(sample)
    crossing = [slot.start - 1 for slot in found.slots if slot.start - 1 < limit < slot.stop + 1]
    assert cut.input_ids.tolist() == found.input_ids.tolist()[: min([limit, *crossing])]


def _in_order(box: list[int]) -> bool:
    return box[0] <= box[2] and box[1] <= box[3]
