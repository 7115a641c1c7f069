"""Where the pack lies, our words, and how its files are written: the same bytes every time."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACK = Path(__file__).resolve().parent.parent
GOLDEN = PACK / "golden"
FIXTURES = PACK / "fixtures"

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

WORDS = (
    "The lamp on the desk is green, and a grey cat sleeps beneath it.",
    "How many chairs stand around the table? There are 4 chairs and 1 stool.",
    "A boy throws the ball at second 3; his sister catches it at second 5.",
    "Describe the picture. What is written on the sign? Which of the two boats is nearer?",
    "It says OPEN 24 hours.\nThe left boat is nearer, the right one is 12.5 metres away.",
    "She doesn't know why they're late; I'll ask, and we've time until 10:45.",
    "窗台上有三盆花，左边的一盆开了。",
    "视频里的人在做什么？他先开门，然后把伞放在椅子上。",
    "Café, naïve, Straße, 北京, ½, ①, ﬁn, Ａ，！：；？ and an emoji \U0001f6b2.",
    "It cost 1250 in 1989, 100 more than 250 and 1000 times 125.",
    "  two blanks, a\ttab and\r\nanother line   end ",
)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, one case a line where the value is a list of cases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, list):
        lines = ",\n".join(
            json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in value
        )
        text = f"[\n{lines}\n]"
    path.write_text(f"{text}\n", encoding="utf-8")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write a JSON Lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in values), encoding="utf-8"
    )


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an ``.npz`` file whose bytes depend on the arrays alone, not on the time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, np.asarray(array))
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED, 9
            )


def runs(values: Iterable[Any]) -> list[list[Any]]:
    """Return ``[value, count]`` for each run of equal values."""
    return [[value, len(list(run))] for value, run in groupby(values)]


def normalize(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return what CLIP's models read: float32, channels first."""
    scaled = (
        np.asarray(pixels, np.float32) / np.float32(255) - np.array(MEAN, np.float32)
    ) / np.array(STD, np.float32)
    return np.moveaxis(scaled, -1, -3)
