"""CogVLM2-Video's ids, token types, positions and labels as the original makes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mmdata.schema import Conversation, Media, Text, Video, assistant, user
from mmdata.templates import IGNORE, MediaSlot
from mmdata.templates.cogvlm2_video import CogVLM2Video, frame_positions
from tests.golden.runs import unroll
from tests.reference import arrays, cases, some
from tests.vocabularies import published

_SECOND_PER_FRAME = 1.0
_MINDFORMERS = "mindformers_train"


def test_sequences_are_those_of_the_original(golden: Path, fixtures: Path) -> None:
    for case, conversation in _cases(golden):
        if case["template"] == _MINDFORMERS:
            continue
        template = CogVLM2Video(
            tokenizer=published("llama3", fixtures), dialect=case["template"], frames="every:1"
        )

        found = (
            template.prompt(conversation)
            if case["answer"] is None
            else template.encode(conversation)
        )

        assert len(found) == case["length"]
        assert found.input_ids.tolist() == case["input_ids"], case["id"]
        assert found.position_ids.tolist() == case["position_ids"], case["id"]
        assert found.token_types is not None
        assert found.token_types.tolist() == unroll(case["token_type_ids_rle"]), case["id"]
        wanted = [IGNORE] * len(found) if case["labels_rle"] is None else unroll(case["labels_rle"])
        assert found.labels.tolist() == wanted, case["id"]


def test_sequences_are_those_of_mindformers(golden: Path, fixtures: Path) -> None:
    for case, conversation in _cases(golden):
        if case["template"] != _MINDFORMERS:
            continue
        template = CogVLM2Video(
            tokenizer=published("llama3", fixtures), frames="every:1", compat="mindformers"
        )

        found = template.encode(conversation)

        valid = case["valid_length"]
        assert found.input_ids.tolist() == unroll(case["input_ids_rle"])[:valid]
        assert found.labels.tolist() == unroll(case["labels_rle"])[:valid]
        positions = unroll(run for run in case["position_ids_rle"] if isinstance(run[0], int))
        onwards = range(positions[-1] + 1, positions[-1] + 1 + valid - len(positions))
        assert found.position_ids.tolist() == [*positions, *onwards]


def _cases(golden: Path) -> Iterator[tuple[dict[str, Any], Conversation]]:
    for case in cases(golden / "cogvlm2_video", "token_sequences.json"):
        turns = [turn for pair in case["history"] for turn in pair]
        texts = [*turns, case["query"], *([] if case["answer"] is None else [case["answer"]])]
        messages = [
            (assistant if number % 2 else user)(Text(text)) for number, text in enumerate(texts)
        ]
        media: list[Media] = []
        if case["num_frames"]:
            times = tuple(number * _SECOND_PER_FRAME for number in range(case["num_frames"]))
            media.append(Media("video", "any", frame_times=times))
            messages[0] = user(Video(0), *messages[0].content)
        yield case, Conversation(case["id"], tuple(messages), tuple(media))


def test_positions_of_the_small_references_follow_from_their_token_types(golden: Path) -> None:
    folder = golden / "cogvlm2_video"
    for file in some(sorted(folder.glob("*/*.npz")), "arrays of a small model", folder):
        stored = arrays(file)
        if not {"token_type_ids", "position_ids"} <= set(stored):
            continue
        for types, positions in zip(stored["token_type_ids"], stored["position_ids"], strict=True):
            # Padding keeps the last position.
            length = len(np.trim_zeros(np.diff(positions), "b")) + 1
            found = frame_positions(len(types), _slots(types.tolist()))
            assert found[:length].tolist() == positions[:length].tolist(), file


def _slots(types: list[int]) -> list[MediaSlot]:
    slots, start = [], 0
    for kind, run in groupby(types):
        length = len(list(run))
        if kind:
            slots.append(MediaSlot(0, start, length, 0))
        start += length
    return slots
