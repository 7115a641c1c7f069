"""LLaVA-NeXT-Video's prompts, ids, labels and token counts as the original programs make them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mmdata.errors import SchemaError, TokenError
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Part,
    Text,
    Video,
    assistant,
    system,
    user,
)
from mmdata.templates import IGNORE, Encoded
from mmdata.templates.llava_next_video import LlavaNextVideo, time_instruction
from mmdata.templates.llava_next_video._dialects import DialectName
from mmdata.templates.toolkit import require_plain
from tests.golden.runs import unroll
from tests.reference import arrays, cases, files, read
from tests.vocabularies import published

_PLACEHOLDER = -200  # what LLaVA's code puts for a medium
_SIDE = 336
_VARIANTS = re.compile(r"(?P<dialect>.+?)(?:_llama2tok)?_legacy_(?P<legacy>true|false)")


def _template(fixtures: Path, variant: str, **options: Any) -> LlavaNextVideo:
    """Return the template that a variant of the reference file names,
    such as ``vicuna_v1_legacy_true``.
    """
    if variant.startswith("qwen"):
        return LlavaNextVideo(
            tokenizer=_Qwen(published("qwen", fixtures)),
            dialect=cast("DialectName", variant),
            **options,
        )
    if variant.startswith("llava15"):
        options = {"placement": "llava_1_5", **options}
        variant = variant.replace("llava15_variant", "vicuna_v1")
    named = _VARIANTS.fullmatch(variant)
    assert named, variant
    tokenizer = published("llama2", fixtures, legacy=named["legacy"] == "true")
    return LlavaNextVideo(
        tokenizer=tokenizer, dialect=cast("DialectName", named["dialect"]), **options
    )


class _Qwen:
    """The Qwen vocabulary with ``<image>`` after its first three control tokens,
    as the reference run had it.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.special = {**tokenizer.special, "<image>": tokenizer.special["<|im_end|>"] + 1}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def test_ids_and_labels_are_those_of_llava(golden: Path, fixtures: Path) -> None:
    for case, variant, wanted, conversation in _cases(golden, fixtures):
        found = _template(fixtures, variant, separator="").encode(conversation)

        ids, trained = _collapsed(found)
        answered = conversation.messages[-1].role == "assistant"
        if answered or variant.startswith("qwen"):
            assert ids == wanted["input_ids"], (case["name"], variant)
        if "warning" not in wanted:  # else the original masks the whole sample
            slots = np.array(ids) == _PLACEHOLDER
            assert np.array_equal(trained, np.array(unroll(wanted["labels_rle"])) & ~slots), (
                case["name"],
                variant,
            )


def test_separators_of_ours_make_the_text_of_the_source(golden: Path, fixtures: Path) -> None:
    for case, variant, wanted, conversation in _cases(golden, fixtures):
        if not all(
            row["value"].startswith("<image>\n")
            for row in case["conversations"]
            if "<image>" in row["value"]
        ):
            continue
        stripped = Conversation(
            "golden",
            tuple(
                type(message)(message.role, tuple(_trimmed(message.content)), message.train)
                for message in conversation.messages
            ),
            conversation.media,
        )
        if conversation.messages[-1].role == "assistant" and _words_after_media(stripped):
            ids, _ = _collapsed(_template(fixtures, variant).encode(stripped))
            assert ids == wanted["input_ids"], (case["name"], variant)


def test_texts_are_those_of_llava(golden: Path, fixtures: Path) -> None:
    for case in _cases_of(golden, "prompts.json", "cases"):
        for name, text in case.items():
            dialect = name.removesuffix("_prompt")
            if dialect == name or not (conversation := _conversation(case["conversations"])):
                continue
            if all(message.text or message.content[1:] for message in conversation.messages):
                template = _template(fixtures, f"{dialect}_legacy_true", separator="")
                written = template.text(conversation)
                assert written.removesuffix("ASSISTANT:").rstrip() == text.rstrip(), (
                    case["name"],
                    dialect,
                )


def test_prompts_are_those_of_llava(golden: Path, fixtures: Path) -> None:
    for case in _cases_of(golden, "prompts.json", "predict_prompts"):
        picture = Media("image", "any", width=_SIDE, height=_SIDE)
        conversation = Conversation("golden", (user(Image(0), case["question"]),), (picture,))
        for name, wanted in case.items():
            if "_ids_" in name:
                found = _template(fixtures, name.replace("_ids", "")).prompt(conversation)
                assert _collapsed(found)[0] == wanted, name
            elif name not in ("question", "plain"):  # plain throws the question away in training
                tokenizer = published("llama2", fixtures)
                assert (
                    LlavaNextVideo(tokenizer=tokenizer, dialect=name).text(conversation) == wanted
                ), name


def test_a_sample_is_cut_where_the_original_cuts_it(golden: Path, fixtures: Path) -> None:
    for case in _cases_of(golden, "prompts.json", "max_length"):
        if case["has_image"]:
            continue  # the original cuts those later, after their media are expanded
        conversation = _conversation(case["conversations"])
        assert conversation
        for variant, wanted in case.items():
            if _VARIANTS.fullmatch(variant):
                whole = _template(fixtures, variant).encode(conversation)
                limit = case["model_max_length"]
                assert whole.input_ids[:limit].tolist() == wanted["input_ids"]
                assert (whole.labels[:limit] != IGNORE).tolist() == unroll(wanted["labels_rle"])
                if wanted["num_target"]:
                    options: Any = {"max_length": limit, "over_long": "truncate_right"}
                    cut = _template(fixtures, variant, **options).encode(conversation)
                    assert cut.input_ids.tolist() == wanted["input_ids"]


def test_ids_and_labels_are_those_of_mindformers(golden: Path, fixtures: Path) -> None:
    for case in _cases_of(golden, "prompts_mindformers.json", "cases"):
        conversation = _conversation(case["conversations"])
        for name, wanted in case.items():
            if not conversation or not isinstance(wanted, dict) or "error" in wanted:
                continue
            tokenizer = published("llama2", fixtures, legacy=name == "legacy_true")
            template = LlavaNextVideo(tokenizer=tokenizer, separator="", compat="mindformers")
            if (
                not _reads_as_text(conversation, template)
                or conversation.messages[-1].role == "user"
            ):
                continue
            found = template.encode(conversation)

            ids, _ = _collapsed(found)
            placeholder, context = tokenizer.special["<image>"], case["context_length"]
            # MindFormers adds an empty picture to text.
            kept = slice(None) if case["has_media"] else slice(len(ids))
            collapsed = _runs_collapsed(unroll(wanted["input_ids_rle"]), placeholder, context)
            assert collapsed[kept] == ids, (case["name"], name)
            if "warning" not in wanted:  # else the original masks the whole sample
                targets = found.input_ids[found.labels != IGNORE].tolist()
                assert targets == wanted["target_ids"], (case["name"], name)
                assert len(targets) == sum(unroll(wanted["labels_rle"]))


def test_texts_are_those_of_the_chat_template_of_transformers(golden: Path, fixtures: Path) -> None:
    template = LlavaNextVideo(tokenizer=published("llama2", fixtures), dialect="hf_chat", system="")
    for case in _cases_of(golden, "hf_chat_template.json"):
        conversation = _from_messages(case["messages"])
        # That template leaves `<video>` out.
        written = template.text(conversation).replace("<video>\n", "")

        assert (
            written if case["add_generation_prompt"] else written.removesuffix("ASSISTANT:")
        ) == case["text"]


def test_images_have_as_many_slots_as_features(golden: Path, fixtures: Path) -> None:
    for config in _cases_of(golden, "anyres_table.json", "configs"):
        template = LlavaNextVideo(
            tokenizer=published("llama2", fixtures),
            image_size=config["crop"],
            patch=config["patch"],
            pinpoints=tuple(map(tuple, config["pinpoints_hw"])),
        )
        for row in config["rows"]:
            picture = Media("image", "any", width=row["w"], height=row["h"])
            found = template.encode(
                Conversation("golden", (user(Image(0), "?"), assistant("!")), (picture,))
            )
            assert [slot.length for slot in found.slots] == [row["image_tokens"]], row


def test_videos_have_as_many_slots_as_features(golden: Path, fixtures: Path) -> None:
    for file in files(
        golden / "llava_next_video", "video_pool_newline.json", "video_pool_newline.npz"
    ):
        pooled = arrays(file.with_suffix(".npz"))
        for case in read(file):
            _check_slots_of_a_video(case, pooled[f"{case['case']}/x"], fixtures)


def _check_slots_of_a_video(case: dict[str, Any], features: Any, fixtures: Path) -> None:
    frames, side = features.shape[0], round(features.shape[1] ** 0.5)
    clip = Media("video", "any", num_frames=frames, fps=1.0, clock=CompactTimes(step=1.0))
    conversation = Conversation("golden", (user(Video(0), "?"), assistant("!")), (clip,))
    for newline in ("one_token", "no_token", "frame", "grid"):
        template = LlavaNextVideo(
            tokenizer=published("llama2", fixtures),
            frames="every:1",
            image_size=side,
            patch=1,
            pool=case["mode"],
            stride=case["stride"],
            video_newline=newline,
        )
        assert [slot.length for slot in template.encode(conversation).slots] == [case[newline]], (
            case
        )


def test_the_time_instruction_is_that_of_the_original_where_its_times_are_true(
    golden: Path, fixtures: Path
) -> None:
    for case in _cases_of(golden, "frame_sampling.json", "video_file"):
        wanted = case["llava_next_decord"] or {}
        count, fps = case["total_frames"], case["fps"]
        if "time_instruction" not in wanted:
            continue
        true = ",".join(f"{number / fps:.2f}s" for number in wanted["frame_idx"])
        if true != wanted["frame_time"]:
            continue  # the original calls frame j of its step branch j.00s
        force = str(case["force_sample"]).lower()
        template = LlavaNextVideo(
            tokenizer=published("llama2", fixtures),
            frames=f"llava_next:{case['video_fps']}:{case['frames_upbound']}:{force}",
        )
        clip = Media("video", "any", num_frames=count, fps=fps, clock=CompactTimes(step=1 / fps))
        taken = template._clip(Conversation("golden", (user(Video(0), "?"),), (clip,)), 0)

        assert list(taken.pixels.frames) == wanted["frame_idx"]
        assert time_instruction(taken) == wanted["time_instruction"]


def _cases_of(golden: Path, name: str, section: str | None = None) -> list[Any]:
    return cases(golden / "llava_next_video", name, section)


def _cases(
    golden: Path, fixtures: Path
) -> Iterator[tuple[dict[str, Any], str, dict[str, Any], Conversation]]:
    """Give every case and variant with ids that this family
    can express and that the original reads as text.
    """
    for case in _cases_of(golden, "prompts.json", "cases"):
        conversation = _conversation(case["conversations"])
        for variant, wanted in case.items():
            if not conversation or not isinstance(wanted, dict) or "input_ids" not in wanted:
                continue
            if _reads_as_text(conversation, _template(fixtures, variant)):
                yield case, variant, wanted, conversation


def _reads_as_text(conversation: Conversation, template: LlavaNextVideo) -> bool:
    """Say whether the original reads every text as text, and closes every turn.

    It reads the names of control tokens in text as these tokens, and gives empty answers no
    ``</s>``, by which rounds are told apart in some dialects.
    """
    texts = [
        part.text
        for message in conversation.messages
        for part in message.content
        if isinstance(part, Text)
    ]
    closed = all(texts) or template.tokenizer.special.get("</s>") not in template.stop_ids
    return closed and not any(mark in text for text in texts for mark in template.tokenizer.special)


def _conversation(rows: list[dict[str, str]]) -> Conversation | None:
    media: list[Media] = []
    rows = rows[1:] if rows[0]["from"] == "gpt" else rows
    makers = {"human": user, "gpt": assistant, "system": system}
    messages = tuple(makers[row["from"]](*_parts(row["value"], media)) for row in rows)
    try:
        conversation = Conversation("golden", messages, tuple(media))
        require_plain(conversation)
    except (SchemaError, TokenError):
        return None
    return conversation


def _parts(value: str, media: list[Media]) -> Iterator[Part]:
    for number, piece in enumerate(re.split("(<image>)", value)):
        if number % 2:
            media.append(Media("image", "any", width=_SIDE, height=_SIDE))
            yield Image(len(media) - 1)
        elif piece or value == "":
            yield Text(piece)


def _trimmed(content: tuple[Part, ...]) -> Iterator[Part]:
    """Drop the newline between a leading image and the words, as converting a source does."""
    for number, part in enumerate(content):
        if number and isinstance(part, Text) and isinstance(content[number - 1], Image):
            text = part.text.removeprefix("\n")
            if text:
                yield Text(text)
        else:
            yield part


def _words_after_media(conversation: Conversation) -> bool:
    return all(isinstance(message.content[-1], Text) for message in conversation.messages)


def _from_messages(rows: list[dict[str, Any]]) -> Conversation:
    media: list[Media] = []
    messages = []
    for row in rows:
        content: list[Part] = []
        for element in row["content"]:
            if element["type"] == "text":
                content.append(Text(element["text"]))
            else:
                media.append(
                    Media(
                        element["type"],
                        "any",
                        width=_SIDE,
                        height=_SIDE,
                        num_frames=1,
                        fps=1.0,
                        clock=CompactTimes(step=1.0) if element["type"] == "video" else None,
                    )
                )
                part = Image if element["type"] == "image" else Video
                content.append(part(len(media) - 1))
        messages.append(
            {"user": user, "assistant": assistant, "system": system}[row["role"]](*content)
        )
    return Conversation("golden", tuple(messages), tuple(media))


def _collapsed(found: Encoded) -> tuple[list[int], Any]:
    """Return ids with one placeholder a slot, and whether each is trained on."""
    keep = np.ones(len(found), bool)
    ids = found.input_ids.copy()
    for slot in found.slots:
        ids[slot.start] = _PLACEHOLDER
        keep[slot.start + 1 : slot.stop] = False
    return ids[keep].tolist(), (found.labels != IGNORE)[keep]


def _runs_collapsed(ids: list[int], placeholder: int, length: int) -> list[int]:
    collapsed: list[int] = []
    index = 0
    while index < len(ids):
        is_run = ids[index] == placeholder
        collapsed.append(_PLACEHOLDER if is_run else ids[index])
        index += length if is_run else 1
    return collapsed


@pytest.fixture(autouse=True)
def _needs_both(golden: Path, fixtures: Path) -> None:
    """Skip the module where either folder is not there."""
