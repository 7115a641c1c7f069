"""A tiny LLaVA-NeXT-Video of transformers with random weights,
and what it makes of pictures, clips and text.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
)

from tests.pack.making.writing import GOLDEN, write_arrays, write_json

_FOLDER = GOLDEN / "llava_next_video"
_MODEL = _FOLDER / "model_tiny"
_SIDE, _IMAGE, _VIDEO = 12, 61, 60
_PINPOINTS = [[12, 24], [24, 12], [24, 24]]


def _model() -> LlavaNextVideoForConditionalGeneration:
    vision = CLIPVisionConfig(
        hidden_size=12,
        intermediate_size=20,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=_SIDE,
        patch_size=3,
        projection_dim=12,
    )
    text = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
    )
    config = LlavaNextVideoConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=_IMAGE,
        video_token_index=_VIDEO,
        image_grid_pinpoints=_PINPOINTS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    torch.manual_seed(3)
    model = LlavaNextVideoForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.1 if "norm" in name or "lrnorm" in name else 0.25
            drawn = torch.randn(parameter.shape) * spread + (
                "norm" in name and name.endswith("weight")
            )
            parameter.copy_(drawn.half())
    return model


def make() -> None:
    """Write the weights under the names of the hub, the configuration, and one file a case."""
    torch.set_num_threads(1)
    model = _model()
    _MODEL.mkdir(parents=True, exist_ok=True)
    weights = {
        _hub_name(name): tensor.half().contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(weights, _MODEL / "model.safetensors")
    write_json(_MODEL / "config.json", _config(model))
    rng = np.random.default_rng(5)
    _write(model, "text_only", {"input_ids": _ids(rng, [(9, None)])})
    _write(model, "picture_13x30", _with_pictures(rng, [(13, 30)]), greedy=4, gradients=True)
    _write(model, "pictures_in_one_sequence", _with_pictures(rng, [(25, 11), (12, 12)]))
    clip = {
        "input_ids": _ids(rng, [(4, None), (3 * 4, _VIDEO), (7, None)]),
        "pixel_values_videos": _pixels(rng, 1, 3),
    }
    _write(model, "clip_of_3_frames", clip, greedy=4, gradients=True)
    write_json(_FOLDER / "train_trajectory.json", _trajectories())


def _hub_name(name: str) -> str:
    """Return the name that checkpoints on the hub have (transformers 4.42 to 4.51)."""
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    if name.startswith("vision_tower.") and "vision_model" not in name:
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return name


def _config(model: LlavaNextVideoForConditionalGeneration) -> dict[str, Any]:
    """The configuration as transformers writes it,
    but for what says of the machine and the version.
    """
    found: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    found["image_token_index"], found["video_token_index"] = _IMAGE, _VIDEO
    kept = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    )
    text = (
        *kept,
        "num_key_value_heads",
        "rms_norm_eps",
        "max_position_embeddings",
        "tie_word_embeddings",
    )
    vision = (
        *kept[1:],
        "image_size",
        "patch_size",
        "hidden_act",
        "layer_norm_eps",
        "projection_dim",
    )
    top = (
        "image_token_index",
        "video_token_index",
        "projector_hidden_act",
        "vision_feature_layer",
        "vision_feature_select_strategy",
        "image_grid_pinpoints",
        "tie_word_embeddings",
        "spatial_pool_mode",
        "spatial_pool_stride",
    )
    return {
        "model_type": "llava_next_video",
        **{name: found[name] for name in top if name in found},
        "vision_config": {
            name: found["vision_config"][name] for name in vision if name in found["vision_config"]
        },
        "text_config": {"rope_theta": 10000.0}
        | {name: found["text_config"][name] for name in text if name in found["text_config"]},
    }


def _ids(rng: np.random.Generator, parts: list[tuple[int, int | None]]) -> NDArray[Any]:
    runs = [
        np.full(n, token) if token is not None else rng.integers(3, 59, n) for n, token in parts
    ]
    ids: NDArray[np.int64] = np.concatenate(runs)[None]
    return ids


def _pixels(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    """Pixel values that are multiples of 1/32."""
    return (rng.integers(-64, 65, (*shape, 3, _SIDE, _SIDE)) / 32).astype(np.float32)


def _with_pictures(
    rng: np.random.Generator, sizes: list[tuple[int, int]]
) -> dict[str, NDArray[Any]]:
    """Tiles and as many placeholders as transformers' processor counts."""
    from tests.pack.making.pictures import feature_count

    counted = [feature_count(size, _SIDE, 3, _PINPOINTS) for size in sizes]
    tiles = [count for count, _ in counted]
    pixels = np.zeros((len(sizes), max(tiles), 3, _SIDE, _SIDE), np.float32)
    for number, count in enumerate(tiles):
        pixels[number, :count] = _pixels(rng, count)
    parts: list[tuple[int, int | None]] = [(3, None)]
    for _, features in counted:
        parts += [(features, _IMAGE), (4, None)]
    return {"input_ids": _ids(rng, parts), "pixel_values": pixels, "image_sizes": np.array(sizes)}


def _inputs(case: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    names = (
        "input_ids",
        "attention_mask",
        "pixel_values",
        "image_sizes",
        "pixel_values_videos",
        "labels",
    )
    return {name: torch.from_numpy(np.asarray(case[name])) for name in names if name in case}


def _write(
    model: LlavaNextVideoForConditionalGeneration,
    name: str,
    case: dict[str, NDArray[Any]],
    *,
    greedy: int = 0,
    gradients: bool = False,
) -> None:
    ids = case["input_ids"]
    text = ids < min(_IMAGE, _VIDEO)
    labels = np.where(text & (np.arange(ids.shape[1]) >= ids.shape[1] - 5), ids, -100)
    case |= {"attention_mask": np.ones_like(ids), "labels": labels}
    model.zero_grad()
    out = model(**_inputs(case))
    results = {"logits": out.logits.detach().numpy(), "loss": out.loss.detach().numpy()}
    if greedy:
        results |= _continue(model, case, greedy)
    if gradients:
        out.loss.backward()
        results |= _gradients(model)
    write_arrays(_MODEL / f"{name}.npz", {**case, **results})


def _continue(
    model: LlavaNextVideoForConditionalGeneration, case: dict[str, NDArray[Any]], steps: int
) -> dict[str, NDArray[Any]]:
    """Greedy decoding, the whole sequence anew at each step."""
    given = {name: tensor for name, tensor in _inputs(case).items() if name != "labels"}
    tokens, logits = [], []
    for _ in range(steps):
        with torch.no_grad():
            last = model(**given).logits[0, -1]
        logits.append(last.numpy())
        tokens.append(int(last.argmax()))
        given["input_ids"] = torch.cat([given["input_ids"], torch.tensor([[tokens[-1]]])], 1)
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    return {"greedy_ids": np.array([tokens]), "greedy_logits": np.array([logits])}


def _gradients(model: LlavaNextVideoForConditionalGeneration) -> dict[str, NDArray[Any]]:
    found = {_hub_name(name): p.grad for name, p in model.named_parameters()}
    small = {
        f"grad::{name}": g.numpy()
        for name, g in found.items()
        if g is not None and g.numel() <= 200
    }
    norm = np.sqrt(sum(float((g.double() ** 2).sum()) for g in found.values() if g is not None))
    without = [name for name, g in found.items() if g is None or not g.any()]
    return {**small, "grad_global_norm": np.array(norm), "params_without_grad": np.array(without)}


def _trajectories() -> list[dict[str, Any]]:
    """Losses and norms of some steps of torch's AdamW."""
    told = []
    for trained, parts in {"full": ("",), "adapter_only": ("multi_modal_projector",)}.items():
        model = _model()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(part in name for part in parts))
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1
        )
        case = dict(np.load(_MODEL / "clip_of_3_frames.npz"))
        losses, norms = [], []
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(**_inputs(case)).loss
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, 1.0)))
            losses.append(float(loss.detach()))
            optimizer.step()
        settings = {
            "lr": 1e-3,
            "betas": [0.9, 0.95],
            "eps": 1e-8,
            "weight_decay": 0.1,
            "clip_global_norm": 1.0,
        }
        which = {"model": _MODEL.name, "case": "clip_of_3_frames", "trainable": trained}
        told.append({**which, **settings, "loss": losses, "grad_norm_before_clip": norms})
    return told
