"""A family is one file or folder: nothing else of the library knows it by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmdata
from mmdata.templates import registry
from mmdata.video.sampling import RULES

ROOT = Path(mmdata.__file__).parent

DATA = {"formats"}
"""Rooms that speak of data sets and their formats,
some of which have the name of the model they were made for.
"""

ADDRESS = re.compile(r"huggingface\.co/\S+")
SAMPLER = re.compile(rf"\b({'|'.join(RULES)})\b")
"""Published samplers of frames go by the names that they were published under."""


def spellings(family: str) -> re.Pattern[str]:
    """What finds a family however it is written,
    the model of the family that reads no videos among them.
    """
    words = family.removesuffix("_video").split("_")
    return re.compile("[-_. ]?".join(map(re.escape, words)), re.IGNORECASE)


def others_lines(family: str) -> Iterator[tuple[str, str]]:
    """Every line of the library that is not the family's own, addresses and samplers taken out."""
    own = ROOT / "templates" / family
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if parts[0] in DATA or path == own.with_suffix(".py") or own in path.parents:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"{path.relative_to(ROOT)}:{number}", SAMPLER.sub("", ADDRESS.sub("", line))


@pytest.mark.parametrize("family", registry.names())
def test_no_file_but_a_familys_own_names_it(family: str) -> None:
    pattern = spellings(family)

    assert [
        f"{place}: {line}" for place, line in others_lines(family) if pattern.search(line)
    ] == []


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("llava_next_video", "LLaVA-NeXT's reader"),
        ("llava_next_video", 'resize == "llava_next_video"'),
        ("qwen_vl", "for QwenVL alone"),
        ("cogvlm2_video", "if name == 'cogvlm2'"),
    ],
)
def test_a_name_is_found_however_it_is_written(family: str, text: str) -> None:
    assert spellings(family).search(text)
