"""The manifest of a store: what is in it, where it came from, and what was not kept.

It vouches for itself: its last field is the hash of all the others as they are spelled, so that no
bit of it can change unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from mmdata.errors import StoreError, UsageError
from mmdata.schema import SCHEMA_VERSION
from mmdata.store.layout import MANIFEST

__all__ = [
    "Manifest",
    "Shard",
    "SourceFile",
    "hash_file",
    "hash_text",
    "read_manifest",
    "spell_manifest",
    "write_manifest",
]

_CHUNK: Final = 1 << 19


@dataclass(frozen=True, slots=True)
class Shard:
    """One data file: its name, rows, bytes,
    xxh3 (64 bits, hexadecimal) and the rows of each record batch in it.
    """

    name: str
    rows: int
    bytes: int
    xxh3: str
    batches: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that was read: its path, bytes and xxh3."""

    path: str
    bytes: int
    xxh3: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a store says of itself. ``records_in == rows + sum(rejects.values())`` always holds.

    ``run`` is the folder that its files are in, where that is not the manifest's own.
    """

    library_version: str
    created: str
    format: str
    options: Mapping[str, Any]
    media_root: str | None
    records_in: int
    rows: int
    splits: Mapping[str, int]
    sources: Mapping[str, int]
    rejects: Mapping[str, int]
    rejects_xxh3: str
    shards: tuple[Shard, ...]
    files: tuple[SourceFile, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    run: str = ""

    def __post_init__(self) -> None:
        """Check the account."""
        if self.records_in != self.rows + sum(self.rejects.values()):
            raise StoreError(
                f"the account does not balance: {self.records_in} records in, {self.rows} rows, "
                f"{sum(self.rejects.values())} rejects"
            )

    def folder_in(self, store: Path) -> Path:
        """Return the folder that the shards and rejects of the store at ``store`` are in."""
        return store / self.run if self.run else store


def hash_file(path: Path, seen: Callable[[int], object] | None = None) -> str:
    """Return the xxh3 of a file's bytes, 64 bits in hexadecimal; ``seen`` is called with how many
    bytes were read each time.
    """
    import xxhash

    digest, chunk = xxhash.xxh3_64(), memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(chunk):  # into one buffer, which stays in the cache
            digest.update(chunk[:count])
            if seen is not None:
                seen(count)
    return digest.hexdigest()


def hash_text(*texts: str) -> str:
    """Return the xxh3 of some texts in order, 64 bits in hexadecimal."""
    import xxhash

    return xxhash.xxh3_64_hexdigest(json.dumps(texts).encode())


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write ``manifest.json`` into ``folder``."""
    (folder / MANIFEST).write_bytes(spell_manifest(manifest))


def spell_manifest(manifest: Manifest) -> bytes:
    """Return what ``manifest.json`` holds."""
    values = asdict(manifest)
    if not manifest.run:  # as of every store on a disk
        del values["run"]
    return _spell(values)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the store at ``folder``.

    Raises:
        UsageError: there is nothing at ``folder``.
        StoreError: there is no manifest, it is damaged, or it is of a version this library does not
            know.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not folder.is_dir():
            found = "; it is a file, and a store is a folder" if folder.is_file() else ""
            raise UsageError(
                f"there is no store at {folder}{found}; `mmdata convert` makes stores"
            ) from None
        raise StoreError(
            f"{folder} is not a store: it has no {MANIFEST}", path=str(folder)
        ) from None

    try:
        # Names of files may be bytes that are no UTF-8.
        values = json.loads(data.decode("utf-8", "surrogateescape"))
        values.pop("xxh3")
    except (ValueError, KeyError, AttributeError, TypeError):
        raise StoreError(
            f"{path} is damaged: it is not what a store writes. Convert again.", path=str(path)
        ) from None

    return _parse(values, data, path)


def _parse(values: dict[str, Any], data: bytes, path: Path) -> Manifest:
    if values.get("schema_version") not in range(1, SCHEMA_VERSION + 1):
        raise StoreError(
            f"{path}: schema version {values.get('schema_version')!r}; "
            f"this library reads versions 1 to {SCHEMA_VERSION}. A later one may read it.",
            path=str(path),
        )
    if _spell(values) != data:
        raise StoreError(
            f"{path} is damaged: its content does not match its own hash. Convert again.",
            path=str(path),
        )

    values["shards"] = tuple(
        Shard(**{**shard, "batches": tuple(shard["batches"])}) for shard in values["shards"]
    )
    values["files"] = tuple(SourceFile(**file) for file in values["files"])
    return Manifest(**values)


def _spell(values: Mapping[str, Any]) -> bytes:
    import xxhash

    text = json.dumps(values, ensure_ascii=False, indent=1)
    digest = xxhash.xxh3_64(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f'{text[:-2]},\n "xxh3": "{digest}"\n}}\n'.encode("utf-8", "surrogateescape")
