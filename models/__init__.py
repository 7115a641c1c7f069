"""Compact vision-language models in MindSpore:
one file a family, on shared modules. Nothing here knows `mmdata`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

FAMILIES = ("cogvlm2_video", "llava_next_video", "qwen_vl", "visualglm")


def family_module(family: str) -> ModuleType:
    """The file of a family: `MODEL`, `PRESETS`, `PARTS`, `LORA`, `weight_map`, `mindformers_map`,
    `canonical_name`.

    Raises:
        ValueError: if there is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown model family {family!r}; there are {', '.join(FAMILIES)}")
    return importlib.import_module(f"models.{family}")
