"""Text, ids, spans, grids, seconds and positions of Qwen2.5-VL and Qwen3-VL as the original
programs make them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmdata.templates
from mmdata.errors import TokenError, UsageError, VideoError
from mmdata.image.patches import normalize_rows, resize_clip, resize_frame, resize_picture
from mmdata.pipeline.encode import decode_views
from mmdata.schema import (
    CompactTimes,
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
from mmdata.templates import IGNORE, Encoded, PixelPlan, Template, load_tokenizer
from mmdata.templates.qwen2_5_vl import seconds_per_layer
from mmdata.templates.qwen3_vl import Qwen3VL, layer_times
from mmdata.templates.toolkit import position_delta
from mmdata.tokenizers import MarkedTokenizer, Tokenizer
from mmdata.video import Clock
from mmdata.video.sampling import RULES
from tests.golden.runs import unroll
from tests.reference import arrays, cases, file, lacking, read
from tests.vocabularies import find_published, small

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


@cache
def family_tokenizer(family: str, fixtures: Path) -> Tokenizer:
    vocabulary = find_published("qwen2", fixtures)
    if vocabulary is None:
        lacking("qwen2 vocabulary in vocab", fixtures)
    return load_tokenizer(family, vocabulary)


def template_class(family: str) -> Any:
    return mmdata.templates.get(family)


def template_of(family: str, case: Case, fixtures: Path, **options: Any) -> Template:
    own = {"frames": "every:1", "marks": "all", "unsaid": "drop", **options}
    return mmdata.templates.get(family)(
        tokenizer=family_tokenizer(family, fixtures),
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


def clips_of(found: Encoded) -> list[PixelPlan]:
    return [plan for plan in found.pixels if plan.frames]


def test_seconds_of_a_layer_are_those_of_the_original(golden: Path, fixtures: Path) -> None:
    for case in read_cases(golden, "qwen2_5_vl"):
        found = case.read(template_of("qwen2_5_vl", case, fixtures))

        seconds = [seconds_per_layer(plan) for plan in clips_of(found)]
        assert seconds == pytest.approx(case.told.get("second_per_grid_ts", []), rel=1e-6)


def test_seconds_told_are_those_of_the_original(golden: Path, fixtures: Path) -> None:
    for case in read_cases(golden, "qwen3_vl"):
        found = case.read(template_of("qwen3_vl", case, fixtures))

        times = [layer_times(plan) for plan in clips_of(found)]
        told = case.told.get("timestamps", [])
        assert len(times) == len(told)
        for mine, theirs in zip(times, told, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-9)
        words = [[f"<{time:.1f} seconds>" for time in each] for each in times]
        assert words == case.told.get("timestamp_text", []), case.name


def test_seconds_of_any_indices_are_those_of_the_original(golden: Path) -> None:
    for case in table(golden, "qwen3_vl", "processor.timestamps"):
        times = tuple(index / case["fps"] for index in case["indices"])
        plan = PixelPlan(0, "squeeze", 16, tuple(range(len(times))), times)
        grid = Qwen3VL.patches.grid(len(times), (32, 32))

        found = layer_times(replace(plan, grid=grid))

        assert found == pytest.approx(case["seconds"], abs=1e-9)
        assert [f"<{time:.1f} seconds>" for time in found] == case["text"]


@every_family
def test_ids_of_texts_are_those_of_the_original(family: str, golden: Path, fixtures: Path) -> None:
    tokenizer = family_tokenizer(family, fixtures)
    assert isinstance(tokenizer, MarkedTokenizer)

    for case in cases(golden / family, "tokenizer_cases.json"):
        assert tokenizer.encode_marked(case["text"]) == case["ids"]
        assert tokenizer.decode(case["ids"]) == case["decoded"]


# --- sizes and samples


@every_family
def test_sizes_are_those_of_the_published_utilities(family: str, golden: Path) -> None:
    factor = template_class(family).patches.factor
    for case in table(golden, family, "qwen_vl_utils.smart_resize"):
        limits = {"fewest": case["min_pixels"], "most": case["max_pixels"]}
        holds(case, lambda size, own=limits: resize_picture(size, factor=factor, **own))

    for case in table(golden, family, "qwen_vl_utils.fetch_image_size"):
        holds(case, lambda size, own=case["ele"]: fetch_size(size, factor, own))

    for case in table(golden, family, "qwen_vl_utils.fetch_video_size"):
        own, frames = case["ele"], case["nframes"]
        holds(case, lambda size, own=own, frames=frames: fetch_size(size, factor, own, frames))


def fetch_size(
    size: tuple[int, int], factor: int, own: dict[str, int], frames: int | None = None
) -> tuple[int, int]:
    """Return the size that the utilities make of a picture or a frame with settings of its own."""
    if "resized_height" in own:
        return resize_picture((own["resized_height"], own["resized_width"]), factor=factor)
    limits = {"fewest": own.get("min_pixels"), "most": own.get("max_pixels")}
    if frames is None:
        return resize_picture(size, factor=factor, **limits)
    return resize_frame(frames, size, factor=factor, total=own.get("total_pixels"), **limits)


def holds(case: dict[str, Any], resize: Any) -> None:
    """Compare a size with what is told, or an error with an error."""
    size = case["height"], case["width"]
    if "ok" in case:
        assert list(resize(size)) == case["ok"], case
    else:
        with pytest.raises((TokenError, UsageError)):
            resize(size)


@every_family
def test_frames_that_come_as_pictures_are_resized_as_by_the_published_utilities(
    family: str, golden: Path
) -> None:
    """A list of frames goes through the utilities' own way with pictures first, with a factor where
    the size of a patch is meant. The rates that they make up for such frames (``sample_fps``,
    ``raw_fps``) have nothing here to be compared with: times come from the clock.
    """
    patches = template_class(family).patches
    for case in table(golden, family, "qwen_vl_utils.fetch_video_frame_list"):
        told, own = case["ok"], case["ele"]
        frames = patches.grid(case["nframes"], (patches.factor,) * 2).layers * patches.depth
        size = case["height"], case["width"]

        as_pictures = fetch_size(size, patches.factor * patches.merge, own)
        found = fetch_size(as_pictures, patches.factor, own, frames)

        assert [frames, 3, *found] == told["shape"], case
        assert told["metadata"]["frames_indices"] == list(range(frames))


def test_sizes_of_whole_clips_are_those_of_the_processor(golden: Path) -> None:
    template = template_class("qwen3_vl")
    limits = {"fewest": template.video_min_pixels, "most": template.video_max_pixels}
    for case in table(golden, "qwen3_vl", "processor.video_smart_resize"):
        newest = {**case, **case.get("transformers_5", {})}  # which scales small frames up

        def resize(size: tuple[int, int], frames: int = case["num_frames"]) -> tuple[int, int]:
            return resize_clip(frames, size, factor=32, depth=2, **limits)

        holds(newest, resize)


@every_family
def test_frames_are_those_of_the_published_utilities(family: str, golden: Path) -> None:
    for name in ("smart_nframes", "frame_range", "reader_indices"):
        for case in table(golden, family, f"qwen_vl_utils.{name}"):
            told = case.get("ok")
            if told is None:
                with pytest.raises((VideoError, UsageError)):
                    taken_by_utilities(case)
                continue
            numbers = taken_by_utilities(case)
            if name == "smart_nframes":
                assert len(numbers) == told, case
            elif name == "frame_range":
                assert [numbers[0], numbers[-1]] == told[:2], case
            else:
                has_numbers(numbers, told)


def taken_by_utilities(case: dict[str, Any]) -> list[int]:
    own, clock = case["ele"], even_clock(case["total_frames"], case["video_fps"])
    bounds = {"start": own.get("video_start", 0.0), "end": own.get("video_end")}
    if "nframes" in own:
        return list(map(int, RULES["qwen_frames"](clock, own["nframes"], **bounds)))
    limits = own.get("fps", 2.0), own.get("min_frames", 4), own.get("max_frames", 768)
    return list(map(int, RULES["qwen"](clock, *limits, **bounds)))


@every_family
def test_frames_are_those_of_the_processor(family: str, golden: Path) -> None:
    rule = {"qwen2_5_vl": "hf_pairs", "qwen3_vl": "hf_ends"}[family]
    for case in table(golden, family, "processor.sample_frames"):
        own = case["kwargs"]
        defaults_to_nothing = not own and family == "qwen2_5_vl"  # the class has no rate of its own
        if case["fps"] is None or defaults_to_nothing:
            continue
        clock = even_clock(case["total_num_frames"], case["fps"])

        def take(own: dict[str, Any] = own, clock: Clock = clock) -> list[int]:
            if "num_frames" in own:
                return list(map(int, RULES[f"{rule}_frames"](clock, own["num_frames"])))
            return list(map(int, RULES[rule](clock, own.get("fps", 2.0))))

        if "ok" in case:
            has_numbers(take(), case["ok"])
        else:
            with pytest.raises((VideoError, UsageError)):
                take()


def has_numbers(numbers: list[int], told: dict[str, Any]) -> None:
    assert len(numbers) == told["n"]
    assert numbers[: len(told["first"])] == told["first"]
    assert numbers[-len(told["last"]) :] == told["last"]
    if told["indices"] is not None:
        assert numbers == told["indices"]


def even_clock(count: int, fps: float) -> Clock:
    return Clock(np.arange(count) / fps, fps, None, count / fps)


def table(golden: Path, family: str, name: str) -> list[Any]:
    """Return a table; its name is a path of keys, or one key with dots."""
    told = read(file(golden, family, "tables.json"))
    room, _, rest = name.partition(".")
    found: list[Any] = told.get(name, told.get(room, {}).get(rest))
    return found or lacking(f"table {name}", golden)


# --- pixels


@every_family
def test_pixels_are_those_of_the_original(family: str, golden: Path, tmp_path: Path) -> None:
    told = read(file(golden, family, "pixels.json"))
    stored = arrays(file(golden, family, "pixels.npz"))
    for case in told["cases"]:
        name = case["name"]
        pixels = stored[f"{name}/input"]
        size = told["size"]["video" if pixels.ndim == 4 else "image"]
        by_pillow = stored.get(f"{name}/pixel_values_pil")
        on_white = stored.get(f"{name}/pixel_values_pil_white_background")
        by_torchvision = stored.get(f"{name}/pixel_values_torchvision")

        found, grid = read_pixels(family, pixels, size, tmp_path, "drop")

        assert grid == case["grid_thw"], name
        if by_pillow is not None:
            np.testing.assert_allclose(found, by_pillow, atol=2e-6, err_msg=name)
        if on_white is not None:
            white, _ = read_pixels(family, pixels, size, tmp_path, "white")
            np.testing.assert_allclose(white, on_white, atol=2e-6, err_msg=name)
        if by_torchvision is not None:
            levels = 2 / 255 / min(told["std"]) + 2e-6
            np.testing.assert_allclose(found, by_torchvision, atol=levels, err_msg=name)
            same, _ = read_pixels(family, pixels, size, tmp_path, "drop", resampled_by="torch")
            np.testing.assert_allclose(same, by_torchvision, atol=2e-6, err_msg=name)


def read_pixels(
    family: str, pixels: Any, size: dict[str, int], folder: Path, alpha: str, **options: Any
) -> tuple[Any, list[int]]:
    """Return the rows of patches of a picture or a clip, and its grid."""
    from PIL.Image import fromarray

    frames = pixels if pixels.ndim == 4 else pixels[None]
    paths = []
    for number, frame in enumerate(frames):
        paths.append(str(folder / f"{number}.png"))
        fromarray(frame).save(paths[-1])
    height, width = frames.shape[1:3]
    limits = {"min_pixels": size["min_pixels"], "max_pixels": size["max_pixels"]}
    own: dict[str, Any] = {"alpha": alpha, **limits}
    if pixels.ndim == 4:
        own = {f"video_{name}": limit for name, limit in limits.items()} | {"frames": "every:1"}
        clock = CompactTimes(step=0.5)
        count = len(frames)
        medium = Media(
            "video", height=height, width=width, frame_paths=tuple(paths), clock=clock,
            num_frames=count, fps=2.0,
        )  # fmt: skip
        part: Part = Video(0)
    else:
        medium, part = Media("image", paths[0], height=height, width=width), Image(0)
    vocabulary = "qwen2" if family == "qwen2_5_vl" else "qwen3"
    template = template_class(family)(tokenizer=small(vocabulary), **own, **options)
    question = Conversation("c", (Message("user", (part,), False),), (medium,))
    [plan] = template.prompt(question).pixels
    assert plan.grid is not None
    rows = normalize_rows(decode_views(medium, plan), template.patches)
    return rows, [plan.grid.layers, plan.grid.rows, plan.grid.columns]
