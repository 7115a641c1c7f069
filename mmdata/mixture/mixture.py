"""A mixture: rows of several stores as one sequence."""

from __future__ import annotations

import bisect
import os.path
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from dataclasses import replace as replace_fields
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, overload

from mmdata._tools.markup import table, text
from mmdata._tools.options import NonNegativeInt, PositiveInt, checked
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.shuffle import keys
from mmdata.conversion.ids import Ids, Seen, hash_content, keep_own_id
from mmdata.errors import ConfigError, DataError, MMDataError
from mmdata.mixture.cache import Cache
from mmdata.mixture.config import Dataset, MixConfig, read_config
from mmdata.mixture.random_mapping import RandomMapping
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, replace
from mmdata.storage._bucket import target_of
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.builder import BatchBuilder
from mmdata.store.empty import explain_empty, why_empty
from mmdata.store.manifest import hash_text
from mmdata.store.writer import Origin, StoreWriter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Mixture", "PlanRow", "write_mixture"]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What a mixture takes from one data set:
    of its ``rows``, ``selected`` ones, ``draws`` times in all.

    ``store`` is where they are, in the cache for annotation files; ``reasons`` are the numbers of
    its ``rejects`` by reason.
    """

    name: str
    rows: int
    rejects: int
    sampling_strategy: str
    selected: int
    draws: int
    share: float
    store: Path
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """One data set of a mixture: the rows selected, and how many draws of them an epoch has.

    ``rest`` are the places among the selected rows of the draws that make no whole pass.
    """

    dataset: Dataset
    store: Store
    selected: Sequence[int]
    draws: int
    seed: int
    rest: Sequence[int] = ()

    @property
    def rows(self) -> Sequence[int]:
        """The rows that it may give, each once."""
        selected = self.selected
        return selected.rows if isinstance(selected, RandomMapping) else selected

    def at_epoch(self, epoch: int) -> _Part:
        """Return the part with the draws of an epoch.

        The rest of an epoch is a stretch of a shuffle of the rows, that of the next epoch the
        stretch after it, until all have been drawn; then comes another shuffle. The last stretch
        is filled up from the beginning of its own shuffle, so that no epoch has a row twice in it.
        """
        import numpy as np

        total = len(self.selected)
        count = self.draws % total if total else 0
        if not count:
            return self

        shuffles, stretch = divmod(epoch, -(-total // count))
        # The strategy has drawn by `seed`; `~seed` is a chance of its own for the rest of an epoch.
        shuffled = np.argsort(keys(~self.seed ^ shuffles << 32, total), kind="stable")
        places = shuffled[np.arange(stretch * count, (stretch + 1) * count) % total]
        return replace_fields(self, rest=np.sort(places).tolist())

    def row(self, draw: int) -> int:
        """Return the row of a draw:
        whole passes over the selected rows first, then a random part of them.
        """
        whole = self.draws - len(self.rest)
        place = draw % len(self.selected) if draw < whole else self.rest[draw - whole]
        return int(self.selected[place])


class Mixture(Sequence[Conversation]):
    """Rows of several stores in mixture order:
    data set after data set, or evenly interleaved where they have weights.

    It is a pure function of the stores, the configuration and the seed; nothing is copied.
    :func:`write_mixture` makes a store of it.
    """

    @checked
    def __init__(
        self,
        stores: Sequence[tuple[Dataset, Store]],
        *,
        seed: int = 0,
        epoch_length: PositiveInt | None = None,
    ) -> None:
        self.seed = seed
        selections = [
            _select(dataset, len(store), seed + n) for n, (dataset, store) in enumerate(stores)
        ]
        for (dataset, store), rows in zip(stores, selections, strict=True):
            if dataset.weight is not None and not len(rows):
                raise _no_rows(dataset, store)

        draws = _draws(
            [dataset for dataset, _ in stores], [len(rows) for rows in selections], epoch_length
        )
        self._parts = []
        for n, ((dataset, store), rows) in enumerate(zip(stores, selections, strict=True)):
            self._parts.append(_Part(dataset, store, rows, draws[n], seed + n).at_epoch(0))
        self._starts = list(accumulate(draws, initial=0))
        weighted = any(dataset.weight is not None for dataset, _ in stores)
        self._order = _interleave(draws) if weighted else None

    @classmethod
    @checked
    def from_yaml(
        cls,
        path: str | Path,
        *,
        seed: int = 0,
        cache: str | Path | None = None,
        progress: Progress = False,
    ) -> Mixture:
        """Return the mixture that a mixing YAML describes.

        Annotation files (``json_path``) are converted into stores in the folder ``cache`` first, by
        default ``mmdata/mixtures`` in ``$XDG_CACHE_HOME`` or else in ``~/.cache``; ``progress`` is
        that of :func:`mmdata.convert`. A store that is there is used again while the files, the
        format, its options and code, the media root, the library and the presence of every medium
        are what they were; that is asked anew each time. :meth:`plan` says where each store is.

        Raises:
            ConfigError: with every fault of the file.
            StoreError: a store is not there or damaged.
            DataError: of a data set with a weight no row was kept.
        """
        config: MixConfig = read_config(path)
        kept = Cache.at(cache)
        stores = [(dataset, _open(dataset, kept, progress)) for dataset in config.datasets]
        return cls(stores, seed=seed, epoch_length=config.epoch_length)

    def __repr__(self) -> str:
        """Return the numbers of rows and of data sets."""
        return f"Mixture({len(self)} rows of {len(self._parts)} data sets)"

    def _repr_html_(self) -> str:
        """Return what it takes from each data set as a table, for a notebook."""
        head = ("data set", "rows", "strategy", "selected", "drawn", "share")
        rows = (
            (text(row.name), text(f"{row.rows:,}"), text(row.sampling_strategy),
             text(f"{row.selected:,}"), text(f"{row.draws:,}"), text(f"{row.share:.1%}"))
            for row in self.plan()
        )  # fmt: skip
        return table(repr(self), rows, head)

    def __len__(self) -> int:
        """Return how many rows an epoch has."""
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        """Return one conversation, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        part, row = self._place(index)
        return part.store[row]

    @checked
    def at_epoch(self, epoch: NonNegativeInt) -> Mixture:
        """Return the mixture as an epoch has it; the mixture itself is that of epoch 0.

        Where a data set gives a part of its rows to an epoch, by its weight or a broken ``repeat``,
        that part differs from epoch to epoch until all rows have been drawn. All else is the same.
        """
        mixture = copy(self)
        mixture._parts = [part.at_epoch(epoch) for part in self._parts]
        return mixture

    def located(self, index: int) -> Conversation:
        """Return the conversation ``self[index]`` with media paths that can be opened:
        absolute, or URLs.
        """
        part, row = self._place(index)
        return part.store.located(row)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides which rows come in which order."""
        parts = (
            f"{part.store.fingerprint} {part.dataset.sampling_strategy} {part.draws}"
            f"{' mapped' if part.dataset.random_mapping else ''}"
            # Until they were drawn anew each epoch, other rows came after the first.
            f"{' anew' if len(part.rest) else ''}"
            for part in self._parts
        )
        return hash_text(str(self.seed), str(self._order is not None), *parts)

    @property
    def sources(self) -> list[str]:
        """The values that the rows' ``source`` may have, sorted."""
        return sorted({source for part in self._parts for source in part.store.manifest.sources})

    @property
    def media_root(self) -> Path | None:
        """The nearest folder that holds the media roots of all its stores."""
        roots = [
            str(part.store.media_root) for part in self._parts if part.store.media_root is not None
        ]
        return Path(os.path.commonpath(roots)) if roots else None

    @property
    def selections(self) -> list[tuple[Store, Sequence[int]]]:
        """The store of each data set, and which rows of it are selected."""
        return [(part.store, part.rows) for part in self._parts]

    def plan(self) -> list[PlanRow]:
        """Return what it takes from each data set, in order."""
        total = len(self) or 1
        return [
            PlanRow(
                name=part.dataset.name,
                rows=len(part.store),
                rejects=sum(part.store.manifest.rejects.values()),
                sampling_strategy=str(part.dataset.sampling_strategy),
                selected=len(part.rows),
                draws=part.draws,
                share=part.draws / total,
                store=part.store.path,
                reasons=part.store.manifest.rejects,
            )
            for part in self._parts
        ]

    def rejects(self) -> Iterator[Reject]:
        """Yield what was not kept of its data sets, in order;
        of a store that several of them name, once.
        """
        for store in self._stores():
            yield from map(Reject.of, store.rejects())

    @property
    def why_empty(self) -> str | None:
        """Why it has no row and what to do about it, where it has none:
        the most frequent reason with an example.
        """
        if len(self):
            return None
        if rows := sum(len(store) for store in self._stores()):
            return (
                f"no row was kept: of the {rows:,} rows of its data sets, "
                "their sampling strategies take none."
            )
        counts = sum((Counter(store.manifest.rejects) for store in self._stores()), Counter[str]())
        return explain_empty(counts, self.rejects())

    def _stores(self) -> list[Store]:
        """Return its stores, each once."""
        return list({part.store.path: part.store for part in self._parts}.values())

    def _place(self, index: int) -> tuple[_Part, int]:
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"row {index} of a mixture of {length} rows")
        position = index % length if self._order is None else int(self._order[index % length])
        number = bisect.bisect_right(self._starts, position) - 1
        part = self._parts[number]
        return part, part.row(position - self._starts[number])


@checked
def write_mixture(
    mixture: Mixture,
    store: str | Path,
    *,
    overwrite: bool = False,
    parquet: bool = False,
    options: Mapping[str, object] | None = None,
    progress: Progress = False,
) -> Store:
    """Copy the rows of a mixture, in its order,
    into a new store at ``store``, and return it opened.

    Ids that stores share, or that a row has again because it repeats, get a number; media paths
    become relative to the nearest folder that holds all the media. The rejects of its data sets are
    those of the new store, which has as many ``records_in`` as rows and rejects; its manifest has
    the :meth:`Mixture.plan` in its notes, as ``parts``. ``progress`` shows how far it is, or is
    called with the numbers of rows and rejects so far.

    Raises:
        UsageError: there is a store already and ``overwrite`` is off.
    """
    root = mixture.media_root
    origin = Origin(
        "mixture", {"seed": mixture.seed, **(options or {})}, str(root) if root else None
    )
    ids, builder = Ids(), BatchBuilder()
    target = target_of(store, "store")
    writer = StoreWriter(
        target, sources=mixture.sources, origin=origin, overwrite=overwrite, parquet=parquet
    )

    with writer, show_progress(progress, "mixing", len(mixture)) as update:
        for index in range(len(mixture)):
            conversation = mixture.located(index)
            media = tuple(_relative(medium, root) for medium in conversation.media)
            conversation, own = replace(conversation, media=media), conversation.id
            if ids.add(own, hash_content(conversation)) is not Seen.NEW:
                extra = keep_own_id(conversation.extra, own)
                conversation = replace(conversation, id=ids.add_numbered(own), extra=extra)
            builder.append(conversation, file="", record=index, id=None)
            if builder.is_full:
                writer.write(builder.build())
                update(index, 0)
        writer.write(builder.build())
        for reject in mixture.rejects():
            writer.reject(reject)
        update(len(mixture), writer.records_in - writer.rows)
        parts = [{**asdict(row), "store": str(row.store)} for row in mixture.plan()]
        writer.describe(renamed_ids=ids.renamed, parts=parts)

    return open_store(store)


def _relative(medium: Media, root: Path | None) -> Media:
    if root is None:
        return medium
    if medium.frame_paths is not None:
        medium = replace(
            medium, frame_paths=tuple(path.removeprefix(f"{root}/") for path in medium.frame_paths)
        )
    if medium.path is None:
        return medium
    return replace(medium, path=medium.path.removeprefix(f"{root}/"))


def _select(dataset: Dataset, rows: int, seed: int) -> Sequence[int]:
    """Return the rows that a data set gives, in order; with random mapping some several times."""
    selected = dataset.sampling_strategy.select(rows, seed)
    if not dataset.random_mapping or not len(selected):
        return selected
    return RandomMapping(selected, dataset.scale)


def _open(dataset: Dataset, cache: Cache, progress: Progress) -> Store:
    if dataset.store is not None:
        return open_store(dataset.store, media_root=dataset.media_root)
    return cache.open(dataset, progress)


def _no_rows(dataset: Dataset, store: Store) -> MMDataError:
    """Return the error of a data set that shall have
    a share of the draws and has no row to draw.
    """
    if (why := why_empty(store.path)) is not None:
        return DataError(f"{dataset.name} has a weight, but {why}")
    return ConfigError(
        f"{dataset.name} has a weight but gives no rows: {dataset.sampling_strategy} takes none"
    )


def _draws(
    datasets: Sequence[Dataset], selected: Sequence[int], epoch_length: int | None
) -> list[int]:
    """Return how many rows each data set gives to an epoch."""
    if not any(dataset.weight is not None for dataset in datasets):
        return [
            round(dataset.repeat * count) for dataset, count in zip(datasets, selected, strict=True)
        ]
    length = epoch_length if epoch_length is not None else sum(selected)
    return apportion(length, [(dataset.weight or 0) for dataset in datasets])


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Return whole numbers that sum to ``total`` and are nearest
    to the weights' shares (largest remainders).

    >>> apportion(10, [1, 1, 1])
    [4, 3, 3]
    """
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in exact]
    # Ascending, for the difference is minus the remainder; of equal ones the first goes first.
    by_remainder = sorted(range(len(weights)), key=lambda n: (counts[n] - exact[n], n))
    for n in by_remainder[: total - sum(counts)]:
        counts[n] += 1
    return counts


def _interleave(draws: Sequence[int]) -> NDArray[np.int64]:
    """Return positions in an order that spreads each data set's draws
    evenly over the epoch, (rows,) int64.
    """
    import numpy as np

    # Draw i of n stands at the moment (i + 1/2) / n of the epoch. Sorted stably, equal moments come
    # in the order of the data sets, on every machine.
    moments = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in draws])
    return np.argsort(moments, kind="stable")
