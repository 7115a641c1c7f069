"""A batch: arrays by name, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Batch(Mapping[str, "NDArray[np.generic]"]):
    """A rank's rows of a global batch: its arrays by name,
    as :mod:`mmdata.pipeline.collate` lays them out.

    ``ids`` are the samples of each row. The last ``repeated`` rows are there a second time, to fill
    the last batch of an epoch. ``tokens`` counts what is not padding; ``media_mask`` (views,) bool
    says which of the pixels are not. ``epoch`` counts from 0, ``step`` the batches since the
    beginning of training, this one included. ``unsaid`` counts what the template left out of these
    samples because its family has no way to say it (:attr:`mmdata.templates.Encoded.unsaid`), by
    kind.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    ids: tuple[tuple[str, ...], ...]
    repeated: int
    tokens: int
    media_mask: NDArray[np.bool_]
    epoch: int
    step: int
    unsaid: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def nbytes(self) -> int:
        """The size of all arrays in bytes."""
        return sum(array.nbytes for array in self.arrays.values())

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}={array.shape} {array.dtype}" for name, array in self.arrays.items()
        )
        return f"Batch(epoch {self.epoch}, step {self.step}, {self.tokens} tokens, {shapes})"
