"""What the templates of most families declare alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mmdata._tools.options import PositiveInt, check_fields
from mmdata.errors import UsageError
from mmdata.templates._encoded import PixelPlan
from mmdata.templates._features import FeatureIndex, index_all_rows
from mmdata.templates._fit import OverLong
from mmdata.tokenizers import Tokenizer

if TYPE_CHECKING:
    from mmdata.image.patches import Patches

__all__ = ["BaseTemplate"]


@dataclass(frozen=True, kw_only=True)
class BaseTemplate:
    """The options that every family has, and the usual answers to what
    :class:`mmdata.templates.Template` asks: one axis of positions, samples that may share a row, no
    tiles, no patches, and features that are taken in order.

    A family inherits it and says what differs; its resizer, its tokens and its views are its own. A
    class that follows :class:`mmdata.templates.Template` without it is a template as well.
    """

    position_axes: ClassVar[tuple[int, ...]] = ()
    packs: ClassVar[bool] = True
    tiling: ClassVar[str] = ""
    patches: ClassVar[Patches | None] = None

    tokenizer: Tokenizer
    max_length: PositiveInt | None = None
    over_long: OverLong = "error"

    def __post_init__(self) -> None:
        """Check the options, those of the family that this is."""
        given: object = self.tokenizer
        if isinstance(given, (str, Path)):
            raise UsageError(
                f"{type(self).__name__}: tokenizer must be a Tokenizer, found {str(given)!r}; "
                "mmdata.templates.load_tokenizer reads one from a file"
            )
        check_fields(self)

    def index_features(
        self, plan: PixelPlan, *, positions: int, views: int, size: tuple[int, int] | None
    ) -> FeatureIndex:
        """Return the index of all feature rows in order; see :class:`mmdata.templates.Template`."""
        return index_all_rows(positions, views)
