"""Which kind of source a file is: by its first bytes, and by its suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from mmdata.errors import UsageError
from mmdata.sources._sniff import binary_kind
from mmdata.sources._window import head_of

__all__ = [
    "KINDS",
    "SUFFIXES",
    "Kind",
    "describe_fault",
    "is_pointer",
    "kind_of",
    "suffix_kind",
]

Kind: TypeAlias = Literal["json", "parquet", "arrow", "tar", "csv"]

KINDS: Final[frozenset[Kind]] = frozenset(get_args(Kind))
"""All kinds of files that records are read from."""

_PACKED: Final = ("", ".gz", ".zst")

SUFFIXES: Final[dict[Kind, tuple[str, ...]]] = {
    "json": tuple(f".{name}{packed}" for name in ("json", "jsonl", "ndjson") for packed in _PACKED),
    "parquet": (".parquet",),
    "arrow": (".arrow", ".feather", ".ipc"),
    "tar": (".tar", ".tar.gz", ".tgz"),
    "csv": tuple(f".{name}{packed}" for name in ("csv", "tsv") for packed in _PACKED),
}
"""The suffixes that say what kind a file is, whatever their case."""

_NAMES: Final[dict[Kind, str]] = {
    "json": "JSON",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "tar": "a tar archive",
    "csv": "CSV",
}
_TABLES: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\xff\xff\xff\xff", "arrow"),  # of a stream: the mark that goes before each of its messages
)
_GZIP: Final = b"\x1f\x8b"
_TAR_PLACE: Final = 257
"""Where in a tar's first header its signature stands."""


def suffix_kind(name: str) -> Kind | None:
    """Return the kind that a file's name says it is, or None where its suffix is none of ours.

    >>> suffix_kind("shard-000.tar.gz"), suffix_kind("cup.jpg")
    ('tar', None)
    """
    lowered = name.lower()
    return next(
        (kind for kind, suffixes in SUFFIXES.items() if lowered.endswith(suffixes)),
        None,
    )


def kind_of(file: Path) -> Kind:
    """Return the kind of a file that somebody named as a source.

    Its first bytes decide, and its suffix where they say nothing. A file that is nothing of ours is
    refused here, once, before its every line becomes a reject.

    Raises:
        UsageError: the file is of no kind that records are read from, or is not what its suffix
            says.
    """
    named = suffix_kind(file.name)
    found = _signed_kind(file)
    if found is not None and named in (None, found):
        return found
    if named in ("parquet", "arrow", "tar"):
        # Whatever is wrong with it, its reader says, as it does of a file that is cut.
        if found is not None:
            raise UsageError(f"{file} is {_NAMES[found]}, not {_NAMES[named]}: mend its suffix")
        if is_pointer(file):
            raise UsageError(f"{file} is {binary_kind(head_of(file), wanted=_NAMES[named])}")
        return named
    wanted: Kind = named or "json"
    if kind := binary_kind(head_of(file), wanted=_NAMES[wanted]):
        raise UsageError(f"{file} is {kind}")
    return wanted


def is_pointer(file: Path) -> bool:
    """Return whether a file is what Git LFS leaves in the place of one that was not fetched."""
    return head_of(file).startswith(b"version https://git-lfs")


def describe_fault(file: Path, fault: Exception) -> str:
    """Return why a file cannot be read, for people: that it was never fetched, where it was not."""
    if is_pointer(file):
        return f"the file is {binary_kind(head_of(file), wanted='the file itself')}"
    return str(fault)


def _signed_kind(file: Path) -> Kind | None:
    """Return the kind of a file that its first bytes give away."""
    with file.open("rb") as opened:
        head = opened.read(_TAR_PLACE + 5)
    for magic, kind in _TABLES:
        if head.startswith(magic):
            return kind
    if head.startswith(_GZIP):
        head = head_of(file)
    return "tar" if head.startswith(b"ustar", _TAR_PLACE) and head[:1] not in b"[{" else None
