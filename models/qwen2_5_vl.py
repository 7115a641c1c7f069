"""Qwen2.5-VL: a ViT for pictures of any size that looks through windows in most of its layers, and
a Qwen2 with three-axis positions, the first of which counts time.

The published sizes are Qwen/Qwen2.5-VL-{3B,7B}-Instruct's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from mindspore import Tensor, nn

from models.decoder import Decoder, DecoderConfig
from models.lora import LoraConfig
from models.modules import CLIP_MEAN, CLIP_STD, GatedMLP, Linear, RMSNorm
from models.names import Weight, affine, qwen_decoder
from models.patches import (
    TEMPORAL,
    GridRope,
    PatchBlock,
    PatchMerger,
    PatchModel,
    PatchTower,
    Segments,
    TowerConfig,
)


@dataclass(frozen=True)
class VisionConfig(TowerConfig):
    """The tower's shape: layers but those in `full_layers` look no farther than a window of
    `window_size` pixels a side.
    """

    patch_size: int = 14
    window_size: int = 112
    full_layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Qwen25VLConfig:
    """The tower, and the decoder whose hidden size it speaks."""

    vision: VisionConfig
    language: DecoderConfig
    dtype: str = "float32"
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD


def in_sections(section: tuple[int, ...]) -> tuple[int, ...]:
    """The axis of each frequency: so many of time, then of rows, then of columns."""
    return tuple(axis for axis, count in enumerate(section) for _ in range(count))


# A Qwen2.
qwen2 = partial(
    DecoderConfig,
    eps=1e-6,
    rope_base=1e6,
    head_size=128,
    rope_axes=in_sections((16, 24, 24)),
    qkv_bias=True,
)
tower = partial(VisionConfig, hidden=1280, layers=32, heads=16, mlp=3420)

# The kind of vocabulary whose tokens it reads.
VOCABULARY = "qwen2"

PRESETS = {
    "tiny": Qwen25VLConfig(
        vision=VisionConfig(hidden=32, layers=3, heads=2, mlp=64, window_size=56, full_layers=(1,)),
        language=qwen2(
            vocabulary=151936,
            hidden=64,
            layers=2,
            heads=4,
            num_kv_heads=2,
            head_size=16,
            mlp=128,
            rope_axes=in_sections((2, 3, 3)),
        ),
    ),
    "3b": Qwen25VLConfig(
        vision=tower(full_layers=(7, 15, 23, 31)),
        language=qwen2(
            vocabulary=151936,
            hidden=2048,
            layers=36,
            heads=16,
            num_kv_heads=2,
            mlp=11008,
            tied=True,
        ),
    ),
    "7b": Qwen25VLConfig(
        vision=tower(full_layers=(7, 15, 23, 31)),
        language=qwen2(
            vocabulary=152064, hidden=3584, layers=28, heads=28, num_kv_heads=4, mlp=18944
        ),
    ),
}

# What a training stage can set free: the beginnings of parameter names.
PARTS = {
    "vision": ("vision.patch", "vision.layers"),
    "projector": ("vision.merger",),
    "language": ("language.",),
}

# Every linear layer of the language model.
LORA = LoraConfig(rank=64, alpha=128, targets=r"language\.layers\..*", split=True, dropout=0.05)


class Tower(PatchTower):
    """Patches to tokens of the language model."""

    def __init__(self, config: VisionConfig, outputs: int) -> None:
        super().__init__((config.window_size // config.patch_size, 0))
        self.full = config.full_layers
        self.patch = Linear(config.patch_values, config.hidden)
        self.rope = GridRope(config.hidden // config.heads)
        self.layers = nn.CellList(
            [
                PatchBlock(config, GatedMLP(config.hidden, config.mlp, bias=True), RMSNorm)
                for _ in range(config.layers)
            ]
        )
        self.merger = PatchMerger(
            config.hidden, outputs, RMSNorm(config.hidden, config.eps), norm_joined=False
        )

    def construct(
        self, pixels: Tensor, layout: Tensor, segments: tuple[Segments, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(1, tokens, hidden) of patches (1, patches, values); nothing for later layers."""
        x = self.patch(pixels)
        rope = self.rope(layout)
        near, far = self.seen(layout, segments)
        for i, layer in enumerate(self.layers):
            x = layer(x, rope, far if i in self.full else near)
        return self.merger(x), ()


class Qwen25VL(PatchModel):
    """Pictures, clips and text in; see `VisionLanguageModel.construct`."""

    def __init__(self, config: Qwen25VLConfig) -> None:
        super().__init__(config)
        self.vision = Tower(config.vision, config.language.hidden)
        self.language = Decoder(config.language)


MODEL = Qwen25VL


def from_hf(config: dict[str, Any]) -> Qwen25VLConfig:
    """Our config from the `config.json` of a Hugging Face checkpoint; the decoder's stands in it
    flat, or as `text_config`.
    """
    vision, text = config["vision_config"], config.get("text_config", config)
    rope = text.get("rope_scaling") or text["rope_parameters"]
    return Qwen25VLConfig(
        vision=VisionConfig(
            # The published 32B leaves out what all sizes share.
            hidden=vision["hidden_size"],
            layers=vision.get("depth", 32),
            heads=vision.get("num_heads", 16),
            mlp=vision["intermediate_size"],
            patch_size=vision.get("patch_size", 14),
            window_size=vision.get("window_size", 112),
            full_layers=tuple(vision.get("fullatt_block_indexes", (7, 15, 23, 31))),
        ),
        language=qwen2(
            vocabulary=text["vocab_size"],
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            num_kv_heads=text["num_key_value_heads"],
            head_size=text["hidden_size"] // text["num_attention_heads"],
            mlp=text["intermediate_size"],
            eps=text["rms_norm_eps"],
            rope_base=float(text.get("rope_theta") or rope["rope_theta"]),
            rope_axes=in_sections(tuple(rope["mrope_section"])),
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
        ),
    )


def weight_map(config: Qwen25VLConfig) -> list[Weight]:
    """Our parameters and the tensors of the Hugging Face checkpoint, as it was published."""
    vision, size = config.vision, config.vision.patch_size
    weights = [
        Weight(
            "vision.patch.weight",
            ("visual.patch_embed.proj.weight",),
            shape=(vision.hidden, 3, TEMPORAL, size, size),
        ),
        Weight("vision.merger.norm.weight", ("visual.merger.ln_q.weight",)),
        *affine("vision.merger.linear1", "visual.merger.mlp.0"),
        *affine("vision.merger.linear2", "visual.merger.mlp.2"),
    ]
    for i in range(vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"visual.blocks.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attn.qkv"),
            *affine(ours + "attention.out", theirs + "attn.proj"),
            Weight(ours + "norm1.weight", (theirs + "norm1.weight",)),
            Weight(ours + "norm2.weight", (theirs + "norm2.weight",)),
            *affine(ours + "mlp.gate", theirs + "mlp.gate_proj"),
            *affine(ours + "mlp.up", theirs + "mlp.up_proj"),
            *affine(ours + "mlp.down", theirs + "mlp.down_proj"),
        ]
    return weights + qwen_decoder(
        config.language.layers,
        config.language.qkv_rows,
        "model.",
        qkv_bias=True,
        tied=config.language.tied,
    )


# How checkpoints lay out their tensors.
LAYOUTS = {"published": weight_map}


def canonical_name(name: str, part: str = "full") -> str:
    """The name that `weight_map` uses, from any layout in which transformers has saved this model.

    `part`: with `vision` and `language` the checkpoint may also be the tower or the decoder alone.
    """
    # Transformers from 4.52 on names both halves below `model.`.
    name = name.replace("model.visual.", "visual.", 1) if name.startswith("model.vis") else name
    name = name.replace("model.language_model.", "model.", 1)
    if part == "vision" and not name.startswith("visual."):
        return f"visual.{name}"
    if part == "language" and not name.startswith(("model.", "lm_head.")):
        return f"model.{name}"
    return name
