"""Text, ids, spans, grids, seconds and positions of Qwen2.5-VL and Qwen3-VL as the original
programs make them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmdata.templates
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Video,
)
from mmdata.templates import IGNORE, Encoded, Template, load_tokenizer
from mmdata.templates.toolkit import position_delta
from tests.golden.runs import unroll
from tests.reference import arrays, cases, file, lacking
from tests.vocabularies import find_published

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
DIALECTS = {
    "qwen2_5_vl": {"dialect": "vl"},
    "qwen2_5_text": {"dialect": "text"},
    "qwen3_vl": {"dialect": "instruct"},
    "qwen3_vl_thinking": {"dialect": "thinking"},
}
COMPAT = {"transformers_4.57.1": "transformers-4.57", "transformers_5.23.0": "transformers-5.23"}
POSITIONS = {"tf4571": "transformers-4.57", "tf523": "transformers-5.23"}

every_family = pytest.mark.parametrize("family", FAMILIES)


@dataclass(frozen=True)
class Case:
    """A case of the reference data, and its messages as a conversation."""

    told: dict[str, Any]
    conversation: Conversation

    def read(self, template: Template) -> Encoded:
        """Return it as the template reads it: a prompt, where it is one."""
        if self.told["add_generation_prompt"]:
            return template.prompt(self.conversation)
        return template.encode(self.conversation)

    @property
    def name(self) -> str:
        return str(self.told["name"])


def read_cases(golden: Path, family: str) -> list[Case]:
    return [Case(told, conversation_of(told)) for told in cases(golden / family, "cases.json")]


def conversation_of(told: dict[str, Any]) -> Conversation:
    sizes, clips = told.get("images_hw", []), told.get("videos", [])
    media = [Media("image", f"img{n}", height=h, width=w) for n, (h, w) in enumerate(sizes)]
    media += [clip_of(f"vid{number}", clip) for number, clip in enumerate(clips)]
    names = {medium.path: number for number, medium in enumerate(media)}
    dumped = told["template"] == "qwen2_5_text"
    messages = [message_of(each, names, dumped) for each in told["messages"]]
    tools = told.get("tools")
    return Conversation(
        told["name"],
        tuple(messages),
        tuple(media),
        tools=None if tools is None else json.dumps(tools, ensure_ascii=False),
    )


def clip_of(path: str, clip: dict[str, Any]) -> Media:
    """Return a video of the sampled frames alone, at their times."""
    fps, indices = clip["fps"], clip["frames_indices"]
    return Media(
        "video",
        path,
        height=clip["height"],
        width=clip["width"],
        duration=clip["total_num_frames"] / fps,
        frame_times=tuple(index / fps for index in indices),
    )


def message_of(told: dict[str, Any], names: dict[str | None, int], dumped: bool) -> Message:
    content = told["content"]
    parts: list[Part] = []
    if isinstance(told.get("reasoning_content"), str):
        parts.append(Reasoning(told["reasoning_content"]))
    for each in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        image = each.get("image", each.get("image_url"))
        if image is not None:
            parts.append(Image(names[image["url"] if isinstance(image, dict) else image]))
        elif "video" in each:
            parts.append(Video(names[each["video"]]))
        elif "text" in each:
            parts.append(Text(each["text"]))
    for call in told.get("tool_calls", []):
        inner = call.get("function", call)
        arguments = inner["arguments"]
        text = json.dumps(arguments, ensure_ascii=False)
        if isinstance(arguments, str) and not dumped:  # written as it is; else quoted anew
            text = arguments
        parts.append(ToolCall(inner["name"], text, call.get("id")))
    return Message(told["role"], tuple(parts), told["role"] == "assistant")


def template_of(family: str, case: Case, fixtures: Path, **options: Any) -> Template:
    vocabulary = find_published("qwen2", fixtures)
    if vocabulary is None:
        lacking("qwen2 vocabulary in vocab", fixtures)
    own = {"frames": "every:1", "marks": "all", "unsaid": "drop", **options}
    return mmdata.templates.get(family)(
        tokenizer=load_tokenizer(family, vocabulary),
        number_media=case.told["add_vision_id"],
        **DIALECTS[case.told["template"]],
        **own,
    )


@every_family
def test_ids_are_those_of_the_original(family: str, golden: Path, fixtures: Path) -> None:
    for case in read_cases(golden, family):
        found = case.read(template_of(family, case, fixtures))

        assert found.input_ids.tolist() == unroll(case.told["input_ids_rle"]), case.name
        assert len(found) == case.told["length"], case.name


@every_family
def test_ids_are_those_of_other_versions_by_an_option(
    family: str, golden: Path, fixtures: Path
) -> None:
    for case in read_cases(golden, family):
        for version, told in case.told.get("differs", {}).items():
            if "input_ids_rle" not in told:
                continue
            options = (
                [{"compat": COMPAT[version]}]
                if version in COMPAT
                else [{"segments": "apart"}, {"compat": "llamafactory"}, {"compat": "ms-swift"}]
            )
            for each in options:
                found = case.read(template_of(family, case, fixtures, **each))
                assert found.input_ids.tolist() == unroll(told["input_ids_rle"]), case.name


@every_family
def test_what_is_trained_is_what_the_assistant_says(
    family: str, golden: Path, fixtures: Path
) -> None:
    for case in read_cases(golden, family):
        found = case.read(template_of(family, case, fixtures))

        assert spans(found) == case.told["assistant_spans"], case.name
        trained = [
            template_of(family, case, fixtures).tokenizer.decode(found.input_ids[a:b].tolist())
            for a, b in spans(found)
        ]
        assert trained == case.told["assistant_texts"], case.name


@every_family
def test_the_beginning_of_a_thought_may_be_given(family: str, golden: Path, fixtures: Path) -> None:
    for case in read_cases(golden, family):
        if (told := case.told.get("assistant_spans_without_think_prefix")) is not None:
            found = case.read(template_of(family, case, fixtures, think="given"))
            assert spans(found) == told, case.name


@every_family
def test_grids_are_those_of_the_original(family: str, golden: Path, fixtures: Path) -> None:
    for case in read_cases(golden, family):
        found = case.read(template_of(family, case, fixtures))

        grids: dict[bool, list[list[int]]] = {False: [], True: []}
        for plan in found.pixels:
            assert plan.grid is not None
            grid = [plan.grid.layers, plan.grid.rows, plan.grid.columns]
            grids[bool(plan.frames)].append(grid)
        assert grids[False] == case.told.get("image_grid_thw", []), case.name
        assert grids[True] == case.told.get("video_grid_thw", []), case.name


@every_family
def test_positions_are_those_of_the_original(family: str, golden: Path, fixtures: Path) -> None:
    told = arrays(file(golden, family, "positions.npz"))
    for case in read_cases(golden, family):
        found = case.read(template_of(family, case, fixtures))

        assert np.array_equal(found.position_ids, told[case.name]), case.name
        assert position_delta(found.position_ids) == case.told["mrope_delta"], case.name
        for version, compat in POSITIONS.items():
            if (name := f"{case.name}__{version}") in told:
                other = case.read(template_of(family, case, fixtures, compat=compat))
                assert np.array_equal(other.position_ids, told[name]), name


def spans(found: Encoded) -> list[list[int]]:
    """Return the beginnings and ends of what is trained."""
    trained = np.concatenate([[False], found.labels != IGNORE, [False]])
    edges = np.flatnonzero(np.diff(trained.astype(np.int8)))
    return [list(pair) for pair in edges.reshape(-1, 2).tolist()]


def clip_times(case: Case) -> Iterator[list[float]]:
    for medium in case.conversation.media:
        if medium.type == "video":
            yield list(medium.frame_times or ())
