"""VisualGLM's ids, labels, positions, masks and answers as the original makes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from mmdata.schema import Conversation, Image, Media, Text, assistant, user
from mmdata.templates import IGNORE, attention_mask
from mmdata.templates.visualglm import VisualGLM, clean_answer, full_width, prefix_positions
from tests.reference import arrays, cases, files, read
from tests.vocabularies import published

_PICTURE = Media("image", "any")


def test_training_samples_are_those_of_the_original(golden: Path, fixtures: Path) -> None:
    for file in files(golden / "visualglm", "sft_*.json"):
        if not file.with_suffix(".npz").exists():
            continue
        case, wanted = read(file), arrays(file.with_suffix(".npz"))
        template = VisualGLM(
            tokenizer=published("chatglm", fixtures),
            image_tokens=case["image_length"],
            max_source=case["max_source_length"],
            max_target=case["max_target_length"],
            source_cut="asking",
        )
        length = case["max_source_length"] + case["max_target_length"]
        for row, record in enumerate(case["records"]):
            found = template.encode(_conversation([record["prompt"], record["label"]]))

            pad = (0, length - len(found))
            ids = np.pad(found.input_ids, pad, constant_values=template.pad_id)
            assert np.array_equal(ids, wanted["input_ids"][row]), (file, row)
            assert np.array_equal(
                np.pad(found.labels, pad, constant_values=IGNORE), wanted["labels"][row]
            )
            assert found.prefix == wanted["context_length"][row]
            assert found.slots[0].start == wanted["pre_image"]
            assert np.array_equal(found.position_ids, wanted["position_ids"][row][:, : len(found)])
            assert np.array_equal(
                prefix_positions(found.prefix, length), wanted["position_ids"][row]
            )
            blocked = ~attention_mask(found.prefix, length)[None]
            bits = np.packbits(blocked.astype(np.uint8)).tobytes()
            assert hashlib.sha256(bits).hexdigest() == wanted["attention_mask_sha256"][row]
            if "attention_mask_blocked" in wanted:
                assert np.array_equal(blocked, wanted["attention_mask_blocked"][row])


def test_lengths_before_any_cut_are_those_of_the_original(golden: Path, fixtures: Path) -> None:
    for file in files(golden / "visualglm", "sft_*.json"):
        case = read(file)
        template = VisualGLM(
            tokenizer=published("chatglm", fixtures), image_tokens=case["image_length"]
        )
        sources, targets = (
            case.get("source_len_before_truncation"),
            case.get("target_len_before_truncation"),
        )
        for record, source, target in zip(
            case["records"], sources or (), targets or (), strict=bool(sources)
        ):
            assert (
                template.length(_conversation([record["prompt"], record["label"]]))
                == source + target + 3
            )


def test_prompts_are_those_of_the_original(golden: Path, fixtures: Path) -> None:
    for case in cases(golden / "visualglm", "chat_prompts.json"):
        template = VisualGLM(
            tokenizer=published("chatglm", fixtures), language="en" if case["english"] else "zh"
        )
        turns = [turn for pair in case["history"] for turn in pair]

        found = template.prompt(_conversation([*turns, case["query"]], image=case["image"]))

        assert found.input_ids.tolist() == case["input_ids"]
        assert [slot.start for slot in found.slots] == [case["pre_image"]] * case["image"]


def test_answers_are_cleaned_as_in_the_original(golden: Path) -> None:
    for case in cases(golden / "visualglm", "response_postprocess.json"):
        assert full_width(case["raw"]) == case["processed"]
        assert clean_answer(case["raw"], "zh") == case["final_zh"]
        assert clean_answer(case["raw"], "en") == case["final_en"]


def _conversation(texts: list[str], *, image: bool = True) -> Conversation:
    messages = [
        (assistant if number % 2 else user)(Text(text)) for number, text in enumerate(texts)
    ]
    if image:
        messages[0] = user(Image(0), *messages[0].content)
    return Conversation("golden", tuple(messages), (_PICTURE,) * image)


def test_positions_and_masks_of_the_small_reference_follow_from_its_prefixes(golden: Path) -> None:
    for file in files(golden / "visualglm", "model_io.npz", "config.json"):
        stored, begin = arrays(file), read(file.with_name("config.json"))["ids"]["sop"]
        for ids, positions, allowed in zip(
            stored["input_ids"], stored["position_ids"], stored["attention_mask_allow"], strict=True
        ):
            prefix = ids.tolist().index(begin)
            assert np.array_equal(prefix_positions(prefix, len(ids)), positions)
            assert np.array_equal(attention_mask(prefix, len(ids)), allowed[0].astype(bool))
