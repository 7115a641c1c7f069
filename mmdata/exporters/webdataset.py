"""WebDataset: tars in which the record of a row and its media follow one another."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from mmdata._tools.options import PositiveInt
from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature
from mmdata.exporters._media import MediaMode
from mmdata.exporters._writers import Writer, encode_records
from mmdata.exporters.swift import Swift
from mmdata.schema import Conversation, Split

__all__ = ["Webdataset"]

_MEGABYTE: Final = 1 << 20


class _Sample(msgspec.Struct, frozen=True):
    """The members of a row: its record, and its media by their names."""

    record: dict[str, Any]
    files: Sequence[tuple[str, bytes]]


@registry.register("webdataset")
@dataclass(frozen=True)
class Webdataset(Exporter):
    """Tars named ``train-000000.tar`` and so on, of about ``megabytes`` each.

    A row is ``00000000.json``, a record as ms-swift has it, and its media: ``00000000.0.jpg`` is
    what the record calls ``0.jpg``.
    """

    summary: ClassVar[str] = "WebDataset's tars: a JSON record and its media, row after row"
    shape: ClassVar[str] = (
        'train-000000.tar: 00000000.json {"id": "1", "messages": [{"role": "user", "content": '
        '"<image>What is it?"}, {"role": "assistant", "content": "A cup."}], "images": '
        '["0.jpg"]}, 00000000.0.jpg'
    )
    says: ClassVar[frozenset[Feature]] = Swift.says
    media_modes: ClassVar[tuple[MediaMode, ...]] = ("embed",)
    fields: ClassVar[frozenset[str]] = Swift.fields
    read_by: ClassVar[str | None] = "swift"

    megabytes: PositiveInt = 512

    def record(self, row: Row) -> Any:
        """Return one row as its members.

        Raises:
            UnsayableError: as of ms-swift's records.
        """
        names = [f"{number}.{medium.suffix}" for number, medium in enumerate(row.media)]
        named = [
            msgspec.structs.replace(medium, path=name, data=None)
            for medium, name in zip(row.media, names, strict=True)
        ]
        files = [(name, medium.data or b"") for name, medium in zip(names, row.media, strict=True)]
        return _Sample(Swift().record(Row(row.conversation, named)), files)

    def reading_options(self, conversation: Conversation) -> Mapping[str, Any]:
        """Return those of ms-swift's records."""
        return Swift().reading_options(conversation)

    def as_read(self, record: Any) -> Any:
        """Return the record of a sample, as JSON has it."""
        return super().as_read(record.record)

    def open(self, folder: Path) -> Writer:
        """Return what writes tars."""
        return _TarWriter(folder, self.megabytes * _MEGABYTE)


class _TarWriter:
    """Writes samples into tars, the next one where one is full."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self._tars: dict[str, tarfile.TarFile] = {}
        self._shards: dict[str, int] = {}
        self._samples: dict[str, int] = {}

    def write(self, split: Split, records: Sequence[_Sample]) -> None:
        for sample in records:
            tar = self._tar_for(split)
            number = self._samples.get(split, 0)
            self._samples[split] = number + 1
            _add(tar, f"{number:08d}.json", encode_records([sample.record]).rstrip(b"\n"))
            for name, data in sample.files:
                _add(tar, f"{number:08d}.{name}", data)

    def _tar_for(self, split: Split) -> tarfile.TarFile:
        tar = self._tars.get(split)
        if tar is not None and tar.offset < self._most:
            return tar
        if tar is not None:
            tar.close()
        shard = self._shards.get(split, -1) + 1
        self._shards[split] = shard
        path = self._folder / f"{split}-{shard:06d}.tar"
        self._tars[split] = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        return self._tars[split]

    def close(self) -> None:
        for tar in self._tars.values():
            tar.close()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # Nothing of the time or the user is in it: the same rows are the same bytes.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    tar.members.clear()  # type: ignore[attr-defined]  # it would hold the names of a million rows
