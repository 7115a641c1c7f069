"""What a template makes of a conversation: ids, labels, positions, and where the pixels belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.image.decode import Alpha
    from mmdata.image.patches import PatchGrid

    Ids: TypeAlias = NDArray[np.int32]

__all__ = ["IGNORE", "Encoded", "MediaSlot", "PixelPlan", "attention_mask"]

IGNORE: Final = -100
"""The label of a token that is not trained on."""


@dataclass(frozen=True, slots=True)
class PixelPlan:
    """Which pixels a model reads for one medium; nothing has been decoded.

    ``media`` is the index in ``Conversation.media``. For a video, ``frames`` are frame numbers in
    presentation order (of the clip's file, or of its frame cache) and ``times`` their seconds since
    the clip's first frame, which is at ``origin`` seconds of the file's clock; both are empty for
    an image. ``resize`` leads to ``size`` x ``size`` pixels: it
    is the name of a resizer of :mod:`mmdata.image.resizers`, which makes one view of a picture or
    frame. With ``canvases``, (height, width) each, it is the name of a tiling of
    :mod:`mmdata.image.tilings`, which makes several views of an image, by one of these canvases.

    With a ``grid`` pictures have no square: the resizer brings them to the grid's size, and a view
    is the patches of ``size`` x ``size`` that become one feature (:mod:`mmdata.image.patches`).
    ``alpha`` is what becomes of an image's transparency; ``duration`` the seconds of the clip that
    the frames were taken of.
    """

    media: int
    resize: str
    size: int
    frames: tuple[int, ...] = ()
    times: tuple[float, ...] = ()
    canvases: tuple[tuple[int, int], ...] = ()
    origin: float = 0.0
    grid: PatchGrid | None = None
    alpha: Alpha = "drop"
    duration: float = 0.0

    @property
    def told(self) -> tuple[float, ...] | None:
        """The times of the frames in seconds of the file's clock, which a reader holds against the
        file's own; None where the plan tells none.
        """
        return tuple(self.origin + time for time in self.times) or None

    @property
    def tiled(self) -> bool:
        """Whether ``resize`` is a tiling, and an image comes as several views."""
        return bool(self.canvases)


@dataclass(frozen=True, slots=True)
class MediaSlot:
    """A run of positions that visual features take: ``start`` to ``start + length``.

    ``plan`` is the index in :attr:`Encoded.pixels` of the pixels whose features go there; a plan's
    features fill its slots in order: some models have a slot a frame, others one a medium.
    ``media`` is the plan's medium.
    """

    media: int
    start: int
    length: int
    plan: int

    @property
    def stop(self) -> int:
        """The position after the last."""
        return self.start + self.length


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Encoded:
    """One conversation as a model family reads it.

    - ``input_ids`` (length,) int32; placeholders stand in the slots.
    - ``labels`` (length,) int32: the id itself where the token is trained on, else -100; not
      shifted.
    - ``position_ids`` (length,) int32, or (axes, length) int32 for models with several axes of
      positions.
    - ``slots``: ascending, never overlapping; ``pixels``: what goes into them, in order of first
      appearance.
    - ``token_types`` (length,) int8, 1 in the slots, for families that read types; else None.
    - ``prefix``: the number of leading tokens that all tokens may attend to; 0 for causal
      attention.
    - ``cut``: how many tokens of the conversation were left out at the end, to fit.
    - ``unsaid``: what else was left out of it, in words, because the family has no way to say it
      and the template was told to drop that.
    """

    input_ids: Ids
    labels: Ids
    position_ids: Ids
    slots: tuple[MediaSlot, ...] = ()
    pixels: tuple[PixelPlan, ...] = ()
    token_types: NDArray[np.int8] | None = None
    prefix: int = 0
    cut: int = 0
    unsaid: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def trained(self) -> int:
        """The number of tokens that are trained on."""
        return int((self.labels != IGNORE).sum())

    def __repr__(self) -> str:
        return (
            f"Encoded({len(self)} tokens, {self.trained} trained, {len(self.slots)} slots of "
            f"{len(self.pixels)} media, prefix={self.prefix}, cut={self.cut})"
        )


def attention_mask(prefix: int, length: int) -> NDArray[np.bool_]:
    """Return (length, length) bool: whether token ``i`` (row) may attend to token ``j`` (column).

    The first ``prefix`` tokens are seen by all, the others by themselves and what follows; 0 gives
    the causal mask.
    """
    import numpy as np

    index = np.arange(length)
    return (index < prefix) | (index <= index[:, None])
