"""Some rows of a store as a store of their own, and several stores as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.requirements import load_optional
from mmdata.errors import ConfigError, UsageError
from mmdata.mixture.config import Dataset
from mmdata.mixture.mixture import Mixture, write_mixture
from mmdata.mixture.strategy import Strategy
from mmdata.rejects import Reject
from mmdata.storage._bucket import target_of
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.arrays import integers
from mmdata.store.batch import ConversationBatch, Origins
from mmdata.store.contents import hash_rows
from mmdata.store.facts import FACTS, row_facts
from mmdata.store.writer import Origin, StoreWriter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "SelectReport", "merge", "select"]

_STORED: Final = (
    "id", "source", "split", "messages", "media", "extra", "tools", "rejected", "desirable",
)  # fmt: skip
COLUMNS: Final = (*_STORED, *FACTS)
"""What an expression may name: the columns of a store, and what is counted of a row."""


@dataclass(frozen=True, slots=True)
class SelectReport:
    """What became of the ``rows`` of a store: ``where`` of them were what was asked for, of these
    ``duplicates`` said what another says, and ``selected`` are in the new ``store``.
    """

    store: Path
    rows: int
    where: int
    duplicates: int
    selected: int


@checked
def select(
    source: str | Path | Store,
    store: str | Path,
    *,
    where: str | None = None,
    drop_duplicates: bool = False,
    sample: str = "all",
    seed: int = 0,
    overwrite: bool = False,
    parquet: bool = False,
    progress: Progress = False,
) -> SelectReport:
    """Write those rows of ``source`` into a new store at ``store`` that ``where`` is true of.

    ``where`` is an expression of DuckDB's SQL over :data:`COLUMNS`: ``turns > 2 and split =
    'train'``, ``media[1].duration < 30``, ``extra->>'category' = 'art'`` (package ``duckdb``).
    Of the rows that say the same about the same media ``drop_duplicates`` leaves the first.
    ``sample`` is what is taken of what is left then, as a mixture takes it: ``random:1000``,
    ``first:10%``; random ones by ``seed``. The order stays. The rejects of ``source`` are those of
    the new store too, and its manifest says what was selected of what. ``progress`` shows how far
    it is, or is called with the number of rows so far, and 0.

    Raises:
        ConfigError: the expression cannot be evaluated, or ``sample`` is not of its grammar.
        UsageError: there is a store already and ``overwrite`` is off, or duckdb is not installed.
    """
    import numpy as np

    opened = source if isinstance(source, Store) else open_store(Path(source))
    target = target_of(store, "store")
    strategy = Strategy.parse(sample)
    if target.absolute() == opened.path:
        raise UsageError(f"{target} is the store that rows are selected of: name another")

    rows = _matching(opened, where)
    matching = len(rows)
    if drop_duplicates:
        hashes = [np.zeros(0, np.uint64), *map(hash_rows, opened.batches())]
        _, first = np.unique(np.concatenate(hashes)[rows], return_index=True)
        rows = rows[np.sort(first)]
    unique = len(rows)
    rows = rows[np.asarray(strategy.select(unique, seed), np.int64)]

    chosen = {"where": where, "drop_duplicates": drop_duplicates, "sample": sample, "seed": seed}
    root = opened.media_root
    origin = Origin(
        "selection",
        chosen,
        str(root) if root else None,
        notes={"selected_of": {"store": str(opened.path), "fingerprint": opened.fingerprint}},
    )
    writer = StoreWriter(
        target,
        sources=list(opened.manifest.sources),
        origin=origin,
        overwrite=overwrite,
        parquet=parquet,
    )
    with writer, show_progress(progress, "selecting", len(rows)) as update:
        for batch in _take(opened, rows):
            writer.write(batch)
            update(writer.rows, 0)
        for line in opened.rejects():
            writer.reject(Reject.of(line))
    return SelectReport(target, len(opened), matching, matching - unique, len(rows))


@checked
def merge(
    sources: Sequence[str | Path],
    store: str | Path,
    *,
    overwrite: bool = False,
    parquet: bool = False,
    progress: Progress = False,
) -> Store:
    """Write all rows of some stores, one store after the other, into a new store, and return it.

    Ids that stores share get a number. It is what :func:`mmdata.mixture.write_mixture` makes of all
    rows of each. ``progress`` shows how far it is, or is called with the numbers of rows and
    rejects so far.

    Raises:
        UsageError: there is a store already and ``overwrite`` is off.
    """
    stores = [(Dataset(store=Path(path)), open_store(Path(path))) for path in sources]
    mixture = Mixture(stores)
    with show_progress(progress, "merging", len(mixture)) as update:
        return write_mixture(
            mixture, Path(store), overwrite=overwrite, parquet=parquet, progress=update
        )


def _matching(store: Store, where: str | None) -> NDArray[np.int64]:
    """Return the numbers of the rows that ``where`` is true of, ascending."""
    import numpy as np

    if where is None:
        return np.arange(len(store))

    duckdb = load_optional("duckdb", needed_by="selecting by an expression")
    query = f"SELECT row_number_ FROM rows WHERE ({where}\n) ORDER BY row_number_"
    # Its own session, which reads nothing but the rows that it is given.
    with duckdb.connect(config={"enable_external_access": "false"}) as session:
        session.register("rows", _named_columns(store, where))
        try:
            if len(session.extract_statements(query)) != 1:
                raise ConfigError(f"where {where!r}: it must be one expression")
            found = session.execute(query).fetchnumpy()["row_number_"]
        except duckdb.Error as error:
            raise ConfigError(
                f"where {where!r}: {error}\nAn expression may name {', '.join(COLUMNS)}."
            ) from error
    return np.asarray(found, np.int64)


def _named_columns(store: Store, where: str) -> pa.Table:
    """Return those of :data:`COLUMNS` that an expression may be speaking of, with the numbers of
    the rows.
    """
    import numpy as np
    import pyarrow as pa

    spoken = frozenset(re.findall(r"\w+", where.lower()))
    stored = [name for name in _STORED if name in spoken]
    facts = [name for name in FACTS if name in spoken]
    # The table is mapped, so that of the whole store only the columns named are looked at.
    table = store.table.select(stored)
    numbers = [row_facts(columns, facts) for columns in store.batches()] if facts else []
    for name in facts:
        table = table.append_column(name, pa.chunked_array([some[name] for some in numbers]))
    return table.append_column("row_number_", pa.array(np.arange(len(store))))


def _take(store: Store, rows: NDArray[np.int64]) -> Iterator[ConversationBatch]:
    """Yield some rows of a store, ascending, batch by batch."""
    import numpy as np

    first = 0
    for columns in store.batches():
        last = first + columns.num_rows
        begin, end = np.searchsorted(rows, [first, last])
        if begin < end:
            taken = columns.take(integers(rows[begin:end] - first))
            count = taken.num_rows
            origins = Origins([""] * count, range(count), [None] * count)
            yield ConversationBatch(taken, origins, range(count))
        first = last
