"""Plain rows as the columns of Parquet files, and of data sets in memory.

What a store has of them, texts and pictures, stays where it is: columns are put together around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmdata.exporters._json_columns import list_lengths_of
from mmdata.exporters._plain import PlainRows
from mmdata.store.arrays import (
    integers,
    list_lengths,
    list_values,
    lists_of,
    valid_bytes,
    with_nulls,
    words,
)
from mmdata.store.encode import PART_CODES, make_structs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["extra_column", "files_column", "frames_column", "messages_column"]


def messages_column(
    rows: PlainRows, list_type: pa.DataType, names: Mapping[str, str]
) -> pa.ListArray:
    """Return the turns of each row; ``names`` has the types of parts that are called otherwise than
    in a store.
    """
    import numpy as np

    messages = rows.columns.messages
    content, parts = messages.field("content"), rows.columns.parts
    message_type = list_type.value_type
    content_type = message_type.field("content").type
    types = parts.field("type")
    if names:
        known = [names.get(name, name) for name in PART_CODES]
        types = words(rows.columns.kinds.view(np.int8), known)

    spelt = make_structs(content_type.value_type, type=types, text=parts.field("text"))
    turns = make_structs(
        message_type,
        role=messages.field("role"),
        content=lists_of(list_lengths(content), spelt, content_type),
    )
    return lists_of(list_lengths(rows.batch.column("messages")), turns, list_type)


def files_column(rows: PlainRows, list_type: pa.DataType, there: NDArray[np.bool_]) -> pa.ListArray:
    """Return the paths of those media of each row that are ``there``, (media,) bool."""
    import numpy as np

    paths = rows.columns.media.field("path")
    if there.all():
        some = paths
    elif there.any():
        some = paths.take(integers(np.flatnonzero(there)))
    else:  # spares the import of Arrow's compute functions, a twentieth of a small export
        some = paths.slice(0, 0)
    return lists_of(_count(rows, there), make_structs(list_type.value_type, path=some), list_type)


def frames_column(rows: PlainRows, list_type: pa.DataType) -> pa.ListArray:
    """Return of each row the cached frames of its videos, and their seconds."""
    import numpy as np

    videos = rows.columns.media_are_videos
    frames, times = map(rows.columns.media.field, ("frames", "frame_times"))
    video_type = list_type.value_type
    images_type, seconds_type = (video_type.field(name).type for name in ("images", "seconds"))

    # Of media that are no videos these lists are null, and have no items.
    pictures = make_structs(images_type.value_type, bytes=list_values(frames))
    have_times = np.frombuffer(valid_bytes(times), np.bool_)[videos]
    found = make_structs(
        video_type,
        images=lists_of(list_lengths(frames)[videos], pictures, images_type),
        seconds=lists_of(
            list_lengths(times)[videos], list_values(times), seconds_type, have_times.tobytes()
        ),
    )
    return lists_of(_count(rows, videos), found, list_type)


def _count(rows: PlainRows, there: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return how many of some media each row has, (rows,)."""
    import numpy as np

    return np.bincount(rows.columns.row_of_medium[there], minlength=len(rows)).astype(np.int32)


def extra_column(rows: PlainRows) -> pa.StringArray:
    """Return what else each row has, as JSON; null in the place of an object without a field."""
    import pyarrow as pa

    extras = rows.batch.column("extra")
    # No other object is written with two bytes.
    there = list_lengths_of(extras) != len("{}")
    return (
        with_nulls(extras, there.tobytes()) if there.any() else pa.nulls(len(extras), pa.string())
    )
