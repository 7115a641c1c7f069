"""What a store holds in numbers, counted column by column: no row is made, no medium decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import mmdata.store
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.progress import Progress, show_progress
from mmdata.engine.engine import Engine
from mmdata.engine.open import EngineName
from mmdata.engine.partitions import split_store
from mmdata.report.histogram import Histogram
from mmdata.store import Store
from mmdata.store.arrays import list_values
from mmdata.store.contents import hash_rows
from mmdata.store.facts import FACTS, row_facts

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Spread", "Statistics", "stats"]

_MOST_SIZES: Final = 12


@dataclass(frozen=True, slots=True)
class Spread:
    """How a number is spread over the things that have it; all 0 where none has.

    ``p95`` is the 95th percentile: 19 of 20 are no larger.
    """

    count: int
    smallest: float
    median: float
    mean: float
    p95: float
    largest: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """Return the spread of numbers, (things,)."""
        import numpy as np

        if not len(values):
            return cls(0, 0, 0, 0, 0, 0)
        low, median, p95, high = np.percentile(values, [0, 50, 95, 100]).tolist()
        return cls(len(values), low, median, float(values.mean()), p95, high)

    def __str__(self) -> str:
        """Return the numbers in a line."""
        return (
            f"{self.smallest:,.6g} to {self.largest:,.6g}, median {self.median:,.6g}, "
            f"mean {self.mean:,.4g}, 95 % up to {self.p95:,.6g}"
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """The numbers of a store.

    - ``rows``, all of them;
    - ``counts``: of each ``source`` and ``split`` the rows, of each ``role`` the messages, of each
      type of ``part`` the parts of messages, of each type of ``media`` the media, and of each
      ``oddity`` the videos that are so made;
    - ``numbers``: rows with a rejected ending (``pairs``), ``judged_good`` and ``judged_bad``,
      ``with_tools``, ``without_media``; rows that say what an earlier one says about the same media
      (``duplicates``); ``media_bytes``, those of embedded media and of cached frames;
    - ``spreads``: of rows their ``turns``, ``words``, ``characters`` and ``media_per_row``, without
      rejected endings; of the media of which they are known ``width`` and ``height`` in pixels,
      ``duration`` in seconds, ``fps`` and ``num_frames``;
    - ``histograms`` of the same, and of the share of its characters that a row is trained on
      (``trained_characters``);
    - ``sizes``, the most frequent, as (width, height, media);
    - ``trained_characters``: the share of the characters of texts that a model is trained on.
    """

    rows: int
    counts: Mapping[str, Mapping[str, int]]
    numbers: Mapping[str, int]
    spreads: Mapping[str, Spread]
    histograms: Mapping[str, Histogram]
    sizes: tuple[tuple[int, int, int], ...]
    trained_characters: float

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the numbers as rows of a table for people."""
        yield "rows", f"{self.rows:,}"
        for title, counts in self.counts.items():
            yield from ((title, f"{name}: {count:,}") for name, count in counts.items())
        for name, count in self.numbers.items():
            if count:
                yield name.replace("_", " "), f"{count:,}"
        yield "trained on", f"{self.trained_characters:.1%} of the characters"
        yield from (("size", f"{w} × {h}: {count:,}") for w, h, count in self.sizes)
        for name, spread in self.spreads.items():
            if spread.count:
                yield name.replace("_", " "), str(spread)


@checked
def stats(
    store: str | Path | Store,
    *,
    engine: EngineName | Engine = "local",
    workers: PositiveInt | None = None,
    address: str | None = None,
    partitions: PositiveInt | None = None,
    progress: Progress | None = False,
) -> Statistics:
    """Return the numbers of a store; no row is made, and nothing is decoded.

    They are the same whatever works on its ``partitions``, ranges of its rows: ``workers``
    processes of this machine, or with the ``engine`` ``ray`` those of the cluster at ``address``,
    or an engine that is open. A small store is counted by this process
    (:func:`mmdata.engine.partitions.split_store`). ``progress`` shows how far it is, or is called
    with the number of rows so far, and 0.

    Raises:
        StoreError: the store cannot be opened.
        UsageError: as :func:`mmdata.engine.open.open_engine`.
    """
    import numpy as np

    opened = store if isinstance(store, Store) else mmdata.store.open(Path(store))
    batches: list[_Counts] = []
    done = 0
    with (
        split_store(
            opened, engine=engine, workers=workers, address=address, partitions=partitions
        ) as parts,
        show_progress(progress, "counting", len(opened)) as update,
    ):
        for rows, found in zip(parts.ranges, parts.map(_count_rows), strict=True):
            batches += found
            done += len(rows)
            update(done, 0)

    def together(name: str) -> NDArray[Any]:
        return np.concatenate([batch.values[name] for batch in batches] or [np.zeros(0)])

    hashes = together("hashes")
    sizes = Counter(zip(together("width").tolist(), together("height").tolist(), strict=True))
    counts = {
        name: sum((batch.counts[name] for batch in batches), Counter[str]()) for name in _COUNTS
    }
    numbers = {name: sum(batch.numbers[name] for batch in batches) for name in _NUMBERS}
    manifest = opened.manifest
    return Statistics(
        rows=len(opened),
        counts={
            "source": dict(manifest.sources),
            "split": dict(manifest.splits),
            **{name: dict(found.most_common()) for name, found in counts.items()},
        },
        numbers={**numbers, "duplicates": len(hashes) - len(np.unique(hashes))},
        spreads={name: Spread.of(together(name)) for name in _SPREADS},
        histograms={
            **{name: Histogram.of(together(name)) for name in _SPREADS},
            "trained_characters": Histogram.of(together("trained_share")),
        },
        sizes=tuple((int(w), int(h), n) for (w, h), n in sizes.most_common(_MOST_SIZES)),
        trained_characters=float(
            together("trained_characters").sum() / max(together("characters").sum(), 1)
        ),
    )


_COUNTS: Final = ("role", "part", "media", "oddity")
_NUMBERS: Final = (
    "pairs",
    "judged_good",
    "judged_bad",
    "with_tools",
    "without_media",
    "media_bytes",
)
_SPREADS: Final = (
    "turns",
    "words",
    "characters",
    "media_per_row",
    "width",
    "height",
    "duration",
    "fps",
    "num_frames",
)


@dataclass(frozen=True, slots=True)
class _Counts:
    """The numbers of one batch: ``values`` of each row or medium, and what is only added up."""

    values: Mapping[str, NDArray[Any]]
    counts: Mapping[str, Counter[str]]
    numbers: Mapping[str, int]


def _count_rows(store: Store, rows: range) -> list[_Counts]:
    return list(map(_count, store.batches(rows)))


def _count(columns: pa.RecordBatch) -> _Counts:
    messages, media = columns.column("messages"), columns.column("media")
    said, about = list_values(messages), list_values(media)
    desirable = columns.column("desirable")
    good = desirable.true_count
    width, height = _known_sizes(about)
    facts = row_facts(columns, FACTS)
    values: dict[str, NDArray[Any]] = {
        "hashes": hash_rows(columns),
        **facts,
        "trained_share": facts["trained_characters"] / facts["characters"].clip(1),
        **{name: _known(about.field(name)) for name in ("duration", "fps", "num_frames")},
        "width": width,
        "height": height,
    }
    counts = {
        "role": _count_values(said.field("role")),
        "part": _count_values(list_values(said.field("content")).field("type")),
        "media": _count_values(about.field("type")),
        "oddity": _count_values(list_values(about.field("oddities"))),
    }
    numbers = {
        "pairs": len(messages) - columns.column("rejected").null_count,
        "judged_good": good,
        "judged_bad": len(desirable) - desirable.null_count - good,
        "with_tools": len(messages) - columns.column("tools").null_count,
        "without_media": int((facts["media_per_row"] == 0).sum()),
        "media_bytes": _bytes_in(about.field("bytes"))
        + _bytes_in(list_values(about.field("frames"))),
    }
    return _Counts(values, counts, numbers)


def _known(numbers: pa.Array) -> NDArray[Any]:
    """Return the numbers that are known, which one that is infinite or NaN is not."""
    import numpy as np

    known = numbers.drop_null().to_numpy()
    found: NDArray[Any] = known[np.isfinite(known)]
    return found


def _known_sizes(media: pa.StructArray) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return width and height of the media of which both are known."""
    import pyarrow.compute as pc

    width, height = media.field("width"), media.field("height")
    both = pc.and_(width.is_valid(), height.is_valid())
    return _known(width.filter(both)), _known(height.filter(both))


def _count_values(words: pa.Array) -> Counter[str]:
    return Counter({str(each["values"]): each["counts"].as_py() for each in words.value_counts()})


def _bytes_in(array: pa.Array) -> int:
    import pyarrow.compute as pc

    found: int = pc.sum(pc.binary_length(array)).as_py() or 0
    return found
