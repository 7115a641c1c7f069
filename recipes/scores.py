"""What an answer is worth beside the reference: text for text, label for label, box for box, second
for second.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from mmdata.schema import Box, Part, Region, Text, Time

Parts: TypeAlias = Sequence[Part]
Score: TypeAlias = Callable[[Parts, Parts], float]

TOLERANCE: Final = 1.0  # seconds that an answer may be off


def text_of(parts: Parts) -> str:
    """The words of an answer, without what stands around them."""
    return "".join(part.text for part in parts if isinstance(part, Text)).strip()


def label_of(parts: Parts) -> str:
    """The words of an answer as a label: small letters, no punctuation around, single spaces."""
    return " ".join(text_of(parts).casefold().strip(string.punctuation + string.whitespace).split())


def box_of(parts: Parts) -> Box | None:
    """The first box of an answer."""
    return next((part.boxes[0] for part in parts if isinstance(part, Region) and part.boxes), None)


def second_of(parts: Parts) -> float:
    """The first moment that an answer names, as a time or as a number; NaN if it names none."""
    for part in parts:
        if isinstance(part, Time):
            return part.start
        if isinstance(part, Text) and (found := re.search(r"\d+(\.\d+)?", part.text)):
            return float(found[0])
    return float("nan")


def overlap(first: Box | None, second: Box | None) -> float:
    """Intersection over union; 0 where there is no box."""
    if first is None or second is None:
        return 0.0
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = ((one[2] - one[0]) * (one[3] - one[1]) for one in (first, second))
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def exact(said: Parts, reference: Parts) -> float:
    """1 where the texts are the same, else 0."""
    return float(text_of(said) == text_of(reference))


def accuracy(said: Parts, reference: Parts) -> float:
    """1 where the labels are the same (`label_of`), else 0."""
    return float(label_of(said) == label_of(reference))


def iou(said: Parts, reference: Parts) -> float:
    """The overlap of the first boxes, 0 to 1."""
    return overlap(box_of(said), box_of(reference))


def seconds(said: Parts, reference: Parts) -> float:
    """1 where the first moments are at most a second apart, else 0."""
    return float(abs(second_of(said) - second_of(reference)) <= TOLERANCE)


SCORES: Final[dict[str, Score]] = {
    "exact": exact,
    "accuracy": accuracy,
    "iou": iou,
    "seconds": seconds,
}
