"""One record of a source, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins

from mmdata.rejects import Reject
from mmdata.schema import Split

__all__ = ["Record", "Unread"]


class Unread(Struct, frozen=True, gc=False):
    """The raw value of a record that is read only where somebody asks for it: its text, as the
    format that yields it keeps it.
    """

    def read(self) -> Any:
        """Return the record as JSON has it."""
        raise NotImplementedError


class Record(Struct, frozen=True, gc=False):
    """One record of a source: its ``raw`` value, which may be typed, and where it stands.

    ``file`` is the source file as POSIX text, ``number`` the record's number in it counted from 0,
    ``id`` the record's own id as text, or None; ``size`` how many characters its text has, or None
    where nobody has counted. ``split`` is what the source itself says of it, where it does, and
    ``files`` the media that came with the record, by the names that it may call them. With
    ``has_views`` bytes in ``raw`` may be views of what was read together.
    """

    raw: Any
    file: str
    number: int
    id: str | None = None
    size: int | None = None
    split: Split | None = None
    files: Mapping[str, bytes] = {}
    has_views: bool = False

    @property
    def value(self) -> Any:
        """The record as JSON has it: dictionaries, lists, text, numbers; of a table, bytes."""
        if self.has_views:
            return _copy_views(self.raw)
        if isinstance(self.raw, Unread):
            return self.raw.read()
        return to_builtins(self.raw) if isinstance(self.raw, Struct) else self.raw

    def rejected(self, error: Exception) -> Reject:
        """Return the reject that the record becomes by an error."""
        return Reject.from_error(error, record=self.number, file=self.file, id=self.id)


def _copy_views(value: Any) -> Any:
    """Return a value with bytes in the place of views of them."""
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, dict):
        return {name: _copy_views(found) for name, found in value.items()}
    return list(map(_copy_views, value)) if isinstance(value, list) else value
