"""The Llama-style decoder behind the families whose language model is a Llama, Vicuna or Qwen."""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
from mindspore import Tensor, nn, ops

from models.attention import Attend
from models.cache import CachedAttention, Slots, attention_mask
from models.modules import (
    Embedding,
    GatedMLP,
    Linear,
    RMSNorm,
    inverse_frequencies,
    join_heads,
    rotary_tables,
    rotate,
    split_heads,
    tables_of_angles,
)
from models.parallel import Copied, ModelGroup

# Cosine and sine as `rotate` takes them, and what queries are multiplied with besides, if anything.
RopeTables = tuple[Tensor, Tensor, Tensor | None]


@dataclass(frozen=True)
class DecoderConfig:
    """A language model's shape.

    With `rope_axes` positions have several axes, and each of the frequencies goes by one of them.
    `norm_heads`: queries and keys are normalised, head by head. `tied`: the head is the embedding.
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    num_kv_heads: int
    head_size: int
    mlp: int
    eps: float = 1e-5
    rope_base: float = 10000.0
    rope_factor: float = 1.0  # positions are divided by it (linear scaling)
    qkv_bias: bool = False
    rope_axes: tuple[int, ...] = ()
    norm_heads: bool = False
    tied: bool = False
    initializer_range: float = 0.02  # standard deviation of the linear layers before any training

    @property
    def qkv_rows(self) -> tuple[int, int, int]:
        """Rows of the fused projection that make queries, keys and values."""
        return (
            self.heads * self.head_size,
            self.num_kv_heads * self.head_size,
            self.num_kv_heads * self.head_size,
        )


class CausalAttention(CachedAttention):
    """Rotary self-attention with grouped key heads,
    one fused projection and, when decoding, a cache.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config.num_kv_heads, config.head_size)
        self.heads = config.heads
        rows, std = config.qkv_rows, config.initializer_range
        self.qkv = Linear(config.hidden, sum(rows), config.qkv_bias, rows, std)
        self.out = Linear(config.heads * config.head_size, config.hidden, std=std)
        self.attend = Attend()
        self.norm_heads = config.norm_heads
        if config.norm_heads:
            self.query_norm = RMSNorm(config.head_size, config.eps)
            self.key_norm = RMSNorm(config.head_size, config.eps)

    def construct(self, x: Tensor, rope: RopeTables, mask: Tensor, slots: Slots | None) -> Tensor:
        """(batch, length, hidden) -> the same."""
        x = x if self.copied is None else self.copied(x)
        cos, sin, scale = rope
        queries, keys, values = self.qkv.rows
        looking, value = ops.split(self.qkv(x), (queries + keys, values), -1)
        looking = split_heads(looking, self.heads + self.num_kv_heads)
        if self.norm_heads:
            query, key = ops.split(looking, (self.heads, self.num_kv_heads), 1)
            looking = ops.cat((self.query_norm(query), self.key_norm(key)), 1)

        # Both at once: half as many operators, whose launch is what a single token costs.
        looking = rotate(looking, cos, sin)
        query, key = ops.split(looking, (self.heads, self.num_kv_heads), 1)
        if scale is not None:
            query = query * scale.astype(query.dtype)
        key, value = self.remember(key, split_heads(value, self.num_kv_heads), slots)
        return self.out(join_heads(self.attend(query, key, value, mask)))

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the heads."""
        self.heads, copies = self.divide_heads(self.heads, group)
        self.qkv.divide_outputs(group, copies)
        self.out.divide_inputs(group)
        if self.norm_heads:
            self.query_norm.copied = Copied(group)
            self.key_norm.copied = Copied(group)


class DecoderLayer(nn.Cell):
    """Attention and gated MLP, each behind its norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention = CausalAttention(config)
        self.mlp = GatedMLP(config.hidden, config.mlp, config.initializer_range)
        self.norm1 = RMSNorm(config.hidden, config.eps)
        self.norm2 = RMSNorm(config.hidden, config.eps)

    def construct(self, x: Tensor, rope: RopeTables, mask: Tensor, slots: Slots | None) -> Tensor:
        """(batch, length, hidden) -> the same."""
        x = x + self.attention(self.norm1(x), rope, mask, slots)
        return x + self.mlp(self.norm2(x))

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the layer."""
        self.attention.divide(group)
        self.mlp.divide(group)


class Decoder(nn.Cell):
    """Token embeddings to final hidden states;
    `embedding` and `head` stand beside for the model to use.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.rope_factor = config.rope_factor
        self.embedding = Embedding(config.vocabulary, config.hidden)
        self.layers = nn.CellList([DecoderLayer(config) for _ in range(config.layers)])
        self.norm = RMSNorm(config.hidden, config.eps)
        self.head = Linear(config.hidden, config.vocabulary, std=config.initializer_range)
        self.tied = config.tied
        if config.tied:
            self.head.weight = self.embedding.weight
        self.axes = Tensor(config.rope_axes, ms.int32) if config.rope_axes else None
        self.frequencies = Tensor(inverse_frequencies(config.head_size, config.rope_base))

    def construct(
        self,
        x: Tensor,
        positions: Tensor,
        segment_ids: Tensor | None,
        slots: Slots | None,
        prompt_length: Tensor | None,
        added: tuple[Tensor, ...] = (),
    ) -> Tensor:
        """Final hidden states (batch, length, hidden) of embeddings of that shape; `added`, each of
        it too, are added to what the first layers give.
        """
        rope = self.rope(positions, prompt_length)
        mask = attention_mask(x.shape[1], segment_ids, slots)
        for i, layer in enumerate(self.layers):
            x = layer(x, rope, mask, slots)
            if i < len(added):
                x = x + added[i]
        return self.norm(x)

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the layers and of the vocabulary.

        Raises:
            ValueError: if heads or hidden units cannot be divided.
        """
        self.embedding.divide(group)
        self.head.divide_outputs(group, padded=True)
        if self.tied:
            self.head.weight = self.embedding.weight
        for layer in self.layers:
            layer.divide(group)

    def rope(self, positions: Tensor, prompt_length: Tensor | None) -> RopeTables:
        """The rotary tables for positions (batch, length), or (batch, axes, length)."""
        if self.axes is not None and positions.ndim == 3:
            places = ops.gather(positions, self.axes, 1).swapaxes(1, 2).astype(ms.float32)
            return (*tables_of_angles(places * self.frequencies), None)
        places = positions.astype(ms.float32) / self.rope_factor
        return (*rotary_tables(places, self.frequencies), None)
