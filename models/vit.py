"""One Vision Transformer for all four towers: CLIP ViT-L, EVA-CLIP-g, EVA2-CLIP-E and ViT-bigG."""

from __future__ import annotations

from dataclasses import dataclass

from mindspore import Tensor, nn, ops

from models.attention import Attend
from models.modules import (
    MLP,
    LayerNorm,
    Linear,
    PatchConv,
    join_heads,
    normal,
    split_heads,
)


@dataclass(frozen=True)
class VisionConfig:
    """A tower's shape.
    A block normalises the `input` of its branches (CLIP) or their `output` (EVA2).
    """

    image_size: int
    patch_size: int
    hidden: int
    layers: int
    heads: int
    mlp: int
    activation: str = "gelu"
    eps: float = 1e-6
    class_token: bool = True
    patch_bias: bool = True
    norm: str = "input"
    norm_embeddings: bool = False
    # Side of the stored position grid, when it is not that of the image.
    position_side: int | None = None
    # Features are taken after this layer; the others are kept for the checkpoint's sake.
    layers_used: int | None = None
    initializer_range: float = 0.02  # standard deviation of the linear layers before any training

    @property
    def side(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size


class SelfAttention(nn.Cell):
    """Attention of all tokens to all tokens, with one fused projection:
    all queries, all keys, all values.
    """

    def __init__(self, hidden: int, heads: int, std: float = 0.02) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(hidden, 3 * hidden, bias=True, rows=(hidden,) * 3, std=std)
        self.out = Linear(hidden, hidden, bias=True, std=std)
        self.attend = Attend()

    def construct(self, x: Tensor) -> Tensor:
        """(batch, tokens, hidden) -> the same."""
        query, key, value = [
            split_heads(part, self.heads) for part in ops.chunk(self.qkv(x), 3, -1)
        ]
        return self.out(join_heads(self.attend(query, key, value)))


class Block(nn.Cell):
    """Attention and MLP, each on a residual branch."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm_input = config.norm == "input"
        self.attention = SelfAttention(config.hidden, config.heads, config.initializer_range)
        self.mlp = MLP(config.hidden, config.mlp, config.activation, config.initializer_range)
        self.norm1 = LayerNorm(config.hidden, config.eps)
        self.norm2 = LayerNorm(config.hidden, config.eps)

    def construct(self, x: Tensor) -> Tensor:
        """(batch, tokens, hidden) -> the same."""
        if self.norm_input:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = x + self.norm1(self.attention(x))
        return x + self.norm2(self.mlp(x))


class VisionTransformer(nn.Cell):
    """Pixels to one vector a patch
    (and one for the class token, first, where the tower has one).
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers_used = config.layers if config.layers_used is None else config.layers_used
        self.patch = PatchConv(3, config.hidden, config.patch_size, config.patch_bias)
        side = config.side if config.position_side is None else config.position_side
        self.positions = normal(side**2 + config.class_token, config.hidden)
        self.class_token = normal(1, config.hidden) if config.class_token else None
        self.norm = LayerNorm(config.hidden, config.eps) if config.norm_embeddings else None
        self.layers = nn.CellList([Block(config) for _ in range(config.layers)])

    def position_table(self) -> Tensor:
        """(tokens, hidden)."""
        return self.positions

    def embed(self, pixels: Tensor) -> Tensor:
        """(images, tokens, hidden) of pixels (images, 3, height, width), before the first block."""
        x = self.patch(pixels)
        if self.class_token is not None:
            token = self.class_token.astype(x.dtype)
            x = ops.cat((ops.broadcast_to(token, (x.shape[0], *token.shape)), x), 1)
        x = x + self.position_table().astype(x.dtype)
        return x if self.norm is None else self.norm(x)

    def construct(self, pixels: Tensor) -> Tensor:
        """(images, tokens, hidden) after the last block in use."""
        x = self.embed(pixels)
        for i in range(self.layers_used):  # a slice of the list would rename the parameters
            x = self.layers[i](x)
        return x
