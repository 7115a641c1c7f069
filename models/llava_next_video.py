"""LLaVA-NeXT-Video: CLIP ViT-L/14-336, a two-layer projector,
anyres tiles or pooled video frames, Vicuna.

An image here is one tile of a picture or one frame of a clip. It gives `media_rows` rows, from
which `media_index` takes what a position needs: first the features of the grid, row by row (for
pictures); then those of the pooled grid (for clips); last the newline vector (which ends each row
of an unpadded picture).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from models.decoder import Decoder, DecoderConfig
from models.lora import LoraConfig
from models.model import VisionLanguageModel
from models.modules import (
    CLIP_MEAN,
    CLIP_STD,
    LayerNorm,
    Linear,
    exact_gelu,
    normal,
    resize_grid,
)
from models.names import Weight, affine, mindformers_llama, stack_rows
from models.vit import VisionConfig, VisionTransformer


@dataclass(frozen=True)
class LlavaNextVideoConfig:
    """`pool_mode` is average, max or bilinear.

    `pool_before_projector`: True is how the 7B checkpoint was trained and how transformers runs it;
    LLaVA-NeXT since August 2024 and MindFormers pool after it, which is another function.
    """

    vision: VisionConfig
    language: DecoderConfig
    pool_mode: str = "average"
    pool_stride: int = 2
    pool_before_projector: bool = True
    dtype: str = "float32"
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD

    @property
    def pooled_side(self) -> int:
        """Pooled features along one side of a frame."""
        side, stride = self.vision.side, self.pool_stride
        return -(-side // stride) if self.pool_mode == "bilinear" else side // stride

    @property
    def media_rows(self) -> int:
        """Rows that one tile or frame gives."""
        return self.vision.side**2 + self.pooled_side**2 + 1


# CLIP's tower.
clip = partial(
    VisionConfig, activation="quick_gelu", eps=1e-5, patch_bias=False, norm_embeddings=True
)

# The kind of vocabulary whose tokens it reads.
VOCABULARY = "llama2"

PRESETS = {
    "tiny": LlavaNextVideoConfig(
        vision=clip(
            layers=3, layers_used=2, image_size=56, patch_size=14, hidden=64, heads=4, mlp=128
        ),
        language=DecoderConfig(
            vocabulary=32064, hidden=64, layers=2, heads=4, num_kv_heads=4, head_size=16, mlp=128
        ),
    ),
    # llava-hf/LLaVA-NeXT-Video-7B-hf
    "7b": LlavaNextVideoConfig(
        vision=clip(
            layers=24,
            layers_used=23,
            image_size=336,
            patch_size=14,
            hidden=1024,
            heads=16,
            mlp=4096,
        ),
        language=DecoderConfig(
            vocabulary=32064,
            hidden=4096,
            layers=32,
            heads=32,
            num_kv_heads=32,
            head_size=128,
            mlp=11008,
        ),
    ),
}

# What a training stage can set free: the beginnings of parameter names.
PARTS = {
    "vision": ("vision",),
    "projector": ("projector.",),
    "newline": ("newline",),
    "language": ("language.",),
}

# As in LLaVA-1.5's finetune_lora.sh: every linear layer of the language model.
LORA = LoraConfig(rank=128, alpha=256, targets=r"language\.layers\..*", split=True, dropout=0.05)


class Projector(nn.Cell):
    """Vision features to token embeddings."""

    def __init__(self, vision: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = Linear(vision, hidden, bias=True)
        self.linear2 = Linear(hidden, hidden, bias=True)

    def construct(self, x: Tensor) -> Tensor:
        """(…, vision hidden) -> (…, hidden)."""
        return self.linear2(exact_gelu(self.linear1(x)))


class FramePool(nn.Cell):
    """A frame's feature grid, made smaller."""

    def __init__(self, config: LlavaNextVideoConfig) -> None:
        super().__init__()
        self.mode, self.stride = config.pool_mode, config.pool_stride
        self.side, self.pooled = config.vision.side, config.pooled_side
        self.weights = Tensor(bilinear_weights(self.side, self.pooled))

    def construct(self, x: Tensor) -> Tensor:
        """(frames, side², hidden) -> (frames, pooled side², hidden)."""
        frames, _, hidden = x.shape
        x = x.reshape(frames, self.side, self.side, hidden)
        if self.mode == "bilinear":
            return resize_grid(x, self.weights).reshape(frames, self.pooled**2, hidden)
        used, stride = self.pooled * self.stride, self.stride
        x = x[:, :used, :used].reshape(frames, self.pooled, stride, self.pooled, stride, hidden)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(frames, self.pooled**2, stride**2, hidden)
        return ops.amax(x, 2) if self.mode == "max" else ops.mean(x, 2)


def bilinear_weights(size: int, pooled: int) -> NDArray[np.float32]:
    """(pooled, size) float32: bilinear interpolation with half-pixel centres along one axis."""
    centres = np.clip((np.arange(pooled) + 0.5) * size / pooled - 0.5, 0, size - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size))), np.float32)


class LlavaNextVideo(VisionLanguageModel):
    """Pictures, clips and text in; see `VisionLanguageModel.construct`."""

    def __init__(self, config: LlavaNextVideoConfig) -> None:
        super().__init__(config)
        hidden = config.language.hidden
        self.vision = VisionTransformer(config.vision)
        # In the checkpoint, in no forward pass.
        self.vision_norm = LayerNorm(config.vision.hidden, config.vision.eps)
        self.projector = Projector(config.vision.hidden, hidden)
        self.newline = normal(hidden, std=hidden**-0.5)
        self.pool = FramePool(config)
        self.language = Decoder(config.language)

    def media(self, pixels: Tensor) -> Tensor:
        """(images, media rows, hidden): grid, pooled grid and newline of each tile or frame."""
        # Without the class token: (images, side², vision hidden).
        features = self.vision(pixels)[:, 1:]
        grid = self.projector(features)
        pooled = (
            self.projector(self.pool(features))
            if self.config.pool_before_projector
            else self.pool(grid)
        )
        newline = ops.broadcast_to(
            self.newline.astype(grid.dtype), (grid.shape[0], 1, grid.shape[2])
        )
        return ops.cat((grid, pooled, newline), 1)


MODEL = LlavaNextVideo


def from_hf(config: dict[str, Any]) -> LlavaNextVideoConfig:
    """Our config from the `config.json` of a Hugging
    Face checkpoint (LlavaNext or LlavaNextVideo).
    """
    return LlavaNextVideoConfig(
        vision=vision_from_hf(config),
        language=language_from_hf(config),
        pool_mode=config.get("spatial_pool_mode", "average"),
        pool_stride=config.get("spatial_pool_stride", 2),
    )


def vision_from_hf(config: dict[str, Any]) -> VisionConfig:
    """Our tower's config from the `config.json` of a whole model, a CLIP or its vision part."""
    vision = config.get("vision_config", config)
    layers = vision["num_hidden_layers"]
    return clip(
        layers=layers,
        # -1 is the output of the last layer.
        layers_used=layers + 1 + config.get("vision_feature_layer", -2),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden=vision["hidden_size"],
        heads=vision["num_attention_heads"],
        mlp=vision["intermediate_size"],
    )


def language_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """Our decoder's config from the `config.json` of a whole model or of a Llama alone."""
    text = config.get("text_config", config)
    heads = text["num_attention_heads"]
    return DecoderConfig(
        vocabulary=text["vocab_size"],
        hidden=text["hidden_size"],
        layers=text["num_hidden_layers"],
        heads=heads,
        num_kv_heads=text.get("num_key_value_heads", heads),
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        mlp=text["intermediate_size"],
        eps=text.get("rms_norm_eps", 1e-5),
        rope_base=text.get("rope_theta", 10000.0),
        rope_factor=(text.get("rope_scaling") or {}).get("factor", 1.0),
    )


def weight_map(config: LlavaNextVideoConfig) -> list[Weight]:
    """Our parameters and the tensors of the Hugging Face
    checkpoint (as transformers 4.42 to 4.51 name them).
    """
    tower, text = "vision_tower.vision_model.", "language_model."
    weights = [
        Weight("newline", ("image_newline",)),
        Weight(
            "vision.class_token",
            (tower + "embeddings.class_embedding",),
            shape=(config.vision.hidden,),
        ),
        Weight("vision.patch.weight", (tower + "embeddings.patch_embedding.weight",)),
        Weight("vision.positions", (tower + "embeddings.position_embedding.weight",)),
        *affine("vision.norm", tower + "pre_layrnorm"),
        *affine("vision_norm", tower + "post_layernorm"),
        *affine("projector.linear1", "multi_modal_projector.linear_1"),
        *affine("projector.linear2", "multi_modal_projector.linear_2"),
        Weight("language.embedding.weight", (text + "model.embed_tokens.weight",)),
        Weight("language.norm.weight", (text + "model.norm.weight",)),
        Weight("language.head.weight", (text + "lm_head.weight",)),
    ]
    for i in range(config.vision.layers):
        weights += _vision_layer(
            f"vision.layers.{i}.", f"{tower}encoder.layers.{i}.", config.vision.hidden
        )

    for i in range(config.language.layers):
        weights += _language_layer(
            f"language.layers.{i}.", f"{text}model.layers.{i}.", config.language.qkv_rows
        )

    return weights


# How checkpoints lay out their tensors.
LAYOUTS = {"published": weight_map}


def _vision_layer(ours: str, theirs: str, hidden: int) -> list[Weight]:
    qkv = tuple(f"{theirs}self_attn.{name}_proj" for name in "qkv")
    return [
        *stack_rows(ours + "attention.qkv", qkv, rows=(hidden,) * 3, bias=True),
        *affine(ours + "attention.out", theirs + "self_attn.out_proj"),
        *affine(ours + "norm1", theirs + "layer_norm1"),
        *affine(ours + "norm2", theirs + "layer_norm2"),
        *affine(ours + "mlp.up", theirs + "mlp.fc1"),
        *affine(ours + "mlp.down", theirs + "mlp.fc2"),
    ]


def _language_layer(ours: str, theirs: str, rows: tuple[int, ...]) -> list[Weight]:
    qkv = tuple(f"{theirs}self_attn.{name}_proj" for name in "qkv")
    return [
        *stack_rows(ours + "attention.qkv", qkv, rows=rows, bias=False),
        Weight(ours + "attention.out.weight", (theirs + "self_attn.o_proj.weight",)),
        Weight(ours + "norm1.weight", (theirs + "input_layernorm.weight",)),
        Weight(ours + "norm2.weight", (theirs + "post_attention_layernorm.weight",)),
        *(
            Weight(f"{ours}mlp.{name}.weight", (f"{theirs}mlp.{name}_proj.weight",))
            for name in ("gate", "up", "down")
        ),
    ]


def canonical_name(name: str, part: str = "full") -> str:
    """The name that `weight_map` uses, from any layout in which transformers has saved this model.

    `part`: with `vision` and `language` the checkpoint may also be a CLIP or a Llama model alone.
    """
    name = name.removeprefix("model.") if name.startswith(WRAPPED) else name
    if part == "vision" and not name.startswith("vision_tower."):
        return "vision_tower.vision_model." + name.removeprefix("vision_model.")
    if part == "language" and not name.startswith("language_model."):
        return f"language_model.{name}"
    if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
        return name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    if name.startswith("language_model.") and not name.startswith(
        ("language_model.model.", "language_model.lm_head.")
    ):
        return name.replace("language_model.", "language_model.model.", 1)
    return f"language_model.{name}" if name.startswith("lm_head.") else name


# Transformers from 4.52 on puts `model.` in front of these; a Llama model has `model.layers`, which
# is another thing.
WRAPPED = (
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "model.language_model.",
    "model.image_newline",
)


def mindformers_map(config: LlavaNextVideoConfig) -> list[Weight]:
    """Our parameters and the names that MindFormers' research/llava_next gives them."""
    tower, text = "vision_encoder.", "language_model."
    weights = [
        Weight("newline", ("image_newline",)),
        Weight("vision.class_token", (tower + "class_embedding",), shape=(config.vision.hidden,)),
        Weight("vision.patch.weight", (tower + "conv1.weight",)),
        Weight("vision.positions", (tower + "positional_embedding",)),
        *affine("vision.norm", tower + "ln_pre", norm=True),
        *affine("vision_norm", tower + "ln_post", norm=True),
        *affine("projector.linear1", "adapter.adapter"),
        *affine("projector.linear2", "adapter.adapter_2"),
    ]
    for i in range(config.vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"{tower}transformer.resblocks.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attn.in_proj"),
            *affine(ours + "attention.out", theirs + "attn.out_proj"),
            *affine(ours + "norm1", theirs + "ln_1", norm=True),
            *affine(ours + "norm2", theirs + "ln_2", norm=True),
            *affine(ours + "mlp.up", theirs + "mlp.c_fc"),
            *affine(ours + "mlp.down", theirs + "mlp.c_proj"),
        ]

    return weights + mindformers_llama(config.language.layers, config.language.qkv_rows, text)
