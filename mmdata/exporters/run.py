"""From a store to the files of another tool, with an account of every row.

A row becomes a record or a reject: what the target cannot say makes it a reject, unless the user
says by name that it may be left out. The export is a directory that appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import mmdata
from mmdata._tools.collector import pause_collector
from mmdata._tools.options import checked
from mmdata._tools.paths import local_path
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.registry import blame
from mmdata.errors import DataError, UsageError
from mmdata.exporters import make, registry
from mmdata.exporters._exporter import Exporter
from mmdata.exporters._media import MEDIA_FOLDER, FramesMode, MediaMode, MediaPlacer, Paths
from mmdata.exporters._parallel import write_parts
from mmdata.exporters._work import Counts, Work, read_drop
from mmdata.schema import Split
from mmdata.store.layout import EXPORT
from mmdata.store.publish import partial_directory, publish, sync
from mmdata.store.reader import Store
from mmdata.store.reader import open as open_store

__all__ = ["ExportReport", "export"]

_SPLITS: Final[tuple[Split, ...]] = get_args(Split)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did: ``rows_in == rows + sum(rejects.values())``.

    ``splits`` has the rows of each split, ``rejects`` those that were not written by their reason.
    ``unsayable`` says of those that the target cannot say what it was in how many rows, ``dropped``
    in how many rows something was left out because the user said so.
    """

    place: Path
    exporter: str
    rows_in: int
    rows: int
    splits: Mapping[str, int]
    rejects: Mapping[str, int]
    unsayable: Mapping[str, int]
    dropped: Mapping[str, int]
    seconds: float


# The libraries that it imports and the rows that it makes are many objects and no cycles.
@checked
@pause_collector()
def export(
    store: str | Path | Store,
    format: str | Exporter,  # noqa: A002
    place: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    media: MediaMode | None = None,
    paths: Paths = "relative",
    media_root: str | Path | None = None,
    frames: FramesMode = "file",
    drop: str | Sequence[str] = (),
    split: Split | None = None,
    strict: bool = False,
    overwrite: bool = False,
    progress: Progress = False,
) -> ExportReport:
    """Write the rows of a store as another tool reads them, into a new directory at ``place``, and
    return the account.

    Args:
        store: a store, or where one is.
        format: the name of an exporter (``mmdata export --list`` lists them), or one that has been
            made.
        place: where the directory shall appear, with a file of records for each split.
        options: options of the exporter, by name.
        media: how media leave: ``reference`` by their paths, ``copy`` as files in the folder
            ``media`` beside the records, ``embed`` inside the records; by default as the target
            usually has them.
        paths: how paths are spelt under ``reference``: relative to the media root, as the store has
            them, or absolute.
        media_root: where the media are now, if they have moved.
        frames: how videos leave whose frames are cached (:func:`mmdata.frame_cache.cache_frames`):
            as the ``file`` that they were taken from, or as ``pictures``, which are inside the
            records where the target has a place for them, else files in the folder ``media``, with
            their seconds where the target has a word for them. A video without cached frames is
            then a reject.
        drop: what is left out of rows that say it, of :data:`mmdata.exporters.FEATURES`. Without, a
            row that says what the target cannot is a reject.
        split: write the rows of one split alone.
        strict: stop at the first reject.
        overwrite: replace an export that is there.
        progress: True shows it on the terminal or in the notebook; or a function, called with how
            many rows have been dealt with, and how many of them are rejects.

    Raises:
        UsageError: there is no such store or exporter, an option is not one, or something is at
            ``place`` already.
        DataError: no row of the store could be written; nothing is.
        RecordError: ``strict`` is on and a row was not written.
        PluginError: an exporter of another package is at fault.
    """
    started = time.monotonic()
    opened = store if isinstance(store, Store) else open_store(store, media_root=media_root)
    exporter = make(format, options) if isinstance(format, str) else format
    name = format if isinstance(format, str) else type(exporter).__name__
    holding = exporter.with_frames() if frames == "pictures" else None
    mode = _choose_media(exporter, name, media, frames, holds_pictures=holding is not None)
    exporter = exporter if holding is None else holding
    dropped = read_drop(drop)
    target = local_path(place, "place").absolute()
    _check_vacant(target, overwrite)

    is_at_fault = blame(lambda: registry.plugin_of(exporter))
    with _folder_for(target, overwrite) as folder, is_at_fault:
        placer = MediaPlacer(mode, paths, opened.media_root, folder / MEDIA_FOLDER, frames)
        make_work = partial(Work, opened, exporter, placer, dropped, split, strict)
        with show_progress(progress, f"exporting {name}", len(opened)) as update:
            counts = write_parts(opened, exporter, folder, make_work, update)
        _require_rows(counts, opened, name)
        exporter.finish(folder, dict(counts.splits))
        report = ExportReport(
            place=target,
            exporter=name,
            rows_in=sum(counts.splits.values()) + sum(counts.rejects.values()),
            rows=sum(counts.splits.values()),
            splits={each: counts.splits[each] for each in _SPLITS if counts.splits[each]},
            rejects=dict(sorted(counts.rejects.items())),
            unsayable=dict(sorted(counts.unsayable.items())),
            dropped=dict(sorted(counts.dropped.items())),
            seconds=time.monotonic() - started,
        )
        settings = {
            "options": dict(options or {}), "media": mode, "paths": paths, "frames": frames,
            "drop": sorted(dropped),
        }  # fmt: skip
        _write_account(folder, report, opened, settings)
    return report


def _choose_media(
    exporter: Exporter,
    name: str,
    media: MediaMode | None,
    frames: FramesMode,
    *,
    holds_pictures: bool,
) -> MediaMode:
    if media is not None and media not in exporter.media_modes:
        raise UsageError(
            f"{name} cannot have media as {media!r}; it takes {', '.join(exporter.media_modes)}"
        )
    if frames == "file":
        return media or exporter.media_modes[0]
    mode: MediaMode = "embed" if holds_pictures else "copy"
    where = "inside the records" if holds_pictures else "files in the export"
    if mode not in exporter.media_modes:
        raise UsageError(
            f"{name} cannot have frames as 'pictures': it has no place for them in its records, "
            "and its media are no files beside"
        )
    if media not in (None, mode):
        raise UsageError(
            f"frames that leave as 'pictures' are {where}; media must be {mode!r}, found {media!r}"
        )
    return mode


def _require_rows(counts: Counts, store: Store, name: str) -> None:
    if sum(counts.splits.values()):
        return
    if not counts.rejects:
        raise DataError(f"{store.path} has no row to write")
    why = ", ".join(f"{n:,} {code}" for code, n in counts.rejects.most_common())
    what = "".join(f" {n:,} say {each}." for each, n in counts.unsayable.most_common())
    raise DataError(
        f"no row of {store.path} can be written as {name}: {why}.{what} --drop names what may be "
        "left out; --strict shows the first. Nothing was written."
    )


@contextmanager
def _folder_for(place: Path, overwrite: bool) -> Iterator[Path]:
    """Hold the directory that an export is written into, and publish it at the end of the block;
    one that ends in an exception leaves nothing.
    """
    with partial_directory(place) as folder:
        try:
            _check_vacant(place, overwrite)
            yield folder
            _sync_files(folder)
            publish(folder, place)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _sync_files(folder: Path) -> None:
    """Return when all files of an export are on disk."""
    copies = folder / MEDIA_FOLDER
    for file in folder.rglob("*"):
        if file.is_file() and copies not in file.parents:
            sync(file)
    if copies.exists() and hasattr(os, "sync"):
        os.sync()  # once: to wait for each of a hundred thousand pictures takes minutes


def _check_vacant(place: Path, overwrite: bool) -> None:
    """Refuse a place that an export cannot take.

    Raises:
        UsageError: something is there that is not an export, or one and ``overwrite`` is off.
    """
    if not place.exists() and not place.is_symlink():
        return
    if place.is_dir() and not any(place.iterdir()):
        return
    if not (place / EXPORT).is_file():
        raise UsageError(f"{place} exists and is not an export. Choose another place.")
    if not overwrite:
        raise UsageError(
            f"{place} is an export already. Choose another place, or say --overwrite to replace it."
        )


def _write_account(
    folder: Path, report: ExportReport, store: Store, settings: Mapping[str, Any]
) -> None:
    account = {
        **asdict(report),
        "library_version": mmdata.__version__,
        "store": str(store.path),
        "fingerprint": store.fingerprint,
        "media_root": None if store.media_root is None else str(store.media_root),
        **settings,
    }
    del account["place"], account["seconds"]
    (folder / EXPORT).write_text(
        json.dumps(account, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
