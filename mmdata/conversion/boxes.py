"""Boxes in pixels become fractions of their picture, once its size is known.

A format scales them itself where the record says how large the picture is. Else they wait in
:attr:`mmdata.store.batch.ConversationBatch.pixel_boxes` until the media of the batch have been
found, and the size is what probing has found, or else what the header of the picture says.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from mmdata.conversion.media import MediaOptions
from mmdata.errors import DataError, RecordError, as_media_error
from mmdata.formats._boxes import Size, scale_pixels
from mmdata.schema import Box
from mmdata.store.arrays import list_lengths, list_values, lists_of, sparse, valid_bytes
from mmdata.store.batch import ConversationBatch
from mmdata.store.encode import make_structs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["scale_boxes"]

_COLUMNS: Final = ("messages", "rejected")
"""The columns that hold regions, in the order in which those of a row are counted."""


def scale_boxes(batch: ConversationBatch, place: MediaOptions) -> ConversationBatch:
    """Return the batch with its boxes in pixels as fractions of their pictures; a row of which a
    picture's size cannot be had, or that a box leaves, is a reject.

    Where media are not to be looked at, the size must have been said.
    """
    if not any(batch.pixel_boxes):
        return replace(batch, pixel_boxes=())

    columns = [_Regions.of(batch.columns.column(name)) for name in _COLUMNS]
    sizes = _Sizes(batch, place)
    errors: dict[int, Exception] = {}
    scaled: list[dict[int, Sequence[Box]]] = [{} for _ in columns]
    for row, waiting in enumerate(batch.pixel_boxes):
        regions = [
            (number, part, medium)
            for number, column in enumerate(columns)
            for part, medium in column.of_row(row)
        ]
        try:
            for region, boxes in waiting.items():
                number, part, medium = regions[region]
                size = sizes.of(row, medium)
                scaled[number][part] = [scale_pixels(box, size) for box in boxes]
        except DataError as error:
            errors[row] = error

    changed = {
        name: _with_boxes(batch.columns.column(name), boxes)
        for name, boxes in zip(_COLUMNS, scaled, strict=True)
        if boxes
    }
    return replace(batch.with_columns(**changed), pixel_boxes=()).reject(errors)


class _Sizes:
    """The sizes of the pictures of a batch: as they are known, else as their headers say."""

    def __init__(self, batch: ConversationBatch, place: MediaOptions) -> None:
        media = batch.media
        self._place = place
        self._starts = list(accumulate(batch.num_media.tolist(), initial=0))
        self._types, self._paths, self._widths, self._heights = (
            media.field(name).to_pylist() for name in ("type", "path", "width", "height")
        )
        self._bytes = media.field("bytes")
        self._read: dict[str, Size] = {}  # a picture is often asked about many times

    def of(self, row: int, medium: int) -> Size:
        """Return width and height of a row's medium.

        Raises:
            DataError: it is no picture, or nobody may look at it, or its header cannot be read.
        """
        number = self._starts[row] + medium
        width, height = self._widths[number], self._heights[number]
        if width is not None and height is not None:
            return width, height

        path = self._paths[number]
        name = path or "a picture in the record"
        if self._types[number] != "image":
            raise RecordError(
                f"a box in pixels of {name}, a {self._types[number]}: it must be of a picture",
                reason="unsupported_media",
            )
        if not self._place.look:
            raise RecordError(
                f"a box is in pixels, and the size of {name} is not known: "
                "--check exists (or probe, decode) finds it",
                reason="bad_box",
            )

        data = self._bytes[number].as_py()
        if data is not None:
            return self._size_in_header(data, name)
        if path is None:
            raise RecordError(f"the size of {name} is not known", reason="bad_box")

        if path not in self._read:
            file = posixpath.join(self._place.root, path)
            self._read[path] = self._size_in_header(file, file)

        return self._read[path]

    def _size_in_header(self, source: str | bytes, name: str) -> Size:
        from mmdata import image

        try:
            height, width = image.size_of(source, limits=self._place.limits)
        except Exception as error:  # here whatever a reader raises becomes the record's
            raise as_media_error(error, name) from error
        return width, height


@dataclass(frozen=True, slots=True)
class _Regions:
    """Where the regions are among all the parts of a column of messages, ascending, and the medium
    of each; those of row ``n`` are ``starts[n]`` to ``starts[n + 1]``.
    """

    parts: Sequence[int]
    media: Sequence[int]
    starts: Sequence[int]

    @classmethod
    def of(cls, column: pa.ListArray) -> _Regions:
        import numpy as np

        if column.null_count == len(column):
            return cls((), (), [0] * (len(column) + 1))

        messages = list_values(column)
        parts = list_values(messages.field("content"))
        # Of all parts regions alone have boxes, be they none.
        regions = np.flatnonzero(np.frombuffer(valid_bytes(parts.field("boxes")), np.uint8))

        # The values as they lie in Arrow's buffer, without a copy. A slice of an array keeps the
        # whole buffer: what is before its offset is passed over. A region's medium is never null.
        media = parts.field("media")
        numbers = np.frombuffer(media.buffers()[1], np.int32)[media.offset :]

        # Regions are few among the parts: where each row's begin is looked up in their numbers.
        first_parts = _starts(list_lengths(messages.field("content")))
        first_of_rows = first_parts[_starts(list_lengths(column))]
        starts = np.searchsorted(regions, first_of_rows)

        return cls(regions.tolist(), numbers[regions].tolist(), starts.tolist())

    def of_row(self, row: int) -> Iterator[tuple[int, int]]:
        """Return the number of each region of a row among the parts, and its medium."""
        some = slice(self.starts[row], self.starts[row + 1])
        return zip(self.parts[some], self.media[some], strict=True)


def _starts(lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    import numpy as np

    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _with_boxes(column: pa.ListArray, changed: Mapping[int, Sequence[Box]]) -> pa.ListArray:
    """Return a column of messages with the boxes of some parts changed, by their number."""
    messages = list_values(column)
    content = messages.field("content")
    parts = list_values(content)
    boxes = parts.field("boxes")
    values = boxes.to_pylist()

    for part, new in changed.items():
        values[part] = new

    kept = sparse(
        [value for value in values if value is not None],
        bytes([value is not None for value in values]),
        boxes.type,
    )
    new_content = lists_of(list_lengths(content), _with_field(parts, "boxes", kept), content.type)
    there = valid_bytes(column) if column.null_count else None
    return lists_of(
        list_lengths(column), _with_field(messages, "content", new_content), column.type, there
    )


def _with_field(structs: pa.StructArray, name: str, values: pa.Array) -> pa.StructArray:
    fields = {field.name: structs.field(field.name) for field in structs.type}
    return make_structs(structs.type, **{**fields, name: values})
