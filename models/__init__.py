"""Compact vision-language models in MindSpore:
one file a family, on shared modules. Nothing here knows `mmdata`.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Final

# A family's file is one that names its `MODEL`. Read as text: an import would start MindSpore.
FAMILIES: Final = tuple(
    sorted(
        file.stem
        for file in Path(__file__).parent.glob("*.py")
        if re.search(r"^MODEL\b", file.read_text(encoding="utf-8"), re.MULTILINE)
    )
)


def family_module(family: str) -> ModuleType:
    """The file of a family: `MODEL`, `PRESETS`, `VOCABULARY`, `PARTS`, `LORA`, `LAYOUTS`,
    `weight_map`, `canonical_name` and, where MindFormers has the family, `mindformers_map`.

    Raises:
        ValueError: if there is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown model family {family!r}; there are {', '.join(FAMILIES)}")
    return importlib.import_module(f"models.{family}")
