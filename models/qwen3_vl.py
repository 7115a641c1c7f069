"""Qwen3-VL: a ViT for pictures of any size whose middle layers also speak to the first layers of
the decoder (deepstack), and a Qwen3 with interleaved three-axis positions.

Seconds stand in the text, before each pair of frames, so that positions need no time. The published
sizes are Qwen/Qwen3-VL-{2B,4B,8B}-Instruct's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from models.decoder import Decoder, DecoderConfig
from models.lora import LoraConfig
from models.modules import MLP, LayerNorm, Linear, normal
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
    """The tower's shape: `position_side` learned positions a side are stretched over each picture;
    `deepstack` are the layers whose patches are merged too.
    """

    patch_size: int = 16
    position_side: int = 48
    deepstack: tuple[int, ...] = ()


@dataclass(frozen=True)
class Qwen3VLConfig:
    """The tower, and the decoder whose hidden size it speaks."""

    vision: VisionConfig
    language: DecoderConfig
    dtype: str = "float32"
    pixel_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pixel_std: tuple[float, float, float] = (0.5, 0.5, 0.5)


def interleave(section: tuple[int, int, int]) -> tuple[int, ...]:
    """The axis of each frequency: time, row, column, time, row, column … while a section lasts,
    then time.
    """
    _, rows, columns = section
    return tuple(
        1 if j % 3 == 1 and j < 3 * rows else 2 if j % 3 == 2 and j < 3 * columns else 0
        for j in range(sum(section))
    )


# A Qwen3.
qwen3 = partial(
    DecoderConfig,
    eps=1e-6,
    rope_base=5e6,
    head_size=128,
    rope_axes=interleave((24, 20, 20)),
    norm_heads=True,
)

# The kind of vocabulary whose tokens it reads.
VOCABULARY = "qwen3"

PRESETS = {
    "tiny": Qwen3VLConfig(
        vision=VisionConfig(
            hidden=32, layers=3, heads=2, mlp=64, position_side=6, deepstack=(0, 1)
        ),
        language=qwen3(
            vocabulary=151936,
            hidden=64,
            layers=3,
            heads=4,
            num_kv_heads=2,
            head_size=16,
            mlp=128,
            rope_axes=interleave((4, 2, 2)),
        ),
    ),
    "2b": Qwen3VLConfig(
        vision=VisionConfig(hidden=1024, layers=24, heads=16, mlp=4096, deepstack=(5, 11, 17)),
        language=qwen3(
            vocabulary=151936,
            hidden=2048,
            layers=28,
            heads=16,
            num_kv_heads=8,
            mlp=6144,
            tied=True,
        ),
    ),
    "4b": Qwen3VLConfig(
        vision=VisionConfig(hidden=1024, layers=24, heads=16, mlp=4096, deepstack=(5, 11, 17)),
        language=qwen3(
            vocabulary=151936,
            hidden=2560,
            layers=36,
            heads=32,
            num_kv_heads=8,
            mlp=9728,
            tied=True,
        ),
    ),
    "8b": Qwen3VLConfig(
        vision=VisionConfig(hidden=1152, layers=27, heads=16, mlp=4304, deepstack=(8, 16, 24)),
        language=qwen3(
            vocabulary=151936, hidden=4096, layers=36, heads=32, num_kv_heads=8, mlp=12288
        ),
    ),
}

# What a training stage can set free: the beginnings of parameter names.
PARTS = {
    "vision": ("vision.patch", "vision.positions", "vision.layers"),
    "projector": ("vision.merger", "vision.deepstack"),
    "language": ("language.",),
}

# Every linear layer of the language model.
LORA = LoraConfig(rank=64, alpha=128, targets=r"language\.layers\..*", split=True, dropout=0.05)


class Tower(PatchTower):
    """Patches to tokens of the language model."""

    def __init__(self, config: VisionConfig, outputs: int) -> None:
        super().__init__((0,))
        self.side, self.deep = config.position_side, config.deepstack
        self.patch = Linear(config.patch_values, config.hidden, bias=True)
        self.positions = normal(config.position_side**2, config.hidden)
        self.rope = GridRope(config.hidden // config.heads)
        self.layers = nn.CellList(
            [
                PatchBlock(config, MLP(config.hidden, config.mlp, "gelu_tanh"), LayerNorm)
                for _ in range(config.layers)
            ]
        )
        self.merger = PatchMerger(
            config.hidden, outputs, LayerNorm(config.hidden, config.eps), norm_joined=False
        )
        width = 4 * config.hidden
        self.deepstack = nn.CellList(
            [
                PatchMerger(config.hidden, outputs, LayerNorm(width, config.eps), norm_joined=True)
                for _ in config.deepstack
            ]
        )

    def construct(
        self, pixels: Tensor, layout: Tensor, segments: tuple[Segments, ...] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(1, tokens, hidden) of patches (1, patches, values): the features, and one more of that
        shape for each layer of the deepstack.
        """
        x = self.patch(pixels) + self.stretched_positions(layout).astype(pixels.dtype)
        rope, seen = self.rope(layout), self.seen(layout, segments)
        deep = []
        for i, layer in enumerate(self.layers):
            x = layer(x, rope, seen[0])
            if i in self.deep:
                deep.append(self.deepstack[self.deep.index(i)](x))
        return self.merger(x), tuple(deep)

    def stretched_positions(self, layout: Tensor) -> Tensor:
        """The learned grid at the place of each patch, bilinear, (1, patches, hidden) float32: its
        corners are those of the picture.
        """
        places = layout[:, 1:3].astype(ms.float32)
        sizes = layout[:, 3:5].astype(ms.float32)
        at = places * (self.side - 1) / ops.maximum(sizes - 1, Tensor(1, ms.float32))
        low = ops.floor(at)
        part = at - low
        low = low.astype(ms.int32)
        high = ops.minimum(low + 1, Tensor(self.side - 1, ms.int32))
        table = self.positions.astype(ms.float32)
        corners = []
        for row, by_row in ((low[:, 0], 1 - part[:, 0]), (high[:, 0], part[:, 0])):
            for column, by_column in ((low[:, 1], 1 - part[:, 1]), (high[:, 1], part[:, 1])):
                weight = (by_row * by_column).expand_dims(-1)
                corners.append(ops.gather(table, row * self.side + column, 0) * weight)
        return (corners[0] + corners[1] + corners[2] + corners[3])[None]


class Qwen3VL(PatchModel):
    """Pictures, clips and text in; see `VisionLanguageModel.construct`."""

    def __init__(self, config: Qwen3VLConfig) -> None:
        super().__init__(config)
        self.vision = Tower(config.vision, config.language.hidden)
        self.language = Decoder(config.language)


MODEL = Qwen3VL


def from_hf(config: dict[str, Any]) -> Qwen3VLConfig:
    """Our config from the `config.json` of a Hugging Face checkpoint."""
    vision, text = config["vision_config"], config["text_config"]
    section = (text.get("rope_scaling") or text["rope_parameters"])["mrope_section"]
    return Qwen3VLConfig(
        vision=VisionConfig(
            hidden=vision["hidden_size"],
            layers=vision["depth"],
            heads=vision["num_heads"],
            mlp=vision["intermediate_size"],
            patch_size=vision["patch_size"],
            position_side=round(vision["num_position_embeddings"] ** 0.5),
            deepstack=tuple(vision["deepstack_visual_indexes"]),
        ),
        language=qwen3(
            vocabulary=text["vocab_size"],
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            heads=text["num_attention_heads"],
            num_kv_heads=text["num_key_value_heads"],
            head_size=text["head_dim"],
            mlp=text["intermediate_size"],
            eps=text["rms_norm_eps"],
            rope_base=float(text.get("rope_theta") or text["rope_parameters"]["rope_theta"]),
            rope_axes=interleave(tuple(section)),
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
        ),
    )


def weight_map(config: Qwen3VLConfig) -> list[Weight]:
    """Our parameters and the tensors of the Hugging Face checkpoint."""
    tower, vision = "model.visual.", config.vision
    size = vision.patch_size
    weights = [
        Weight(
            "vision.patch.weight",
            (tower + "patch_embed.proj.weight",),
            shape=(vision.hidden, 3, TEMPORAL, size, size),
        ),
        Weight("vision.patch.bias", (tower + "patch_embed.proj.bias",)),
        Weight("vision.positions", (tower + "pos_embed.weight",)),
        *_merger("vision.merger", tower + "merger"),
    ]
    for i in range(vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"{tower}blocks.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attn.qkv"),
            *affine(ours + "attention.out", theirs + "attn.proj"),
            *affine(ours + "norm1", theirs + "norm1"),
            *affine(ours + "norm2", theirs + "norm2"),
            *affine(ours + "mlp.up", theirs + "mlp.linear_fc1"),
            *affine(ours + "mlp.down", theirs + "mlp.linear_fc2"),
        ]
    for i in range(len(vision.deepstack)):
        weights += _merger(f"vision.deepstack.{i}", f"{tower}deepstack_merger_list.{i}")
    return weights + qwen_decoder(
        config.language.layers,
        config.language.qkv_rows,
        "model.language_model.",
        norm_heads=True,
        tied=config.language.tied,
    )


# How checkpoints lay out their tensors.
LAYOUTS = {"published": weight_map}


def _merger(ours: str, theirs: str) -> list[Weight]:
    return [
        *affine(ours + ".norm", theirs + ".norm"),
        *affine(ours + ".linear1", theirs + ".linear_fc1"),
        *affine(ours + ".linear2", theirs + ".linear_fc2"),
    ]


def canonical_name(name: str, part: str = "full") -> str:
    """The name that `weight_map` uses, from any layout in which transformers has saved this model.

    `part`: with `vision` and `language` the checkpoint may also be the tower or the decoder alone.
    """
    if part == "vision" and not name.startswith("model."):
        return "model.visual." + name.removeprefix("visual.")
    if part == "language" and not name.startswith(("model.language_model.", "lm_head.")):
        return "model.language_model." + name.removeprefix("model.")
    return name
