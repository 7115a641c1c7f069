"""Several samples in one row: first-fit decreasing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mmdata.pipeline.encode import Place

__all__ = ["pack"]

_NO_LIMIT: Final = 1 << 62


@dataclass(slots=True)
class _Row:
    """A row being filled, and the room that is left in it."""

    tokens: int
    views: int
    places: list[Place] = field(default_factory=list)

    def add(self, place: Place) -> bool:
        """Take the sample in, if there is room."""
        if place.tokens > self.tokens or place.views > self.views:
            return False
        self.tokens -= place.tokens
        self.views -= place.views
        self.places.append(place)
        return True

    @property
    def first(self) -> int:
        return min(place.position for place in self.places)


def pack(
    places: Sequence[Place], max_tokens: int, max_views: int | None
) -> list[tuple[Place, ...]]:
    """Return rows of at most ``max_tokens`` tokens and ``max_views`` pictures, the fullest first.

    First-fit decreasing: the longest sample first, each into the first row with room; it needs at
    most 11/9 of the best number of rows (Johnson, 1973). Every place is in one row; the places of a
    row stand as they come in the order.
    """
    rows: list[_Row] = []
    for place in sorted(places, key=lambda place: (-place.tokens, place.position)):
        # `any` stops at the first row that has taken it.
        if not any(row.add(place) for row in rows):
            rows.append(_Row(max_tokens, _NO_LIMIT if max_views is None else max_views))
            rows[-1].add(place)
    # The fullest rows make whole batches; what is left over, the emptiest, is packed again.
    rows.sort(key=lambda row: (row.tokens, row.first))
    return [tuple(sorted(row.places, key=lambda place: place.position)) for row in rows]
