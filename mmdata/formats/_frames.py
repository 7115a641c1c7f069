"""Videos that a record holds as their pictures: ``frames``, a list of objects, each with the
``images`` of a video and the ``seconds`` at which they are shown, as ``mmdata export datasets
--frames pictures`` writes it.
"""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from mmdata.errors import RecordError
from mmdata.formats._parts import is_object, media_of
from mmdata.schema import Media

__all__ = ["holds_frames", "read_frames"]

_IMAGES, _SECONDS = "images", "seconds"
_FIELDS: Final = {_IMAGES, _SECONDS}


def holds_frames(value: object) -> TypeGuard[list[dict[str, Any]]]:
    """Return whether a field lists videos as their pictures.

    >>> holds_frames([{"images": ["1.jpg"], "seconds": [0.0]}]), holds_frames(["1.jpg"]), \
holds_frames([])
    (True, False, False)
    """
    return (
        isinstance(value, list)
        and bool(value)
        and all(is_object(one) and _IMAGES in one and one.keys() <= _FIELDS for one in value)
    )


def read_frames(videos: list[dict[str, Any]]) -> list[Media]:
    """Return the videos that a field lists as their pictures.

    >>> picture = {"bytes": b"one"}
    >>> read_frames([{"images": [picture, picture], "seconds": [0, 0.5]}])[0].frame_times
    (0.0, 0.5)

    Raises:
        RecordError: the pictures of one are not in the record, or not each has its seconds.
        SchemaError: their seconds decrease.
    """
    return [_read_video(number, one) for number, one in enumerate(videos)]


def _read_video(number: int, video: dict[str, Any]) -> Media:
    pictures = [picture.bytes for picture in media_of(video[_IMAGES], "image")]
    frames = tuple(picture for picture in pictures if picture is not None)
    if not frames or len(frames) < len(pictures):
        raise RecordError(
            f"video {number} of 'frames' has {len(pictures):,} pictures, and the bytes of "
            f"{len(frames):,} of them are in the record; all must be",
            reason="unsupported_media",
        )

    seconds = video.get(_SECONDS)
    times = seconds if isinstance(seconds, list) else []
    if len(times) != len(frames) or not all(type(time) in (int, float) for time in times):
        raise RecordError(
            f"video {number} of 'frames' has {len(frames):,} pictures, and 'seconds' must say of "
            f"each when it is shown, found {str(seconds)[:60]}",
            reason="media_mismatch",
        )
    return Media("video", frames=frames, frame_times=tuple(map(float, times)))
