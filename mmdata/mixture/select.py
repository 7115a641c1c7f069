"""Some rows of a store as a store of their own, and several stores as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmdata._tools.limits import Limits
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.requirements import load_optional
from mmdata.errors import ConfigError, DataError, UsageError
from mmdata.mixture.config import Dataset
from mmdata.mixture.mixture import Mixture, write_mixture
from mmdata.mixture.near_duplicates import NearKind, Similarity, find_near_duplicates
from mmdata.mixture.strategy import Strategy
from mmdata.rejects import Reject
from mmdata.schema import Conversation
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

__all__ = ["COLUMNS", "SelectReport", "TokenColumn", "merge", "select"]

_STORED: Final = (
    "id", "source", "split", "messages", "media", "extra", "tools", "rejected", "desirable",
)  # fmt: skip
_TOKENS: Final = "tokens"
COLUMNS: Final = (*_STORED, *FACTS, _TOKENS)
"""What an expression may name: the columns of a store, and what is counted of a row."""


@dataclass(frozen=True, slots=True)
class TokenColumn:
    """How the column ``tokens`` is counted: ``count`` returns the tokens of a conversation, or
    raises :class:`mmdata.errors.DataError` if it cannot be read so; ``read_by`` is what the
    manifest says of it. :func:`mmdata.report.count_tokens_by` makes that of a template.
    """

    count: Callable[[Conversation], int]
    read_by: str


@dataclass(frozen=True, slots=True)
class SelectReport:
    """What became of the ``rows`` of a store: ``where`` of them were what was asked for, of these
    ``duplicates`` said what another says and ``near_duplicates`` nearly so, and ``selected`` are in
    the new ``store``. ``not_encoded`` rows have no ``tokens``: the template cannot read them, the
    first of them for the ``fault``.
    """

    store: Path
    rows: int
    where: int
    not_encoded: int
    fault: str
    duplicates: int
    near_duplicates: int
    selected: int


@checked
def select(
    source: str | Path | Store,
    store: str | Path,
    *,
    where: str | None = None,
    tokens: TokenColumn | None = None,
    drop_duplicates: bool = False,
    drop_near_duplicates: NearKind | None = None,
    similarity: Similarity = 0.8,
    sample: str = "all",
    seed: int = 0,
    overwrite: bool = False,
    parquet: bool = False,
    workers: PositiveInt | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int], object] = lambda rows, rejects: None,
) -> SelectReport:
    """Write those rows of ``source`` into a new store at ``store`` that ``where`` is true of.

    ``where`` is an expression of DuckDB's SQL over :data:`COLUMNS`: ``turns > 2 and split =
    'train'``, ``media[1].duration < 30``, ``extra->>'category' = 'art'`` (package ``duckdb``). The
    column ``tokens`` is counted by ``tokens``, and null where that cannot read a row.
    Of the rows that say the same about the same media ``drop_duplicates`` leaves the first, and
    ``drop_near_duplicates`` of those that are nearly the same: ``texts``, or ``rows`` with their
    pictures, by :func:`mmdata.mixture.find_near_duplicates`, which takes ``similarity``, ``seed``,
    ``workers`` and ``limits``. ``sample`` is what is taken of what is left then, as a mixture takes
    it: ``random:1000``, ``first:10%``; random ones by ``seed``. The order stays. The rejects of
    ``source`` are those of the new store too, and its manifest says what was selected of what, and
    which near duplicates were dropped by which rule.

    Raises:
        ConfigError: the expression cannot be evaluated, or names ``tokens`` and nothing counts
            them; ``sample`` is not of its grammar.
        UsageError: there is a store already and ``overwrite`` is off; the expression does not name
            the ``tokens`` that are to be counted; or a package is not installed: duckdb, or one of
            the extra ``report`` for near duplicates.
    """
    import numpy as np

    opened = source if isinstance(source, Store) else open_store(Path(source))
    target = target_of(store, "store")
    strategy = Strategy.parse(sample)
    if target.absolute() == opened.path:
        raise UsageError(f"{target} is the store that rows are selected of: name another")

    if tokens is not None and _TOKENS not in _names_in(where or ""):
        raise UsageError(f"tokens are counted for an expression that names them, found {where!r}")

    counts = None if tokens is None else _count_tokens(opened, tokens.count)
    rows = _matching(opened, where, counts.column if counts else None)
    matching = len(rows)
    if drop_duplicates:
        hashes = [np.zeros(0, np.uint64), *map(hash_rows, opened.batches())]
        _, first = np.unique(np.concatenate(hashes)[rows], return_index=True)
        rows = rows[np.sort(first)]
    unique = len(rows)
    notes: dict[str, Any] = {
        "selected_of": {"store": str(opened.path), "fingerprint": opened.fingerprint}
    }
    if drop_near_duplicates is not None:
        near = find_near_duplicates(
            opened,
            drop_near_duplicates,
            rows=rows,
            similarity=similarity,
            seed=seed,
            workers=workers,
            limits=limits,
        )
        rows = rows[near.labels == np.arange(unique)]
        notes["near_duplicates"] = {
            "dropped": unique - len(rows),
            "groups": {each.kind: asdict(each) for each in near.groups},
        }
    left = len(rows)
    rows = rows[np.asarray(strategy.select(left, seed), np.int64)]

    chosen = {
        "where": where,
        "tokens": tokens.read_by if tokens else None,
        "drop_duplicates": drop_duplicates,
        "drop_near_duplicates": drop_near_duplicates,
        "similarity": similarity,
        "sample": sample,
        "seed": seed,
    }
    root = opened.media_root
    origin = Origin("selection", chosen, str(root) if root else None, notes=notes)
    writer = StoreWriter(
        target,
        sources=list(opened.manifest.sources),
        origin=origin,
        overwrite=overwrite,
        parquet=parquet,
    )
    with writer:
        for batch in _take(opened, rows):
            writer.write(batch)
            progress(writer.rows, 0)
        for line in opened.rejects():
            writer.reject(Reject.of(line))
    faults = counts.faults if counts else []
    return SelectReport(
        target,
        len(opened),
        where=matching,
        not_encoded=len(faults),
        fault=next(iter(faults), ""),
        duplicates=matching - unique,
        near_duplicates=unique - left,
        selected=len(rows),
    )


@checked
def merge(
    sources: Sequence[str | Path],
    store: str | Path,
    *,
    overwrite: bool = False,
    parquet: bool = False,
    progress: Callable[[int, int], object] = lambda rows, rejects: None,
) -> Store:
    """Write all rows of some stores, one store after the other, into a new store, and return it.

    Ids that stores share get a number. It is what :func:`mmdata.mixture.write_mixture` makes of all
    rows of each.

    Raises:
        UsageError: there is a store already and ``overwrite`` is off.
    """
    stores = [(Dataset(store=Path(path)), open_store(Path(path))) for path in sources]
    return write_mixture(
        Mixture(stores), Path(store), overwrite=overwrite, parquet=parquet, progress=progress
    )


class _TokenCounts(NamedTuple):
    """Tokens of all rows, (rows,) int64, null where a row cannot be encoded, and why not."""

    column: pa.Array
    faults: list[str]


def _count_tokens(store: Store, count: Callable[[Conversation], int]) -> _TokenCounts:
    import pyarrow as pa

    counts: list[int | None] = []
    faults: list[str] = []
    for conversation in store.rows(located=True):
        try:
            counts.append(count(conversation))
        except DataError as error:
            counts.append(None)
            faults.append(str(error))
    return _TokenCounts(pa.array(counts, pa.int64()), faults)


def _matching(store: Store, where: str | None, tokens: pa.Array | None) -> NDArray[np.int64]:
    """Return the numbers of the rows that ``where`` is true of, ascending."""
    import numpy as np

    if where is None:
        return np.arange(len(store))

    duckdb = load_optional("duckdb", needed_by="selecting by an expression")
    query = f"SELECT row_number_ FROM rows WHERE ({where}\n) ORDER BY row_number_"
    # Its own session, which reads nothing but the rows that it is given.
    with duckdb.connect(config={"enable_external_access": "false"}) as session:
        table = _named_columns(store, where)
        if tokens is not None:
            table = table.append_column(_TOKENS, tokens)
        session.register("rows", table)
        try:
            if len(session.extract_statements(query)) != 1:
                raise ConfigError(f"where {where!r}: it must be one expression")
            found = session.execute(query).fetchnumpy()["row_number_"]
        except duckdb.Error as error:
            # Only what reads the expression can tell a column from the text of that name.
            if tokens is None and _TOKENS in _names_in(where) and f'"{_TOKENS}"' in str(error):
                raise ConfigError(
                    f"where {where!r}: tokens are counted as a model family reads a row; name it: "
                    "--template FAMILY --tokenizer FILE, or tokens=count_tokens_by(template)"
                ) from error
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

    spoken = _names_in(where)
    stored = [name for name in _STORED if name in spoken]
    facts = [name for name in FACTS if name in spoken]
    # The table is mapped, so that of the whole store only the columns named are looked at.
    table = store.table.select(stored)
    numbers = [row_facts(columns, facts) for columns in store.batches()] if facts else []
    for name in facts:
        table = table.append_column(name, pa.chunked_array([some[name] for some in numbers]))
    return table.append_column("row_number_", pa.array(np.arange(len(store))))


def _names_in(where: str) -> frozenset[str]:
    """Return all words of an expression, the names of columns among them."""
    return frozenset(re.findall(r"\w+", where.lower()))


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
