"""A family is one file or folder of templates and one of models: nothing else of the library, the
models, the recipes and the examples knows it by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmdata
from mmdata.templates import registry
from mmdata.video.sampling import RULES

ROOT = Path(mmdata.__file__).parent
ROOMS = (ROOT, *(ROOT.parent / name for name in ("models", "recipes", "examples")))
"""Benchmarks are left out: they name what a family is measured beside."""

DATA = {"formats", "exporters"}
"""Rooms that speak of data sets and their formats,
some of which have the name of the model they were made for.
"""

ADDRESS = re.compile(r"huggingface\.co/\S+")
CONFIG = re.compile(r'"configs" / "\w+"')
"""A recipe's configurations are in the folder of the family."""
SAMPLER = re.compile(rf"\b({'|'.join(RULES)})\b")
"""Published samplers of frames go by the names that they were published under."""


def spellings(family: str) -> re.Pattern[str]:
    """What finds a family however it is written,
    the model of the family that reads no videos among them.
    """
    words = family.removesuffix("_video").split("_")
    return re.compile("[-_. ]?".join(map(re.escape, words)), re.IGNORECASE)


def others_lines(family: str) -> Iterator[tuple[str, str]]:
    """Every line of the library, the models, the recipes and the examples that is not the family's
    own, addresses, configurations and samplers taken out.
    """
    own = {ROOT / "templates" / family, ROOT.parent / "models" / family}
    for path in sorted(path for room in ROOMS for path in room.rglob("*.py")):
        speaks_of_data = path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in DATA
        if speaks_of_data or path.with_suffix("") in own or own.intersection(path.parents):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            place = f"{path.relative_to(ROOT.parent)}:{number}"
            yield place, SAMPLER.sub("", CONFIG.sub("", ADDRESS.sub("", line)))


@pytest.mark.parametrize("family", registry.names())
def test_no_file_but_a_familys_own_names_it(family: str) -> None:
    pattern = spellings(family)

    assert [
        f"{place}: {line}" for place, line in others_lines(family) if pattern.search(line)
    ] == []


def test_every_file_is_looked_at_but_a_familys_own_and_those_on_data() -> None:
    read = {place.partition(":")[0] for place, _ in others_lines("qwen_vl")}

    assert {"mmdata/pipeline/encode.py", "models/decoder.py", "recipes/build.py"} <= read
    assert {"models/visualglm.py", "recipes/experiments/grounding.py"} <= read
    assert not any("qwen_vl" in place or "/formats/" in place for place in read)


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
