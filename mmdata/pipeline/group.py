"""How the samples of a window become rows, and rows global batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mmdata.pipeline.encode import Place
from mmdata.pipeline.packing import pack

__all__ = ["GroupBy", "Grouping", "Row", "Rows"]

GroupBy: TypeAlias = Literal["length", "modality"]
Row: TypeAlias = tuple[Place, ...]
Rows: TypeAlias = Sequence[Row]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Global batches of ``batch`` rows, made of what is alike under ``by``;
    ``room`` (tokens, views) packs samples.

    Whatever the grouping, batches come by their earliest sample, so that the order stays as random
    as it was.
    """

    batch: int
    by: GroupBy | None = None
    room: tuple[int, int | None] | None = None

    def __call__(self, places: Sequence[Place]) -> tuple[list[Rows], list[Rows]]:
        """Return whole batches, and the rows that make none, those alike together."""
        batches: list[Rows] = []
        rest: list[Rows] = []
        for group in _alike(places) if self.by == "modality" else [places]:
            whole, left = self._batches(group)
            batches += whole
            rest += [left] if left else []
        return sorted(batches, key=_first), rest

    def _batches(self, places: Sequence[Place]) -> tuple[list[Rows], Rows]:
        rows = [(place,) for place in places] if self.room is None else pack(places, *self.room)
        whole = len(rows) // self.batch * self.batch
        chosen = sorted(rows[:whole], key=_length if self.by == "length" else _position)
        batches: list[Rows] = [
            chosen[start : start + self.batch] for start in range(0, whole, self.batch)
        ]
        return batches, rows[whole:]


def _alike(places: Sequence[Place]) -> list[list[Place]]:
    """Split by what samples show: nothing, pictures, clips."""
    groups: dict[tuple[bool, bool], list[Place]] = {}
    for place in places:
        groups.setdefault(place.modality, []).append(place)
    return [groups[key] for key in sorted(groups)]


def _first(rows: Rows) -> int:
    return min(place.position for row in rows for place in row)


def _position(row: Row) -> tuple[int, ...]:
    return (row[0].position,)


def _length(row: Row) -> tuple[int, ...]:
    return (row[0].tokens, row[0].position)
