"""Stores as data sets of Hugging Face's ``datasets``, and from there to its Hub."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from mmdata._tools.options import checked
from mmdata._tools.requirements import load_optional
from mmdata.errors import DataError
from mmdata.exporters._media import FramesMode, MediaPlacer, PlacedMedium
from mmdata.exporters._parquet import make_batch
from mmdata.exporters._work import Counts, Work, read_drop
from mmdata.exporters.datasets import HUB_SPLITS, Datasets
from mmdata.schema import Media, Split, replace
from mmdata.store import Store
from mmdata.store.arrays import list_lengths, list_values, lists_of
from mmdata.store.encode import make_structs
from mmdata.store.manifest import hash_text
from mmdata.store.reader import open as open_store

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

__all__ = ["to_datasets"]

_MEDIA: Final = ("images", "videos")


@checked
def to_datasets(
    store: str | Path | Store,
    *,
    split: Split | None = None,
    drop: str | Sequence[str] = (),
    frames: FramesMode = "file",
    decode: bool = True,
) -> datasets.Dataset:
    """Return a store as a ``datasets.Dataset`` with the columns of ``mmdata export datasets``:
    ``id``, ``messages``, ``images``, ``videos``, ``tools``, ``rejected_response``, ``label`` and
    ``extra``, and where videos are their pictures ``frames``.

    Texts stay where the store has them, mapped from its files. Media are opened when a row is asked
    for, pictures by Pillow and videos by torchcodec, which has to be installed; without ``decode``
    they are a path, absolute with the media root applied, or the bytes that the store has.
    ``to_datasets(store).push_to_hub("me/name")`` takes it to the Hub.

    Args:
        store: a store, or where one is.
        split: the rows of one split alone.
        drop: what is left out of rows that say it, of :data:`mmdata.exporters.FEATURES`.
        frames: how videos with cached frames are there: as the ``file`` that they were taken from,
            or as ``pictures``, with their seconds, in the column ``frames``.
        decode: open media on access.

    Raises:
        UsageError: there is no such store, or ``datasets`` is not installed.
        DataError: a row says what these columns cannot and ``drop`` does not name, or there is no
            row.
    """
    hugging_face = load_optional("datasets", needed_by="to_datasets")
    opened = store if isinstance(store, Store) else open_store(store)
    dropped = read_drop(drop)
    table = _table(opened, split, dropped, frames)
    features = hugging_face.Features.from_arrow_schema(table.schema)
    if not decode:
        features["images"] = hugging_face.List(hugging_face.Image(decode=False))
        features["videos"] = hugging_face.List(hugging_face.Video(decode=False))
        if frames == "pictures":
            features["frames"].feature["images"] = features["images"]
    # Equal for equal rows, so that what `map` has made of them is found in its cache again.
    said = (opened.fingerprint, opened.media_root, split, sorted(dropped), frames, decode)
    return cast(
        "datasets.Dataset",
        hugging_face.Dataset(
            table,
            info=hugging_face.DatasetInfo(features=features),
            split=None if split is None else hugging_face.NamedSplit(HUB_SPLITS[split]),
            fingerprint=hash_text(*map(str, said)),
        ),
    )


def _table(store: Store, split: Split | None, drop: frozenset[Any], frames: FramesMode) -> pa.Table:
    """Return the rows of a store as the columns of :class:`Datasets`."""
    import pyarrow as pa

    rejects, counts = io.StringIO(), Counts()
    exporter = Datasets().with_frames() if frames == "pictures" else Datasets()
    rows = _Rows(exporter.schema, store.media_root)
    placer = _Placer("reference", "relative", store.media_root, Path(), frames)
    work = Work(store, exporter, placer, drop, split, False, rows, rejects, counts)
    # The table is mapped; what `store.batches()` gives is read into memory.
    work.write_all(store.table.to_batches())

    if counts.rejects:
        first = rejects.getvalue().partition("\n")[0]
        what = ", ".join(f"{count:,} say {name}" for name, count in counts.unsayable.most_common())
        raise DataError(
            f"{store.path}: {counts.rejects.total():,} rows say what the columns cannot "
            f"({what}). Name in drop what may be left out, or leave them out with `mmdata select`. "
            f"The first: {first}"
        )
    if not rows.batches:
        raise DataError(f"{store.path} has no row" + (f" of the split {split}" if split else ""))
    return pa.Table.from_batches(rows.batches)


class _Placer(MediaPlacer):
    """Media by their paths, and those that are in the store as their bytes."""

    def _place(self, medium: Media) -> PlacedMedium:
        if medium.path is None and medium.bytes is not None:
            return PlacedMedium(medium.type, data=medium.bytes, start=medium.start, end=medium.end)
        placed = super()._place(medium)
        if placed.frame_paths is None:
            return placed
        return replace(placed, frame_paths=tuple(map(self._locate, placed.frame_paths)))


class _Rows:
    """Takes record batches and keeps them, with paths that can be opened."""

    def __init__(self, schema: pa.Schema, root: Path | None) -> None:
        self.batches: list[pa.RecordBatch] = []
        self._schema = schema
        self._root = root

    def write(self, split: Split, records: pa.RecordBatch | Sequence[dict[str, Any]]) -> None:
        batch = make_batch(records, self._schema)
        for name in _MEDIA:
            place = batch.schema.get_field_index(name)
            located = _locate(batch.column(place), self._root)
            batch = batch.set_column(place, batch.schema.field(place), located)
        if len(batch):
            self.batches.append(batch)

    def close(self) -> None:
        """Do nothing: they are in memory."""


def _locate(media: pa.ListArray, root: Path | None) -> pa.ListArray:
    """Return a column of media whose paths are as :meth:`mmdata.store.Store.locate` gives them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if root is None:
        return media
    files = list_values(media)
    paths = files.field("path")
    is_whole = pc.or_(pc.starts_with(paths, "/"), pc.match_substring(paths, "://"))
    below = pc.binary_join_element_wise(pa.scalar(str(root)), paths, "/")
    located = make_structs(
        media.type.value_type, bytes=files.field("bytes"), path=pc.if_else(is_whole, paths, below)
    )
    return lists_of(list_lengths(media), located, media.type)
