"""How the tensors of a checkpoint make up a model's parameters, and back.
Arrays only; no files, no MindSpore.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Weight:
    """One parameter and the tensors it is made of, stacked on axis 0 in this order.

    `rows`: rows of each source where there are several. `shape`: the source's shape where it only
    differs in ones. `heads`: the source interleaves query, key and value rows head by head; the
    parameter has all queries first. `transposed`: the source is (inputs, outputs).
    """

    name: str
    sources: tuple[str, ...]
    rows: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    heads: int = 0
    transposed: bool = False

    def join(self, tensors: list[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
        """The parameter, of `shape`, from its sources.

        Raises:
            ValueError: if the tensors do not fit that shape.
        """
        turned = [tensor.T for tensor in tensors] if self.transposed else tensors
        array = np.concatenate(turned) if len(turned) > 1 else turned[0]
        if array.shape != (self.shape or shape):
            found = ", ".join(str(tuple(t.shape)) for t in tensors)
            raise ValueError(
                f"{self.name} should be {shape}, but {', '.join(self.sources)} is {found}"
            )
        array = array.reshape(shape)
        return _swap_leading(array, (self.heads, 3)) if self.heads else array

    def split(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The source tensors of a parameter: exactly what `join` was given."""
        array = _swap_leading(array, (3, self.heads)) if self.heads else array
        array = array.reshape(self.shape) if self.shape else array
        parts = np.split(array, np.cumsum(self.rows)[:-1]) if self.rows else [array]
        return [part.T if self.transposed else part for part in parts]


def _swap_leading(array: NDArray[Any], sizes: tuple[int, int]) -> NDArray[Any]:
    """The rows, seen as a table of `sizes`, in the order of its columns."""
    return array.reshape(*sizes, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)


def affine(ours: str, theirs: str, norm: bool = False) -> list[Weight]:
    """Weight and bias of one layer, one to one; MindSpore's own norms call them gamma and beta."""
    parts = {"weight": "gamma", "bias": "beta"} if norm else {"weight": "weight", "bias": "bias"}
    return [Weight(f"{ours}.{part}", (f"{theirs}.{their}",)) for part, their in parts.items()]


def stack_rows(
    ours: str, theirs: tuple[str, ...], rows: tuple[int, ...], bias: bool
) -> list[Weight]:
    """A fused layer that the checkpoint keeps as several."""
    parts = ("weight", "bias") if bias else ("weight",)
    return [
        Weight(f"{ours}.{part}", tuple(f"{name}.{part}" for name in theirs), rows=rows)
        for part in parts
    ]


LORA_WRAPPER = "pet_model.lora_model."


def mindformers_name(name: str) -> str:
    """MindFormers' name of a parameter;
    a checkpoint made for its LoRA wraps the language model once more.
    """
    return name.replace(LORA_WRAPPER, "", 1)


def wrap_for_lora(weights: Sequence[Weight]) -> list[Weight]:
    """The weights under the names that MindFormers' models with LoRA have: those of the language
    model, `llm_model.…`, once more wrapped (its converters' `--sft lora`).

    Raises:
        ValueError: if no name is of a language model of that name.
    """
    wrapped = [
        replace(
            weight,
            sources=tuple(
                re.sub(r"^llm_model\.", f"llm_model.{LORA_WRAPPER}", name)
                for name in weight.sources
            ),
        )
        for weight in weights
    ]
    if wrapped == list(weights):
        raise ValueError(
            "MindFormers wraps `llm_model` for LoRA, and no name of this model begins with it"
        )
    return wrapped


def mindformers_llama(layers: int, rows: tuple[int, ...], theirs: str) -> list[Weight]:
    """A whole Llama decoder under MindFormers' names; `rows` are those of query, key and value."""
    return [
        Weight("language.embedding.weight", (f"{theirs}model.tok_embeddings.embedding_weight",)),
        Weight("language.norm.weight", (f"{theirs}model.norm_out.weight",)),
        Weight("language.head.weight", (f"{theirs}lm_head.weight",)),
        *(
            weight
            for i in range(layers)
            for weight in mindformers_layer(
                f"language.layers.{i}.", f"{theirs}model.layers.{i}.", rows
            )
        ),
    ]


def mindformers_layer(
    ours: str,
    theirs: str,
    rows: tuple[int, ...],
    qkv_bias: bool = False,
    gate: str = "w1",
    up: str = "w3",
) -> list[Weight]:
    """One decoder layer under the same names (for Qwen with gate and up exchanged)."""
    qkv = tuple(f"{theirs}attention.{name}" for name in ("wq", "wk", "wv"))
    plain = {
        "attention.out": "attention.wo",
        "mlp.gate": f"feed_forward.{gate}",
        "mlp.up": f"feed_forward.{up}",
        "mlp.down": "feed_forward.w2",
        "norm1": "attention_norm",
        "norm2": "ffn_norm",
    }
    return [
        *stack_rows(ours + "attention.qkv", qkv, rows, qkv_bias),
        *(
            Weight(f"{ours}{name}.weight", (f"{theirs}{their}.weight",))
            for name, their in plain.items()
        ),
    ]


def qwen_decoder(
    layers: int,
    rows: tuple[int, ...],
    theirs: str,
    *,
    qkv_bias: bool = False,
    norm_heads: bool = False,
    tied: bool = False,
) -> list[Weight]:
    """A whole Qwen2 or Qwen3 decoder under Hugging Face's names; a `tied` one has no head of its
    own.
    """
    weights = [
        Weight("language.embedding.weight", (f"{theirs}embed_tokens.weight",)),
        Weight("language.norm.weight", (f"{theirs}norm.weight",)),
        *([] if tied else [Weight("language.head.weight", ("lm_head.weight",))]),
    ]
    norms = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    plain = {
        "attention.out": "self_attn.o_proj",
        "norm1": "input_layernorm",
        "norm2": "post_attention_layernorm",
        "mlp.gate": "mlp.gate_proj",
        "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
        **({f"attention.{ours}": name for ours, name in norms.items()} if norm_heads else {}),
    }
    for i in range(layers):
        ours, layer = f"language.layers.{i}.", f"{theirs}layers.{i}."
        qkv = tuple(f"{layer}self_attn.{name}_proj" for name in "qkv")
        weights += [
            *stack_rows(ours + "attention.qkv", qkv, rows, qkv_bias),
            *(
                Weight(f"{ours}{name}.weight", (f"{layer}{their}.weight",))
                for name, their in plain.items()
            ),
        ]
    return weights
