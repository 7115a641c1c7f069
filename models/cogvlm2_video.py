"""CogVLM2-Video: EVA2-CLIP-E, a 2 x 2 convolution with a gated adapter, Llama-3-8B.

A frame gives `media_rows` rows: begin of image, the adapted patches row by row, end of image. The
video model has no visual experts; its checkpoint only keeps the names of those of the image model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mindspore import Tensor, nn, ops

from models.decoder import Decoder, DecoderConfig
from models.lora import LoraConfig
from models.model import VisionLanguageModel
from models.modules import (
    CLIP_MEAN,
    CLIP_STD,
    GatedMLP,
    LayerNorm,
    Linear,
    PatchConv,
    exact_gelu,
    normal,
)
from models.names import Weight, affine, mindformers_llama
from models.vit import VisionConfig, VisionTransformer


@dataclass(frozen=True)
class CogVLM2VideoConfig:
    """The tower, the language model and the MLP width of the adapter between them."""

    vision: VisionConfig
    language: DecoderConfig
    adapter_mlp: int
    dtype: str = "float32"
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD

    @property
    def media_rows(self) -> int:
        """Rows that one frame gives: 66 at full size."""
        return (self.vision.side // 2) ** 2 + 2


# The kind of vocabulary whose tokens it reads.
VOCABULARY = "llama3"

PRESETS = {
    "tiny": CogVLM2VideoConfig(
        vision=VisionConfig(
            image_size=56, patch_size=14, hidden=64, layers=2, heads=4, mlp=128, norm="output"
        ),
        language=DecoderConfig(
            vocabulary=128256,
            hidden=64,
            layers=2,
            heads=4,
            num_kv_heads=2,
            head_size=16,
            mlp=128,
            rope_base=500000.0,
        ),
        adapter_mlp=128,
    ),
    # THUDM/cogvlm2-video-llama3-chat
    "13b": CogVLM2VideoConfig(
        vision=VisionConfig(
            image_size=224,
            patch_size=14,
            hidden=1792,
            layers=63,
            heads=16,
            mlp=15360,
            norm="output",
        ),
        language=DecoderConfig(
            vocabulary=128256,
            hidden=4096,
            layers=32,
            heads=32,
            num_kv_heads=8,
            head_size=128,
            mlp=14336,
            rope_base=500000.0,
        ),
        adapter_mlp=14336,
    ),
}

# What a training stage can set free: the beginnings of parameter names.
PARTS = {"vision": ("vision.",), "adapter": ("adapter.",), "language": ("language.",)}

# As MindFormers has it: wq, wk, wv, wo, w1, w2 and w3 of the language model.
LORA = LoraConfig(rank=8, alpha=32, targets=r"language\.layers\..*", split=True, dropout=0.05)


class Adapter(nn.Cell):
    """Four neighbouring patches become one token embedding;
    learned vectors mark begin and end of the frame.
    """

    def __init__(self, config: CogVLM2VideoConfig) -> None:
        super().__init__()
        vision, hidden = config.vision.hidden, config.language.hidden
        self.side = config.vision.side
        self.conv = PatchConv(vision, vision, 2, bias=True)
        self.linear = Linear(vision, hidden)
        self.norm = LayerNorm(hidden, 1e-5)
        self.mlp = GatedMLP(hidden, config.adapter_mlp)
        self.begin = normal(1, hidden)
        self.end = normal(1, hidden)

    def convolve(self, patches: Tensor) -> Tensor:
        """(frames, side², vision hidden) -> (frames, (side / 2)², vision hidden);
        an odd side loses its last row.
        """
        frames, _, size = patches.shape
        grid = patches.reshape(frames, self.side, self.side, size).transpose(0, 3, 1, 2)
        return self.conv(grid)

    def construct(self, patches: Tensor) -> Tensor:
        """(frames, side², vision hidden) -> (frames, media rows, hidden)."""
        x = self.mlp(exact_gelu(self.norm(self.linear(self.convolve(patches)))))
        shape = (x.shape[0], 1, x.shape[2])
        begin, end = self.begin.astype(x.dtype), self.end.astype(x.dtype)
        return ops.cat((ops.broadcast_to(begin, shape), x, ops.broadcast_to(end, shape)), 1)


class CogVLM2Video(VisionLanguageModel):
    """Clips and text in; see `VisionLanguageModel.construct`.
    Give it positions: a frame's patches share one.
    """

    def __init__(self, config: CogVLM2VideoConfig) -> None:
        super().__init__(config)
        self.vision = VisionTransformer(config.vision)
        self.adapter = Adapter(config)
        self.language = Decoder(config.language)

    def media(self, pixels: Tensor) -> Tensor:
        """(frames, media rows, hidden)."""
        return self.adapter(self.vision(pixels)[:, 1:])  # without the class token


MODEL = CogVLM2Video


def from_hf(config: dict[str, Any]) -> CogVLM2VideoConfig:
    """Our config from the `config.json` of a Hugging Face checkpoint."""
    return CogVLM2VideoConfig(
        vision=vision_from_hf(config),
        language=language_from_hf(config),
        adapter_mlp=config["intermediate_size"],
    )


def vision_from_hf(config: dict[str, Any]) -> VisionConfig:
    """Our tower's config from the `config.json` of a whole model."""
    vision = config["vision_config"]
    return VisionConfig(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden=vision["hidden_size"],
        layers=vision["num_hidden_layers"],
        heads=vision["num_heads"],
        mlp=vision["intermediate_size"],
        eps=vision["layer_norm_eps"],
        norm="output",
    )


def language_from_hf(config: dict[str, Any]) -> DecoderConfig:
    """Our decoder's config from the `config.json` of a whole model."""
    heads = config["num_attention_heads"]
    return DecoderConfig(
        vocabulary=config["vocab_size"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        num_kv_heads=config["num_multi_query_heads"],
        head_size=config["hidden_size"] // heads,
        mlp=config["intermediate_size"],
        eps=config["rms_norm_eps"],
        rope_base=config.get("rope_theta", 500000.0),
    )


def weight_map(config: CogVLM2VideoConfig) -> list[Weight]:
    """Our parameters and the tensors of the Hugging Face checkpoint
    (rotary `inv_freq` buffers are computed anew).
    """
    vision, hidden = "model.vision.", config.language.hidden
    embedding, adapter = vision + "patch_embedding.", vision + "linear_proj."
    weights = [
        Weight("vision.class_token", (embedding + "cls_embedding",)),
        Weight("vision.positions", (embedding + "position_embedding.weight",)),
        *affine("vision.patch", embedding + "proj"),
        *affine("adapter.conv", vision + "conv"),
        *_adapter(adapter),
        *affine("adapter.norm", adapter + "norm1"),
        Weight("adapter.begin", (vision + "boi",), shape=(1, 1, hidden)),
        Weight("adapter.end", (vision + "eoi",), shape=(1, 1, hidden)),
        Weight("language.embedding.weight", ("model.embed_tokens.weight",)),
        Weight("language.norm.weight", ("model.norm.weight",)),
        Weight("language.head.weight", ("lm_head.weight",)),
    ]
    for i in range(config.vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"{vision}transformer.layers.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attention.query_key_value"),
            *affine(ours + "attention.out", theirs + "attention.dense"),
            *affine(ours + "mlp.up", theirs + "mlp.fc1"),
            *affine(ours + "mlp.down", theirs + "mlp.fc2"),
            # In spite of the names, one is applied after attention, the other after the MLP.
            *affine(ours + "norm1", theirs + "input_layernorm"),
            *affine(ours + "norm2", theirs + "post_attention_layernorm"),
        ]

    for i in range(config.language.layers):
        weights += _language_layer(f"language.layers.{i}.", f"model.layers.{i}.")

    return weights


# How checkpoints lay out their tensors.
LAYOUTS = {"published": weight_map}


def _adapter(theirs: str) -> list[Weight]:
    names = {
        "linear": "linear_proj",
        "mlp.gate": "gate_proj",
        "mlp.up": "dense_h_to_4h",
        "mlp.down": "dense_4h_to_h",
    }
    return [
        Weight(f"adapter.{name}.weight", (f"{theirs}{their}.weight",))
        for name, their in names.items()
    ]


def _language_layer(ours: str, theirs: str) -> list[Weight]:
    names = {
        "attention.qkv": "self_attn.language_expert_query_key_value",
        "attention.out": "self_attn.language_expert_dense",
        "mlp.gate": "mlp.language_mlp.gate_proj",
        "mlp.up": "mlp.language_mlp.up_proj",
        "mlp.down": "mlp.language_mlp.down_proj",
        "norm1": "input_layernorm",
        "norm2": "post_attention_layernorm",
    }
    return [
        Weight(f"{ours}{name}.weight", (f"{theirs}{their}.weight",))
        for name, their in names.items()
    ]


def canonical_name(name: str, part: str = "full") -> str:
    """The name that `weight_map` uses: there is only one layout of this model."""
    return name


def mindformers_map(config: CogVLM2VideoConfig) -> list[Weight]:
    """Our parameters and the names that MindFormers' cogvlm2 gives them."""
    vision, text, size = "vision_encoder.", "llm_model.", config.vision.hidden
    tokens = config.vision.side**2 + 1
    weights = [
        Weight("vision.class_token", (vision + "cls_token",), shape=(1, 1, size)),
        Weight("vision.positions", (vision + "pos_embed",), shape=(1, tokens, size)),
        *affine("vision.patch", vision + "patch_embed.proj"),
        *affine("adapter.conv", "mlp_adapter.conv"),
        *_adapter("mlp_adapter.linear_proj."),
        *affine("adapter.norm", "mlp_adapter.linear_proj.norm1", norm=True),
        Weight("adapter.begin", ("mlp_adapter.boi",), shape=(1, 1, config.language.hidden)),
        Weight("adapter.end", ("mlp_adapter.eoi",), shape=(1, 1, config.language.hidden)),
    ]
    for i in range(config.vision.layers):
        ours, theirs = f"vision.layers.{i}.", f"{vision}blocks.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attn.qkv"),
            *affine(ours + "attention.out", theirs + "attn.proj"),
            *affine(ours + "mlp.up", theirs + "mlp.fc1"),
            *affine(ours + "mlp.down", theirs + "mlp.fc2"),
            *affine(ours + "norm1", theirs + "norm1", norm=True),
            *affine(ours + "norm2", theirs + "norm2", norm=True),
        ]

    return weights + mindformers_llama(config.language.layers, config.language.qkv_rows, text)
