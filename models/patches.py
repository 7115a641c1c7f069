"""Towers that read pictures and clips of any size: one row a patch, and where each patch is.

A patch is `temporal` frames of `patch` by `patch` pixels. The rows of a picture or a clip go frame
pair by frame pair, in each through blocks of 2 x 2 patches: what makes one token of the language
model lies together. `media_layout` says of each row which picture or pair of frames it is of
(from 1; 0 is padding), its row and column there, and how many rows and columns there are. Attention
stays within one of these. Where operators run one by one, what sees each other is brought together,
and attention costs the squares of the pictures; a graph, whose shapes are fixed, holds all patches
of a batch against each other under a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from models.attention import Attend
from models.cache import Slots
from models.model import VisionLanguageModel, arange_positions
from models.modules import (
    Linear,
    exact_gelu,
    inverse_frequencies,
    join_heads,
    merge_media,
    rotate,
    split_heads,
    tables_of_angles,
)

MERGE = 2  # patches along each side of what becomes one token
TEMPORAL = 2  # frames of a patch
ROPE_BASE = 10000.0


@dataclass(frozen=True)
class TowerConfig:
    """What all towers of patches have of a shape."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    patch_size: int
    eps: float = 1e-6

    @property
    def patch_values(self) -> int:
        """Numbers of one patch."""
        return 3 * TEMPORAL * self.patch_size**2


def patch_layout(grids: NDArray[Any], room: int | None = None) -> NDArray[np.int32]:
    """Where each patch is, (patches, 5) int32: picture, row, column, rows, columns.

    `grids` (media, 3) are pairs of frames, rows and columns of patches. `room` pads with zeros to
    so many patches.
    """
    parts = [np.zeros((0, 5), np.int32)]
    first = 1
    for frames, rows, columns in np.asarray(grids).tolist():
        # (block rows, block columns, rows in a block, columns in a block)
        row, column = np.mgrid[:rows, :columns].reshape(
            2, rows // MERGE, MERGE, columns // MERGE, MERGE
        )
        place = np.stack([part.swapaxes(1, 2).ravel() for part in (row, column)], 1)
        for frame in range(frames):
            size = np.broadcast_to([rows, columns], place.shape)
            number = np.full((len(place), 1), first + frame)
            parts.append(np.concatenate([number, place, size], 1))
        first += frames
    layout = np.concatenate(parts).astype(np.int32)
    return layout if room is None else np.pad(layout, ((0, room - len(layout)), (0, 0)))


def same_picture(layout: Tensor, window: int = 0) -> Tensor:
    """Which patches see each other, (1, 1, patches, patches) bool: those of one picture or pair of
    frames and, with a `window`, of one square of so many patches a side, cut from the top left.
    """
    picture, row, column = layout[:, 0], layout[:, 1], layout[:, 2]
    same = picture[:, None] == picture[None, :]
    if window:
        rows, columns = row // window, column // window
        same = ops.logical_and(same, rows[:, None] == rows[None, :])
        same = ops.logical_and(same, columns[:, None] == columns[None, :])
    return same[None, None]


class Group(NamedTuple):
    """Segments of about one length: `index` (segments * length,) int32 are their patches, `mask`
    (segments, 1, length, length) bool says which are there; None where all are.
    """

    index: Tensor
    segments: int
    length: int
    mask: Tensor | None


class Segments(NamedTuple):
    """All patches in segments that see each other, and `back` (patches,) int32, where each patch is
    among those of all groups.
    """

    groups: tuple[Group, ...]
    back: Tensor


def split_segments(layout: NDArray[Any], window: int = 0) -> Segments:
    """What `same_picture` says of a layout (patches, 5), as segments.

    Groups hold segments up to twice as long as each other, so that little is padded.
    """
    picture, row, column = layout[:, 0], layout[:, 1], layout[:, 2]
    side = window or 1 + int(layout[:, 1:3].max(initial=0))
    keys = np.stack([picture, row // side, column // side], 1)
    numbers = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    # Padding sees whatever costs least: each by itself.
    padding = np.flatnonzero(picture == 0)
    numbers[padding] = len(layout) + np.arange(len(padding))
    order = np.argsort(numbers, kind="stable")
    begins = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    counts = np.diff(begins, append=len(layout))

    groups, places = [], []
    buckets = np.ceil(np.log2(counts)).astype(int)
    for bucket in np.unique(buckets).tolist():
        firsts, sizes = begins[buckets == bucket], counts[buckets == bucket]
        length = int(sizes.max())
        there = np.arange(length) < sizes[:, None]  # (segments, length)
        within = np.where(there, firsts[:, None] + np.arange(length), firsts[:, None])
        index = order[within]
        whole = np.broadcast_to(there[:, None, None, :], (len(sizes), 1, length, length))
        mask = None if there.all() else Tensor(np.ascontiguousarray(whole))
        flat = Tensor(index.ravel().astype(np.int32))
        groups.append(Group(flat, len(sizes), length, mask))
        places.append(np.where(there, index, -1).ravel())
    placed = np.concatenate(places)
    back = np.empty(len(layout), np.int32)
    back[placed[placed >= 0]] = np.flatnonzero(placed >= 0)
    return Segments(tuple(groups), Tensor(back))


class PatchTower(nn.Cell):
    """Patches to tokens of the language model; `reaches` are the windows within which its layers
    look, in patches a side, 0 for a whole picture.
    """

    def __init__(self, reaches: tuple[int, ...]) -> None:
        super().__init__()
        self.reaches = reaches

    def __call__(self, pixels: Tensor, layout: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `construct`. Only a call outside of a graph comes by here, and knows the values of
        the layout; inside of one `construct` is compiled by itself.
        """
        if ms.get_context("mode") != ms.PYNATIVE_MODE:
            return super().__call__(pixels, layout)  # type: ignore[no-any-return]
        places = layout.asnumpy()
        segments = tuple([split_segments(places, window) for window in self.reaches])
        return super().__call__(pixels, layout, segments)  # type: ignore[no-any-return]

    def seen(
        self, layout: Tensor, segments: tuple[Segments, ...] | None
    ) -> tuple[Segments | Tensor, ...]:
        """What sees each other under each of the reaches: segments, or else masks."""
        if segments is not None:
            return segments
        return tuple([same_picture(layout, window) for window in self.reaches])


class GridRope(nn.Cell):
    """Rotary tables by row and column: half of a head's frequencies each."""

    def __init__(self, head_size: int) -> None:
        super().__init__()
        self.frequencies = Tensor(inverse_frequencies(head_size // 2, ROPE_BASE))

    def construct(self, layout: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine, (1, 1, patches, head size) float32 each."""
        places = layout[:, 1:3].astype(ms.float32).expand_dims(-1)
        return tables_of_angles((places * self.frequencies).reshape(1, layout.shape[0], -1))


class PatchAttention(nn.Cell):
    """Attention among the patches that see each other, turned by row and column."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(hidden, 3 * hidden, bias=True, rows=(hidden,) * 3)
        self.out = Linear(hidden, hidden, bias=True)
        self.attend = Attend()

    def construct(self, x: Tensor, rope: tuple[Tensor, Tensor], seen: Segments | Tensor) -> Tensor:
        """(1, patches, hidden) -> the same; `seen` is a mask or segments."""
        query, key, value = [
            split_heads(part, self.heads) for part in ops.chunk(self.qkv(x), 3, -1)
        ]
        query, key = rotate(query, *rope), rotate(key, *rope)
        if isinstance(seen, tuple):
            groups, back = seen
            return self.out(join_heads(self.by_segments(query, key, value, groups, back)))
        return self.out(join_heads(self.attend(query, key, value, seen)))

    def by_segments(
        self, query: Tensor, key: Tensor, value: Tensor, groups: tuple[Group, ...], back: Tensor
    ) -> Tensor:
        """(1, heads, patches, size) -> the same: each segment is a row of a batch."""
        heads, size = query.shape[1], query.shape[3]
        parts = []
        for index, segments, length, mask in groups:
            # (1, heads, segments * length, size) -> (segments, heads, length, size)
            shape = heads, segments, length, size
            rows = [
                ops.gather(part, index, 2).reshape(shape).swapaxes(0, 1)
                for part in (query, key, value)
            ]
            attended = self.attend(*rows, mask)
            parts.append(attended.swapaxes(0, 1).reshape(1, heads, -1, size))
        return ops.gather(ops.cat(parts, 2), back, 2)


class PatchBlock(nn.Cell):
    """Attention among patches and an MLP, each behind its norm."""

    def __init__(self, config: TowerConfig, mlp: nn.Cell, norm: Callable[..., nn.Cell]) -> None:
        super().__init__()
        self.attention = PatchAttention(config.hidden, config.heads)
        self.mlp = mlp
        self.norm1 = norm(config.hidden, config.eps)
        self.norm2 = norm(config.hidden, config.eps)

    def construct(self, x: Tensor, rope: tuple[Tensor, Tensor], seen: Segments | Tensor) -> Tensor:
        """(1, patches, hidden) -> the same."""
        x = x + self.attention(self.norm1(x), rope, seen)
        return x + self.mlp(self.norm2(x))


class PatchMerger(nn.Cell):
    """Four patches to one token of the language model; the norm stands before or after they are
    joined.
    """

    def __init__(self, hidden: int, outputs: int, norm: nn.Cell, *, norm_joined: bool) -> None:
        super().__init__()
        self.width, self.norm_joined = hidden * MERGE**2, norm_joined
        self.norm = norm
        self.linear1 = Linear(self.width, self.width, bias=True)
        self.linear2 = Linear(self.width, outputs, bias=True)

    def construct(self, x: Tensor) -> Tensor:
        """(1, patches, hidden) -> (1, patches / 4, outputs)."""
        if not self.norm_joined:
            x = self.norm(x)
        x = x.reshape(1, -1, self.width)
        if self.norm_joined:
            x = self.norm(x)
        return self.linear2(exact_gelu(self.linear1(x)))


def normalise_patches(
    pixels: Tensor, mean: Sequence[float], std: Sequence[float], dtype: ms.dtype
) -> Tensor:
    """Patches (patches, values) in `dtype`: uint8 ones are scaled and normalised here, on the
    device; float ones are taken as normalised.
    """
    if pixels.dtype != ms.uint8:
        return pixels.astype(dtype)
    scale = Tensor(1 / (255 * np.array(std)), ms.float32).expand_dims(-1)
    shift = Tensor(np.array(mean) / np.array(std), ms.float32).expand_dims(-1)
    colours = pixels.astype(ms.float32).reshape(pixels.shape[0], 3, -1)
    return (colours * scale - shift).reshape(pixels.shape).astype(dtype)


class PatchModel(VisionLanguageModel):
    """Pictures and clips of any size, and text; `vision` makes of patches and their layout the
    features, and those that are added after the first layers of the decoder.
    """

    def hidden(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        media_index: Tensor | None = None,
        slots: Slots | None = None,
        prompt_length: Tensor | None = None,
        media_layout: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states, (batch, length, hidden).

        `pixel_values` (patches, values of a patch) are uint8, or float and normalised already;
        `media_index` counts merged patches; `media_layout` as `patch_layout` makes it.
        """
        x = self.language.embedding(input_ids).astype(self.dtype)
        added: tuple[Tensor, ...] = ()
        if pixel_values is not None:
            config = self.config
            pixels = normalise_patches(
                pixel_values, config.pixel_mean, config.pixel_std, self.dtype
            )
            features, deep = self.vision(pixels[None], media_layout)
            x = merge_media(x, features, media_index)
            added = tuple([merge_media(ops.zeros_like(x), each, media_index) for each in deep])
        positions = arange_positions(x) if position_ids is None else position_ids
        return self.language(x, positions, segment_ids, slots, prompt_length, added)
