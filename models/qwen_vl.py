"""Qwen-VL: ViT-bigG at 448 pixels, a resampler with 256 queries, Qwen-7B.

A picture gives `queries` media rows, the places between `<img>` and `</img>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import XavierUniform, initializer
from numpy.typing import NDArray

from models.attention import Attend
from models.decoder import Decoder, DecoderConfig, RopeTables
from models.lora import LoraConfig
from models.model import VisionLanguageModel
from models.modules import (
    CLIP_MEAN,
    CLIP_STD,
    LayerNorm,
    Linear,
    constant,
    inverse_frequencies,
    join_heads,
    normal,
    resize_grid,
    rotary_tables,
    split_heads,
)
from models.names import Weight, affine, mindformers_layer
from models.vit import VisionConfig, VisionTransformer

POSITION_SIDE = 16  # the position table is always 16 x 16 and is resized to the picture's grid


@dataclass(frozen=True)
class QwenVLConfig:
    """Evaluated on texts beyond `train_length`,
    it has log-n attention and dynamic NTK frequencies; 0 means never.
    """

    vision: VisionConfig
    language: DecoderConfig
    queries: int = 256
    resampler_head_size: int = 128  # as many heads as it fits into the width (Qwen-VL's visual.py)
    train_length: int = 2048
    dtype: str = "float32"
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD

    @property
    def media_rows(self) -> int:
        """Rows that one picture gives."""
        return self.queries


# OpenCLIP's ViT-bigG: no class token, no bias in the patch layer.
bigg = partial(
    VisionConfig,
    position_side=POSITION_SIDE,
    patch_bias=False,
    class_token=False,
    norm_embeddings=True,
)

# The kind of vocabulary whose tokens it reads.
VOCABULARY = "qwen"

PRESETS = {
    "tiny": QwenVLConfig(
        vision=bigg(image_size=112, patch_size=14, hidden=64, layers=2, heads=4, mlp=256),
        language=DecoderConfig(
            vocabulary=151936,
            hidden=128,
            layers=2,
            heads=4,
            num_kv_heads=4,
            head_size=32,
            mlp=256,
            eps=1e-6,
            qkv_bias=True,
        ),
        queries=256,
    ),
    # Qwen/Qwen-VL and Qwen/Qwen-VL-Chat
    "9.6b": QwenVLConfig(
        vision=bigg(image_size=448, patch_size=14, hidden=1664, layers=48, heads=16, mlp=8192),
        language=DecoderConfig(
            vocabulary=151936,
            hidden=4096,
            layers=32,
            heads=32,
            num_kv_heads=32,
            head_size=128,
            mlp=11008,
            eps=1e-6,
            qkv_bias=True,
        ),
    ),
}

# What a training stage can set free: the beginnings of parameter names. The resampler's position
# table never trains.
PARTS = {
    "vision": ("vision",),
    "resampler": tuple(f"resampler.{name}" for name in ("query", "kv.", "qkv_", "out.", "norm_")),
    "language": ("language.",),
}

# As in Qwen-VL's finetune.py: c_attn, attn.c_proj, w1 and w2.
LORA = LoraConfig(
    rank=64,
    alpha=16,
    targets=r"language\.layers\.\d+\.(attention\.(qkv|out)|mlp\.(gate|up))",
    split=False,
    dropout=0.05,
)


def bicubic_weights(size: int, resized: int) -> NDArray[Any]:
    """(resized, size) float32:
    bicubic interpolation along one axis (half-pixel centres, a = -0.75, edges repeated).
    """
    weights = np.zeros((resized, size))
    for row in range(resized):
        centre = (row + 0.5) * size / resized - 0.5
        for tap in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            weights[row, min(max(tap, 0), size - 1)] += cubic_kernel(abs(centre - tap))
    return weights.astype(np.float32)


def cubic_kernel(distance: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel; a = -0.75 as in torch."""
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a if distance < 2 else 0.0


def sincos_table(side: int, size: int) -> NDArray[np.float32]:
    """(side², size) float32: sine and cosine of the column, then of the row;
    published checkpoints hold it rounded.
    """
    steps = inverse_frequencies(size // 2, 10000.0)
    angles = np.arange(side)[:, None] * steps
    line = np.concatenate([np.sin(angles), np.cos(angles)], 1)
    return np.asarray(
        np.concatenate([np.tile(line, (side, 1)), np.repeat(line, side, 0)], 1), np.float32
    )


class QwenVision(VisionTransformer):
    """The tower, its 16 x 16 position table resized to the grid of the picture."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config)
        # Else the patches drown them.
        self.positions = normal(POSITION_SIDE**2, config.hidden, std=config.hidden**-0.5)
        self.resize = Tensor(bicubic_weights(POSITION_SIDE, config.side))

    def position_table(self) -> Tensor:
        """(tokens, hidden) float32."""
        table = self.positions.astype(ms.float32).reshape(1, POSITION_SIDE, POSITION_SIDE, -1)
        return resize_grid(table, self.resize).reshape(-1, table.shape[-1])


class Resampler(nn.Cell):
    """A fixed number of queries that look at all patches of a picture."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__()
        vision, size, std = config.vision, config.language.hidden, config.language.initializer_range
        self.side = round(config.queries**0.5)
        self.heads = size // config.resampler_head_size
        self.query = normal(config.queries, size)
        self.positions = Parameter(Tensor(sincos_table(self.side, size)), requires_grad=False)
        self.resize = Tensor(bicubic_weights(self.side, vision.side))
        self.kv = Linear(vision.hidden, size, std=std) if vision.hidden != size else None
        # Xavier, as torch draws it: at 0.02 a narrow model's queries see every patch alike and
        # learn next to nothing.
        self.qkv_weight = Parameter(initializer(XavierUniform(), (3 * size, size), ms.float32))
        self.qkv_bias = constant(0, 3 * size)
        self.out = Linear(size, size, bias=True, std=std)
        self.norm_query = LayerNorm(size, vision.eps)
        self.norm_kv = LayerNorm(size, vision.eps)
        self.attend = Attend()

    def construct(self, patches: Tensor) -> Tensor:
        """(images, patches, vision hidden) -> (images, queries, hidden)."""
        value = self.norm_kv(patches if self.kv is None else self.kv(patches))
        queries, size = self.positions.shape
        table = self.positions.astype(value.dtype)
        key = value + resize_grid(
            table.reshape(1, self.side, self.side, size), self.resize
        ).reshape(1, -1, size)
        query = self.norm_query(self.query.astype(value.dtype)) + table
        query = ops.broadcast_to(query, (value.shape[0], queries, size))
        query, key, value = self.project(query, 0), self.project(key, 1), self.project(value, 2)
        return self.out(join_heads(self.attend(query, key, value)))

    def project(self, x: Tensor, part: int) -> Tensor:
        """Queries (part 0), keys (1) or values (2) by heads: (images, heads, tokens, head size)."""
        weight = ops.chunk(self.qkv_weight.astype(x.dtype), 3, 0)[part]
        bias = ops.chunk(self.qkv_bias.astype(x.dtype), 3, 0)[part]
        return split_heads(ops.matmul(x, weight.swapaxes(0, 1)) + bias, self.heads)


class QwenDecoder(Decoder):
    """The decoder, in evaluation able to read beyond the length it was trained with."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__(config.language)
        size = config.language.head_size
        self.train_length = config.train_length
        self.ntk_powers = Tensor((-np.arange(0, size, 2) / (size - 2)).astype(np.float32))
        self.ntk_lengths = Tensor((config.train_length * 2 ** np.arange(12)).astype(np.int32))

    def rope(self, positions: Tensor, prompt_length: Tensor | None) -> RopeTables:
        """The rotary tables for positions (batch, length), and the log-n factor of queries."""
        if self.training or not self.train_length:
            return super().rope(positions, prompt_length)
        if prompt_length is None:
            prompt_length = ops.full((positions.shape[0],), positions.shape[1], dtype=ms.int32)
        cos, sin = rotary_tables(positions, self.ntk_frequencies(prompt_length))
        return cos, sin, self.log_n(positions)

    def ntk_frequencies(self, length: Tensor) -> Tensor:
        """Slower angular steps for prompts beyond the training length:
        (batch, 1, head size / 2) for `length` (batch,).

        The base grows by alpha^(size / (size - 2)), alpha = 2^ceil(log2(length / train length) + 1)
        - 1; the exponent is counted in whole numbers, since a rounded logarithm can fall on the
        wrong side of a power of two.
        """
        doublings = (length[:, None] > self.ntk_lengths).astype(ms.float32).sum(-1)
        alpha = ops.pow(2.0, doublings + 1) - 1
        return self.frequencies * ops.pow(alpha[:, None, None], self.ntk_powers)

    def log_n(self, positions: Tensor) -> Tensor:
        """Log-n attention:
        what queries beyond the training length are multiplied with, (batch, 1, length, 1).
        """
        count = positions.astype(ms.float32) + 1
        scale = ops.log(count) / float(np.log(self.train_length))
        return ops.where(count > self.train_length, scale, ops.ones_like(scale))[:, None, :, None]


class QwenVL(VisionLanguageModel):
    """Pictures and text in; see `VisionLanguageModel.construct`."""

    def __init__(self, config: QwenVLConfig) -> None:
        super().__init__(config)
        hidden = config.language.hidden
        self.vision = QwenVision(config.vision)
        self.resampler = Resampler(config)
        self.vision_norm = LayerNorm(hidden, config.vision.eps)
        self.vision_proj = normal(hidden, hidden, std=hidden**-0.5)
        self.language = QwenDecoder(config)

    def media(self, pixels: Tensor) -> Tensor:
        """(images, queries, hidden)."""
        x = self.vision_norm(self.resampler(self.vision(pixels)))
        return ops.matmul(x, self.vision_proj.astype(x.dtype))


MODEL = QwenVL


def from_hf(config: dict[str, Any]) -> QwenVLConfig:
    """Our config from the `config.json` of a Hugging Face checkpoint."""
    visual = config["visual"]
    extended = config.get("use_dynamic_ntk", True) and config.get("use_logn_attn", True)
    return QwenVLConfig(
        vision=vision_from_hf(config),
        language=language_from_hf(config),
        queries=visual.get("n_queries", 256),
        train_length=config["seq_length"] if extended else 0,
    )


def vision_from_hf(config: dict[str, Any]) -> VisionConfig:
    """Our tower's config from the `config.json` of a whole model, or its section `visual` alone."""
    visual = config.get("visual", config)
    return bigg(
        image_size=visual["image_size"],
        patch_size=visual["patch_size"],
        hidden=visual["width"],
        layers=visual["layers"],
        heads=visual["heads"],
        mlp=int(visual["width"] * visual["mlp_ratio"]),
    )


def language_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """Our decoder's config from the `config.json` of a whole model or of a Qwen alone."""
    return DecoderConfig(
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        num_kv_heads=config["num_attention_heads"],
        head_size=config["kv_channels"],
        mlp=config["intermediate_size"] // 2,  # it counts both projections upwards
        eps=config["layer_norm_epsilon"],
        rope_base=config["rotary_emb_base"],
        qkv_bias=True,
    )


def weight_map(config: QwenVLConfig) -> list[Weight]:
    """Our parameters and the tensors of the Hugging Face checkpoint."""
    visual = "transformer.visual."
    pool = visual + "attn_pool."
    weights = [
        Weight("vision.patch.weight", (visual + "conv1.weight",)),
        Weight("vision.positions", (visual + "positional_embedding",)),
        *affine("vision.norm", visual + "ln_pre"),
        *affine("vision_norm", visual + "ln_post"),
        Weight("vision_proj", (visual + "proj",)),
        Weight("resampler.query", (pool + "query",)),
        Weight("resampler.positions", (pool + "pos_embed",)),
        Weight("resampler.qkv_weight", (pool + "attn.in_proj_weight",)),
        Weight("resampler.qkv_bias", (pool + "attn.in_proj_bias",)),
        *affine("resampler.out", pool + "attn.out_proj"),
        *affine("resampler.norm_query", pool + "ln_q"),
        *affine("resampler.norm_kv", pool + "ln_kv"),
        Weight("language.embedding.weight", ("transformer.wte.weight",)),
        Weight("language.norm.weight", ("transformer.ln_f.weight",)),
        Weight("language.head.weight", ("lm_head.weight",)),
    ]
    if config.vision.hidden != config.language.hidden:
        weights.append(Weight("resampler.kv.weight", (pool + "kv_proj.weight",)))

    for i in range(config.vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"{visual}transformer.resblocks.{i}."
        weights += [
            *(
                Weight(
                    f"{ours}attention.qkv.{part}",
                    (f"{theirs}attn.in_proj.{part}",),
                    heads=config.vision.heads,
                )
                for part in ("weight", "bias")
            ),
            *affine(ours + "attention.out", theirs + "attn.out_proj"),
            *affine(ours + "norm1", theirs + "ln_1"),
            *affine(ours + "norm2", theirs + "ln_2"),
            *affine(ours + "mlp.up", theirs + "mlp.c_fc"),
            *affine(ours + "mlp.down", theirs + "mlp.c_proj"),
        ]

    for i in range(config.language.layers):
        ours, theirs = f"language.layers.{i}.", f"transformer.h.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attn.c_attn"),
            Weight(ours + "attention.out.weight", (theirs + "attn.c_proj.weight",)),
            Weight(ours + "norm1.weight", (theirs + "ln_1.weight",)),
            Weight(ours + "norm2.weight", (theirs + "ln_2.weight",)),
            Weight(ours + "mlp.up.weight", (theirs + "mlp.w1.weight",)),
            Weight(ours + "mlp.gate.weight", (theirs + "mlp.w2.weight",)),  # the SiLU is on w2
            Weight(ours + "mlp.down.weight", (theirs + "mlp.c_proj.weight",)),
        ]

    return weights


# How checkpoints lay out their tensors.
LAYOUTS = {"published": weight_map}


def canonical_name(name: str, part: str = "full") -> str:
    """The name that `weight_map` uses;
    `part` says whether the checkpoint is the whole model, a ViT or a Qwen alone.
    """
    return f"transformer.visual.{name.removeprefix('visual.')}" if part == "vision" else name


def mindformers_map(config: QwenVLConfig) -> list[Weight]:
    """Our parameters and the names that MindFormers' research/qwenvl gives them."""
    visual, text = "vision_encoder.", "llm_model.transformer."
    pool, rows = visual + "attn_pool.", (config.language.hidden,) * 3
    weights = [
        Weight("vision.patch.weight", (visual + "conv1.weight",)),
        Weight("vision.positions", (visual + "positional_embedding",)),
        *affine("vision.norm", visual + "ln_pre", norm=True),
        *affine("vision_norm", visual + "ln_post", norm=True),
        Weight("vision_proj", (visual + "proj",)),
        Weight("resampler.query", (pool + "query",)),
        Weight("resampler.positions", (pool + "pos_embed",)),
        *_mindformers_attention("resampler.qkv_", "resampler.out.", pool + "attn.", rows),
        *affine("resampler.norm_query", pool + "ln_q", norm=True),
        *affine("resampler.norm_kv", pool + "ln_kv", norm=True),
        Weight("language.embedding.weight", (text + "wte.embedding_weight",)),
        Weight("language.norm.weight", (text + "ln_f.weight",)),
        Weight("language.head.weight", ("llm_model.lm_head.weight",)),
    ]
    if config.vision.hidden != config.language.hidden:
        weights.append(Weight("resampler.kv.weight", (pool + "kv_proj.weight",)))

    for i in range(config.vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"{visual}transformer.resblocks.{i}."
        weights += [
            *_mindformers_attention(
                f"{ours}attention.qkv.",
                f"{ours}attention.out.",
                theirs + "attn.",
                (config.vision.hidden,) * 3,
            ),
            *affine(ours + "norm1", theirs + "ln_1", norm=True),
            *affine(ours + "norm2", theirs + "ln_2", norm=True),
            *affine(ours + "mlp.up", theirs + "mlp.c_fc"),
            *affine(ours + "mlp.down", theirs + "mlp.c_proj"),
        ]

    for i in range(config.language.layers):
        ours, theirs = f"language.layers.{i}.", f"{text}layers.{i}."
        weights += mindformers_layer(
            ours, theirs, config.language.qkv_rows, qkv_bias=True, gate="w3", up="w1"
        )

    return weights


def _mindformers_attention(qkv: str, out: str, theirs: str, rows: tuple[int, ...]) -> list[Weight]:
    parts = ("weight", "bias")
    return [
        *(
            Weight(qkv + part, tuple(f"{theirs}dense{n}.{part}" for n in (1, 2, 3)), rows=rows)
            for part in parts
        ),
        Weight(out + "weight", (theirs + "projection.weight",), transposed=True),
        Weight(out + "bias", (theirs + "projection.bias",)),
    ]
