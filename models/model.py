"""The frame that every family fills in: embed the text, put the media in place, decode,
predict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindspore import Tensor, nn, ops

from models.cache import Slots
from models.modules import merge_media, next_token_loss, normalise_pixels, numeric
from models.parallel import WHOLE, Copied, DividedScores, Joined, ModelGroup


class VisionLanguageModel(nn.Cell):
    """Text and media in, loss or logits out.

    A family adds `media`, and its decoder as `language`, which has `embedding` and `head` and can
    be divided among processes. Its config has `dtype`, `pixel_mean` and `pixel_std`. Positions grow
    by `position_step` with each token generated.
    """

    position_step: int | tuple[int, ...] = 1

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.dtype = numeric(config.dtype)
        self.group = WHOLE
        # A Copied, a DividedScores and a Joined when the model is divided.
        self.copied: Any = None
        self.score: Any = None
        self.joined: Any = None

    def divide(self, group: ModelGroup) -> None:
        """Keep this process' share of the decoder and of the vocabulary; towers and projectors are
        whole everywhere.

        Raises:
            ValueError: if heads or hidden units cannot be divided among so many.
        """
        vocabulary = self.language.head.weight.shape[0]
        self.group, self.copied = group, Copied(group)
        self.score, self.joined = DividedScores(group, vocabulary), Joined(group, vocabulary)
        self.language.divide(group)
        name_by_path(self)

    def media(self, pixels: Tensor) -> Tensor:
        """(images, rows, hidden) of normalised pixels (images, 3, height, width)."""
        raise NotImplementedError

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

        For generation: `slots`, where the tokens go in the caches and how far they look back there;
        `prompt_length` (batch,) int32, how long the prompts were. The other arguments are those of
        `construct`.
        """
        x = self.language.embedding(input_ids).astype(self.dtype)
        if pixel_values is not None:
            pixels = normalise_pixels(
                pixel_values, self.config.pixel_mean, self.config.pixel_std, self.dtype
            )
            x = merge_media(x, self.media(pixels), media_index)
        positions = arange_positions(x) if position_ids is None else position_ids
        return self.language(x, positions, segment_ids, slots, prompt_length)

    def construct(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        media_index: Tensor | None = None,
        media_layout: Tensor | None = None,
    ) -> Tensor:
        """The mean loss, a float32 scalar, if there are labels;
        else logits (batch, length, vocabulary) in `dtype`.

        All of (batch, length) int32: `input_ids`; `labels`, -100 where there is no target;
        `position_ids`, by default 0, 1, 2 … ((batch, axes, length) and no default for families with
        several axes of positions);
        `segment_ids`, 1, 2 … for packed samples and 0 for padding, by default all one sample;
        `media_index`, see `merge_media`. `pixel_values`: (images, height, width, 3) uint8, or
        (images, 3, height, width) float, normalised already; of families that read pictures of any
        size it is patches, and `media_layout` says where they are (`models.patches`).
        """
        hidden = self.hidden(
            input_ids,
            position_ids,
            segment_ids,
            pixel_values,
            media_index,
            media_layout=media_layout,
        )
        if labels is None:
            return self.logits(hidden)
        if self.score is None:
            return next_token_loss(self.language.head(hidden), labels, segment_ids)
        logits = self.language.head(self.copied(hidden))
        return next_token_loss(logits, labels, segment_ids, self.score)

    def logits(self, hidden: Tensor) -> Tensor:
        """(batch, length, vocabulary) of final hidden states (batch, length, hidden)."""
        if self.joined is None:
            return self.language.head(hidden)
        return self.joined(self.language.head(self.copied(hidden)))


def arange_positions(x: Tensor) -> Tensor:
    """Positions 0, 1, 2 … for `x` (batch, length, …): (batch, length)."""
    return ops.broadcast_to(ops.arange(x.shape[1])[None], x.shape[:2])


def name_by_path(model: nn.Cell) -> None:
    """Give every parameter the path it has in the model:
    replacing a layer after construction leaves old names.
    """
    for path, parameter in model.parameters_and_names():
        parameter.name = path


def train_only(model: nn.Cell, prefixes: Sequence[str]) -> list[str]:
    """Freeze every parameter whose name begins with none of `prefixes`;
    the names of the others come back.

    Raises:
        ValueError: if a prefix fits no parameter.
    """
    names = [name for name, _ in model.parameters_and_names()]
    idle = [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in names)]
    if idle:
        parts = sorted({".".join(name.split(".")[:2]) for name in names})
        raise ValueError(
            f"no parameter begins with {', '.join(idle)}; they begin with {', '.join(parts)}"
        )
    for name, parameter in model.parameters_and_names():
        parameter.requires_grad = name.startswith(tuple(prefixes))
    return [name for name in names if name.startswith(tuple(prefixes))]
