"""The stream as a MindSpore dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mmdata._tools.options import NonNegativeInt, PositiveInt, checked
from mmdata._tools.requirements import load_optional
from mmdata.errors import ConfigError
from mmdata.pipeline.stream import Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["mindspore_dataset"]


@checked
def mindspore_dataset(
    stream: Stream, *, num_workers: NonNegativeInt | None = None, steps: PositiveInt | None = None
) -> Any:
    """Return a ``mindspore.dataset.GeneratorDataset``
    of the batches of ``stream``, one column for each array.

    Use it as it is: ``create_dict_iterator``, ``Model.train``; it is batched, shuffled, sharded and
    read ahead already. One pass over it is ``steps`` batches, by default what is left of the epoch;
    passes go on where the last one ended, over the end of an epoch too, and a pass that is left
    early is made again. ``num_workers`` is the number of decoding threads, by default that of the
    stream.

    MindSpore's engine takes batches before they are trained on: ask for
    ``stream.state_dict(step=...)`` with the number of steps that were.
    ``mindspore.dataset.config.set_prefetch_size(2)`` bounds the memory of what it holds.

    Raises:
        ConfigError: the length of an epoch is not known beforehand, and no ``steps`` are given; or
            the layout is ``transformers`` or ``mindspeed_mm``.
        UsageError: MindSpore is not installed, or decord has been imported before it.
    """
    if stream.layout in ("transformers", "mindspeed_mm"):
        raise ConfigError(
            f"the layout {stream.layout} has other arrays from batch to batch, and a MindSpore "
            "data set has fixed columns: take the layout mmdata"
        )
    ds = load_optional("mindspore.dataset", needed_by="mindspore_dataset")
    left = stream.steps_left if steps is None else steps
    if left is None:
        raise ConfigError(
            "how many steps an epoch has is not known before its samples are read "
            "(packing, grouping, on_error='skip', over_long='drop'): "
            "say by steps=... how many batches one pass over the data set has"
        )

    return ds.GeneratorDataset(
        _Passes(stream, left, num_workers),
        list(stream.columns),
        shuffle=False,
        num_parallel_workers=1,
    )


class _Passes:
    """``steps`` batches of a stream every time it is iterated over."""

    def __init__(self, stream: Stream, steps: int, workers: int | None) -> None:
        self._stream = stream
        self._steps = steps
        self._workers = workers

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[NDArray[np.generic], ...]]:
        for batch in self._stream.take(self._steps, workers=self._workers):
            yield tuple(batch.arrays.values())
