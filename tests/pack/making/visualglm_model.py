"""A tiny VisualGLM with random weights under SwissArmyTransformer's names,
worked from the published equations.

Its Q-Former is checked against the one of transformers' BLIP-2, which is the same but for where a
layer begins.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from tests.pack.making.writing import GOLDEN, write_arrays, write_json

_FOLDER = GOLDEN / "visualglm" / "tiny"
_IMAGE, _PATCH = 12, 4
_TOWER = {"num_layers": 2, "hidden_size": 12, "num_attention_heads": 2, "inner_hidden_size": 18}
_FORMER = {"num_layers": 3, "hidden_size": 8, "num_attention_heads": 2, "inner_hidden_size": 14}
_QUERIES, _CROSS = 3, [True, False, True]
_GLM = {
    "num_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "inner_hidden_size": 20,
    "vocab_size": 48,
}
_PAD, _MASK, _BEGIN, _END = 3, 40, 41, 42
_BEFORE = 2
_AT_TOWER, _AT_FORMER = "mixins.eva.model.vit.", "mixins.eva.model.qformer."


def make() -> None:
    """Write weights, configuration and cases."""
    torch.set_num_threads(1)
    weights = _weights()
    _FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.half() for name, tensor in weights.items()},
        _FOLDER / "sat_weights.safetensors",
    )
    qformer = {**_FORMER, "queries": _QUERIES, "is_decoder": _CROSS}
    ids = {"gmask": _MASK, "sop": _BEGIN, "eop": _END, "pad": _PAD}
    sizes = {"image_size": _IMAGE, "patch": _PATCH, "vit": _TOWER, "qf": qformer, "glm": _GLM}
    write_json(_FOLDER / "config.json", {**sizes, "ids": ids, "pre_image": _BEFORE})
    with torch.no_grad():
        write_arrays(_FOLDER / "model_io.npz", _cases(weights))
    write_arrays(_FOLDER / "qkv_layouts.npz", _layouts(weights))


def _shapes() -> dict[str, tuple[int, ...]]:
    tower, former, glm = _TOWER["hidden_size"], _FORMER["hidden_size"], _GLM["hidden_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.word_embeddings.weight": (_GLM["vocab_size"], glm),
        "mixins.chatglm-final.lm_head.weight": (_GLM["vocab_size"], glm),
        "mixins.eva.model.glm_proj.weight": (glm, former),
        "mixins.eva.model.glm_proj.bias": (glm,),
        f"{_AT_TOWER}transformer.word_embeddings.weight": (1, tower),
        f"{_AT_TOWER}transformer.position_embeddings.weight": ((_IMAGE // _PATCH) ** 2 + 1, tower),
        f"{_AT_TOWER}mixins.patch_embedding.proj.weight": (tower, 3, _PATCH, _PATCH),
        f"{_AT_TOWER}mixins.patch_embedding.proj.bias": (tower,),
        f"{_AT_FORMER}transformer.word_embeddings.weight": (_QUERIES, former),
    }
    norms = {
        f"{_AT_TOWER}mixins.cls.ln_vision": tower,
        f"{_AT_FORMER}transformer.final_layernorm": former,
    }
    norms["transformer.final_layernorm"] = glm
    for at, sizes in ((_AT_TOWER, _TOWER), (_AT_FORMER, _FORMER), ("", _GLM)):
        hidden, inner = sizes["hidden_size"], sizes["inner_hidden_size"]
        for layer in range(sizes["num_layers"]):
            name = f"{at}transformer.layers.{layer}."
            linear = {
                "attention.query_key_value": (3 * hidden, hidden),
                "attention.dense": (hidden, hidden),
                "mlp.dense_h_to_4h": (inner, hidden),
                "mlp.dense_4h_to_h": (hidden, inner),
            }
            norms |= {f"{name}{each}_layernorm": hidden for each in ("input", "post_attention")}
            if at == _AT_FORMER and _CROSS[layer]:
                linear["cross_attention.query"] = linear["cross_attention.dense"] = (hidden, hidden)
                linear["cross_attention.key_value"] = (2 * hidden, tower)
                norms[f"{name}post_cross_attention_layernorm"] = hidden
            for each, shape in linear.items():
                shapes |= {f"{name}{each}.weight": shape, f"{name}{each}.bias": shape[:1]}
    for each, size in norms.items():
        shapes |= {f"{each}.weight": (size,), f"{each}.bias": (size,)}
    return shapes


def _weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(13)
    found = {}
    for name, shape in sorted(_shapes().items()):
        is_norm = "layernorm" in name or "ln_vision" in name
        drawn = torch.randn(shape, generator=generator) * (0.1 if is_norm else 0.3)
        found[name] = (drawn + float(is_norm and name.endswith("weight"))).half().float()
    return found


class _Part:
    """Linear layers and norms of one part, by their names."""

    def __init__(self, weights: dict[str, Tensor], at: str, eps: float) -> None:
        self._weights, self._at, self._eps = weights, at, eps

    def __call__(self, name: str, x: Tensor) -> Tensor:
        weight, bias = (self._weights[f"{self._at}{name}.{each}"] for each in ("weight", "bias"))
        return (
            functional.linear(x, weight, bias)
            if weight.ndim == 2
            else functional.layer_norm(x, x.shape[-1:], weight, bias, self._eps)
        )


def _attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, allowed: Tensor | None = None
) -> Tensor:
    """Softmax attention over heads that are contiguous chunks;
    what is not allowed counts -10000.
    """
    query, key, value = (
        each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value)
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -10000.0)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def _tower(weights: dict[str, Tensor], image: Tensor) -> tuple[list[Tensor], Tensor]:
    part, heads = _Part(weights, _AT_TOWER, 1e-6), _TOWER["num_attention_heads"]
    kernel, bias = (
        weights[f"{_AT_TOWER}mixins.patch_embedding.proj.{each}"] for each in ("weight", "bias")
    )
    patches = functional.conv2d(image, kernel, bias, stride=_PATCH).flatten(2).transpose(1, 2)
    first = weights[f"{_AT_TOWER}transformer.word_embeddings.weight"].expand(len(image), 1, -1)
    x = (
        torch.cat([first, patches], 1)
        + weights[f"{_AT_TOWER}transformer.position_embeddings.weight"]
    )
    seen = []
    for layer in range(_TOWER["num_layers"]):
        at = f"transformer.layers.{layer}."
        query, key, value = part(
            f"{at}attention.query_key_value", part(f"{at}input_layernorm", x)
        ).chunk(3, -1)
        x = x + part(f"{at}attention.dense", _attend(query, key, value, heads))
        inner = functional.gelu(
            part(f"{at}mlp.dense_h_to_4h", part(f"{at}post_attention_layernorm", x))
        )
        x = x + part(f"{at}mlp.dense_4h_to_h", inner)
        seen.append(x)
    return seen, _Part(weights, _AT_TOWER, 1e-5)("mixins.cls.ln_vision", x)


def _former(weights: dict[str, Tensor], vision: Tensor) -> tuple[list[Tensor], Tensor]:
    part, heads = _Part(weights, f"{_AT_FORMER}transformer.", 1e-12), _FORMER["num_attention_heads"]
    x = weights[f"{_AT_FORMER}transformer.word_embeddings.weight"].expand(len(vision), -1, -1)
    seen = []
    for layer in range(_FORMER["num_layers"]):
        at = f"layers.{layer}."
        a = part(f"{at}input_layernorm", x)
        query, key, value = part(f"{at}attention.query_key_value", a).chunk(3, -1)
        m = part(
            f"{at}post_attention_layernorm",
            a + part(f"{at}attention.dense", _attend(query, key, value, heads)),
        )
        if _CROSS[layer]:
            key, value = part(f"{at}cross_attention.key_value", vision).chunk(2, -1)
            looked = _attend(part(f"{at}cross_attention.query", m), key, value, heads)
            m = part(
                f"{at}post_cross_attention_layernorm",
                m + part(f"{at}cross_attention.dense", looked),
            )
        x = m + part(f"{at}mlp.dense_4h_to_h", functional.gelu(part(f"{at}mlp.dense_h_to_4h", m)))
        seen.append(x)
    out = part("final_layernorm", x)
    assert (out - _by_blip2(weights, vision)).abs().max() < 1e-5
    return seen, out


def _by_blip2(weights: dict[str, Tensor], vision: Tensor) -> Tensor:
    """Return the same by transformers:
    a norm at the start of a layer is there one at the end of the layer before.
    """
    config = Blip2QFormerConfig(
        hidden_size=_FORMER["hidden_size"],
        num_hidden_layers=_FORMER["num_layers"],
        num_attention_heads=_FORMER["num_attention_heads"],
        intermediate_size=_FORMER["inner_hidden_size"],
        cross_attention_frequency=2,
        encoder_hidden_size=_TOWER["hidden_size"],
        hidden_act="gelu",
    )
    model = Blip2QFormerModel(config).eval()
    state = dict(model.state_dict())
    at = f"{_AT_FORMER}transformer."
    norms = [
        "layernorm",
        *(f"encoder.layer.{n}.output_query.LayerNorm" for n in range(_FORMER["num_layers"])),
    ]
    ours = [
        *(f"layers.{n}.input_layernorm" for n in range(_FORMER["num_layers"])),
        "final_layernorm",
    ]
    names = dict(zip(norms, ours, strict=True))
    fused: dict[str, tuple[str, int, int]] = {}
    for n in range(_FORMER["num_layers"]):
        there, here = f"encoder.layer.{n}.", f"layers.{n}."
        names |= {
            f"{there}attention.output.dense": f"{here}attention.dense",
            f"{there}attention.output.LayerNorm": f"{here}post_attention_layernorm",
            f"{there}intermediate_query.dense": f"{here}mlp.dense_h_to_4h",
            f"{there}output_query.dense": f"{here}mlp.dense_4h_to_h",
        }
        for number, each in enumerate(("query", "key", "value")):
            fused[f"{there}attention.attention.{each}"] = (
                f"{here}attention.query_key_value",
                number,
                3,
            )
        if _CROSS[n]:
            names |= {
                f"{there}crossattention.attention.query": f"{here}cross_attention.query",
                f"{there}crossattention.output.dense": f"{here}cross_attention.dense",
                f"{there}crossattention.output.LayerNorm": f"{here}post_cross_attention_layernorm",
            }
            for number, each in enumerate(("key", "value")):
                fused[f"{there}crossattention.attention.{each}"] = (
                    f"{here}cross_attention.key_value",
                    number,
                    2,
                )
    for kind in ("weight", "bias"):
        state |= {f"{name}.{kind}": weights[f"{at}{own}.{kind}"] for name, own in names.items()}
        for name, (own, number, parts) in fused.items():
            state[f"{name}.{kind}"] = weights[f"{at}{own}.{kind}"].chunk(parts)[number]
    model.load_state_dict(state)
    queries = weights[f"{at}word_embeddings.weight"].expand(len(vision), -1, -1)
    found: Tensor = model(query_embeds=queries, encoder_hidden_states=vision).last_hidden_state
    return found


def _rotate(x: Tensor, positions: Tensor) -> Tensor:
    """Turn a half of a head by one row of positions; angles are repeated, not interleaved."""
    size = x.shape[-1]
    angles = positions[..., None].float() * 10000 ** (-torch.arange(0, size, 2).float() / size)
    angles = torch.cat([angles, angles], -1)[:, :, None]
    turned = torch.cat([-x[..., size // 2 :], x[..., : size // 2]], -1)
    return x * angles.cos() + turned * angles.sin()


def _language(
    weights: dict[str, Tensor], embedded: Tensor, positions: Tensor, allowed: Tensor
) -> tuple[list[Tensor], Tensor]:
    part, heads = _Part(weights, "transformer.", 1e-5), _GLM["num_attention_heads"]
    alpha, x, seen = math.sqrt(2 * _GLM["num_layers"]), embedded, []
    for layer in range(_GLM["num_layers"]):
        at = f"layers.{layer}."
        a = part(f"{at}input_layernorm", x)
        query, key, value = part(f"{at}attention.query_key_value", a).chunk(3, -1)
        query, key = (
            _by_both_rows(each.unflatten(-1, (heads, -1)), positions).flatten(2)
            for each in (query, key)
        )
        h = alpha * a + part(f"{at}attention.dense", _attend(query, key, value, heads, allowed))
        m = part(f"{at}post_attention_layernorm", h)
        inner = functional.gelu(part(f"{at}mlp.dense_h_to_4h", m), approximate="tanh")
        x = alpha * m + part(f"{at}mlp.dense_4h_to_h", inner)
        seen.append(x)
    return seen, functional.linear(
        part("final_layernorm", x), weights["mixins.chatglm-final.lm_head.weight"]
    )


def _by_both_rows(x: Tensor, positions: Tensor) -> Tensor:
    halves = x.chunk(2, -1)
    return torch.cat([_rotate(half, positions[:, row]) for row, half in enumerate(halves)], -1)


def _places(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions (batch, 2, length) and what each
    token may look at (batch, 1, length, length).
    """
    at = torch.arange(ids.shape[1])
    begin = (ids == _BEGIN).int().argmax(1)[:, None]
    positions = torch.stack(
        [torch.minimum(at[None], begin - 1), (at[None] - begin + 1).clamp(min=0)], 1
    )
    allowed = (at[None, None, :] < begin[..., None]) | (at[None, None, :] <= at[None, :, None])
    return positions, allowed[:, None]


def _cases(weights: dict[str, Tensor]) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    image = torch.tensor(rng.integers(-64, 65, (2, 3, _IMAGE, _IMAGE)) / 32, dtype=torch.float32)
    rows = [_sample(rng, asked, said, 18) for asked, said in ((4, 5), (6, 2))]
    ids, labels = (torch.tensor([row[each] for row in rows]) for each in (0, 1))
    positions, allowed = _places(ids)
    vit, vision = _tower(weights, image)
    former, queries = _former(weights, vision)
    rows_of_image = functional.linear(
        queries,
        weights["mixins.eva.model.glm_proj.weight"],
        weights["mixins.eva.model.glm_proj.bias"],
    )
    text = functional.embedding(ids, weights["transformer.word_embeddings.weight"])
    embedded = text.clone()
    embedded[:, _BEFORE : _BEFORE + _QUERIES] = rows_of_image
    hidden, logits = _language(weights, embedded, positions, allowed)
    loss = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    prompt = rows[0][0][: rows[0][0].index(_BEGIN) + 1]
    output, steps = _continue(weights, prompt, rows_of_image[:1], 4)
    return {
        "image": image,
        "input_ids": ids,
        "labels": labels,
        "vit_hidden": torch.stack(vit),
        "vit_out": vision,
        "qformer_hidden": torch.stack(former),
        "qformer_out": queries,
        "image_embeds": rows_of_image,
        "position_ids": positions,
        "attention_mask_allow": allowed.int(),
        "glm_hidden": torch.stack(hidden),
        "logits": logits,
        "loss": loss,
        "logits_text_only": _language(weights, text, positions, allowed)[1],
        "greedy_prompt": np.array(prompt),
        "greedy_output": np.array(output),
        "greedy_logits": torch.stack(steps),
    }


def _sample(
    rng: np.random.Generator, asked: int, said: int, length: int
) -> tuple[list[int], list[int]]:
    words = rng.integers(5, 40, _BEFORE + asked + said).tolist()
    before, after, answer = (
        words[:_BEFORE],
        words[_BEFORE : _BEFORE + asked],
        words[_BEFORE + asked :],
    )
    ids = [*before, *[_PAD] * _QUERIES, *after, _MASK, _BEGIN, *answer, _END]
    labels = [-100] * ids.index(_BEGIN) + ids[ids.index(_BEGIN) :]
    rest = length - len(ids)
    return ids + [_PAD] * rest, labels + [-100] * rest


def _continue(
    weights: dict[str, Tensor], prompt: list[int], rows_of_image: Tensor, steps: int
) -> tuple[list[int], list[Tensor]]:
    """Greedy decoding, the whole sequence anew at each step."""
    ids, seen = list(prompt), []
    for _ in range(steps):
        embedded = functional.embedding(
            torch.tensor([ids]), weights["transformer.word_embeddings.weight"]
        )
        embedded[:, _BEFORE : _BEFORE + _QUERIES] = rows_of_image
        seen.append(_language(weights, embedded, *_places(torch.tensor([ids])))[1][0, -1])
        ids.append(int(seen[-1].argmax()))
    return ids, seen


def _layouts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The fused projections as they are, and as ChatGLM's checkpoints have them: head by head."""
    found: dict[str, Tensor] = {}
    for layer in range(_GLM["num_layers"]):
        for kind in ("weight", "bias"):
            fused = weights[f"transformer.layers.{layer}.attention.query_key_value.{kind}"]
            by_head = (
                fused.unflatten(0, (3, _GLM["num_attention_heads"], -1))
                .transpose(0, 1)
                .flatten(0, 2)
            )
            found |= {
                f"contiguous.{layer}.{kind}": fused,
                f"headfirst.{layer}.{kind}": by_head.contiguous(),
            }
    return found
