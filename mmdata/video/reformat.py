"""Frames to RGB by swscale, alike with every PyAV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mmdata._tools.limits import how_to_raise
from mmdata.errors import VideoError
from mmdata.video.colours import ToneMapper
from mmdata.video.source import plain

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["Reformatter"]

_SHAPE: Final = ("width", "height", "format", "interpolation")  # what is left to do of RGB


class Reformatter:
    """PyAV's ``VideoReformatter``, whose faults are ours. It is for one thread, and best at frames
    of one size.
    """

    def __init__(self) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._tone_map = ToneMapper() if int(av.__version__.partition(".")[0]) < 18 else None

    def __call__(self, frame: VideoFrame, **wanted: Any) -> VideoFrame:
        """Return ``frame`` in another format or size; ``wanted`` are the arguments of PyAV's
        ``reformat``.

        Raises:
            VideoError: it cannot be converted; the message does not name the file.
        """
        from av import FFmpegError

        # PyAV before 18 tells swscale the matrix that the frame names besides the one that it is
        # given, and swscale refuses the pair; so the frame names the other for as long as it takes.
        named = int(frame.colorspace)
        if "src_colorspace" in wanted:
            frame.colorspace = wanted["src_colorspace"]
        try:
            if self._tone_map is not None and "dst_color_trc" in wanted:
                shape = {name: it for name, it in wanted.items() if name in _SHAPE}
                return self._reformatter.reformat(self._tone_map(frame), threads=1, **shape)
            return self._reformatter.reformat(frame, threads=1, **wanted)
        except (FFmpegError, ValueError) as error:
            what = f"its frames cannot be converted to RGB: {plain(error)}"
            if isinstance(error, MemoryError):
                what = f"{what}; {how_to_raise('memory')}"
                raise VideoError(what, reason="media_limit") from error
            raise VideoError(what) from error
        finally:
            if "src_colorspace" in wanted:
                frame.colorspace = named
