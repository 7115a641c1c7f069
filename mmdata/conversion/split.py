"""Which split a row is in: held out by hash, or read from the field ``split`` of its record or the
names of files and folders.

Rows are held out by a hash of what they are about, so that neither the order of records nor the
number of workers nor the size of a batch changes which. Each step is one function over one batch.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final, Literal, Protocol, TypeAlias, get_args

from mmdata._tools.options import NonNegativeInt, check_fields
from mmdata.errors import UsageError, nearest
from mmdata.schema import Split
from mmdata.store.arrays import codes_of, dictionary
from mmdata.store.batch import ConversationBatch
from mmdata.store.contents import hash_contents
from mmdata.store.encode import encode_extra

__all__ = [
    "HeldOut",
    "HeldOutSplits",
    "MediaGroups",
    "NamedSplits",
    "OwnSplits",
    "SplitBy",
    "Splits",
    "describe_names",
    "group_media",
    "hold_out",
    "media_keys",
    "name_splits",
    "read_shares",
    "read_split_fields",
    "split_named",
]

SplitBy: TypeAlias = Literal["id", "media"]
"""What is kept together: rows of one id, or all rows about one medium."""

_SPLITS: Final[tuple[Split, ...]] = get_args(Split)
_KEYWORDS: Final[dict[str, Split]] = {
    "train": "train", "training": "train",
    "validation": "val", "valid": "val", "val": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""The words that ``datasets`` reads a split from (``datasets/data_files.py``, SPLIT_KEYWORDS)."""
_KEYWORD: Final = re.compile(
    r"(?:^|(?<=[-._ 0-9]))(" + "|".join(_KEYWORDS) + r")(?=[-._ 0-9]|$)", re.IGNORECASE
)
"""Such a word between what ``datasets`` takes for separators (NON_WORDS_CHARS)."""
_OWN_NAMES: Final = frozenset({"train", "training", "val", "valid", "validation", "test"})
"""The names that the folder which a file was named in is believed; nobody calls it otherwise by
chance.
"""
_SPLIT_FIELD: Final = ("split", "Split", "SPLIT")
"""The spellings of the field of a record that names its split."""
_SUM_ERROR: Final = 1e-9


# --- held out by hash
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How rows are divided: the share of each split, what stays together, and the seed.

    Raises:
        UsageError: a split is none of train, val and test, or the shares are not a whole.
    """

    shares: Mapping[Split, float]
    by: SplitBy = "media"
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        """Check the shares."""
        check_fields(self)
        if unknown := [name for name in self.shares if name not in _SPLITS]:
            raise UsageError(
                f"there is no split {unknown[0]!r}.{nearest(str(unknown[0]), _SPLITS)} "
                f"There are: {', '.join(_SPLITS)}."
            )
        for name, share in self.shares.items():
            if not _is_share(share):
                raise UsageError(
                    f"the share of {name} must be above 0 and at most 1, found {share!r}"
                )
        total = math.fsum(self.shares.values())
        if abs(total - 1) > _SUM_ERROR:
            said = ", ".join(f"{name}={share:g}" for name, share in self.shares.items())
            raise UsageError(f"the shares of a split must add up to 1, found {said}: {total:g}")

    def split_of(self, key: str) -> Split:
        """Return the split of all rows with a key: the same in every process and on every machine.

        >>> HeldOut({"train": 0.9, "val": 0.1}).split_of("1")
        'train'
        """
        import xxhash

        # The key comes after the seed, so that another seed is another draw of every key.
        place = xxhash.xxh3_64_intdigest(f"{self.seed}\0{key}".encode()) / 2**64
        named = [name for name in _SPLITS if name in self.shares]
        bounds = list(accumulate(self.shares[name] for name in named))
        return named[min(bisect_right(bounds, place), len(named) - 1)]

    def as_note(self) -> dict[str, Any]:
        """Return what a manifest says of it."""
        shares = {name: self.shares[name] for name in _SPLITS if name in self.shares}
        return {"shares": shares, "by": self.by, "seed": self.seed}


def _is_share(share: object) -> bool:
    return isinstance(share, (int, float)) and not isinstance(share, bool) and 0 < share <= 1


def read_shares(text: str) -> dict[str, float]:
    """Return the shares that text spells.

    >>> read_shares("train=0.9,val=0.1")
    {'train': 0.9, 'val': 0.1}

    Raises:
        UsageError: a share has no name or is no number, or a name stands twice.
    """
    shares: dict[str, float] = {}
    for pair in text.split(","):
        name, _, share = map(str.strip, pair.partition("="))
        if name in shares:
            raise UsageError(f"{name} stands twice in {text!r}")
        try:
            shares[name] = float(share)
        except ValueError:
            raise UsageError(
                f"must be a split, or shares as in train=0.9,val=0.1; found {pair!r} in {text!r}"
            ) from None
    return shares


class MediaGroups:
    """Media that rows hold together: what shares a row, at whatever distance, is one group.

    A group is called by the least of its members, which does not depend on the order in which rows
    are met. Media that are alone in all of their rows take no memory.
    """

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def add(self, keys: Sequence[str]) -> None:
        """Join the media of one row."""
        names = [self.name(key) for key in keys]
        least = min(names)
        for key in (*names, *keys):
            if key != least:
                self._above[key] = least

    def name(self, key: str) -> str:
        """Return the name of a medium's group: its own where it is alone."""
        path = []
        while (above := self._above.get(key)) is not None:
            path.append(key)
            key = above
        for each in path[:-1]:  # the way is short the next time
            self._above[each] = key
        return key


def hold_out(batch: ConversationBatch, rule: HeldOut, groups: MediaGroups) -> ConversationBatch:
    """Return the batch with each row in the split that a rule gives it.

    Rows about the same media are in the same split, and so are those about media of one of the
    ``groups``. A row without media, and every row of a division by id, goes by its own id, else by
    what it says.
    """
    if not len(batch):
        return batch

    media = media_keys(batch) if rule.by == "media" else [()] * len(batch)
    contents: list[int] = []
    splits: list[Split] = []
    for row, keys in enumerate(media):
        own_id = batch.origins.ids[row]
        if keys:
            key = f"media\0{groups.name(keys[0])}"
        elif own_id is not None:
            key = f"id\0{own_id}"
        else:
            contents = contents or hash_contents(batch)
            key = f"content\0{contents[row]}"
        splits.append(rule.split_of(key))

    return batch.with_columns(split=dictionary(codes_of(splits, _SPLITS), _SPLITS))


def group_media(batch: ConversationBatch, groups: MediaGroups) -> None:
    """Add to ``groups`` the media of each row of a batch that has several."""
    for keys in media_keys(batch):
        if len(keys) > 1:
            groups.add(keys)


def media_keys(batch: ConversationBatch) -> list[Sequence[str]]:
    """Return for each row what tells its media from others: their paths, or a hash of bytes."""
    media = batch.media
    count = len(media)
    paths: list[str | None] = media.field("path").to_pylist()
    kept = media.field("bytes")
    pictures = media.field("frame_paths")
    # Nearly always all media are files; the other columns are large and are read only if need be.
    if kept.null_count == count and pictures.null_count == count:
        keys: list[tuple[str, ...]] = [(path,) if path else () for path in paths]
    else:
        keys = [
            _keys_of(path, data, frames)
            for path, data, frames in zip(
                paths, kept.to_pylist(), pictures.to_pylist(), strict=True
            )
        ]

    ends = list(accumulate(batch.num_media.tolist(), initial=0))
    return [[key for medium in keys[start:end] for key in medium] for start, end in pairwise(ends)]


def _keys_of(path: str | None, data: bytes | None, frames: Sequence[str] | None) -> tuple[str, ...]:
    import xxhash

    if data is not None:
        return (f"bytes\0{xxhash.xxh3_128_hexdigest(data)}",)
    if frames is not None:
        return tuple(frames)
    return (path,) if path else ()


# --- read from names
# ----------------------------------------------------------------------------------------------


def split_named(file: str, sources: Iterable[str] = ()) -> Split | None:
    """Return the split that the name of a file says, or of a folder that it is in; None if none, or
    several at once.

    The innermost folder below a source that says one counts, as ``datasets`` has it, else the
    file's own name. Of the folders above, whose names are not about the data, the one that holds
    the file, or that is the source, is believed where it is called train, val, valid, validation
    or test and no more.

    >>> split_named("/data/my-set/valid/part-1.json", ["/data/my-set"])
    'val'
    >>> split_named("/data/train-00000-of-00010.parquet"), split_named("/data/training-set/a.json")
    ('train', None)
    """
    home = max((each for each in sources if file.startswith(f"{each}/")), key=len, default=None)
    above = home or posixpath.dirname(file)
    *folders, name = posixpath.relpath(file, above).split("/")
    for word in (*reversed(folders), name):
        if found := {_KEYWORDS[keyword.lower()] for keyword in _KEYWORD.findall(word)}:
            return found.pop() if len(found) == 1 else None
    own = posixpath.basename(above).lower()
    return _KEYWORDS[own] if own in _OWN_NAMES else None


def name_splits(batch: ConversationBatch, named: Mapping[str, Split | None]) -> ConversationBatch:
    """Return the batch with the rows of each file in the split that it is ``named`` for.

    A format that knows better has said so: rows that it puts into val or test stay there.
    """
    files = batch.origins.files
    if not any(named.get(file) not in (None, "train") for file in set(files)):
        return batch
    own: list[Split] = batch.columns.column("split").to_pylist()
    splits = [
        (named.get(file) or split) if split == "train" else split
        for file, split in zip(files, own, strict=True)
    ]
    return batch.with_columns(split=dictionary(codes_of(splits, _SPLITS), _SPLITS))


def describe_names(named: Mapping[str, Split | None]) -> dict[str, Any]:
    """Return what a manifest says of names that were believed: for each split how many files, and
    the first of them.
    """
    counts = Counter(split for split in named.values() if split)
    return {
        name: {
            "files": counts[name],
            "first": next(file for file, split in named.items() if split == name),
        }
        for name in _SPLITS
        if counts[name]
    }


# --- read from records
# ----------------------------------------------------------------------------------------------


def read_split_fields(batch: ConversationBatch) -> tuple[ConversationBatch, dict[int, Split]]:
    """Return the batch without the fields ``split`` that are obeyed, and by the numbers of their
    rows the splits that these name.

    A field whose value names no split stays in ``extra``, and so does that of a row that its format
    has put into val or test.
    """
    import pyarrow as pa

    said: dict[int, Split] = {}
    extras = batch.columns.column("extra")
    # One look at all texts where they lie end to end: nearly all batches end here.
    together = bytes(extras.buffers()[2] or b"")
    if not any(f'"{name}"'.encode() in together for name in _SPLIT_FIELD):
        return batch, said

    own: list[Split] = batch.columns.column("split").to_pylist()
    texts: list[str] = extras.to_pylist()
    for row, text in enumerate(texts):
        if not any(f'"{name}"' in text for name in _SPLIT_FIELD):
            continue
        fields = json.loads(text)
        named = {
            name: _KEYWORDS.get(value.strip().lower()) if isinstance(value, str) else None
            for name, value in fields.items()
            if name in _SPLIT_FIELD
        }
        split = next(iter(named.values()), None)
        if own[row] == "train" and split is not None and set(named.values()) == {split}:
            said[row] = split
            kept = {name: value for name, value in fields.items() if name not in named}
            texts[row] = encode_extra(kept)
    return batch.with_columns(extra=pa.array(texts, extras.type)), said


# --- one way for each conversion
# -----------------------------------------------------------------------------------


class Splits(Protocol):
    """How a conversion puts rows into splits, and what the manifest says of it."""

    def apply(self, batch: ConversationBatch) -> ConversationBatch:
        """Return the batch with its rows in their splits."""

    def as_notes(self) -> dict[str, Any]:
        """Return notes for the manifest, once all batches have passed."""


class OwnSplits:
    """Rows stay in the splits that their format says, or the user for all of them."""

    def apply(self, batch: ConversationBatch) -> ConversationBatch:
        """Return the batch as it is."""
        return batch

    def as_notes(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


class HeldOutSplits:
    """Rows are held out by a rule; ``groups`` are the media that rows hold together."""

    def __init__(self, rule: HeldOut, groups: MediaGroups) -> None:
        self._rule = rule
        self._groups = groups

    def apply(self, batch: ConversationBatch) -> ConversationBatch:
        """Return the batch with each row in the split that the rule gives it."""
        return hold_out(batch, self._rule, self._groups)

    def as_notes(self) -> dict[str, Any]:
        """Return the rule."""
        return {"split": self._rule.as_note()}


class NamedSplits:
    """What records say in their field ``split`` is believed, and else the names of files and of
    folders below the ``homes``, but for those of files whose split is ``declared``.
    """

    def __init__(self, homes: Sequence[str], declared: Collection[str]) -> None:
        self._homes = homes
        self._declared = frozenset(declared)
        self._named: dict[str, Split | None] = {}
        self._said: Counter[Split] = Counter()

    def apply(self, batch: ConversationBatch) -> ConversationBatch:
        """Return the batch with each row in the split that its record says, else its file's
        name.
        """
        new = set(batch.origins.files) - self._named.keys() - self._declared
        self._named |= {file: split_named(file, self._homes) for file in sorted(new)}
        rest, said = read_split_fields(batch)
        batch = name_splits(rest, self._named)
        if not said:
            return batch
        self._said.update(said.values())

        # A record speaks of itself, its file's name of most of what is in it.
        splits: list[Split] = batch.columns.column("split").to_pylist()
        for row, split in said.items():
            splits[row] = split
        return batch.with_columns(split=dictionary(codes_of(splits, _SPLITS), _SPLITS))

    def as_notes(self) -> dict[str, Any]:
        """Return the names and the fields that were believed, if any."""
        notes: dict[str, Any] = {}
        if believed := describe_names(self._named):
            notes["split_names"] = believed
        if self._said:
            notes["split_fields"] = {name: self._said[name] for name in _SPLITS if self._said[name]}
        return notes
