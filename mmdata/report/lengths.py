"""How long the conversations of a store are under a template,
and how much of them is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mmdata._tools.options import PositiveInt, checked
from mmdata.engine.engine import Engine, raise_errors, run_jobs
from mmdata.engine.open import EngineName, check_address, split_evenly, use_engine
from mmdata.engine.partitions import PARTITIONS_A_WORKER
from mmdata.errors import MediaError, TokenError
from mmdata.mixture import TokenColumn
from mmdata.report.statistics import Spread
from mmdata.schema import Conversation
from mmdata.templates import Template
from mmdata.templates._plugins import encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Lengths", "count_tokens_by", "join_lengths", "measure_lengths"]


@dataclass(frozen=True, slots=True, eq=False)
class Lengths:
    """Token counts of conversations before any cut.

    ``tokens``, ``trained`` and ``visual`` (samples,) int64: all tokens of a sample, those trained
    on, those in slots of media. ``failed`` are the indices of conversations that the template
    cannot encode, with the reason.
    """

    tokens: NDArray[np.int64]
    trained: NDArray[np.int64]
    visual: NDArray[np.int64]
    failed: tuple[tuple[int, str], ...] = ()

    @property
    def trained_share(self) -> float:
        """Trained tokens among all."""
        return float(self.trained.sum() / max(self.tokens.sum(), 1))

    @property
    def spread(self) -> Spread:
        """How many tokens samples have."""
        return Spread.of(self.tokens)

    def summary(self) -> dict[str, Any]:
        """Return the sums and the spread as plain values, for programs."""
        return {
            "samples": len(self.tokens),
            "tokens": asdict(self.spread),
            "trained_share": self.trained_share,
            "visual_share": float(self.visual.sum() / max(self.tokens.sum(), 1)),
            "failed": len(self.failed),
        }

    @checked
    def over(self, limit: PositiveInt) -> int:
        """Return how many samples have more than ``limit`` tokens."""
        return int((self.tokens > limit).sum())

    @checked
    def histogram(self, bins: PositiveInt = 10) -> list[tuple[int, int, int]]:
        """Return (shortest, longest, samples) of ``bins``
        equal ranges of lengths, both ends included.
        """
        import numpy as np

        if not len(self.tokens):
            return []
        low, high = int(self.tokens.min()), int(self.tokens.max())
        width = max(-(-(high - low + 1) // bins), 1)
        counts = np.bincount((self.tokens - low) // width)
        return [
            (low + n * width, low + (n + 1) * width - 1, int(count))
            for n, count in enumerate(counts)
        ]

    @checked
    def as_text(self, limit: PositiveInt | None = None, width: PositiveInt = 40) -> str:
        """Return a histogram in lines of at most ``width`` blocks, and the sums below it."""
        rows = self.histogram()
        most = max((count for _, _, count in rows), default=1)
        lines = [
            f"{low:>8} - {high:<8} {count:>9} {'█' * round(width * count / most)}"
            for low, high, count in rows
        ]
        lines.append(
            f"{len(self.tokens)} samples, {int(self.tokens.sum())} tokens, "
            f"{self.trained_share:.1%} trained on, "
            f"{self.visual.sum() / max(self.tokens.sum(), 1):.1%} in slots of media"
        )
        if limit is not None:
            lines.append(f"{self.over(limit)} samples have more than {limit} tokens")

        if self.failed:
            index, reason = self.failed[0]
            lines.append(
                f"{len(self.failed)} cannot be encoded; the first is number {index}: {reason}"
            )

        return "\n".join(lines)


@checked
def count_tokens_by(template: Template) -> TokenColumn:
    """Return how :func:`mmdata.mixture.select` is to count ``tokens``: as ``template`` reads a row,
    before any cut.
    """
    whole: Any = replace(template, max_length=None)  # type: ignore[type-var]  # every template is a dataclass
    told = ", ".join(
        f"{field.name}={getattr(whole, field.name)!r}"
        for field in fields(whole)
        if field.init and field.name != "tokenizer"
    )
    return TokenColumn(
        partial(_count_tokens, whole),
        f"{type(whole).__name__}({told}), {whole.tokenizer.vocab_size:,} tokens",
    )


def _count_tokens(template: Template, conversation: Conversation) -> int:
    return len(encode(template, conversation))


@checked
def measure_lengths(
    conversations: Sequence[Conversation],
    template: Template,
    *,
    engine: EngineName | Engine = "local",
    workers: PositiveInt | None = None,
    address: str | None = None,
    partitions: PositiveInt | None = None,
) -> Lengths:
    """Return the lengths of conversations, a store's or any other's; no pixel is decoded.

    They are the same whatever works on the ``partitions``, ranges of the conversations: ``workers``
    processes of this machine, or with the ``engine`` ``ray`` those of the cluster at ``address``,
    or an engine that is open. With none of these this process does it.

    Raises:
        UsageError: as :func:`mmdata.engine.open.open_engine`.
    """
    check_address(engine, address)
    whole: Any = replace(template, max_length=None)  # type: ignore[type-var]  # every template is a dataclass
    if engine == "local" and (workers or 1) == (partitions or 1) == 1:
        return _measure(conversations, whole)

    with use_engine(engine, workers=workers, address=address) as opened:
        count = partitions or PARTITIONS_A_WORKER * opened.workers
        parts = split_evenly(len(conversations), count)
        tasks = ((conversations[part.start : part.stop], whole) for part in parts)
        return join_lengths(list(raise_errors(run_jobs(opened, _measure, tasks))))


@checked
def join_lengths(found: Sequence[Lengths]) -> Lengths:
    """Return the lengths of the conversations of several, one after the other."""
    import numpy as np

    none = np.zeros(0, np.int64)  # there may be no part
    failed: list[tuple[int, str]] = []
    first = 0
    for lengths in found:
        failed += [(first + index, reason) for index, reason in lengths.failed]
        first += len(lengths.tokens) + len(lengths.failed)
    return Lengths(
        np.concatenate([none, *(lengths.tokens for lengths in found)]),
        np.concatenate([none, *(lengths.trained for lengths in found)]),
        np.concatenate([none, *(lengths.visual for lengths in found)]),
        tuple(failed),
    )


def _measure(conversations: Sequence[Conversation], template: Template) -> Lengths:
    import numpy as np

    counts: list[tuple[int, int, int]] = []
    failed: list[tuple[int, str]] = []
    for index in range(len(conversations)):
        try:
            encoded = encode(template, conversations[index])
        except (TokenError, MediaError) as error:
            failed.append((index, str(error)))
        else:
            counts.append(
                (len(encoded), encoded.trained, sum(slot.length for slot in encoded.slots))
            )
    columns = np.array(counts, np.int64).reshape(-1, 3).T
    return Lengths(columns[0], columns[1], columns[2], tuple(failed))
