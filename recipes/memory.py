"""What a device needs, from the shapes of a model alone: weights, gradients, the optimizer's state,
activations.

The first three are counted. Activations are estimated, as in "Reducing Activation Recomputation in
Large Transformer Models" (https://arxiv.org/abs/2205.05198, section 4.1): a linear layer keeps what
comes in and what goes out until its gradient is made, a norm its input in float32. Of a GPT layer
of width h in half precision this makes 40 bytes a token and unit of width, of which 32 are the
linear layers'; the paper, whose norms keep half precision, has 34. With recomputation a layer keeps
its input alone, and one layer at a time has all of the rest. The table of scores of attention
(tokens x tokens x heads) is kept where there is no fused operator. Parts in front of the first
trained parameter keep nothing, but work on one layer at a time.

All sizes are in bytes, GB are 10^9.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

Shard: TypeAlias = Literal["none", "optimizer", "weights"]

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
GB = 10**9

# What MindSpore, the collectives' buffers and fragments of memory take besides; an assumption.
RUNTIME = 2 * GB

LAYER = re.compile(r"^(\w+)\.layers\.(\d+)\.")
LANGUAGE = "language"
VOCABULARY = ("language.head.weight", "language.embedding.weight")  # tied: there is no head


@dataclass(frozen=True)
class Held:
    """A parameter as a device holds it: `shape` is of its part, where the model is divided."""

    shape: tuple[int, ...]
    dtype: str
    trained: bool

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How much it takes."""
        return self.numbers * BYTES[self.dtype]


@dataclass(frozen=True)
class Stack:
    """What goes through a part of the model at once: `tokens`, each of which looks at `context`
    tokens with each of `heads` heads.
    """

    tokens: int
    context: int
    heads: int


@dataclass(frozen=True)
class Step:
    """What a device works on at once: the part called `language` has a stack of its own, all others
    are in front of it.

    `dtype` is computed in. `fused`: attention keeps no table of scores. `accumulated`: gradients of
    several batches are added up.
    """

    language: Stack
    media: Stack
    dtype: str
    fused: bool
    accumulated: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes of a device, by what they are for."""

    weights: int
    gradients: int = 0
    optimizer: int = 0
    gathered: int = 0
    activations: int = 0
    logits: int = 0
    cache: int = 0
    runtime: int = RUNTIME

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, part.name) for part in fields(self))

    def __str__(self) -> str:
        """The total, and the parts that there are."""
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        said = ", ".join(f"{name} {size / GB:.1f}" for name, size in parts.items() if size)
        return f"{self.total / GB:.1f} GB ({said})"


def training_memory(
    parameters: Mapping[str, Held], step: Step, *, data: int, shard: Shard, recompute: bool
) -> Memory:
    """What a training device needs; `parameters` are those that it holds before anything is spread
    over the `data` devices.
    """
    spread = shard if data > 1 else "none"
    weights = gradients = optimizer = 0
    for name, held in parameters.items():
        numbers = held.numbers
        sliced = spread == "weights" and is_spread(name, held)
        shared = data if sliced or spread == "optimizer" else 1  # devices that share the update
        wide = numbers * BYTES["float32"] // shared
        if sliced:
            # A slice that trains is float32: its own master.
            weights += wide if held.trained else held.bytes // data
        else:
            weights += held.bytes
        if not held.trained:
            continue

        # Slices come in float32, all others in the type of their weight, and then in float32, to be
        # divided by the loss scale and clipped. Those of several batches are added up in float32.
        gradients += (wide if sliced else held.bytes) + wide
        gradients += wide if step.accumulated else 0
        # Two moments, and a master of what has none.
        optimizer += 2 * wide
        if spread == "optimizer" or (held.dtype != "float32" and not sliced):
            optimizer += wide

    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        gathered=gathered_bytes(parameters, recompute) if spread == "weights" else 0,
        activations=activation_bytes(parameters, step, recompute),
        logits=step.language.tokens * vocabulary(parameters) * logit_bytes(step.dtype),
    )


def is_spread(name: str, held: Held) -> bool:
    """Whether it is the weight of a linear layer or an embedding, which `shard: weights` spreads
    (`models.sharding`); all else stays whole.
    """
    return len(held.shape) == 2 and name.endswith(".weight")


def gathered_bytes(parameters: Mapping[str, Held], recompute: bool) -> int:
    """The whole weights that are there at once where devices hold slices of them: with
    recomputation those of one layer and of what is in none, else all; and one gradient.
    """
    layers: dict[str, int] = defaultdict(int)
    outside = largest = 0
    for name, held in parameters.items():
        if not is_spread(name, held):
            continue
        if found := LAYER.match(name):
            layers[found[0]] += held.bytes
        else:
            outside += held.bytes
        if held.trained:
            largest = max(largest, held.numbers * BYTES["float32"])

    at_once = max if recompute else sum
    return outside + at_once(layers.values()) + largest


def prediction_memory(
    parameters: Mapping[str, Held], step: Step, *, layers: int, length: int
) -> Memory:
    """What a predicting device needs: weights, keys and values of `layers` layers for `length`
    tokens a row, and one layer's work on a prompt that is as long.
    """
    rows = step.language.tokens // length
    # Of the fused projection, what is no query; of the queries, as many as go into `out`.
    attention = f"{LANGUAGE}.layers.0.attention"
    queries = parameters[f"{attention}.out.weight"].shape[1]
    key_values = parameters[f"{attention}.qkv.weight"].shape[0] - queries
    frozen = {
        name: Held(held.shape, held.dtype, trained=False) for name, held in parameters.items()
    }
    return Memory(
        weights=sum(held.bytes for held in parameters.values()),
        activations=activation_bytes(frozen, step, recompute=False),
        logits=rows * vocabulary(parameters) * logit_bytes(step.dtype),
        cache=layers * key_values * step.language.tokens * BYTES[step.dtype],
    )


def activation_bytes(parameters: Mapping[str, Held], step: Step, recompute: bool) -> int:
    """What the layers keep for the backward pass, or have in hand at once."""
    total = 0
    trains = False
    for part, layers in parts_in_order(parameters):
        stack = step.language if part == LANGUAGE else step.media
        trains = trains or any(held.trained for layer in layers.values() for held in layer.values())
        work = {name: layer_bytes(layer, stack, step) for name, layer in layers.items()}
        if not trains:
            total += max(work.values())
        elif recompute:
            inputs = sum(width(layer) for name, layer in layers.items() if name is not None)
            rest = work.get(None, 0)
            largest = max((size for name, size in work.items() if name is not None), default=0)
            total += inputs * stack.tokens * BYTES[step.dtype] + largest + rest
        else:
            total += sum(work.values())
    return total


Layer: TypeAlias = dict[str, Held]


def parts_in_order(
    parameters: Mapping[str, Held],
) -> Iterator[tuple[str, dict[int | None, Layer]]]:
    """The parts of a model, the tower first and the language model last, each with the parameters
    of its layers by their numbers; those outside of any layer are None's.
    """
    parts: dict[str, dict[int | None, Layer]] = defaultdict(lambda: defaultdict(dict))
    for name, held in parameters.items():
        found = LAYER.match(name)
        part, layer = (found[1], int(found[2])) if found else (name.partition(".")[0], None)
        parts[part][layer][name] = held

    order = {"vision": 0, LANGUAGE: 2}
    yield from sorted(parts.items(), key=lambda item: order.get(item[0], 1))


def layer_bytes(layer: Layer, stack: Stack, step: Step) -> int:
    """What one layer has in hand until its backward pass."""
    numeric = BYTES[step.dtype]
    token = 0
    for name, held in layer.items():
        if name in VOCABULARY:
            continue  # see logits
        if is_matrix(name, held):
            token += (held.shape[0] + math.prod(held.shape[1:])) * numeric
        elif "norm" in name and name.endswith("weight"):
            token += held.numbers * BYTES["float32"]

    attends = any(".attention." in name for name in layer)
    if attends and not step.fused:
        # Scores, their softmax in float32, and that in the type computed in.
        token += stack.context * stack.heads * (2 * numeric + BYTES["float32"])
    return token * stack.tokens


def is_matrix(name: str, held: Held) -> bool:
    """Whether it is a linear layer's, or one of a LoRA pair."""
    return len(held.shape) > 1 and name.endswith(("weight", "lora_a", "lora_b"))


def width(layer: Layer) -> int:
    """How many numbers a token has on its way into a layer: its widest norm has as many."""
    return max((held.numbers for name, held in layer.items() if "norm" in name), default=0)


def vocabulary(parameters: Mapping[str, Held]) -> int:
    """How many of the tokens this device scores."""
    return next(parameters[name].shape[0] for name in VOCABULARY if name in parameters)


def logit_bytes(dtype: str) -> int:
    """Of a logit: itself and its gradient in the type computed in, its logarithm of probability and
    the gradient of that in float32.
    """
    return 2 * BYTES[dtype] + 2 * BYTES["float32"]


@dataclass(frozen=True)
class Choice:
    """A layout that might fit, with what it needs."""

    data: int
    model: int
    shard: Shard
    recompute: bool
    memory: Memory

    def __str__(self) -> str:
        """As one writes it in a YAML."""
        said = f"data: {self.data}, model: {self.model}, shard: {self.shard}"
        recompute = ", recompute: true" if self.recompute else ""
        return f"parallel: {{{said}{recompute}}}"


def find_fitting(choices: Sequence[Choice], limit: float) -> list[Choice]:
    """Those that fit into `limit` bytes, the least trouble first: few devices, a model in few
    pieces, little spread, nothing computed twice.
    """
    spread = ("none", "optimizer", "weights")
    return sorted(
        (choice for choice in choices if choice.memory.total <= limit),
        key=lambda c: (c.data * c.model, c.model, spread.index(c.shard), c.recompute),
    )
