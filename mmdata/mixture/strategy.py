"""Which rows of a data set a mixture takes: ``all``, ``first:N``, ``end:P%`` or ``random:N``.

The grammar and the arithmetic of percentages are those of the programs that read such files; what
they take silently for ``all`` (a name without a number, ``end:0``, a misspelt name) is an error
here, and ``random`` is seeded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from mmdata._tools.options import NonNegativeFloat, NonNegativeInt, check_fields, checked
from mmdata._tools.shuffle import choose
from mmdata.errors import ConfigError

__all__ = ["Strategy"]

Which: TypeAlias = Literal["all", "first", "end", "random"]

_GRAMMAR: Final = re.compile(r"\s*(first|end|random)\s*:\s*(\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True, slots=True)
class Strategy:
    """Rows to take: ``amount`` of them, or per cent of them,
    from the front, from the end, or at random.

    >>> list(Strategy.parse("end:20%").select(10))
    [8, 9]
    """

    which: Which = "all"
    amount: NonNegativeFloat = 100
    percent: bool = True

    def __post_init__(self) -> None:
        """Check the types and the bounds."""
        check_fields(self)

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """Return the strategy that ``text`` spells.

        Raises:
            ConfigError: the text is not of the grammar, or takes nothing from the end.
        """
        if text.strip() == "all":
            return cls()

        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"sampling_strategy {text!r} is none of "
                "all, first:N, first:P%, end:N, end:P%, random:N, random:P%"
            )

        which, amount, percent = match.groups()
        if not percent and "." in amount:
            raise ConfigError(
                f"sampling_strategy {text!r}: a number of rows is whole; a share ends in %"
            )
        if which == "end" and float(amount) == 0:
            raise ConfigError(
                f"sampling_strategy {text!r} takes nothing (elsewhere it means all rows: say which)"
            )

        return cls(cast(Which, which), float(amount), bool(percent))

    def count(self, rows: int) -> int:
        """Return how many of ``rows`` rows are taken:
        ceil(P * rows / 100) for a share, at most all of them.
        """
        wanted = math.ceil(self.amount * rows / 100) if self.percent else int(self.amount)
        return min(rows, wanted)

    @checked
    def select(self, rows: NonNegativeInt, seed: int = 0) -> Sequence[int]:
        """Return the numbers of the rows taken, ascending; ``random`` is a function of ``seed``."""
        count = self.count(rows)
        if self.which == "end":
            return range(rows - count, rows)
        if self.which == "random":
            return cast("Sequence[int]", choose(seed, count, rows))
        return range(count)

    def __str__(self) -> str:
        """Return the strategy as the YAML spells it."""
        amount = int(self.amount) if float(self.amount).is_integer() else self.amount
        return (
            "all" if self.which == "all" else f"{self.which}:{amount}{'%' if self.percent else ''}"
        )
