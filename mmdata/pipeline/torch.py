"""The stream as a PyTorch data set, for debugging beside MindSpore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmdata._tools.options import checked
from mmdata._tools.requirements import load_optional
from mmdata.errors import ConfigError
from mmdata.pipeline.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["torch_dataset"]


@checked
def torch_dataset(stream: Stream) -> Any:
    """Return a ``torch.utils.data.IterableDataset``
    that yields the batches of ``stream`` as dicts of tensors.

    Iterate over it, or give it to ``DataLoader(..., batch_size=None)`` without workers: the stream
    has its own.

    Raises:
        ConfigError: when it is iterated over in a worker process of a DataLoader.
        UsageError: torch is not installed.
    """
    torch = load_optional("torch", needed_by="torch_dataset")
    from torch.utils.data import IterableDataset, get_worker_info

    class Batches(IterableDataset):  # type: ignore[misc]  # torch is not typed for us
        """The batches of a stream, tensors that share the memory of its arrays."""

        def __iter__(self) -> Iterator[dict[str, Any]]:
            if get_worker_info() is not None:
                raise ConfigError(
                    "the stream has workers of its own: use DataLoader(..., num_workers=0)"
                )
            for batch in stream:
                yield {name: torch.from_numpy(array) for name, array in batch.arrays.items()}

    return Batches()
