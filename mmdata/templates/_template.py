"""What a template is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from mmdata.schema import Conversation, Part

if TYPE_CHECKING:
    from mmdata.image.patches import Patches
    from mmdata.templates._encoded import Encoded, PixelPlan
    from mmdata.templates._features import FeatureIndex
    from mmdata.templates._fit import OverLong
    from mmdata.tokenizers import Tokenizer

__all__ = ["Template"]


@runtime_checkable
class Template(Protocol):
    """How one model family reads a conversation; a frozen dataclass, so two alike read alike.

    Every family takes ``tokenizer``, ``max_length`` and ``over_long``; its own options are the
    fields of its class. What a family does not have it declares too: the pipeline asks no template
    for what is not named here.
    """

    @classmethod
    def load_tokenizer(cls, path: str | Path, *, verify: bool = True, **options: Any) -> Tokenizer:
        """Return the tokenizer of the family from its vocabulary file or the folder of it.

        ``verify=False`` takes a file other than the published one; ``options`` are those of the
        tokenizer's kind.

        Raises:
            TokenError: no such file, or not the published one.
            UsageError: an option that this kind of tokenizer does not have.
        """

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the family."""

    @property
    def pad_id(self) -> int:
        """The id that fills a batch after the end of a sequence."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer."""

    @property
    def max_length(self) -> int | None:
        """The most tokens that :meth:`encode` gives back, None for no limit."""

    @property
    def over_long(self) -> OverLong:
        """What becomes of a longer sequence, see :func:`mmdata.templates.toolkit.truncate`."""

    @property
    def position_axes(self) -> tuple[int, ...]:
        """The leading axes of ``position_ids``: ``()`` for (length,), ``(2,)`` for (2, length)."""

    @property
    def view_size(self) -> int:
        """The side in pixels of the squares that the model sees; 0 for a family without media."""

    @property
    def view_positions(self) -> int:
        """How many positions each view takes;
        0 where this depends on the medium, or there are no media.
        """

    @property
    def packs(self) -> bool:
        """Whether several samples may share a row of a batch."""

    @property
    def resizer(self) -> str:
        """The name in :mod:`mmdata.image.resizers` of how frames,
        or pictures where there are none, come to size.
        """

    @property
    def tiling(self) -> str:
        """The name in :mod:`mmdata.image.tilings` of how pictures are cut into several views; empty
        where they never are.
        """

    @property
    def patches(self) -> Patches | None:
        """How media are cut that have no square: a view is then the patches of ``view_size`` pixels
        that become one feature; None for a family whose views are squares.
        """

    def index_features(
        self, plan: PixelPlan, *, positions: int, views: int, size: tuple[int, int] | None
    ) -> FeatureIndex:
        """Return which feature row each of the ``positions`` of a medium takes.

        ``views`` is how many were decoded for ``plan``, ``size`` the medium's (height, width), None
        if not known.
        """

    def encode(self, conversation: Conversation) -> Encoded:
        """Return the conversation as a training sample.

        Raises:
            TokenError: the family cannot express it, or it is too long under ``over_long="error"``.
            DroppedSampleError: it is too long and left out, which the caller counts.
        """

    def prompt(self, conversation: Conversation) -> Encoded:
        """Return all up to the answer to the last user message,
        which the model is to give; nothing is trained on.

        Raises:
            TokenError: as :meth:`encode`, or the last message is not the user's.
        """

    def length(self, conversation: Conversation) -> int:
        """Return the number of tokens of the training sample before any cut."""

    def parse_answer(self, answer: str | Sequence[int]) -> tuple[Part, ...]:
        """Return the parts of an answer, given as text or as ids;
        boxes become regions, times become times.
        """
