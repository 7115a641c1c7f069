"""Opening a video: a path or bytes become a container
and a stream to read, or an error that says why not.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmdata._tools.limits import how_to_raise
from mmdata._tools.options import NonNegativeInt, checked
from mmdata.errors import MediaError, UsageError, VideoError
from mmdata.storage._media import is_remote, open_medium

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from mmdata._tools.limits import Limits

__all__ = [
    "Source",
    "is_cover",
    "name_of",
    "open_tables",
    "open_video",
    "plain",
    "undecodable",
]

Source: TypeAlias = str | os.PathLike[str] | bytes

# Nothing but the file itself is read: no network, no playlist, no numbered series of stills.
_OPTIONS: Final = {"protocol_whitelist": "file", "pattern_type": "none"}
# Opens no decoder: what headers say is enough for most files.
_QUICK: Final = {"codec_whitelist": "none"}
_THOROUGH: Final = {"skip_loop_filter": "all"}  # the frames are thrown away, so they need no finish
# Pixels: FFmpeg counts a row as up to 64 longer than it is, which the exact check of ours does not.
_ALIGNMENT: Final = 64 << 14
_MOST_PIXELS: Final = (1 << 31) - 1  # that FFmpeg's option can have
_TOO_STRICT: Final = frozenset({"tiff"})  # codecs whose strict decoders refuse what is sound
_BUFFER: Final = 1 << 18  # bytes read at a time from a file held in memory
_REMOTE_BUFFER: Final = 1 << 15


@checked
@contextmanager
def open_video(
    source: Source,
    stream: NonNegativeInt | None,
    limits: Limits,
    *,
    strict: bool = False,
    thorough: bool = False,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open ``source`` and give the container and its video stream,
    decoding on the caller's thread alone.

    ``stream`` is the index of a stream in the file; None takes the one that FFmpeg holds to be the
    best of those that are no attached picture, such as the cover of a song. A ``strict`` decoder
    refuses what it would otherwise conceal. A ``thorough`` opening lets FFmpeg decode the first
    frames of every stream, from which it guesses what the headers leave out.

    Raises:
        VideoError: missing, empty, not a video, without such a stream, or of a frame size beyond
            ``limits``.
    """
    container = _container(source, limits, _THOROUGH if thorough else _QUICK)
    if not thorough and not _is_plain(container):
        container.close()
        container = _container(source, limits, _THOROUGH)
    with container:
        video = _video_stream(container, stream, source)
        _check_size(video, source, limits)
        _configure(video, limits, strict)
        _leave_out_others(container, video)
        yield container, video


@contextmanager
def open_tables(
    file: io.RawIOBase, stream: int, limits: Limits
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file whose packets are not to be decoded, and give the container and a video stream
    that it is known to have.
    """
    import av

    # No parser looks at packets for what the tables say.
    unread = {"fflags": "noparse+nofillin"}
    options = _OPTIONS | _QUICK | unread | {"max_pixels": str(_most_pixels(limits))}
    container: InputContainer = av.open(
        file, options=options, buffer_size=_BUFFER, **_past_bad_metadata()
    )
    with container:
        video = next(each for each in container.streams.video if each.index == stream)
        _leave_out_others(container, video)
        yield container, video


def name_of(source: Source) -> str:
    """Return how messages call ``source``."""
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else os.fspath(source)


def undecodable(source: Source, error: Exception) -> VideoError:
    """Return the error for a file of which nothing could be decoded."""
    name = name_of(source)
    what = f"{name}: cannot be decoded as video: {plain(error)}"
    if isinstance(error, MemoryError):
        return VideoError(f"{what}; {how_to_raise('memory')}", path=name, reason="media_limit")
    return VideoError(what, path=name)


def _is_plain(container: InputContainer) -> bool:
    """Whether there is one video stream, and of a size that is known without a decoder."""
    streams = container.streams.video
    # A stream without a decoder has no codec context, and so no width.
    return len(streams) == 1 and getattr(streams[0].codec_context, "width", 0) > 0


def _container(source: Source, limits: Limits, options: dict[str, str]) -> InputContainer:
    import av

    name = name_of(source)
    try:
        container: InputContainer = av.open(
            _file(source, name),
            options=_OPTIONS | options | {"max_pixels": str(_most_pixels(limits))},
            # Of what is fetched from afar no more than is needed.
            buffer_size=_REMOTE_BUFFER if is_remote(source) else _BUFFER,
            **_past_bad_metadata(),
        )
    except (av.FFmpegError, MemoryError) as error:
        raise undecodable(source, error) from error
    return container


def _file(source: Source, name: str) -> Any:
    """Return what PyAV opens."""
    if not isinstance(source, bytes) and is_remote(source):
        try:
            return open_medium(source)
        except MediaError as error:
            raise VideoError(str(error), path=name, reason=error.reason) from error
    size = len(source) if isinstance(source, bytes) else _size(os.fspath(source))
    if not size:
        raise VideoError(f"{name}: the file is empty", path=name, reason="empty_media")
    return io.BytesIO(source) if isinstance(source, bytes) else f"file:{os.fspath(source)}"


def _past_bad_metadata() -> dict[str, Any]:
    """Return what lets PyAV open a file whose metadata is not UTF-8;
    from version 19 on it always does.
    """
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def _size(path: str) -> int:
    try:
        found = os.stat(path)  # noqa: PTH116 - once a sample, and cheaper
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        raise VideoError(f"{path}: {plain(error)}", path=path, reason="missing_media") from error
    if not stat.S_ISREG(found.st_mode):
        raise VideoError(f"{path}: is not a file", path=path)
    return found.st_size


def _video_stream(container: InputContainer, wanted: int | None, source: Source) -> VideoStream:
    name = name_of(source)
    if wanted is None:
        best = container.streams.best("video")
        films = [stream for stream in container.streams.video if not is_cover(stream)]
        if best is None or not films:
            only = ", only an attached picture, such as a cover" if container.streams.video else ""
            raise VideoError(f"{name}: holds no video stream{only}", path=name)
        return next((stream for stream in films if stream.index == best.index), films[0])

    for stream in container.streams.video:
        if stream.index == wanted:
            return stream

    indices = [stream.index for stream in container.streams.video]
    raise UsageError(
        f"{name}: stream {wanted} is not a video stream; the video streams are {indices}"
    )


def is_cover(stream: VideoStream) -> bool:
    """Return whether a stream is an attached picture, such as the cover of a song."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _check_size(stream: VideoStream, source: Source, limits: Limits) -> None:
    name = name_of(source)
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{name}: FFmpeg has no decoder for this video stream", path=name)
    if not context.width or not context.height:
        raise VideoError(
            f"{name}: cannot be decoded as video: the size of its frames is not to be found, "
            f"or beyond the limit of {limits.pixels} pixels; {how_to_raise('pixels')}",
            path=name,
        )

    if context.width * context.height > limits.pixels:
        raise VideoError(
            f"{name}: a frame of {context.width}x{context.height} is beyond the limit of "
            f"{limits.pixels} pixels; {how_to_raise('pixels')}",
            path=name,
            reason="media_limit",
        )


def _configure(stream: VideoStream, limits: Limits, strict: bool) -> None:
    context = stream.codec_context
    context.thread_count = 1
    refuses = strict and context.codec.canonical_name not in _TOO_STRICT
    context.options = {"max_pixels": str(_most_pixels(limits))} | (
        {"err_detect": "explode"} if refuses else {}
    )


def _most_pixels(limits: Limits) -> int:
    return min(limits.pixels + _ALIGNMENT, _MOST_PIXELS)


def _leave_out_others(container: InputContainer, stream: VideoStream) -> None:
    """Let the demuxer pass over what is not of ``stream``, instead of reading and parting it."""
    from av.stream import Discard

    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def plain(error: Exception) -> str:
    """Return what FFmpeg says of an error, without its number and file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
