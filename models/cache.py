"""The memory of a decoder: keys and values of the tokens seen so far."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from models.modules import causal_mask
from models.parallel import Copied, ModelGroup, check_divides


class KVCache(nn.Cell):
    """Keys and values in parameters of fixed length,
    so that one compiled graph serves every decoding step.
    """

    def __init__(self, batch: int, heads: int, length: int, size: int, dtype: ms.dtype) -> None:
        super().__init__()
        self.keys = Parameter(
            initializer(0, (batch, heads, length, size), dtype), requires_grad=False
        )
        self.values = Parameter(
            initializer(0, (batch, heads, length, size), dtype), requires_grad=False
        )

    def construct(self, key: Tensor, value: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """The whole cache, twice (batch, heads, cache length, size),
        with the new tokens in `slots` (batch, length).
        """
        places = ops.broadcast_to(slots[:, None, :, None], key.shape)
        keys = ops.tensor_scatter_elements(self.keys, places, key, 2)
        values = ops.tensor_scatter_elements(self.values, places, value, 2)
        ops.assign(self.keys, keys)
        ops.assign(self.values, values)
        return keys, values


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

    def remember(self, key: Tensor, value: Tensor, slots: Tensor | None) -> tuple[Tensor, Tensor]:
        """The keys and values to look at:
        a single new token sees the cache, a longer text (a prompt) only itself.
        """
        if slots is None:
            return key, value
        keys, values = self.cache(key, value, slots)
        if key.shape[2] == 1:
            return keys, values
        # Else graph mode drops the writing as unused.
        return ops.depend(key, keys), ops.depend(value, values)


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
    slots: Tensor | None,
    attention: CachedAttention,
    prefix: Tensor | None = None,
) -> Tensor:
    """Who may look at whom: `causal_mask`, or,
    for a single new token, the filled slots of the cache.

    (batch or 1, 1, length, keys) bool; `slots` (batch, length) is where new tokens go, None outside
    generation.
    """
    if slots is None or length > 1:
        return causal_mask(length, segment_ids, prefix)
    cached = ops.arange(attention.cache.keys.shape[2])
    return cached[None, None, None, :] <= slots[:, None, :, None]
