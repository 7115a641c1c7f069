"""The memory of a decoder: keys and values of the tokens seen so far."""

from __future__ import annotations

from typing import Any, TypeAlias

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from models.modules import causal_mask
from models.parallel import Copied, ModelGroup, check_divides

# Of generation, int32: where the new tokens go in the caches, (batch, length); and the numbers of
# the first slots, (reach,), of which a single new token looks at those that are filled.
Slots: TypeAlias = tuple[Tensor, Tensor]


class KVCache(nn.Cell):
    """Keys and values in parameters of fixed length, of which the tokens read the first slots.

    A row of a parameter is a slot of one head of one text. Rows are written in place and read
    alone, so that a token costs by what is in the cache and not by its room: to scatter along more
    axes than the first copies a parameter, and so does it to reshape it.
    """

    def __init__(self, batch: int, heads: int, length: int, size: int, dtype: ms.dtype) -> None:
        super().__init__()
        self.length = length
        shape = (batch * heads * length, size)
        self.keys = Parameter(initializer(0, shape, dtype), requires_grad=False)
        self.values = Parameter(initializer(0, shape, dtype), requires_grad=False)

    def construct(self, key: Tensor, value: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """Write the new tokens (batch, heads, length, size), keys and values, in their place;
        those to look at: a single new token sees the first slots of the cache
        (batch, heads, reach, size), a longer text (a prompt) only itself.
        """
        places, reach = slots
        batch, heads, length, _ = key.shape
        first = ops.arange(batch * heads).astype(ms.int32).reshape(batch, heads, 1) * self.length
        written = first + places[:, None, :]
        keys = ops.scatter_update(self.keys, written, key)
        values = ops.scatter_update(self.values, written, value)
        if length > 1:
            # Else graph mode drops the writing as unused.
            return ops.depend(key, keys), ops.depend(value, values)
        return ops.gather(keys, first + reach, 0), ops.gather(values, first + reach, 0)


class CachedAttention(nn.Cell):
    """What a decoder's attention inherits to remember:
    no cache until `make_caches` gives it one.
    """

    def __init__(self, num_kv_heads: int, head_size: int) -> None:
        super().__init__()
        self.num_kv_heads, self.head_size = num_kv_heads, head_size
        self.cache: Any = None  # or a KVCache
        self.copied: Any = None  # or a Copied, when divided

    def divide_heads(self, heads: int, group: ModelGroup) -> tuple[int, tuple[int, ...]]:
        """Keep this process' share of `heads` query heads and of the key heads; how many query
        heads that is, and how many processes hold the same queries, keys and values.

        Fewer key heads than processes are repeated: each is held by several neighbours.

        Raises:
            ValueError: if they cannot be divided.
        """
        check_divides(heads, "attention heads", group)
        if self.num_kv_heads % group.size and group.size % self.num_kv_heads:
            raise ValueError(
                f"{self.num_kv_heads} key heads can neither be divided among {group.size} "
                "processes nor repeated for them"
            )
        copies = max(1, group.size // self.num_kv_heads)
        self.num_kv_heads = self.num_kv_heads * copies // group.size
        self.copied = Copied(group)
        return heads // group.size, (1, copies, copies)

    def remember(self, key: Tensor, value: Tensor, slots: Slots | None) -> tuple[Tensor, Tensor]:
        """The keys and values to look at, with `slots` those that the cache gives."""
        return (key, value) if slots is None else self.cache(key, value, slots)


def make_caches(model: nn.Cell, batch: int, length: int, dtype: ms.dtype) -> None:
    """Give every decoder layer an empty cache for `batch` texts of at most `length` tokens."""
    for path, cell in model.cells_and_names():
        if isinstance(cell, CachedAttention):
            cell.cache = KVCache(batch, cell.num_kv_heads, length, cell.head_size, dtype)
            cell.cache.update_parameters_name(f"{path}.cache.")


def drop_caches(model: nn.Cell) -> None:
    """Free the memory that `make_caches` took."""
    for _, cell in model.cells_and_names():
        if isinstance(cell, CachedAttention):
            cell.cache = None


def attention_mask(
    length: int,
    segment_ids: Tensor | None,
    slots: Slots | None,
    prefix: Tensor | None = None,
) -> Tensor:
    """Who may look at whom: `causal_mask`, or,
    for a single new token, the filled slots of the cache.

    (batch or 1, 1, length, keys) bool; `slots` is None outside generation.
    """
    if slots is None or length > 1:
        return causal_mask(length, segment_ids, prefix)
    places, reach = slots
    return reach[None, None, None, :] <= places[:, None, :, None]
