"""VisualGLM: EVA-CLIP-g, a Q-Former with 32 queries, ChatGLM-6B.

A picture gives `queries` media rows. Positions are (batch, 2, length): the first row counts through
the prompt and stays at its end, the second is 0 in the prompt and counts through the answer. All
tokens see the whole prompt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from mindspore import Tensor, nn, ops

from models.attention import Attend
from models.cache import CachedAttention, Slots, attention_mask
from models.lora import LoraConfig
from models.model import VisionLanguageModel
from models.modules import (
    CLIP_MEAN,
    CLIP_STD,
    MLP,
    Embedding,
    LayerNorm,
    Linear,
    inverse_frequencies,
    join_heads,
    normal,
    rotary_tables,
    rotate,
    split_heads,
)
from models.names import Weight, affine, stack_rows
from models.parallel import ModelGroup
from models.vit import SelfAttention, VisionConfig, VisionTransformer

VISION_NORM_EPS = 1e-5  # the tower's last norm, unlike the 1e-6 inside it
QFORMER_EPS = 1e-12
GLM_EPS = 1e-5


@dataclass(frozen=True)
class QFormerConfig:
    """`cross_layers`: the layers that look at the picture."""

    queries: int
    hidden: int
    layers: int
    heads: int
    mlp: int
    cross_layers: tuple[int, ...]


@dataclass(frozen=True)
class GLMConfig:
    """A ChatGLM's shape; the head size must be divisible by 4."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    mlp: int


@dataclass(frozen=True)
class VisualGLMConfig:
    """Tower, Q-Former and language model."""

    vision: VisionConfig
    qformer: QFormerConfig
    language: GLMConfig
    dtype: str = "float32"
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD

    @property
    def media_rows(self) -> int:
        """Rows that one picture gives."""
        return self.qformer.queries


# The kind of vocabulary whose tokens it reads.
VOCABULARY = "chatglm"

PRESETS = {
    "tiny": VisualGLMConfig(
        vision=VisionConfig(image_size=56, patch_size=14, hidden=64, layers=2, heads=4, mlp=256),
        qformer=QFormerConfig(queries=32, hidden=48, layers=2, heads=4, mlp=192, cross_layers=(0,)),
        language=GLMConfig(vocabulary=130528, hidden=64, layers=2, heads=4, mlp=256),
    ),
    # THUDM/visualglm-6b
    "6b": VisualGLMConfig(
        vision=VisionConfig(
            image_size=224, patch_size=14, hidden=1408, layers=39, heads=16, mlp=6144
        ),
        qformer=QFormerConfig(
            queries=32, hidden=768, layers=12, heads=12, mlp=3072, cross_layers=(0, 2, 4, 6, 8, 10)
        ),
        language=GLMConfig(vocabulary=130528, hidden=4096, layers=28, heads=32, mlp=16384),
    ),
}

# What a training stage can set free: the beginnings of parameter names.
PARTS = {
    "vision": ("vision",),
    "qformer": ("qformer.",),
    "projector": ("projector.",),
    "language": ("language.",),
}

# The files that MindFormers keeps the model in, by the beginnings of our names; `lite` is what of
# `glm` a process needs that makes token embeddings alone.
FILES = {
    "vit": ("vision.",),
    "qformer": ("vision_norm.", "qformer.", "projector."),
    "glm": ("language.",),
    "lite": ("language.embedding.",),
}

# As MindFormers has it: layer_range [0, 14] names two layers. SwissArmyTransformer splits and has
# alpha 1.
LORA = LoraConfig(
    rank=10, alpha=128, targets=r"language\.layers\.(0|14)\.attention\.(qkv|out)", split=False
)


class CrossAttention(nn.Cell):
    """Attention of the queries to the patches, keys and values from one fused projection."""

    def __init__(self, hidden: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(hidden, hidden, bias=True)
        self.key_value = Linear(source, 2 * hidden, bias=True, rows=(hidden, hidden))
        self.out = Linear(hidden, hidden, bias=True)
        self.attend = Attend()

    def construct(self, x: Tensor, source: Tensor) -> Tensor:
        """(images, queries, hidden) from queries of that shape
        and patches (images, patches, source).
        """
        key, value = ops.chunk(self.key_value(source), 2, -1)
        query = split_heads(self.query(x), self.heads)
        return self.out(
            join_heads(
                self.attend(query, split_heads(key, self.heads), split_heads(value, self.heads))
            )
        )


class QFormerLayer(nn.Cell):
    """A BERT layer, seen from norm to norm: it begins with the norm that ended the one before."""

    def __init__(self, config: QFormerConfig, source: int, cross: bool) -> None:
        super().__init__()
        hidden = config.hidden
        self.norm_input = LayerNorm(hidden, QFORMER_EPS)
        self.attention = SelfAttention(hidden, config.heads)
        self.norm_attention = LayerNorm(hidden, QFORMER_EPS)
        self.cross = CrossAttention(hidden, source, config.heads) if cross else None
        self.norm_cross: Any = LayerNorm(hidden, QFORMER_EPS) if cross else None
        self.mlp = MLP(hidden, config.mlp, "gelu")

    def construct(self, x: Tensor, patches: Tensor) -> Tensor:
        """(images, queries, hidden) -> the same."""
        x = self.norm_input(x)
        x = self.norm_attention(x + self.attention(x))
        if self.cross is not None:
            x = self.norm_cross(x + self.cross(x, patches))
        return x + self.mlp(x)


class QFormer(nn.Cell):
    """Learned queries that read a picture."""

    def __init__(self, config: QFormerConfig, source: int) -> None:
        super().__init__()
        self.query = normal(config.queries, config.hidden)
        self.layers = nn.CellList(
            [
                QFormerLayer(config, source, cross=i in config.cross_layers)
                for i in range(config.layers)
            ]
        )
        self.norm = LayerNorm(config.hidden, QFORMER_EPS)

    def construct(self, patches: Tensor) -> Tensor:
        """(images, patches, source) -> (images, queries, hidden)."""
        query = self.query.astype(patches.dtype)
        x = ops.broadcast_to(query, (patches.shape[0], *query.shape))
        for layer in self.layers:
            x = layer(x, patches)
        return self.norm(x)


class GLMAttention(CachedAttention):
    """Self-attention whose heads turn by the first position in one half,
    by the second in the other.
    """

    def __init__(self, config: GLMConfig) -> None:
        super().__init__(config.heads, config.hidden // config.heads)
        self.qkv = Linear(config.hidden, 3 * config.hidden, bias=True, rows=(config.hidden,) * 3)
        self.out = Linear(config.hidden, config.hidden, bias=True)
        self.attend = Attend()

    def construct(
        self, x: Tensor, rope: tuple[Tensor, ...], mask: Tensor, slots: Slots | None
    ) -> Tensor:
        """(batch, length, hidden) -> the same."""
        x = x if self.copied is None else self.copied(x)
        query, key, value = [
            split_heads(part, self.num_kv_heads) for part in ops.chunk(self.qkv(x), 3, -1)
        ]
        key, value = self.remember(rotate_twice(key, rope), value, slots)
        return self.out(join_heads(self.attend(rotate_twice(query, rope), key, value, mask)))

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the heads."""
        self.divide_heads(self.num_kv_heads, group)
        self.qkv.divide_outputs(group)
        self.out.divide_inputs(group)


def rotate_twice(x: Tensor, rope: tuple[Tensor, ...]) -> Tensor:
    """`x` (batch, heads, length, size), each half turned by its own cosine and sine."""
    first, second = ops.chunk(x, 2, -1)
    return ops.cat((rotate(first, rope[0], rope[1]), rotate(second, rope[2], rope[3])), -1)


class GLMLayer(nn.Cell):
    """The residual branch is the normalised input, scaled by sqrt(2 * layers)."""

    def __init__(self, config: GLMConfig) -> None:
        super().__init__()
        self.alpha = math.sqrt(2 * config.layers)
        self.norm1 = LayerNorm(config.hidden, GLM_EPS)
        self.attention = GLMAttention(config)
        self.norm2 = LayerNorm(config.hidden, GLM_EPS)
        self.mlp = MLP(config.hidden, config.mlp, "gelu_tanh")

    def construct(
        self, x: Tensor, rope: tuple[Tensor, ...], mask: Tensor, slots: Slots | None
    ) -> Tensor:
        """(batch, length, hidden) -> the same."""
        x = self.norm1(x)
        x = self.norm2(x * self.alpha + self.attention(x, rope, mask, slots))
        return x * self.alpha + self.mlp(x)

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the layer."""
        self.attention.divide(group)
        self.mlp.divide(group)


class ChatGLM(nn.Cell):
    """Token embeddings to final hidden states;
    `embedding` and `head` stand beside for the model to use.
    """

    def __init__(self, config: GLMConfig) -> None:
        super().__init__()
        self.embedding = Embedding(config.vocabulary, config.hidden)
        self.layers = nn.CellList([GLMLayer(config) for _ in range(config.layers)])
        self.norm = LayerNorm(config.hidden, GLM_EPS)
        self.head = Linear(config.hidden, config.vocabulary)
        self.frequencies = Tensor(inverse_frequencies(config.hidden // config.heads // 2, 10000.0))

    def construct(
        self,
        x: Tensor,
        positions: Tensor,
        segment_ids: Tensor | None,
        slots: Slots | None,
        prompt_length: Tensor | None,
    ) -> Tensor:
        """Final hidden states (batch, length, hidden) of embeddings of that shape;
        `positions` (batch, 2, length).
        """
        rope = (
            *rotary_tables(positions[:, 0], self.frequencies),
            *rotary_tables(positions[:, 1], self.frequencies),
        )
        prompt = positions[:, 1] == 0
        mask = attention_mask(x.shape[1], segment_ids, slots, prefix=prompt)
        for layer in self.layers:
            x = layer(x, rope, mask, slots)
        return self.norm(x)

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the layers and of the vocabulary.

        Raises:
            ValueError: if heads or hidden units cannot be divided.
        """
        self.embedding.divide(group)
        self.head.divide_outputs(group, padded=True)
        for layer in self.layers:
            layer.divide(group)


class VisualGLM(VisionLanguageModel):
    """Pictures and text in; see `VisionLanguageModel.construct`.
    `position_ids` are not optional here.
    """

    position_step = (0, 1)

    def __init__(self, config: VisualGLMConfig) -> None:
        super().__init__(config)
        self.vision = VisionTransformer(config.vision)
        self.vision_norm = LayerNorm(config.vision.hidden, VISION_NORM_EPS)
        self.qformer = QFormer(config.qformer, config.vision.hidden)
        self.projector = Linear(config.qformer.hidden, config.language.hidden, bias=True)
        self.language = ChatGLM(config.language)

    def media(self, pixels: Tensor) -> Tensor:
        """(images, queries, hidden)."""
        return self.projector(self.qformer(self.vision_norm(self.vision(pixels))))


MODEL = VisualGLM


def weight_map(config: VisualGLMConfig, head_first: bool = False) -> list[Weight]:
    """Our parameters and the tensors of the SwissArmyTransformer
    checkpoint (`module` of the .pt file).

    `head_first`: the language model's fused projections hold query, key and value head by head, as
    the Hugging Face code of ChatGLM wants them. Names and shapes are the same, so a wrong choice
    loads and yields noise.
    """
    image = "mixins.eva.model."
    weights = [
        Weight("vision.class_token", (image + "vit.transformer.word_embeddings.weight",)),
        Weight("vision.positions", (image + "vit.transformer.position_embeddings.weight",)),
        *affine("vision.patch", image + "vit.mixins.patch_embedding.proj"),
        *affine("vision_norm", image + "vit.mixins.cls.ln_vision"),
        Weight("qformer.query", (image + "qformer.transformer.word_embeddings.weight",)),
        *affine("qformer.norm", image + "qformer.transformer.final_layernorm"),
        *affine("projector", image + "glm_proj"),
        Weight("language.embedding.weight", ("transformer.word_embeddings.weight",)),
        *affine("language.norm", "transformer.final_layernorm"),
        Weight("language.head.weight", ("mixins.chatglm-final.lm_head.weight",)),
    ]
    for i in range(config.vision.layers):
        weights += _sat_layer(
            f"vision.layers.{i}.", f"{image}vit.transformer.layers.{i}.", ("norm1", "norm2")
        )

    for i in range(config.qformer.layers):
        ours, theirs = f"qformer.layers.{i}.", f"{image}qformer.transformer.layers.{i}."
        weights += _sat_layer(ours, theirs, ("norm_input", "norm_attention"))
        if i in config.qformer.cross_layers:
            weights += [
                *affine(ours + "norm_cross", theirs + "post_cross_attention_layernorm"),
                *affine(ours + "cross.query", theirs + "cross_attention.query"),
                *affine(ours + "cross.key_value", theirs + "cross_attention.key_value"),
                *affine(ours + "cross.out", theirs + "cross_attention.dense"),
            ]

    heads = config.language.heads if head_first else 0
    for i in range(config.language.layers):
        weights += _sat_layer(
            f"language.layers.{i}.", f"transformer.layers.{i}.", ("norm1", "norm2"), heads
        )

    return weights


# How checkpoints lay out the same tensors under the same names; the file does not tell which.
LAYOUTS = {"published": weight_map, "head_first": partial(weight_map, head_first=True)}


def _sat_layer(ours: str, theirs: str, norms: tuple[str, str], heads: int = 0) -> list[Weight]:
    qkv = "attention.query_key_value"
    return [
        *(
            Weight(f"{ours}attention.qkv.{p}", (f"{theirs}{qkv}.{p}",), heads=heads)
            for p in ("weight", "bias")
        ),
        *affine(ours + "attention.out", theirs + "attention.dense"),
        *affine(ours + norms[0], theirs + "input_layernorm"),
        *affine(ours + norms[1], theirs + "post_attention_layernorm"),
        *affine(ours + "mlp.up", theirs + "mlp.dense_h_to_4h"),
        *affine(ours + "mlp.down", theirs + "mlp.dense_4h_to_h"),
    ]


def canonical_name(name: str, part: str = "full") -> str:
    """The name that `weight_map` uses, from the Hugging Face variant of the checkpoint too."""
    if name == "lm_head.weight":
        return "mixins.chatglm-final.lm_head.weight"
    return (
        name.replace("image_encoder.", "mixins.eva.model.", 1)
        if name.startswith("image_encoder.")
        else name
    )


def mindformers_map(config: VisualGLMConfig) -> list[Weight]:
    """Our parameters and the names in the three files
    that MindFormers' research/visualglm writes.
    """
    tokens = config.vision.side**2 + 1
    weights = [
        Weight(
            "vision.class_token", ("visual_encoder.cls_tokens",), shape=(1, 1, config.vision.hidden)
        ),
        Weight(
            "vision.positions",
            ("visual_encoder.pos_embed",),
            shape=(1, tokens, config.vision.hidden),
        ),
        *affine("vision.patch", "visual_encoder.patch_embed.proj"),
        *affine("vision_norm", "ln_vision", norm=True),
        Weight(
            "qformer.query",
            ("query_tokens",),
            shape=(1, config.qformer.queries, config.qformer.hidden),
        ),
        *affine("qformer.norm", "qformer.bert.encoder.final_layernorm", norm=True),
        *affine("projector", "llm_proj"),
        Weight("language.embedding.weight", ("transformer.word_embeddings.embedding_table",)),
        *affine("language.norm", "transformer.final_layernorm", norm=True),
        Weight("language.head.weight", ("lm_head.weight",)),
    ]
    for i in range(config.vision.layers):
        weights += _mindformers_vision_layer(
            f"vision.layers.{i}.", f"visual_encoder.blocks.{i}.", config.vision.hidden
        )

    for i in range(config.qformer.layers):
        ours, theirs = f"qformer.layers.{i}.", f"qformer.bert.encoder.layer.{i}."
        weights += _mindformers_qformer_layer(
            ours, theirs, config.qformer.hidden, i in config.qformer.cross_layers
        )

    for i in range(config.language.layers):
        ours, theirs = f"language.layers.{i}.", f"transformer.layers.{i}."
        weights += [
            *affine(ours + "attention.qkv", theirs + "attention.query_key_value"),
            *affine(ours + "attention.out", theirs + "attention.dense"),
            *affine(ours + "norm1", theirs + "input_layernorm", norm=True),
            *affine(ours + "norm2", theirs + "post_attention_layernorm", norm=True),
            *affine(ours + "mlp.up", theirs + "mlp.dense_h_to_4h"),
            *affine(ours + "mlp.down", theirs + "mlp.dense_4h_to_h"),
        ]

    return weights


def _mindformers_vision_layer(ours: str, theirs: str, hidden: int) -> list[Weight]:
    qkv = tuple(f"{theirs}attention.dense{n}" for n in (1, 2, 3))
    flipped = {
        "attention.out": "attention.projection",
        "mlp.up": "output.mapping",
        "mlp.down": "output.projection",
    }
    return [
        *stack_rows(ours + "attention.qkv", qkv, rows=(hidden,) * 3, bias=True),
        *affine(ours + "norm1", theirs + "layernorm1", norm=True),
        *affine(ours + "norm2", theirs + "layernorm2", norm=True),
        *(
            Weight(f"{ours}{n}.weight", (f"{theirs}{t}.weight",), transposed=True)
            for n, t in flipped.items()
        ),
        *(Weight(f"{ours}{n}.bias", (f"{theirs}{t}.bias",)) for n, t in flipped.items()),
    ]


def _mindformers_qformer_layer(ours: str, theirs: str, hidden: int, cross: bool) -> list[Weight]:
    qkv = tuple(f"{theirs}attention.self_att.{name}" for name in ("query", "key", "value"))
    weights = [
        *stack_rows(ours + "attention.qkv", qkv, rows=(hidden,) * 3, bias=True),
        *affine(ours + "attention.out", theirs + "attention.output.dense"),
        *affine(ours + "norm_input", theirs + "input_layernorm", norm=True),
        *affine(ours + "norm_attention", theirs + "attention.output.layernorm", norm=True),
        *affine(ours + "mlp.up", theirs + "intermediate_query.dense"),
        *affine(ours + "mlp.down", theirs + "output_query.dense"),
    ]
    if not cross:
        return weights

    kv = tuple(f"{theirs}crossattention.self_att.{name}" for name in ("key", "value"))
    return [
        *weights,
        *affine(ours + "cross.query", theirs + "crossattention.self_att.query"),
        *stack_rows(ours + "cross.key_value", kv, rows=(hidden,) * 2, bias=True),
        *affine(ours + "cross.out", theirs + "crossattention.output.dense"),
        *affine(ours + "norm_cross", theirs + "crossattention.output.layernorm", norm=True),
    ]
