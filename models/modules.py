"""The layers that all families share, from small to large.

Linear layers run in the type of their input, so a model computes in the `dtype` of its config
whatever its weights are stored in; norms, softmax, rotary angles and the loss are computed in
float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Normal, initializer
from numpy.typing import NDArray

from models.parallel import (
    Copied,
    Cut,
    Divisible,
    ModelGroup,
    SharedPieces,
    Summed,
    check_divides,
    take_piece,
)

IGNORED = -100  # the label of a position that is no target

# OpenAI CLIP's pixel statistics (RGB, of 0..1); all four published models were trained with them.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def numeric(dtype: str) -> ms.dtype:
    """The MindSpore type of that name.

    Raises:
        ValueError: for anything but `float32`, `float16` and `bfloat16`.
    """
    if dtype not in ("float32", "float16", "bfloat16"):
        raise ValueError(
            f"unknown dtype {dtype!r}: write float32, float16 or bfloat16 (not on CPU)"
        )
    return getattr(ms, dtype)


def normal(*shape: int, std: float = 0.02) -> Parameter:
    """A float32 parameter drawn from a normal distribution with MindSpore's global seed."""
    return Parameter(initializer(Normal(std), shape, ms.float32))


def constant(value: float, *shape: int) -> Parameter:
    """A float32 parameter filled with `value`."""
    return Parameter(initializer(value, shape, ms.float32))


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU."""
    return x * ops.sigmoid(1.702 * x)


def exact_gelu(x: Tensor) -> Tensor:
    """GELU by the error function (MindSpore's own default is the tanh form, up to 5e-4 away)."""
    return ops.gelu(x, approximate="none")


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU in its tanh form, as ChatGLM has it."""
    return ops.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": exact_gelu,
    "gelu_tanh": tanh_gelu,
    "quick_gelu": quick_gelu,
}


_TIMES_TRANSPOSED = ops.MatMul(transpose_b=True)


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`: (…, inputs) and (outputs, inputs) to (…, outputs), in the type of `x`.

    As rows of a matrix, for which the kernel takes the weight as it lies: `ops.dense`, which takes
    any number of axes, costs three times as much for a single token on a CPU.
    """
    outputs, inputs = weight.shape
    rows = x.reshape(-1, inputs)
    return _TIMES_TRANSPOSED(rows, weight.astype(x.dtype)).reshape(*x.shape[:-1], outputs)


class Linear(Divisible):
    """`x @ weight.T + bias`; weight (outputs, inputs), as published checkpoints store it.

    `rows` says how a fused projection's outputs are divided, say into queries, keys and values.

    Several processes can hold it together. Divided by outputs, each makes some of them, of an input
    that all have; divided by inputs, each has some of these, and what it makes is summed.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = False,
        rows: tuple[int, ...] | None = None,
        std: float = 0.02,
    ) -> None:
        super().__init__()
        self.rows = (outputs,) if rows is None else rows
        self.weight = normal(outputs, inputs, std=std)
        self.bias = constant(0, outputs) if bias else None
        self.gathered: Any = None  # or what makes a weight whole that is sliced (models.sharding)
        self.summed: Any = None  # or a Summed, of what is divided by inputs
        self.shared: Any = None  # or a SharedPieces, of parts that others hold too

    def construct(self, x: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        bias = None if self.bias is None else self.own(self.bias).astype(x.dtype)
        if self.summed is None:
            return self.product(x, bias)
        # The bias, which all have, is added once.
        y = self.summed(self.product(x, None))
        return y if bias is None else y + bias

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """What this process makes of its inputs."""
        weight = self.weight if self.gathered is None else self.gathered(self.weight)
        y = multiply(x, self.own(weight))
        return y if bias is None else y + bias

    def own(self, parameter: Tensor) -> Tensor:
        """A parameter that is divided by outputs; others may hold parts of this piece."""
        return parameter if self.shared is None else self.shared(parameter)

    def take_from(self, other: Linear) -> None:
        """Hold what another linear layer holds, divided as it is."""
        self.weight, self.bias, self.rows = other.weight, other.bias, other.rows
        self.cuts, self.group, self.gathered = other.cuts, other.group, other.gathered
        self.summed, self.shared = other.summed, other.shared

    def divide_outputs(
        self, group: ModelGroup, copies: tuple[int, ...] = (), *, padded: bool = False
    ) -> None:
        """Keep this process' outputs, of each of the `rows`; `copies` and `padded` as in `Cut`.

        The input is to come through `Copied`, once for all layers that read it.

        Raises:
            ValueError: if they cannot be divided.
        """
        cut = Cut(0, self.rows, group.size, copies, padded)
        self.weight = take_piece(self.weight, cut, group.rank)
        self.cuts = {"weight": cut}
        if self.bias is not None:
            self.bias = take_piece(self.bias, cut, group.rank)
            self.cuts = {"weight": cut, "bias": cut}
        self.rows, self.group = cut.local_parts, group
        if max(cut.copies) > 1:
            self.shared = SharedPieces(cut, group)

    def divide_inputs(self, group: ModelGroup) -> None:
        """Keep the weights of this process' inputs.

        Raises:
            ValueError: if they cannot be divided.
        """
        cut = Cut(1, (self.weight.shape[1],), group.size)
        self.weight = take_piece(self.weight, cut, group.rank)
        self.cuts, self.group = {"weight": cut}, group
        self.summed = Summed(group)


class Embedding(Divisible):
    """Rows of a table, chosen by id; several processes can hold some of the rows each."""

    def __init__(self, rows: int, size: int) -> None:
        super().__init__()
        self.weight = normal(rows, size)
        self.gathered: Any = None  # as in `Linear`
        self.summed: Any = None  # or a Summed

    def construct(self, ids: Tensor) -> Tensor:
        """(…) int32 -> (…, size)."""
        weight = self.weight if self.gathered is None else self.gathered(self.weight)
        if self.summed is None:
            return ops.gather(weight, ids, 0)

        # One process has the row, the others add zeros to it.
        rows = weight.shape[0]
        local = ids - self.group.rank * rows
        inside = ops.logical_and(local >= 0, local < rows)
        found = ops.gather(weight, ops.where(inside, local, 0), 0)
        return self.summed(found * inside.astype(found.dtype).expand_dims(-1))

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' rows, filled up with zeros where they do not divide."""
        cut = Cut(0, (self.weight.shape[0],), group.size, padded=True)
        self.weight = take_piece(self.weight, cut, group.rank)
        self.cuts, self.group = {"weight": cut}, group
        self.summed = Summed(group)


class PatchConv(nn.Cell):
    """A convolution whose kernel equals its stride, as one matrix product;
    a rest that does not fit is left out.
    """

    def __init__(self, channels: int, outputs: int, size: int, bias: bool) -> None:
        super().__init__()
        self.size = size
        self.weight = normal(outputs, channels, size, size)
        self.bias = constant(0, outputs) if bias else None

    def construct(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, rows * columns, outputs), row by row."""
        batch, channels, height, width = x.shape
        p, rows, columns = self.size, height // self.size, width // self.size
        x = x[:, :, : rows * p, : columns * p].reshape(batch, channels, rows, p, columns, p)
        x = x.transpose(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * p * p)
        weight = self.weight.astype(x.dtype).reshape(-1, channels * p * p)
        y = ops.matmul(x, weight.swapaxes(0, 1))
        return y if self.bias is None else y + self.bias.astype(x.dtype)


def resize_grid(x: Tensor, weights: Tensor) -> Tensor:
    """Each grid of `x` (images, side, side, size) resampled along rows
    and columns by `weights` (new side, side).
    """
    images, side, _, size = x.shape
    weights = weights.astype(x.dtype)
    x = ops.matmul(weights, x.reshape(images, side, side * size))
    x = ops.matmul(weights, x.reshape(-1, side, size))
    return x.reshape(images, weights.shape[0], weights.shape[0], size)


class LayerNorm(nn.Cell):
    """Layer normalisation over the last axis, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = constant(1, size)
        self.bias = constant(0, size)
        # `ops.layer_norm` has no CPU kernel in MindSpore 2.10
        self.norm = ops.LayerNorm(-1, -1, eps)

    def construct(self, x: Tensor) -> Tensor:
        """(…, size), as it came in but normalised."""
        weight, bias = self.weight.astype(ms.float32), self.bias.astype(ms.float32)
        return self.norm(x.astype(ms.float32), weight, bias)[0].astype(x.dtype)


class RMSNorm(nn.Cell):
    """Root-mean-square normalisation over the last axis, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = constant(1, size)
        self.copied: Any = None  # or a Copied, where each process normalises heads of its own

    def construct(self, x: Tensor) -> Tensor:
        """(…, size), as it came in but normalised."""
        weight = self.weight if self.copied is None else self.copied(self.weight)
        wide = x.astype(ms.float32)
        wide = wide * ops.rsqrt(ops.mean(ops.square(wide), -1, True) + self.eps)
        return (wide * weight.astype(ms.float32)).astype(x.dtype)


def divide_hidden(into: Sequence[Linear], out: Linear, group: ModelGroup) -> Copied:
    """Keep this process' share of the hidden units between two sides of an MLP; what its input goes
    through comes back.

    Raises:
        ValueError: if they cannot be divided.
    """
    check_divides(into[0].weight.shape[0], "hidden units of an MLP", group)
    for linear in into:
        linear.divide_outputs(group)
    out.divide_inputs(group)
    return Copied(group)


class MLP(nn.Cell):
    """Two linear layers with an activation between them."""

    def __init__(self, size: int, hidden: int, activation: str, std: float = 0.02) -> None:
        super().__init__()
        self.up = Linear(size, hidden, bias=True, std=std)
        self.down = Linear(hidden, size, bias=True, std=std)
        self.activation = ACTIVATIONS[activation]
        self.copied: Any = None  # or a Copied, when divided

    def construct(self, x: Tensor) -> Tensor:
        """(…, size) -> (…, size)."""
        x = x if self.copied is None else self.copied(x)
        return self.down(self.activation(self.up(x)))

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the hidden units.

        Raises:
            ValueError: if they cannot be divided.
        """
        self.copied = divide_hidden((self.up,), self.down, group)


class GatedMLP(nn.Cell):
    """SwiGLU: `down(silu(gate(x)) * up(x))`."""

    def __init__(self, size: int, hidden: int, std: float = 0.02, bias: bool = False) -> None:
        super().__init__()
        self.gate = Linear(size, hidden, bias, std=std)
        self.up = Linear(size, hidden, bias, std=std)
        self.down = Linear(hidden, size, bias, std=std)
        self.copied: Any = None  # or a Copied, when divided

    def construct(self, x: Tensor) -> Tensor:
        """(…, size) -> (…, size)."""
        x = x if self.copied is None else self.copied(x)
        return self.down(ops.silu(self.gate(x)) * self.up(x))

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the hidden units.

        Raises:
            ValueError: if they cannot be divided.
        """
        self.copied = divide_hidden((self.gate, self.up), self.down, group)


def inverse_frequencies(size: int, base: float) -> NDArray[Any]:
    """RoPE's angular steps, (size / 2,) float32: base^(-2j / size)."""
    return (base ** (-np.arange(0, size, 2) / size)).astype(np.float32)


def rotary_tables(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for `rotate`, each (batch, 1, length, size) float32.

    `positions` is (batch, length); `frequencies` is (size / 2,) or, one row a sample, (batch, 1,
    size / 2).
    """
    return tables_of_angles(positions.astype(ms.float32).expand_dims(-1) * frequencies)


def tables_of_angles(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for `rotate`, each (batch, 1, length, size), of angles (batch, length, size /
    2); the sine has a minus in its first half.
    """
    cos, sin = ops.cos(angles), ops.sin(angles)
    return ops.cat((cos, cos), -1).expand_dims(1), ops.cat((-sin, sin), -1).expand_dims(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` (batch, heads, length, size) turned by the tables,
    the first half of a head paired with its second half.
    """
    wide = x.astype(ms.float32)
    first, second = ops.chunk(wide, 2, -1)
    return (wide * cos + ops.cat((second, first), -1) * sin).astype(x.dtype)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads * size) -> (batch, heads, length, size)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)


def join_heads(x: Tensor) -> Tensor:
    """(batch, heads, length, size) -> (batch, length, heads * size)."""
    batch, heads, length, size = x.shape
    return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * size)


def causal_mask(length: int, segment_ids: Tensor | None, prefix: Tensor | None = None) -> Tensor:
    """Who may look at whom, (batch or 1, 1, length, length) bool:
    earlier tokens and, everywhere, the prefix.

    `segment_ids` (batch, length): only tokens of the same packed sample (0 is padding). `prefix`
    (batch, length) bool: tokens that all tokens of their segment see, the later ones of the prefix
    included.
    """
    index = ops.arange(length)
    mask = (index[None, :] <= index[:, None])[None, None]
    if prefix is not None:
        mask = ops.logical_or(mask, prefix[:, None, None, :])
    if segment_ids is not None:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask = ops.logical_and(mask, same)
    return mask


def normalise_pixels(
    pixels: Tensor, mean: Sequence[float], std: Sequence[float], dtype: ms.dtype
) -> Tensor:
    """(images, 3, height, width) in `dtype`.

    (images, height, width, 3) uint8 is scaled and normalised here, on the device (a quarter of the
    bytes to move); float pixels are taken as normalised and channel-first.
    """
    if pixels.dtype != ms.uint8:
        return pixels.astype(dtype)
    scale = Tensor(1 / (255 * np.array(std)), ms.float32)
    shift = Tensor(np.array(mean) / np.array(std), ms.float32)
    return (pixels.astype(ms.float32) * scale - shift).transpose(0, 3, 1, 2).astype(dtype)


def merge_media(text: Tensor, media: Tensor, media_index: Tensor) -> Tensor:
    """Token embeddings (batch, length, hidden) with media rows put in place.

    `media` is (images, rows, hidden); `media_index` (batch, length) int32 holds for each position
    -1 (text stays) or the row in the flattened media, `image * rows + row`. An image that no
    position names is padding.
    """
    rows = media.reshape(-1, media.shape[-1]).astype(text.dtype)
    picked = ops.gather(rows, ops.maximum(media_index, 0), 0)
    return ops.where((media_index >= 0).expand_dims(-1), picked, text)


def target_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target: (batch, length) float32 of logits (batch, length,
    vocabulary) in float32 and ids (batch, length).
    """
    # A log-softmax would keep all of its values and go back through them, and the gradient of a
    # gather along the last axis takes 20 times as long as that of one from a flat axis.
    largest = ops.stop_gradient(ops.amax(logits, -1, True))
    total = (ops.log(ops.exp(logits - largest).sum(-1, keepdims=True)) + largest).squeeze(-1)
    starts = ops.arange(targets.size).astype(ms.int32) * logits.shape[-1]
    picked = ops.gather(logits.reshape(-1), starts + targets.reshape(-1).astype(ms.int32), 0)
    return picked.reshape(targets.shape) - total


def next_token_loss(
    logits: Tensor,
    labels: Tensor,
    segment_ids: Tensor | None = None,
    score: Callable[[Tensor, Tensor], Tensor] = target_scores,
) -> Tensor:
    """Mean cross-entropy of predicting each label from the position before it;
    a float32 scalar, 0 without any target.

    Labels of -100 are no targets, nor is the first token of a packed sample: the one before belongs
    to another. `score` is as `target_scores`, for logits that are divided among processes.
    """
    targets = labels[:, 1:]
    if segment_ids is not None:
        targets = ops.where(segment_ids[:, 1:] == segment_ids[:, :-1], targets, IGNORED)
    counted = targets != IGNORED
    picked = score(logits[:, :-1].astype(ms.float32), ops.where(counted, targets, 0))
    count = ops.maximum(counted.astype(ms.float32).sum(), 1.0)
    return -(picked * counted.astype(ms.float32)).sum() / count
