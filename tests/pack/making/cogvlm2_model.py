"""A tiny CogVLM2-Video with random weights:
its tower in torch, its language model by transformers' Llama.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from tests.pack.making.cogvlm2 import positions
from tests.pack.making.writing import GOLDEN, write_arrays, write_json

_FOLDER = GOLDEN / "cogvlm2_video" / "tiny"
_HIDDEN, _LAYERS, _HEADS, _KEY_HEADS, _MLP, _VOCABULARY = 16, 2, 4, 2, 20, 64
_SIZE = _HIDDEN // _HEADS
_WIDTH, _TOWER_LAYERS, _TOWER_HEADS, _TOWER_MLP, _IMAGE, _PATCH = 12, 2, 3, 18, 16, 4
_GRID = _IMAGE // _PATCH
_PER_FRAME = (_GRID // 2) ** 2 + 2
_BEGIN, _END, _PAD, _INDEX = 1, 2, 3, 10
_TOWER = "model.vision."


def make() -> None:
    """Write weights, configuration and cases."""
    torch.set_num_threads(1)
    weights = _weights()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.half() for name, tensor in weights.items()}, _FOLDER / "weights.safetensors"
    )
    write_json(_FOLDER / "config.json", _CONFIG)
    rng = np.random.default_rng(2)
    pixels = torch.tensor(rng.integers(-64, 65, (2, 3, _IMAGE, _IMAGE)) / 32, dtype=torch.float32)
    stages = _tower(weights, pixels)
    write_arrays(_FOLDER / "vision.npz", {"pixel_values": pixels, **stages})
    _write(weights, "text_only", _sequence(rng, frames=0, answer=4), pixels)
    _write(weights, "no_time_index_train", _sequence(rng, frames=2, answer=5, index=False), pixels)
    train = _sequence(rng, frames=2, answer=5)
    _write(weights, "chat_train", train, pixels, hidden=True)
    _gradients(weights, train, pixels)
    _write(weights, "chat_infer", _sequence(rng, frames=2, answer=0), pixels, greedy=4)
    _adapter(weights, train, pixels)
    _batch(weights, train, _sequence(rng, frames=1, answer=3), pixels, rng)


_CONFIG = {
    "vocab_size": _VOCABULARY,
    "hidden_size": _HIDDEN,
    "intermediate_size": _MLP,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "num_multi_query_heads": _KEY_HEADS,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000,
    "vision_config": {
        "patch_size": _PATCH,
        "layer_norm_eps": 1e-6,
        "num_positions": _GRID**2 + 1,
        "hidden_size": _WIDTH,
        "num_heads": _TOWER_HEADS,
        "num_hidden_layers": _TOWER_LAYERS,
        "intermediate_size": _TOWER_MLP,
        "image_size": _IMAGE,
    },
    "tokens_per_frame": _PER_FRAME,
}


def _shapes() -> dict[str, tuple[int, ...]]:
    keys = _KEY_HEADS * _SIZE
    shapes: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (_VOCABULARY, _HIDDEN),
        "model.embed_tokens.weight": (_VOCABULARY, _HIDDEN),
        "model.norm.weight": (_HIDDEN,),
        f"{_TOWER}boi": (1, 1, _HIDDEN),
        f"{_TOWER}eoi": (1, 1, _HIDDEN),
        f"{_TOWER}conv.weight": (_WIDTH, _WIDTH, 2, 2),
        f"{_TOWER}conv.bias": (_WIDTH,),
        f"{_TOWER}linear_proj.linear_proj.weight": (_HIDDEN, _WIDTH),
        f"{_TOWER}linear_proj.norm1.weight": (_HIDDEN,),
        f"{_TOWER}linear_proj.norm1.bias": (_HIDDEN,),
        f"{_TOWER}linear_proj.gate_proj.weight": (_MLP, _HIDDEN),
        f"{_TOWER}linear_proj.dense_h_to_4h.weight": (_MLP, _HIDDEN),
        f"{_TOWER}linear_proj.dense_4h_to_h.weight": (_HIDDEN, _MLP),
        f"{_TOWER}patch_embedding.cls_embedding": (1, _WIDTH),
        f"{_TOWER}patch_embedding.position_embedding.weight": (_GRID**2 + 1, _WIDTH),
        f"{_TOWER}patch_embedding.proj.weight": (_WIDTH, 3, _PATCH, _PATCH),
        f"{_TOWER}patch_embedding.proj.bias": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}input_layernorm.weight": (_HIDDEN,),
            f"{at}post_attention_layernorm.weight": (_HIDDEN,),
            f"{at}self_attn.language_expert_query_key_value.weight": (_HIDDEN + 2 * keys, _HIDDEN),
            f"{at}self_attn.language_expert_dense.weight": (_HIDDEN, _HIDDEN),
            f"{at}mlp.language_mlp.gate_proj.weight": (_MLP, _HIDDEN),
            f"{at}mlp.language_mlp.up_proj.weight": (_MLP, _HIDDEN),
            f"{at}mlp.language_mlp.down_proj.weight": (_HIDDEN, _MLP),
        }
    for layer in range(_TOWER_LAYERS):
        at = f"{_TOWER}transformer.layers.{layer}."
        pairs = {
            "attention.query_key_value": (3 * _WIDTH, _WIDTH),
            "attention.dense": (_WIDTH, _WIDTH),
            "mlp.fc1": (_TOWER_MLP, _WIDTH),
            "mlp.fc2": (_WIDTH, _TOWER_MLP),
        }
        for name, shape in pairs.items():
            shapes |= {f"{at}{name}.weight": shape, f"{at}{name}.bias": shape[:1]}
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{at}{name}.weight": (_WIDTH,), f"{at}{name}.bias": (_WIDTH,)}
    return shapes


def _weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)
    found = {}
    for name, shape in sorted(_shapes().items()):
        scale = "norm" in name and name.endswith("weight")
        drawn = torch.randn(shape, generator=generator) * (0.1 if "norm" in name else 0.25) + scale
        found[name] = drawn.half().float()
    return found


def _tower(weights: dict[str, Tensor], pixels: Tensor) -> dict[str, Tensor]:
    """Every stage of the tower and the adapter, as the published modules compute them."""

    def of(name: str) -> Tensor:
        return weights[_TOWER + name]

    def norm(x: Tensor, name: str, eps: float = 1e-6) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], of(f"{name}.weight"), of(f"{name}.bias"), eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, of(f"{name}.weight"), of(f"{name}.bias"))

    patches = functional.conv2d(
        pixels, of("patch_embedding.proj.weight"), of("patch_embedding.proj.bias"), stride=_PATCH
    )
    first = of("patch_embedding.cls_embedding").expand(len(pixels), 1, _WIDTH)
    x = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + of(
        "patch_embedding.position_embedding.weight"
    )
    stages = {"patch_embed": x}
    for layer in range(_TOWER_LAYERS):
        at = f"transformer.layers.{layer}."
        fused = linear(x, f"{at}attention.query_key_value").unflatten(-1, (3, _TOWER_HEADS, -1))
        query, key, value = (each.transpose(1, 2) for each in fused.unbind(2))
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + norm(linear(seen, f"{at}attention.dense"), f"{at}input_layernorm")
        inner = linear(functional.gelu(linear(x, f"{at}mlp.fc1")), f"{at}mlp.fc2")
        x = x + norm(inner, f"{at}post_attention_layernorm")
        stages[f"layer_{layer}"] = x
    grid = x[:, 1:].transpose(1, 2).unflatten(2, (_GRID, _GRID))
    conv = functional.conv2d(grid, of("conv.weight"), of("conv.bias"), stride=2)
    y = functional.linear(conv.flatten(2).transpose(1, 2), of("linear_proj.linear_proj.weight"))
    y = functional.gelu(norm(y, "linear_proj.norm1", 1e-5))
    gate, up = (
        functional.linear(y, of(f"linear_proj.{name}.weight"))
        for name in ("gate_proj", "dense_h_to_4h")
    )
    glu = functional.linear(functional.silu(gate) * up, of("linear_proj.dense_4h_to_h.weight"))
    edge = [of(name).expand(len(pixels), 1, _HIDDEN) for name in ("boi", "eoi")]
    return {**stages, "conv": conv, "glu": glu, "output": torch.cat([edge[0], glu, edge[1]], 1)}


def _llama(weights: dict[str, Tensor]) -> tuple[LlamaForCausalLM, dict[str, Tensor]]:
    """Return transformers' Llama and its weights: the same tensors, the fused ones cut."""
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=_HIDDEN,
        intermediate_size=_MLP,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_KEY_HEADS,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        attn_implementation="eager",
    )
    state: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(_TOWER):
            continue
        if "query_key_value" in name:
            at = name.partition("language_expert")[0]
            cut = tensor.split([_HIDDEN, _KEY_HEADS * _SIZE, _KEY_HEADS * _SIZE])
            state |= {
                f"{at}{part}_proj.weight": each for part, each in zip("qkv", cut, strict=True)
            }
        else:
            state[name.replace("language_expert_dense", "o_proj").replace("language_mlp.", "")] = (
                tensor
            )
    return LlamaForCausalLM(config).eval(), state


def _run(weights: dict[str, Tensor], case: dict[str, NDArray[Any]], pixels: Tensor) -> Any:
    ids, types = torch.tensor(case["input_ids"]), torch.tensor(case["token_type_ids"]) == 1
    embedded = functional.embedding(ids, weights["model.embed_tokens.weight"])
    if types.any():
        embedded = embedded.masked_scatter(types[..., None], _tower(weights, pixels)["output"])
    model, state = _llama(weights)
    given = {"inputs_embeds": embedded, "position_ids": torch.tensor(case["position_ids"])}
    # Without it positions that repeat count as packed sequences.
    given["attention_mask"] = torch.ones_like(ids)
    return torch.func.functional_call(
        model, state, (), {**given, "output_hidden_states": True, "use_cache": False}
    )


def _loss(logits: Tensor, labels: NDArray[Any]) -> Tensor:
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), torch.tensor(labels)[:, 1:].flatten(), ignore_index=-100
    )


def _sequence(
    rng: np.random.Generator, frames: int, answer: int, *, index: bool = True
) -> dict[str, NDArray[Any]]:
    ids, types = [_BEGIN], [0]
    for number in range(frames):
        ids += [_PAD] * _PER_FRAME + [_INDEX + number] * index
        types += [1] * _PER_FRAME + [0] * index
    text = rng.integers(16, _VOCABULARY, 6 + answer).tolist() + [_END] * bool(answer)
    ids, types = ids + text, types + [0] * len(text)
    case = {"input_ids": ids, "token_type_ids": types, "position_ids": positions(types)}
    if answer:
        case["labels"] = [-100] * (len(ids) - answer - 1) + ids[-answer - 1 :]
    return {name: np.array([values]) for name, values in case.items()}


def _write(
    weights: dict[str, Tensor],
    name: str,
    case: dict[str, NDArray[Any]],
    pixels: Tensor,
    *,
    hidden: bool = False,
    greedy: int = 0,
) -> None:
    with torch.no_grad():
        out = _run(weights, case, pixels)
        results = {"logits": out.logits}
        if "labels" in case:
            results["loss"] = _loss(out.logits, case["labels"])
        if hidden:
            results |= {f"hidden_{number}": each for number, each in enumerate(out.hidden_states)}
        if greedy:
            results["greedy_ids"] = np.array(_continue(weights, case, pixels, greedy))
    write_arrays(_FOLDER / f"{name}.npz", {**case, **results})


def _continue(
    weights: dict[str, Tensor], case: dict[str, NDArray[Any]], pixels: Tensor, steps: int
) -> list[int]:
    """Greedy decoding, the whole sequence anew at each step."""
    tokens: list[int] = []
    for _ in range(steps):
        tokens.append(int(_run(weights, case, pixels).logits[0, -1].argmax()))
        more = {
            "input_ids": tokens[-1],
            "token_type_ids": 0,
            "position_ids": case["position_ids"][0, -1] + 1,
        }
        case = {name: np.append(case[name], [[value]], 1) for name, value in more.items()}
    return tokens


def _gradients(weights: dict[str, Tensor], case: dict[str, NDArray[Any]], pixels: Tensor) -> None:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    _loss(_run(leaves, case, pixels).logits, case["labels"]).backward()
    found = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    small = {f"grad.{name}": grad for name, grad in found.items() if grad.numel() <= 150}
    write_arrays(_FOLDER / "chat_train_grads.npz", small)
    norms = {name: float(grad.double().norm()) for name, grad in found.items()}
    write_json(_FOLDER / "chat_train_grad_norms.json", norms)


def _adapter(weights: dict[str, Tensor], case: dict[str, NDArray[Any]], pixels: Tensor) -> None:
    """LoRA on every linear layer of the decoder:
    the same as adding ``alpha / rank * B A`` to its weights.
    """
    rank, alpha, keys = 2, 6.0, _KEY_HEADS * _SIZE
    generator, adapted = torch.Generator().manual_seed(7), dict(weights)
    pairs: dict[str, Tensor] = {}
    qkv, out = "self_attn.language_expert_query_key_value", "self_attn.language_expert_dense"
    rows = {"q": (qkv, 0, _HIDDEN), "k": (qkv, _HIDDEN, keys), "v": (qkv, _HIDDEN + keys, keys)}
    rows |= {"o": (out, 0, _HIDDEN), "down": ("mlp.language_mlp.down_proj", 0, _HIDDEN)}
    rows |= {name: (f"mlp.language_mlp.{name}_proj", 0, _MLP) for name in ("gate", "up")}
    for layer in range(_LAYERS):
        for name, (place, first, count) in rows.items():
            weight = f"model.layers.{layer}.{place}.weight"
            a = torch.randn(rank, adapted[weight].shape[1], generator=generator) * 0.3
            b = torch.randn(count, rank, generator=generator) * 0.3
            pairs |= {f"layers.{layer}.{name}.lora_A": a, f"layers.{layer}.{name}.lora_B": b}
            changed = adapted[weight].clone()
            changed[first : first + count] += alpha / rank * (b @ a)
            adapted[weight] = changed
    save_file(pairs, _FOLDER / "lora.safetensors", {"rank": str(rank), "alpha": str(alpha)})
    _write(adapted, "chat_train_lora", case, pixels)


def _batch(
    weights: dict[str, Tensor],
    long: dict[str, NDArray[Any]],
    short: dict[str, NDArray[Any]],
    pixels: Tensor,
    rng: np.random.Generator,
) -> None:
    """Two samples, each run alone, and as a batch would hold them:
    the shorter one padded on the right.
    """
    own = torch.tensor(rng.integers(-64, 65, (1, 3, _IMAGE, _IMAGE)) / 32, dtype=torch.float32)
    length, count = long["input_ids"].shape[1], short["input_ids"].shape[1]
    last = int(short["position_ids"][0, -1])
    fill = {"input_ids": _PAD, "token_type_ids": 0, "position_ids": last, "labels": -100}
    room = ((0, 0), (0, length - count))
    rows = {
        name: np.concatenate([long[name], np.pad(short[name], room, constant_values=value)])
        for name, value in fill.items()
    }
    rows["attention_mask"] = (np.arange(length) < np.array([[length], [count]])).astype(np.int64)
    with torch.no_grad():
        first, second = _run(weights, long, pixels).logits, _run(weights, short, own).logits
    losses = [
        float(_loss(logits, case["labels"])) for logits, case in ((first, long), (second, short))
    ]
    results = {"pixel_values_1": own, "logits_0": first[0], "logits_1_valid": second[0]}
    write_arrays(
        _FOLDER / "batch2_padded.npz", {**rows, **results, "loss_per_sample": np.array(losses)}
    )
