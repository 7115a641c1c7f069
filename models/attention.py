"""Scaled dot-product attention, and which of two ways it goes: the device's fused operator or plain
operators.

What Ascend's operator takes stands in one table, from the documentation of
`mindspore.ops.flash_attention_score` in MindSpore 2.10 (its text, of the layout BNSD and
`sparse_mode` 0):

| of | what it takes |
| --- | --- |
| types of queries, keys, values | float16 or bfloat16, all three the same |
| batch | 1 to 2,048 |
| length of queries, of keys | 1 to 524,288 |
| heads | 1 to 256 for queries; those of keys and values divide them |
| head size | a multiple of 16, at most 512 |
| mask | bool or uint8, true where hidden; (batch, heads or 1, length, keys) or (length, keys) |

Three of the published towers have heads of 72, 88 and 104: these are padded with zeros to the next
multiple, which changes no product, and the answer is cut back. A mask that is one for the
whole batch goes as (length, keys). What else does not fit goes the plain way.

The operator itself has not been run: no Ascend was at hand. The tests hand each call to a stand-in
that holds it to the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import mindspore as ms
from mindspore import Tensor, nn, ops

HEAD_STEP: Final = 16
LARGEST_HEAD: Final = 512
MOST_HEADS: Final = 256
LARGEST_BATCH: Final = 2048
LONGEST: Final = 512 * 1024


def fits_operator(batch: int, heads: int, num_kv_heads: int, longest: int, size: int) -> bool:
    """Whether the fused operator takes such an attention in half precision; `size` may still need
    padding, `longest` is the longer of queries and keys.
    """
    return (
        1 <= batch <= LARGEST_BATCH
        and 1 <= heads <= MOST_HEADS
        and heads % num_kv_heads == 0
        and longest <= LONGEST
        and size <= LARGEST_HEAD
    )


class Attend(nn.Cell):
    """Scaled dot-product attention;
    query heads share key heads in groups when there are fewer of the latter.

    On Ascend, in half precision, by MindSpore's fused operator where that takes it; elsewhere the
    same in plain operators, softmax in float32. `operator` is the fused one, called as
    `mindspore.ops.flash_attention_score`; by default the device's, None where it has none.
    """

    def __init__(self, operator: Callable[..., Any] | None = None) -> None:
        super().__init__()
        if operator is None and ms.get_context("device_target") == "Ascend":
            operator = ops.flash_attention_score
        self.operator: Any = operator
        # Unlike `ops.matmul`, without copies of what is transposed, there and in the gradient.
        self.multiply_transposed = ops.BatchMatMul(transpose_b=True)
        self.multiply = ops.BatchMatMul()

    def construct(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """(batch, heads, length, size) from queries of that shape,
        keys and values (batch, num_kv_heads, keys, size).

        `mask` is (batch or 1, 1, length, keys) bool: who may look at whom; None lets everyone look
        everywhere.
        """
        batch, heads, length, size = query.shape
        num_kv_heads, keys = key.shape[1], key.shape[2]
        if (
            self.operator is not None
            and query.dtype != ms.float32
            and fits_operator(batch, heads, num_kv_heads, max(length, keys), size)
        ):
            return self.fused(query, key, value, mask)
        return self.plain(query, key, value, mask)

    def fused(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """By the fused operator, with heads and mask as it wants them."""
        batch, heads, _, size = query.shape
        room = -size % HEAD_STEP
        if room:
            query, key, value = [
                ops.cat((x, ops.zeros((*x.shape[:3], room), x.dtype)), -1)
                for x in (query, key, value)
            ]
        blocked = None if mask is None else ops.logical_not(mask)
        if blocked is not None and blocked.shape[0] != batch:
            blocked = blocked[0, 0]
        attended = self.operator(
            query,
            key,
            value,
            heads,
            attn_mask=blocked,
            scalar_value=size**-0.5,
            input_layout="BNSD",
        )
        return attended[..., :size] if room else attended

    def plain(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """By plain operators."""
        batch, heads, length, size = query.shape
        num_kv_heads, keys = key.shape[1], key.shape[2]
        grouped = query.reshape(batch, num_kv_heads, heads // num_kv_heads * length, size)
        scores = self.multiply_transposed(grouped * size**-0.5, key).astype(ms.float32)
        scores = scores.reshape(batch, heads, length, keys)
        if mask is not None:
            # No score is left beside so small a number. To choose between scores and the number
            # would say the same, and take the CPU eight times as long, as would its gradient.
            scores = scores + ops.where(mask, Tensor(0.0, ms.float32), Tensor(-3e38, ms.float32))

        weights = ops.softmax(scores, -1).astype(value.dtype)
        weights = weights.reshape(batch, num_kv_heads, heads // num_kv_heads * length, keys)
        return self.multiply(weights, value).reshape(batch, heads, length, size)
