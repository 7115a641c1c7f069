"""Parquet for ``datasets`` and the Hugging Face Hub, with ``Image`` and ``Video`` features and a
dataset card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from mmdata._tools.options import PositiveInt
from mmdata.exporters import registry
from mmdata.exporters._arrow_columns import (
    extra_column,
    files_column,
    frames_column,
    messages_column,
)
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._media import MediaMode, PlacedMedium
from mmdata.exporters._parquet import ParquetWriter, make_batch
from mmdata.exporters._parts import messages_of
from mmdata.exporters._plain import PlainRows
from mmdata.exporters._turns import ending_of, split_media
from mmdata.exporters._writers import Writer
from mmdata.schema import Split
from mmdata.store.encode import encode_extra

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HUB_SPLITS", "Datasets"]

_MEGABYTE: Final = 1 << 20
HUB_SPLITS: Final[dict[Split, str]] = {"train": "train", "val": "validation", "test": "test"}
"""What the Hub calls the splits."""
_STRING: Final = {"dtype": "string", "_type": "Value"}
_IMAGES: Final = [{"_type": "Image"}]
_FEATURES: Final[dict[str, Any]] = {
    "id": _STRING,
    "messages": [
        {
            "role": _STRING,
            "content": [{"type": _STRING, "text": _STRING}],
            "reasoning_content": _STRING,
            "tool_calls": [
                {
                    "id": _STRING,
                    "type": _STRING,
                    "function": {"name": _STRING, "arguments": _STRING},
                }
            ],
            "tool_call_id": _STRING,
            "weight": {"dtype": "int8", "_type": "Value"},
        }
    ],
    "images": _IMAGES,
    "videos": [{"_type": "Video"}],
    "tools": _STRING,
    "rejected_response": _STRING,
    "label": {"dtype": "bool", "_type": "Value"},
    "extra": _STRING,
}
"""What ``datasets`` is told of the columns, as it writes it into Parquet itself."""
_FRAMES: Final[dict[str, Any]] = {
    "frames": [{"images": _IMAGES, "seconds": [{"dtype": "float64", "_type": "Value"}]}]
}
"""The column besides for videos that leave as pictures."""


@registry.register("datasets")
@dataclass(frozen=True)
class Datasets(Exporter):
    """Parquet files in ``data/``, of about ``megabytes`` each at the most, and a dataset card,
    ``README.md``. Many rows are several files, which are written at the same time.

    Every row has ``messages``, whose parts of the types ``image`` and ``video`` stand for the next
    of ``images`` and ``videos``; what most rows lack is null. ``extra`` is JSON. The card and the
    files are what ``load_dataset(PLACE)`` and the Hub read.

    Videos that leave as pictures are in ``frames``, each as its ``images`` and the ``seconds`` of
    these, and a part of the type ``frames`` stands for the next of them.
    """

    summary: ClassVar[str] = "Parquet with Image and Video features and a card: datasets, the Hub"
    shape: ClassVar[str] = (
        'data/train-00000-of-00001.parquet: {"id": "1", "messages": [{"role": "user", "content": '
        '[{"type": "image", "text": null}, {"type": "text", "text": "What is it?"}]}, …], '
        '"images": [{"bytes": …, "path": null}], "videos": []}'
    )
    says: ClassVar[frozenset[Feature]] = frozenset(
        {
            "extra",
            "judgement",
            "reasoning",
            "rejected",
            "seconds",
            "system",
            "tools",
            "training",
        }
    )
    media_modes: ClassVar[tuple[MediaMode, ...]] = ("embed", "reference")
    read_by: ClassVar[str | None] = "messages"
    # Each holds a row group in memory, and what Python does is for one thread at a time: the work
    # of more than four would wait for it.
    most_parts: ClassVar[int] = 4

    megabytes: PositiveInt = 512

    @property
    def schema(self) -> pa.Schema:
        """The schema of the files, with what ``datasets`` wants to know in its metadata."""
        return _schema(has_frames=False)

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as the values of its columns.

        Raises:
            UnsayableError: a medium has no place, a video is given as pictures and leaves as a
                file, or the worse ending of a pair is not an answer in words.
        """
        conversation = row.conversation
        images, videos = split_media(conversation, row.media)
        rejected = None
        if conversation.rejected is not None:
            ending_of(conversation)
            worse = messages_of(conversation.rejected, (), "openai")
            is_answer = len(worse) == 1 and set(worse[0]) == {"role", "content"}
            if not is_answer or not isinstance(worse[0]["content"], str):
                raise UnsayableError("the worse ending is no answer in words", what="rejected")
            rejected = worse[0]["content"]

        messages = messages_of(conversation.messages, row.media, "listed")
        for message in messages:
            if isinstance(message["content"], str):
                message["content"] = [{"type": "text", "text": message["content"]}]
            if conversation.desirable is False:  # which says it itself
                message.pop("weight", None)
            for call in message.get("tool_calls", ()):
                if isinstance(call["function"]["arguments"], msgspec.Raw):
                    call["function"]["arguments"] = bytes(call["function"]["arguments"]).decode()
        return {
            "id": conversation.id,
            "messages": messages,
            "images": list(map(_file_of, images)),
            **self._columns_of(videos),
            "tools": conversation.tools,
            "rejected_response": rejected,
            "label": conversation.desirable,
            "extra": encode_extra(conversation.extra) if conversation.extra else None,
        }

    def _columns_of(self, videos: Sequence[PlacedMedium]) -> dict[str, Any]:
        """Return the columns that the videos of a row are in."""
        return {"videos": list(map(_file_of, videos))}

    def with_frames(self) -> Datasets:
        """Return what writes the column ``frames`` besides."""
        return _DatasetsWithFrames(self.megabytes)

    def records(self, rows: PlainRows) -> pa.RecordBatch:
        """Return plain rows as a record batch; what texts it has are those of the store, without a
        copy.
        """
        import pyarrow as pa

        schema = self.schema
        found = {
            "id": rows.batch.column("id"),
            "images": files_column(
                rows, schema.field("images").type, ~rows.columns.media_are_videos
            ),
            "extra": extra_column(rows),
            **self._arrays_of(rows, schema),
        }
        arrays = [
            found[field.name] if field.name in found else pa.nulls(len(rows), field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def as_read(self, record: Any) -> Any:
        """Return a record as a row of Parquet has it."""
        return make_batch([record], self.schema).to_pylist()[0]

    def _arrays_of(self, rows: PlainRows, schema: pa.Schema) -> dict[str, pa.Array]:
        """Return the columns that the videos of plain rows are in, and their turns."""
        messages, videos = (schema.field(name).type for name in ("messages", "videos"))
        return {
            "messages": messages_column(rows, messages, {}),
            "videos": files_column(rows, videos, rows.columns.media_are_videos),
        }

    def open(self, folder: Path) -> Writer:
        """Return what writes Parquet."""
        return self.open_part(folder, 0)

    def open_part(self, folder: Path, part: int) -> Writer:
        """Return what writes a part of it."""
        return ParquetWriter(folder / "data", part, self.megabytes * _MEGABYTE, self.schema)

    def finish(self, folder: Path, splits: Mapping[str, int]) -> Sequence[str]:
        """Give the files the names that the Hub gives them, which say how many there are, and write
        the dataset card.
        """
        for split in splits:
            files = sorted((folder / "data").glob(f"{split}.*"))
            for number, file in enumerate(files):
                file.rename(file.with_name(f"{split}-{number:05d}-of-{len(files):05d}.parquet"))
        (folder / "README.md").write_text(_card(splits, self.schema.names), encoding="utf-8")
        return ("README.md",)


class _DatasetsWithFrames(Datasets):
    """The same for rows whose videos are pictures, every one."""

    @property
    def schema(self) -> pa.Schema:
        return _schema(has_frames=True)

    def _columns_of(self, videos: Sequence[PlacedMedium]) -> dict[str, Any]:
        return {"videos": [], "frames": list(map(_frames_of, videos))}

    def _arrays_of(self, rows: PlainRows, schema: pa.Schema) -> dict[str, pa.Array]:
        import numpy as np

        messages, videos, frames = (
            schema.field(name).type for name in ("messages", "videos", "frames")
        )
        none = np.zeros(len(rows.columns.media), np.bool_)
        return {
            "messages": messages_column(rows, messages, {"video": "frames"}),
            "videos": files_column(rows, videos, none),
            "frames": frames_column(rows, frames),
        }


def _file_of(medium: PlacedMedium) -> dict[str, Any]:
    if medium.is_pictures:
        raise UnsayableError(
            "a video that is given as pictures is no file; --frames pictures has them in the "
            "record",
            what="media",
        )
    return {"bytes": medium.data, "path": medium.path}


def _frames_of(video: PlacedMedium) -> dict[str, Any]:
    inside = [{"bytes": picture} for picture in video.frames or ()]
    files = [{"path": path} for path in video.frame_paths or ()]
    return {"images": [*inside, *files], "seconds": video.frame_times}


@cache
def _schema(*, has_frames: bool) -> pa.Schema:
    import pyarrow as pa

    features = _FEATURES | (_FRAMES if has_frames else {})
    info = json.dumps({"info": {"features": features}})
    fields = [pa.field(name, _arrow_type(feature)) for name, feature in features.items()]
    return pa.schema(fields, metadata={"huggingface": info})


def _arrow_type(feature: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(feature, list):
        return pa.list_(_arrow_type(feature[0]))
    if feature.get("_type") in ("Image", "Video"):
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if feature.get("_type") == "Value":
        values = {"string": pa.string, "int8": pa.int8, "float64": pa.float64, "bool": pa.bool_}
        return values[feature["dtype"]]()
    return pa.struct([(name, _arrow_type(inner)) for name, inner in feature.items()])


_ABOUT_FRAMES: Final = (
    "| `frames` | videos as their pictures, for which parts of type `frames` stand; `seconds` says "
    "when each picture is |\n"
)


def _card(splits: Mapping[str, int], columns: Sequence[str]) -> str:
    """Return the dataset card: which files are which split, and what the columns are."""
    files = "\n".join(
        f"  - split: {HUB_SPLITS[split]}\n    path: data/{split}-*.parquet"  # type: ignore[index]
        for split in splits
        if splits[split]
    )
    counts = "\n".join(f"- {split}: {count:,} rows" for split, count in splits.items() if count)
    frames = _ABOUT_FRAMES if "frames" in columns else ""
    return f"""---
configs:
- config_name: default
  data_files:
{files}
---

# Conversations

{counts}

| column | what it is |
| --- | --- |
| `id` | the id of the row |
| `messages` | turns; a part of type `image` or `video` stands for the next of the media |
| `images`, `videos` | the media, in the order in which the turns show them |
{frames}| `tools` | the tools that may be called, as JSON |
| `rejected_response` | the worse answer of a preference pair |
| `label` | whether the answer was judged good |
| `extra` | other fields of the source, as JSON |

Written by mmdata.
"""
