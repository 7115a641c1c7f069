"""What of a page opens media files, done in a process of its own: a file that ends the decoder, or
keeps it busy, costs its own picture.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from mmdata._tools.limits import Limits, count_bytes
from mmdata._tools.paths import is_url
from mmdata.engine.local import Pool
from mmdata.errors import DataError, UsageError
from mmdata.report.lengths import Lengths, measure_lengths
from mmdata.report.page._thumbnails import Thumbnail, make_thumbnail, make_thumbnails
from mmdata.schema import Conversation, Media, user
from mmdata.templates import Encoded, PixelPlan, Template
from mmdata.templates._media import plan_clip, with_limits
from mmdata.templates._plugins import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Frame", "IsolatedDecoder", "Reading"]

T = TypeVar("T")

_FRAMES: Final = "uniform:8"
"""Which frames a page shows of a video that no template reads."""
_SIDE: Final = 224


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture to look at; of a video, what a model is ``told`` of its time and, as ``at``, which
    frame of the file it is and when.
    """

    picture: Thumbnail
    told: str = ""
    at: str = ""


class Reading(NamedTuple):
    """A conversation as a template reads it, and its lengths before any cut."""

    encoded: Encoded
    lengths: Lengths


class IsolatedDecoder:
    """Reads conversations by a template, if there is one, and draws media, each within ``limits``;
    use it as a context manager.

    Where no process can be started for it, this one does it.
    """

    def __init__(self, template: Template | None, limits: Limits) -> None:
        self._template = None if template is None else with_limits(template, limits)
        self._limits = limits
        self._pool = Pool(1, deadline=limits.deadline, memory=limits.memory)
        self._folder = tempfile.TemporaryDirectory(prefix="mmdata-page-")

    def __enter__(self) -> IsolatedDecoder:
        """Return the decoder."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._pool.close()
        self._folder.cleanup()

    def read(self, conversation: Conversation) -> Reading | None:
        """Return what the template makes of a conversation; None without one.

        Raises:
            DataError: the template cannot encode it, or a file of it cannot be read.
        """
        if self._template is None:
            return None
        if not (conversation.media and _is_importable(self._template)):
            return _read(self._template, conversation)
        try:
            return self._run(_read_by, conversation.media, self._keep_template(), conversation)
        except (DataError, UsageError):
            raise
        except Exception:
            # A fault of the template's own code, which is met again where its traceback and its
            # package are known.
            return _read(self._template, conversation)

    def draw(
        self, conversation: Conversation, number: int, plan: PixelPlan | None, room: int
    ) -> tuple[Frame, ...]:
        """Return the pictures of a medium of a conversation, by its number, within so many bytes:
        an image as it is, of a video the frames of the ``plan``, or some evenly spread.

        Raises:
            MediaError: it cannot be decoded.
        """
        medium = conversation.media[number]
        if medium.type == "audio":
            return ()
        # What else the conversation has may be large, and does not travel with it.
        alone = Conversation(conversation.id, (user("…"),), (medium,))
        return self._run(partial(_draw, limits=self._limits), [medium], alone, plan, room)

    def _keep_template(self) -> str:
        """Return the file that the template is in: a vocabulary has megabytes, and takes its time
        to be made usable, which is not done for each conversation.
        """
        file = Path(self._folder.name) / "template"
        if not file.exists():
            file.write_bytes(pickle.dumps(self._template))
        return str(file)

    def _run(self, job: Callable[..., T], media: Sequence[Media], *args: object) -> T:
        if os.name != "posix":
            return job(*args)
        size = sum(map(_count_bytes, media))
        duration = sum(medium.duration or 0.0 for medium in media)
        return self._pool.run(job, *args, deadline=self._limits.deadline_of(size, duration))


def _is_importable(template: Template) -> bool:
    """Return whether another process can be given a template: not one of a notebook's cell."""
    kind = type(template)
    return kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__


def _count_bytes(medium: Media) -> int:
    """Return how many bytes of a medium are to be looked at, as far as that is known."""
    if medium.frames is not None:
        return sum(map(len, medium.frames))
    if medium.bytes is not None:
        return len(medium.bytes)
    paths = medium.frame_paths or ((medium.path,) if medium.path else ())
    return sum(count_bytes(path) for path in paths if not is_url(path))


# --- in the other process
# -------------------------------------------------------------------------------------------


def _read_by(template: str, conversation: Conversation) -> Reading:
    return _read(_load(template), conversation)


@cache  # once a process
def _load(file: str) -> Template:
    template: Template = pickle.loads(Path(file).read_bytes())
    return template


def _read(template: Template, conversation: Conversation) -> Reading:
    return Reading(encode(template, conversation), measure_lengths([conversation], template))


def _draw(
    alone: Conversation, plan: PixelPlan | None, room: int, *, limits: Limits
) -> tuple[Frame, ...]:
    """Return the pictures of the one medium of a conversation."""
    import PIL.Image

    from mmdata.image import load
    from mmdata.pipeline.encode import decode_views

    [medium] = alone.media
    if medium.type == "image":
        source = medium.bytes if medium.bytes is not None else medium.path
        if source is None:
            return ()
        return (Frame(make_thumbnail(load(source, limits=limits), room)),)

    if plan is None:
        plan = plan_clip(alone, 0, _FRAMES, None, resize="pad", size=_SIDE).pixels
    views = decode_views(medium, plan, limits=limits)
    pictures = make_thumbnails([PIL.Image.fromarray(view) for view in views], room)
    return tuple(
        Frame(picture, f"{time:.2f} s", f"frame {frame}, at {plan.origin + time:.3f} s of the file")
        for picture, time, frame in zip(pictures, plan.times, plan.frames, strict=True)
    )
