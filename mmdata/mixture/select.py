"""Some rows of a store as a store of their own, and several stores as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmdata._tools.limits import Limits
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.requirements import load_optional
from mmdata.engine.engine import Engine
from mmdata.engine.open import EngineName
from mmdata.engine.partitions import StorePartitions, split_store
from mmdata.errors import ConfigError, DataError, UsageError
from mmdata.mixture._steady import find_changing, is_one_expression
from mmdata.mixture.config import Dataset
from mmdata.mixture.mixture import Mixture, write_mixture
from mmdata.mixture.near_duplicates import (
    NearDuplicates,
    NearKind,
    Similarity,
    find_near_duplicates,
)
from mmdata.mixture.strategy import Strategy
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.storage._bucket import target_of
from mmdata.storage._path import RemotePath
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.arrays import integers
from mmdata.store.batch import ConversationBatch, Origins
from mmdata.store.contents import hash_rows
from mmdata.store.encode import arrow_schema
from mmdata.store.facts import FACTS, row_facts
from mmdata.store.writer import Origin, StoreWriter, check_vacant

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
    engine: EngineName | Engine = "local",
    workers: PositiveInt | None = None,
    address: str | None = None,
    partitions: PositiveInt | None = None,
    overwrite: bool = False,
    parquet: bool = False,
    limits: Limits | None = None,
    progress: Progress = False,
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
    which near duplicates were dropped by which rule. ``progress`` shows how far it is, or is called
    with the number of rows so far, and 0.

    The bytes are the same whatever works on the ``partitions`` of ``source``, ranges of its rows:
    ``workers`` processes of this machine, or with the ``engine`` ``ray`` those of the cluster at
    ``address``, or an engine that is open. This process goes through a small store by itself
    (:func:`mmdata.engine.partitions.split_store`). Near duplicates are found on this machine alone,
    where ``workers`` hash texts and decode pictures.

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

    check_vacant(target, overwrite)  # and once more by the writer, when all is counted
    _check_expression(where, tokens)

    chosen = {
        "where": where,
        "tokens": tokens.read_by if tokens else None,
        "drop_duplicates": drop_duplicates,
        "drop_near_duplicates": drop_near_duplicates,
        "similarity": similarity,
        "sample": sample,
        "seed": seed,
    }
    notes: dict[str, Any] = {
        "selected_of": {"store": str(opened.path), "fingerprint": opened.fingerprint}
    }
    near = partial(
        find_near_duplicates,
        opened,
        similarity=similarity,
        seed=seed,
        workers=workers,
        limits=limits,
        # A function is told of rows that are selected, and of nothing else.
        progress=progress is True,
    )
    with split_store(
        opened, engine=engine, workers=workers, address=address, partitions=partitions
    ) as parts:
        counts = None if tokens is None else _count_tokens(parts, tokens.count)
        rows, hashes = _matching(
            parts, where, counts.column if counts else None, hashed=drop_duplicates
        )
        matching = len(rows)
        if drop_duplicates:
            _, first = np.unique(hashes, return_index=True)
            rows = rows[np.sort(first)]
        unique = len(rows)
        if drop_near_duplicates is not None:
            rows, notes["near_duplicates"] = _drop_near(rows, near(drop_near_duplicates, rows=rows))
        left = len(rows)
        rows = rows[np.asarray(strategy.select(left, seed), np.int64)]

        root = opened.media_root
        writer = StoreWriter(
            target,
            sources=list(opened.manifest.sources),
            origin=Origin("selection", chosen, str(root) if root else None, notes=notes),
            overwrite=overwrite,
            parquet=parquet,
        )
        with show_progress(progress, "selecting", len(rows)) as update:
            _write_rows(parts, rows, writer, update)
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
    progress: Progress = False,
) -> Store:
    """Write all rows of some stores, one store after the other, into a new store, and return it.

    Ids that stores share get a number. It is what :func:`mmdata.mixture.write_mixture` makes of all
    rows of each. ``progress`` shows how far it is, or is called with the numbers of rows and
    rejects so far.

    Raises:
        UsageError: a store stands among the sources twice, or there is a store already and
            ``overwrite`` is off.
    """
    check_vacant(target_of(store, "store"), overwrite)
    stores = [(Dataset(store=Path(path)), open_store(Path(path))) for path in sources]
    _refuse_repeated([opened for _, opened in stores])
    mixture = Mixture(stores)
    with show_progress(progress, "merging", len(mixture)) as update:
        return write_mixture(
            mixture, Path(store), overwrite=overwrite, parquet=parquet, progress=update
        )


def _refuse_repeated(stores: Sequence[Store]) -> None:
    """Refuse a store that is given twice: all its rows would stand in the result twice.

    Raises:
        UsageError: one is, by the same path or another way to it.
    """
    places: dict[str, Path] = {}
    for store in stores:
        place = str(store.path if isinstance(store.path, RemotePath) else store.path.resolve())
        if place in places:
            raise UsageError(
                f"{store.path} is the same store as {places[place]}, and its rows would be there "
                "twice. Name it once; a mixture with `repeat` has rows several times."
            )
        places[place] = store.path


def _check_expression(where: str | None, tokens: TokenColumn | None) -> None:
    """Say what is wrong with an expression before any work is done.

    Raises:
        ConfigError: it cannot be evaluated, or gives something else at each run.
        UsageError: it does not name the ``tokens`` that are to be counted.
    """
    import pyarrow as pa

    if tokens is not None and _TOKENS not in _words(where or ""):
        raise UsageError(f"tokens are counted for an expression that names them, found {where!r}")
    if where is not None and not _words(where):  # which DuckDB takes for true
        raise ConfigError(
            f"where {where!r}: says nothing. An expression may name {', '.join(COLUMNS)}."
        )
    if where is not None:
        known = {} if tokens is None else {_TOKENS: pa.nulls(0, pa.int64())}
        with _open_session() as session:
            if changing := find_changing(session, where):
                raise ConfigError(
                    f"where {where!r}: {changing} says something else at each run, and so would "
                    "the rows be others; write a date or a time out, and --sample random:10% draws "
                    "by a seed"
                )
            _evaluate(session, where, arrow_schema().empty_table(), known, range(0))
            if not is_one_expression(session, where):
                raise ConfigError(f"where {where!r}: it must be one expression, whole")


def _drop_near(
    rows: NDArray[np.int64], near: NearDuplicates
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the first row of each group of near duplicates, and what the manifest says of it."""
    import numpy as np

    kept = rows[near.labels == np.arange(len(rows))]
    groups = {each.kind: asdict(each) for each in near.groups}
    return kept, {"dropped": len(rows) - len(kept), "groups": groups}


def _write_rows(
    parts: StorePartitions,
    rows: NDArray[np.int64],
    writer: StoreWriter,
    update: Callable[[int, int], object],
) -> None:
    """Write these rows of a store, and all of its rejects, into a new one."""
    with writer:
        for columns in parts.map(_take, _split_by_batch(parts.store, rows)):
            count = columns.num_rows
            origins = Origins([""] * count, range(count), [None] * count)
            writer.write(ConversationBatch(columns, origins, range(count)))
            update(writer.rows, 0)
        for line in parts.store.rejects():
            writer.reject(Reject.of(line))


# --- which rows
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Keys:
    """What decides about some rows: the numbers of those that are asked for, (rows,) int64; where
    they are wanted, the hashes of what these say, (rows,) uint64; and the facts that an expression
    names which looks at all rows at once.
    """

    rows: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    facts: Mapping[str, NDArray[np.int64]]


class _TokenCounts(NamedTuple):
    """Tokens of rows, (rows,) int64, null where a row cannot be encoded, and why not."""

    column: pa.Array
    faults: list[str]


def _count_tokens(parts: StorePartitions, count: Callable[[Conversation], int]) -> _TokenCounts:
    import pyarrow as pa

    tasks = ((rows, count) for rows in parts.ranges)
    none = _TokenCounts(pa.nulls(0, pa.int64()), [])  # there may be no part
    found = [none, *parts.map(_count_tokens_of, tasks)]
    faults = [fault for counts in found for fault in counts.faults]
    return _TokenCounts(pa.concat_arrays([counts.column for counts in found]), faults)


def _count_tokens_of(
    store: Store, rows: range, count: Callable[[Conversation], int]
) -> _TokenCounts:
    import pyarrow as pa

    counts: list[int | None] = []
    faults: list[str] = []
    for conversation in store.rows(located=True)[rows.start : rows.stop]:
        try:
            counts.append(count(conversation))
        except DataError as error:
            counts.append(None)
            faults.append(str(error))
    return _TokenCounts(pa.array(counts, pa.int64()), faults)


def _matching(
    parts: StorePartitions, where: str | None, tokens: pa.Array | None, *, hashed: bool
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return the numbers of the rows that ``where`` is true of, ascending, and where they are
    ``hashed`` the hashes of what they say.
    """
    import numpy as np
    import pyarrow as pa

    # Of a store that this process goes through, the table is mapped: only the columns named are
    # looked at, and by all cores.
    whole = where if where and (parts.engine is None or _sees_other_rows(where)) else None
    facts = _named(FACTS, whole) if whole else []
    tasks = (
        (
            rows,
            None if whole else where,
            None if tokens is None else tokens[rows.start : rows.stop],
            facts,
            hashed,
        )
        for rows in parts.ranges
    )
    none = np.zeros(0, np.int64), np.zeros(0, np.uint64)
    found = [_Keys(*none, {}), *(keys for some in parts.map(_find_keys, tasks) for keys in some)]

    rows = np.concatenate([keys.rows for keys in found])
    hashes = np.concatenate([keys.hashes for keys in found])
    if whole:
        known = {
            name: pa.chunked_array([keys.facts[name] for keys in found[1:]], pa.int64())
            for name in facts
        } | ({} if tokens is None else {_TOKENS: tokens})
        with _open_session() as session:
            numbers = range(len(parts.store))
            rows = _evaluate(session, whole, parts.store.table, known, numbers)
        hashes = hashes[rows] if hashed else hashes
    return rows, hashes


def _find_keys(
    store: Store,
    rows: range,
    where: str | None,
    tokens: pa.Array | None,
    facts: Sequence[str],
    hashed: bool,
) -> list[_Keys]:
    """Return the keys of some rows, batch by batch; ``tokens`` are those of these rows."""
    import numpy as np
    import pyarrow as pa

    if where is None and not facts and not hashed:
        return [_Keys(_spelled(rows), np.zeros(0, np.uint64), {})]

    found = []
    first = rows.start
    # One core is a worker's share.
    with _open_session(threads=1) if where else nullcontext() as session:
        for columns in store.batches(rows):
            numbers = range(first, first + columns.num_rows)
            kept = _spelled(numbers)
            if where is not None:
                counted = row_facts(columns, _named(FACTS, where))
                known = {name: integers(values) for name, values in counted.items()}
                if tokens is not None:
                    known[_TOKENS] = tokens[first - rows.start : numbers.stop - rows.start]
                kept = _evaluate(session, where, pa.table(columns), known, numbers)
            hashes = hash_rows(columns)[kept - first] if hashed else np.zeros(0, np.uint64)
            found.append(_Keys(kept, hashes, row_facts(columns, facts)))
            first = numbers.stop
    return found


def _spelled(rows: range) -> NDArray[np.int64]:
    """Return the numbers of some rows, (rows,) int64."""
    import numpy as np

    return np.arange(rows.start, rows.stop, dtype=np.int64)


def _sees_other_rows(where: str) -> bool:
    """Return whether an expression may look at other rows than the one that it is evaluated for.

    It does so in a subquery alone, which names the table or says FROM. One that has such a word in
    a text is taken for one that does.
    """
    return bool({"from", "rows"} & _words(where))


def _open_session(**options: Any) -> AbstractContextManager[Any]:
    """Return a session of DuckDB of its own, which reads nothing but what it is given."""
    duckdb = load_optional("duckdb", needed_by="selecting by an expression")
    session: AbstractContextManager[Any] = duckdb.connect(
        config={"enable_external_access": "false", **options}
    )
    return session


def _evaluate(
    session: Any, where: str, columns: pa.Table, facts: Mapping[str, Any], numbers: range
) -> NDArray[np.int64]:
    """Return which of the ``numbers`` of some rows ``where`` is true of, ascending.

    ``facts`` are those of the rows that it names, and tokens where they are counted; one of the
    others that is missing is null.
    """
    import duckdb
    import numpy as np
    import pyarrow as pa

    table = columns.select(_named(_STORED, where))
    for name in _named({**FACTS, **facts}, where):
        values = facts[name] if name in facts else pa.nulls(len(numbers), pa.int64())
        table = table.append_column(name, values)
    table = table.append_column("row_number_", pa.array(_spelled(numbers)))

    session.register("rows", table)
    query = f"SELECT row_number_ FROM rows WHERE ({where}\n) ORDER BY row_number_"
    try:
        if len(session.extract_statements(query)) != 1:
            raise ConfigError(f"where {where!r}: it must be one expression")
        found = session.execute(query).fetchnumpy()["row_number_"]
    except duckdb.Error as error:
        # Only what reads the expression can tell a column from the text of that name.
        if _TOKENS not in facts and f'"{_TOKENS}"' in str(error):
            raise ConfigError(
                f"where {where!r}: tokens are counted as a model family reads a row; name it: "
                "--template FAMILY --tokenizer FILE, or tokens=count_tokens_by(template)"
            ) from error
        raise ConfigError(
            f"where {where!r}: {error}\nAn expression may name {', '.join(COLUMNS)}."
        ) from error
    return np.asarray(found, np.int64)


def _named(names: Iterable[str], where: str) -> list[str]:
    """Return those of some names that an expression may be speaking of."""
    words = _words(where)
    return [name for name in names if name in words]


def _words(where: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", where.lower()))


# --- taking them
# --------------------------------------------------------------------------------------------------


def _split_by_batch(
    store: Store, rows: NDArray[np.int64]
) -> Iterator[tuple[range, NDArray[np.int64]]]:
    """Yield each batch of a store of which some ``rows`` are, ascending: which rows it holds, and
    which of them are wanted.
    """
    import numpy as np

    for first, last in pairwise(store.batch_starts):
        begin, end = np.searchsorted(rows, [first, last])
        if begin < end:
            yield range(first, last), rows[begin:end]


def _take(store: Store, batch: range, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Return some rows of a batch."""
    [columns] = store.batches(batch)
    return columns.take(integers(rows - batch.start))
