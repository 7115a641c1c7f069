"""Memory of large arrays that is used again once nobody holds them.

The pixels of a batch are hundreds of megabytes. What is allocated anew for each comes from the
system page by page, zeroed: measured, that takes longer than to compute what is written there.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mmdata._tools.options import PositiveInt, checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Number = TypeVar("Number", bound=np.generic)

__all__ = ["Memory"]

_GRAIN: Final = 1 << 20
"""What sizes are rounded up to, so that batches of about one size share memory."""
_LARGE: Final = 1 << 24
"""Bytes below which the C library reuses memory by itself."""


class Memory:
    """Gives arrays out of at most ``kept`` pieces of memory that were given back."""

    @checked
    def __init__(self, kept: PositiveInt = 4) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=kept)

    def empty(self, shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number]:
        """Return an array whose values are whatever was there before.

        Its memory comes back when neither it is left nor a view of it, nor a tensor that shares it.
        """
        import numpy as np

        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < _LARGE:
            return np.empty(shape, dtype)
        block = self._take(size)
        found: NDArray[Number] = np.asarray(_Lease(block, self._free))[:size].view(dtype)
        return found.reshape(shape)

    def _take(self, size: int) -> NDArray[np.uint8]:
        """Return a piece of memory of that size at least, and at most twice that."""
        import numpy as np

        for _ in range(len(self._free)):
            try:
                block = self._free.popleft()
            except IndexError:  # another thread has taken it
                break
            if size <= len(block) <= 2 * size:
                return block
            self._free.append(block)  # for arrays of another size
        return np.empty(-(-size // _GRAIN) * _GRAIN, np.uint8)


class _Lease:
    """What an array of this memory names as its owner; its end gives the memory back."""

    def __init__(self, block: NDArray[np.uint8], free: deque[NDArray[np.uint8]]) -> None:
        self.__array_interface__: dict[str, Any] = block.__array_interface__
        # Not by __del__, which may run while the interpreter ends and names are gone.
        weakref.finalize(self, free.append, block).atexit = False
