"""Rows that say nearly the same, and pictures that look nearly the same.

Each text and each picture gets a signature, a row of numbers of which two things share about as
many as they are alike. Signatures are made batch by batch, on several processes where there are
many, and joined in order; the groups are found in all of them at once. Both kinds of signature are
those of well-known libraries: MinHash of ``datasketch`` and the perceptual hash of ``imagehash``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Meta

import mmdata.store
from mmdata._tools.limits import Limits, count_bytes
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.paths import is_url
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.requirements import load_optional, processors
from mmdata.engine.local import Pool
from mmdata.engine.partitions import split_store
from mmdata.errors import MediaError, StorageError
from mmdata.schema import Media
from mmdata.store import Store
from mmdata.store.arrays import integers, list_lengths, list_values
from mmdata.store.contents import hash_besides_texts, hash_media, mix, part_bounds

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "NearDuplicates",
    "NearGroups",
    "NearKind",
    "Similarity",
    "find_near_duplicates",
    "text_signatures",
]

NearKind: TypeAlias = Literal["texts", "rows"]
"""What is compared: the texts of rows alone, or texts and media, for which pictures are decoded."""
Similarity: TypeAlias = Annotated[float, Meta(gt=0, le=1)]
"""A share of what two texts say: of 1, all."""

_EXTRA: Final = "report"
_NEEDED_BY: Final = "finding near duplicates"
_PLACES: Final = 128
"""Numbers of a text's signature: of such signatures, the share that is equal estimates the
similarity of the texts with a standard error of 0.035 where that is 0.8.
"""
_WORDS: Final = 5
"""Words of a shingle, as in Lee et al., "Deduplicating Training Data Makes Language Models Better"
(2022).
"""
_WORD: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
    r"|[^\s\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)
"""Words as :mod:`mmdata.store.facts` counts them."""
_FOUND: Final = 0.9
"""The share of the pairs just as alike as it takes that have a band in common, at least."""
_BITS: Final = 64
_OTHER_BITS: Final = 4
"""Bits in which the hashes of two pictures that look alike may differ. Files of one picture in
other sizes and qualities differ in 0 to 4; those of other pictures in about 32.
"""
_FEW: Final = 20_000
"""Texts that are hashed before other processes have started."""
_MOST_COMPARED: Final = 8192
"""Members of a bucket that are all compared with one another: seconds, if none are alike."""
_AROUND: Final = 512
"""Members of a larger one that are compared with one another at least, on either side."""
_SHINGLES_AT_ONCE: Final = 10_000
_GROUPS_SHOWN: Final = 5
_MEMBERS_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class NearGroups:
    """Groups of texts, pictures or rows that are nearly the same.

    ``groups`` of two and more have so many ``members``; ``duplicates`` of them would go if one of
    each group stayed. ``examples`` are the ids of the first members of the largest groups, of
    pictures with their number in the row. ``rule`` says what puts two into one group.
    ``unreadable`` pictures could not be decoded and are like no other; ``fault`` is what was wrong
    with the first. ``crowded`` share so much with so many, as texts of one template do, that they
    were not compared with all of these: of pairs among them that are just alike some may be missed.
    """

    kind: Literal["texts", "pictures", "rows"]
    rule: str
    groups: int
    members: int
    duplicates: int
    examples: tuple[tuple[str, ...], ...]
    unreadable: int = 0
    fault: str = ""
    crowded: int = 0

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the numbers as rows of a table for people."""
        title = f"near {self.kind}"
        yield title, f"{self.duplicates:,} more than one of each group ({self.rule})"
        if self.groups:
            yield title, f"{self.members:,} in {self.groups:,} groups"
        yield from ((title, ", ".join(names)) for names in self.examples)
        if self.crowded:
            yield title, f"{self.crowded:,} share so much with so many that not all were compared"
        if self.unreadable:
            yield title, f"{self.unreadable:,} not decoded; the first: {self.fault}"


@dataclass(frozen=True, slots=True, eq=False)
class NearDuplicates:
    """What of a store is nearly the same.

    ``labels``, (rows,) int64: the number of the first row of each row's group, its own where it is
    alone. ``groups``: in numbers those of texts and, where they were looked at, those of pictures
    and of rows.
    """

    labels: NDArray[np.int64]
    groups: tuple[NearGroups, ...]


@checked
def find_near_duplicates(
    store: str | Path | Store,
    kind: NearKind = "rows",
    *,
    rows: NDArray[np.int64] | None = None,
    similarity: Similarity = 0.8,
    seed: int = 0,
    workers: PositiveInt | None = None,
    limits: Limits | None = None,
    progress: Progress = False,
) -> NearDuplicates:
    """Return which ``rows`` of a store are nearly the same; their numbers ascend, and by default
    they are all.

    Two texts are where the estimated Jaccard similarity of the sets of their runs of five words, in
    any case of letters, is ``similarity`` or more: MinHash of 128 permutations, drawn by ``seed``.
    Texts are all that the messages and rejected endings of a row say, tool calls too. The estimate
    has a standard error of 0.035 at 0.8, so that the border is soft: of pairs that are 0.7 alike
    0.5 % are taken, of 0.8 half, of 0.85 94 %, of 0.9 99.9 %; those that are the same always are.

    Two pictures are where their perceptual hashes, of 64 bits, differ in 4 at most; each picture is
    decoded for it, within ``limits``. A picture without any structure looks like any other such.

    Of the ``kind`` ``rows``, two rows are where their texts are, their tools, judgement, boxes and
    times are the same, and so are their media, pictures by how they look; ``texts`` looks at texts
    alone, and decodes nothing. What is near to the same is in one group: its ends may be less
    alike.

    Pictures are decoded on ``workers`` processes, and many texts hashed; what is found is the same
    with any number of them. ``progress`` shows how far it is, of texts and then of pictures, or is
    called with the numbers of rows and of pictures that cannot be decoded so far.

    Raises:
        UsageError: a package of the extra ``report`` is not installed.
    """
    import numpy as np

    opened = store if isinstance(store, Store) else mmdata.store.open(Path(store))
    load_optional("datasketch", needed_by=_NEEDED_BY, extra=_EXTRA)

    chosen = _Chosen(opened, np.arange(len(opened)) if rows is None else rows)
    likeness = _Likeness(_places_of(similarity, _PLACES), _bands_of(similarity))
    rule = f"{similarity:.0%} of runs of {_WORDS} words, by MinHash of {_PLACES}, seed {seed}"

    with show_progress(progress, "comparing texts", len(chosen.rows)) as update:
        signatures = _sign_texts(chosen, seed, workers, update)
    found = _group(signatures, likeness)
    texts = _count_groups("texts", rule, found, chosen.name)
    if kind == "texts":
        return NearDuplicates(found.labels, (texts,))

    with show_progress(progress, "comparing pictures", len(chosen.rows)) as update:
        looks, pictures = _look_at_pictures(
            chosen, workers or processors(), limits or Limits(), update
        )
    besides = [np.zeros(0, np.uint64)]
    for columns in chosen.batches():
        alike = [looks.get(each, each) for each in hash_media(columns).tolist()]
        besides.append(hash_besides_texts(columns, np.array(alike, np.uint64)))
    found = _group(signatures, likeness, np.concatenate(besides))
    both = f"texts: {rule}; pictures: {pictures.rule}; all else the same"
    rows_alike = _count_groups("rows", both, found, chosen.name)
    return NearDuplicates(found.labels, (texts, pictures, rows_alike))


class _Chosen(NamedTuple):
    """Some rows of a store, ascending."""

    store: Store
    rows: NDArray[np.int64]

    def by_batch(self) -> Iterator[tuple[range, NDArray[np.int64]]]:
        """Yield each batch of the store in which some are: which rows it has, and which are
        chosen.
        """
        import numpy as np

        for first, last in pairwise(self.store.batch_starts):
            begin, end = np.searchsorted(self.rows, [first, last])
            if begin < end:
                yield range(first, last), self.rows[begin:end]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield them batch by batch."""
        for batch, rows in self.by_batch():
            yield _take(self.store, batch, rows)

    def name(self, number: int) -> str:
        """Return the id of one of them."""
        return self.store[int(self.rows[number])].id


def _take(store: Store, batch: range, rows: NDArray[np.int64]) -> pa.RecordBatch:
    """Return some rows of a batch of a store."""
    [columns] = store.batches(batch)
    return columns if len(rows) == len(batch) else columns.take(integers(rows - batch.start))


# --- texts
# ---------------------------------------------------------------------------------------------


def _sign_texts(
    chosen: _Chosen, seed: int, workers: int | None, progress: Callable[[int, int], object]
) -> NDArray[np.uint32]:
    """Return the signatures of what the rows say, (rows, 128) uint32."""
    import numpy as np

    count = workers or (processors() if os.name == "posix" else 1)
    in_one = count == 1 or len(chosen.rows) < _FEW
    signatures = np.empty((len(chosen.rows), _PLACES), np.uint32)
    done = 0
    with split_store(chosen.store, workers=count, partitions=1 if in_one else count) as parts:
        tasks = ((batch, rows, seed) for batch, rows in chosen.by_batch())
        for some in parts.map(_sign_batch, tasks):
            signatures[done : done + len(some)] = some
            done += len(some)
            progress(done, 0)
    return signatures


def _sign_batch(
    store: Store, batch: range, rows: NDArray[np.int64], seed: int
) -> NDArray[np.uint32]:
    """Return the signatures of some rows of a batch; a job for another process."""
    return text_signatures(_take(store, batch, rows), seed)


@checked
def text_signatures(columns: pa.RecordBatch, seed: int = 0) -> NDArray[np.uint32]:
    """Return a MinHash signature of what each row says, (rows, 128) uint32.

    It depends on the row and the seed alone; those of several batches are joined in order.
    """
    import numpy as np
    import xxhash

    datasketch = load_optional("datasketch", needed_by=_NEEDED_BY, extra=_EXTRA)
    # numpy's older generators, which datasketch draws its permutations with, take 32 bits.
    empty = datasketch.MinHash(
        _PLACES, seed=seed % (1 << 32), hashfunc=xxhash.xxh32_intdigest, scheme="affine32"
    )
    found = np.empty((columns.num_rows, _PLACES), np.uint32)
    for row, text in enumerate(_texts(columns)):
        sketch = empty.copy()
        shingles = _shingles(text)
        # A row of a megabyte must not take a gigabyte: each shingle is 128 numbers for a moment.
        for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
            sketch.update_batch(shingles[start : start + _SHINGLES_AT_ONCE])
        found[row] = sketch.hashvalues
    return found


def _shingles(text: str) -> list[bytes]:
    """Return the runs of five words in a text, each once; the whole of one that has fewer."""
    words = _WORD.findall(text.casefold())
    runs = range(max(len(words) - _WORDS + 1, min(len(words), 1)))
    return [shingle.encode() for shingle in {" ".join(words[n : n + _WORDS]) for n in runs}]


def _texts(columns: pa.RecordBatch) -> list[str]:
    """Return all that each row says."""
    said: list[list[str]] = [[] for _ in range(columns.num_rows)]
    for name in ("messages", "rejected"):
        messages = columns.column(name)
        if messages.null_count == len(messages):
            continue
        parts = list_values(list_values(messages).field("content"))
        bounds = part_bounds(messages).tolist()
        for field in ("text", "name", "arguments"):
            values = parts.field(field)
            if values.null_count == len(values):
                continue
            texts = values.to_pylist()
            for row, (start, end) in enumerate(pairwise(bounds)):
                said[row].extend(filter(None, texts[start:end]))
    return list(map("\n".join, said))


# --- pictures
# ---------------------------------------------------------------------------------------------


class _Picture(NamedTuple):
    """A picture, by the row and the number in it where it stands first."""

    hash: int
    row: int
    number: int


def _look_at_pictures(
    chosen: _Chosen, workers: int, limits: Limits, progress: Callable[[int, int], object]
) -> tuple[dict[int, int], NearGroups]:
    """Return which pictures look alike, by their hashes: for each the first of its group, where
    that is another; and the groups. Each is decoded once, however many rows show it.
    """
    import numpy as np

    load_optional("imagehash", needed_by=_NEEDED_BY, extra=_EXTRA)
    taken: list[_Picture] = []

    def sources() -> Iterator[tuple[str | bytes]]:
        for picture, source in _distinct_pictures(chosen):
            taken.append(picture)
            yield (source,)

    readable: list[_Picture] = []
    bits = [np.zeros((0, _BITS), np.uint8)]
    fault = ""
    with Pool(workers, deadline=limits.deadline, memory=limits.memory) as pool:
        job = partial(_hash_picture, limits=limits)
        outcomes = pool.map(job, sources(), deadline_of=partial(_deadline_of, limits))
        for done, outcome in enumerate(outcomes):
            if isinstance(outcome, bytes):
                readable.append(taken[done])
                bits.append(np.frombuffer(outcome, np.uint8)[None])
            elif isinstance(outcome, (MediaError, StorageError)):
                fault = fault or str(outcome)
            else:
                raise outcome
            progress(taken[done].row + 1, done + 1 - len(readable))

    # Of one band more than bits may differ, one at least is the same: no pair is missed but for
    # what is crowded.
    found = _group(np.concatenate(bits), _Likeness(_BITS - _OTHER_BITS, _OTHER_BITS + 1))
    looks = {
        readable[number].hash: readable[first].hash
        for number, first in enumerate(found.labels.tolist())
        if number != first
    }
    groups = _count_groups(
        "pictures",
        f"at most {_OTHER_BITS} of {_BITS} bits of the perceptual hash differ",
        found,
        lambda number: f"{chosen.name(readable[number].row)} [{readable[number].number}]",
        len(taken) - len(readable),
        fault,
    )
    return looks, groups


def _distinct_pictures(chosen: _Chosen) -> Iterator[tuple[_Picture, str | bytes]]:
    """Yield each picture where it stands first, with its bytes or where its file is."""
    import numpy as np
    import pyarrow.compute as pc

    seen: set[int] = set()
    begun = 0
    for columns in chosen.batches():
        counts = list_lengths(columns.column("media"))
        rows = np.repeat(np.arange(len(counts)), counts)
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        media = list_values(columns.column("media"))
        paths, contents = media.field("path"), media.field("bytes")
        hashes = hash_media(columns).tolist()
        for place in pc.indices_nonzero(pc.equal(media.field("type"), "image")).to_pylist():
            content, path = contents[place].as_py(), paths[place].as_py()
            if hashes[place] in seen or (content is None and path is None):
                continue
            seen.add(hashes[place])
            row, number = begun + int(rows[place]), int(place - firsts[place])
            source = chosen.store.locate(Media("image", path)) if content is None else content
            yield _Picture(hashes[place], row, number), source or ""
        begun += columns.num_rows


def _hash_picture(source: str | bytes, limits: Limits) -> bytes:
    """Return the perceptual hash of a picture, 64 bytes of 0 or 1; a job for another process."""
    from mmdata.image import load

    imagehash = load_optional("imagehash", needed_by=_NEEDED_BY, extra=_EXTRA)
    # Which imagehash would import beside the picture: where no memory is left, its OpenBLAS asks
    # for some again and again, and the job ends at its deadline.
    load_optional("scipy.fftpack", needed_by=_NEEDED_BY, extra=_EXTRA)
    found: bytes = imagehash.phash(load(source, limits=limits)).hash.astype("uint8").tobytes()
    return found


def _deadline_of(limits: Limits, source: str | bytes) -> float:
    if isinstance(source, str) and is_url(source):
        return limits.deadline
    return limits.deadline_of(count_bytes(source) if isinstance(source, str) else len(source))


# --- groups
# ---------------------------------------------------------------------------------------------


class _Likeness(NamedTuple):
    """When two signatures are alike: ``least`` of their places are equal. Looked at are those that
    have one of ``bands``, so many places side by side, in common.
    """

    least: int
    bands: int


class _Groups(NamedTuple):
    """The number of the first member of each signature's group, (signatures,) int64, and that is
    its own where it is alone; and how many signatures were ``crowded``, compared with some of those
    alone that they may be like.
    """

    labels: NDArray[np.int64]
    crowded: int


def _places_of(similarity: float, places: int) -> int:
    # A share that is a whole number of places but for rounding is that number.
    return -int(-(similarity * places - 1e-9) // 1)


def _bands_of(similarity: float) -> int:
    """Return the fewest bands that find most of the pairs that are just as alike as it takes: fewer
    and wider ones let fewer pairs through that are not.
    """
    bands = 1
    while bands < _PLACES and 1 - (1 - similarity ** (_PLACES // bands)) ** bands < _FOUND:
        bands *= 2
    return bands


def _group(
    signatures: NDArray[Any], likeness: _Likeness, within: NDArray[np.uint64] | None = None
) -> _Groups:
    """Return the groups of signatures; where ``within``, (signatures,), is given, members share
    their number in it.

    Groups are the connected parts of the graph of pairs that are alike, and so do not depend on the
    order of the signatures.
    """
    import numpy as np

    if not len(signatures):
        return _Groups(np.zeros(0, np.int64), 0)

    scipy_sparse = load_optional("scipy.sparse", needed_by=_NEEDED_BY, extra=_EXTRA)
    graphs = load_optional("scipy.sparse.csgraph", needed_by=_NEEDED_BY, extra=_EXTRA)
    start = np.zeros(len(signatures), np.uint64) if within is None else within

    # Of those that are quite the same one is looked at: there may be a million.
    whole = _hash_places(signatures, start)
    _, kept, which = np.unique(whole, return_index=True, return_inverse=True)
    distinct, start = signatures[kept], start[kept]
    bands = np.array_split(np.arange(signatures.shape[1]), likeness.bands)
    hashes = [_hash_places(distinct[:, columns], start) for columns in bands]
    pairs: list[tuple[int, int]] = []
    is_crowded = np.zeros(len(distinct), bool)
    for band, of_band in enumerate(hashes):
        for bucket in _buckets(of_band):
            if len(bucket) > _MOST_COMPARED:
                is_crowded[bucket] = True
            for some in _comparable(bucket, hashes[(band + 1) % len(hashes)], whole[kept]):
                pairs += _link(distinct[some], some, likeness.least)
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    count = len(distinct)
    graph = scipy_sparse.coo_array((np.ones(len(one), bool), (one, other)), shape=(count, count))
    _, parts = graphs.connected_components(graph, directed=False)

    which = which.reshape(-1)
    _, first, where = np.unique(parts[which], return_index=True, return_inverse=True)
    labels: NDArray[np.int64] = first[where.reshape(-1)].astype(np.int64)
    return _Groups(labels, int(np.count_nonzero(is_crowded[which])))


def _hash_places(signatures: NDArray[Any], start: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one number for some places of each signature, (signatures,) uint64."""
    import numpy as np

    found = mix(start)
    for place in range(signatures.shape[1]):
        # Signatures are rows in memory: a column at a time is copied out, and not all of them.
        found = mix(found ^ signatures[:, place].astype(np.uint64))
    return found


def _buckets(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    """Yield the places of those that share a number, for each number that is shared."""
    import numpy as np

    order = np.argsort(hashes, kind="stable")
    changes = np.flatnonzero(np.diff(hashes[order])) + 1
    bounds = np.concatenate([[0], changes, [len(order)]])
    for number in np.flatnonzero(np.diff(bounds) > 1).tolist():
        yield order[bounds[number] : bounds[number + 1]]


def _comparable(
    bucket: NDArray[np.int64], other: NDArray[np.uint64], whole: NDArray[np.uint64]
) -> Iterator[NDArray[np.int64]]:
    """Yield the members of a bucket that are compared with one another: all of them, but for those
    of a very large one, as many texts of one template make. These are put in the order of the
    ``other`` band, in which members that are alike stand together too, and each is compared with
    those around it: in every band with others.

    So a bucket costs in proportion to its members. Of pairs in very large ones alone some that are
    just alike may be missed. The order is that of the ``whole`` signatures, not of the rows.
    """
    import numpy as np

    if len(bucket) <= _MOST_COMPARED:
        yield bucket
        return

    ordered = bucket[np.lexsort((whole[bucket], other[bucket]))]
    for start in range(0, len(ordered), _AROUND):
        # Half of each stretch is in the next, so that no border parts those beside it.
        yield ordered[start : start + 2 * _AROUND]


def _link(
    signatures: NDArray[Any], members: NDArray[np.int64], least: int
) -> Iterator[tuple[int, int]]:
    """Yield pairs of members that are alike, enough to hold the groups among them together;
    ``signatures`` are theirs.

    What has been linked is not compared again, so that a bucket of one group takes a step for each
    member. One of members that are not alike takes as many comparisons as there are pairs.
    """
    import numpy as np

    left, names = signatures, members.tolist()
    places = np.arange(len(members))
    while len(places) > 1:
        reached, places, left = [int(places[0])], places[1:], left[1:]
        while reached and len(places):
            one = reached.pop()
            alike = np.count_nonzero(left == signatures[one], axis=1) >= least
            if not alike.any():
                continue
            new = places[alike].tolist()
            yield from ((names[one], names[other]) for other in new)
            reached.extend(new)
            places, left = places[~alike], left[~alike]


def _count_groups(
    kind: Literal["texts", "pictures", "rows"],
    rule: str,
    found: _Groups,
    name_of: Callable[[int], str],
    unreadable: int = 0,
    fault: str = "",
) -> NearGroups:
    """Return the groups that were found, in numbers."""
    import numpy as np

    labels, crowded = found
    firsts, counts = np.unique(labels, return_counts=True)
    several = counts > 1
    largest = np.argsort(-counts, kind="stable")[:_GROUPS_SHOWN]
    examples = tuple(
        tuple(map(name_of, np.flatnonzero(labels == first)[:_MEMBERS_SHOWN].tolist()))
        for first in firsts[largest[several[largest]]].tolist()
    )
    members, groups = int(counts[several].sum()), int(several.sum())
    duplicates = members - groups
    return NearGroups(kind, rule, groups, members, duplicates, examples, unreadable, fault, crowded)
