"""A sequence as a template builds it:
runs of text and media in order, and the arrays they become.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from mmdata.templates._encoded import IGNORE, Encoded, MediaSlot, PixelPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.templates._encoded import Ids

__all__ = [
    "Item",
    "Medium",
    "Positions",
    "Run",
    "build_encoded",
    "num_tokens",
    "sequential_positions",
]


class Run(Struct, frozen=True, gc=False):
    """Ids that share one fate: trained on, or not;
    ``mark`` if they are the dialect's own, and no answer.
    """

    ids: Sequence[int]
    trained: bool = False
    mark: bool = False


@dataclass(frozen=True, slots=True)
class Medium:
    """What one medium takes in a sequence, whole or not at all.

    ``ids`` are its placeholders and the marks around and between them, never trained on; ``slots``
    the (offset, length) among them of the runs that the features of ``pixels`` fill.
    """

    pixels: PixelPlan
    ids: Sequence[int]
    slots: tuple[tuple[int, int], ...]


Item: TypeAlias = "Run | Medium"
Positions: TypeAlias = "Callable[[int, Sequence[MediaSlot]], Ids]"
"""From a length and the slots to position ids, (length,) or (axes, length) int32."""


def num_tokens(items: Iterable[Item]) -> int:
    """Return the number of tokens."""
    return sum(len(item.ids) for item in items)


def build_encoded(
    items: Sequence[Item],
    positions: Positions,
    *,
    typed: bool = False,
    prefix: int = 0,
    cut: int = 0,
) -> Encoded:
    """Return the arrays of a sequence; ``typed`` adds token types, 1 in the slots."""
    import numpy as np

    ids: list[int] = []
    trained: list[slice] = []
    slots: list[MediaSlot] = []
    pixels: list[PixelPlan] = []
    for item in items:
        start = len(ids)
        ids += item.ids
        if isinstance(item, Medium):
            slots += _slots(item, start, len(pixels))
            pixels.append(item.pixels)
        elif item.trained:
            trained.append(slice(start, len(ids)))

    input_ids = np.fromiter(ids, np.int32, len(ids))
    labels = np.full(len(ids), IGNORE, np.int32)
    for part in trained:
        labels[part] = input_ids[part]
    return Encoded(
        input_ids,
        labels,
        positions(len(ids), slots),
        tuple(slots),
        tuple(pixels),
        token_types=_types(len(ids), slots) if typed else None,
        prefix=prefix,
        cut=cut,
    )


def sequential_positions(length: int, slots: Sequence[MediaSlot]) -> Ids:
    """Return positions 0, 1, 2 ...; (length,) int32."""
    import numpy as np

    return np.arange(length, dtype=np.int32)


def _slots(medium: Medium, start: int, plan: int) -> Iterable[MediaSlot]:
    return (
        MediaSlot(medium.pixels.media, start + offset, length, plan)
        for offset, length in medium.slots
    )


def _types(length: int, slots: Sequence[MediaSlot]) -> NDArray[np.int8]:
    import numpy as np

    types = np.zeros(length, np.int8)
    for slot in slots:
        types[slot.start : slot.stop] = 1
    return types
