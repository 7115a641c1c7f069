"""A conversation: messages made of parts, beside the media they speak of.

This is the currency of the house. Formats make conversations, the store keeps them, templates read them. They are
checked once, when they are made, and never change; what holds a :class:`Conversation` may trust it. :func:`replace`
makes a changed copy. The way to Arrow is :mod:`mmdata.store.encode`, the way back :mod:`mmdata.store.decode`.

They are ``msgspec`` structs rather than dataclasses: a million conversations are ten million of these objects, and a
frozen dataclass takes five to twenty times as long to make.
"""

from __future__ import annotations

import builtins
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias, get_args

from msgspec import Struct, field
from msgspec.structs import force_setattr, replace

from mmdata._tools.options import checked
from mmdata.errors import SchemaError

__all__ = [
    "SCHEMA_VERSION",
    "Box",
    "Conversation",
    "Image",
    "Media",
    "MediaType",
    "Message",
    "Part",
    "Region",
    "Role",
    "Split",
    "Text",
    "Time",
    "TimeSource",
    "Video",
    "assistant",
    "replace",
    "system",
    "user",
]

SCHEMA_VERSION: Final = 2

Role: TypeAlias = Literal["system", "user", "assistant"]
Split: TypeAlias = Literal["train", "val", "test"]
MediaType: TypeAlias = Literal["image", "video"]
TimeSource: TypeAlias = Literal["stream", "derived"]
Box: TypeAlias = tuple[float, float, float, float]

_ROLES: Final = frozenset(get_args(Role))
_SPLITS: Final = frozenset(get_args(Split))
_MEDIA_TYPES: Final = frozenset(get_args(MediaType))
_TIME_SOURCES: Final = frozenset(get_args(TimeSource))
_FLOAT32: Final = struct.Struct("4f")


class Text(Struct, frozen=True, gc=False, tag_field="type", tag="text"):
    """A run of text. Placeholders such as ``<image>`` never stand in it; they are parts."""

    text: str


class Image(Struct, frozen=True, gc=False, tag_field="type", tag="image"):
    """The place of an image in a message; ``media`` is its index in ``Conversation.media``."""

    media: int


class Video(Struct, frozen=True, gc=False, tag_field="type", tag="video"):
    """The place of a video in a message; ``media`` is its index in ``Conversation.media``."""

    media: int


class Region(Struct, frozen=True, gc=False, tag_field="type", tag="region"):
    """A phrase and the boxes it speaks of: (x1, y1, x2, y2) in 0..1 of the medium at index ``media``.

    Coordinates are rounded to float32 when the region is made, which is how a store keeps them.
    """

    text: str
    boxes: tuple[Box, ...]
    media: int = 0

    def __post_init__(self) -> None:
        """Check and round the boxes."""
        force_setattr(self, "boxes", tuple(map(_checked_box, self.boxes)))


class Time(Struct, frozen=True, gc=False, tag_field="type", tag="time"):
    """A moment (``end`` is None) or a span of the video at index ``media``, in seconds since its first frame."""

    start: float
    end: float | None = None
    media: int = 0

    def __post_init__(self) -> None:
        """Check the order of the two times."""
        last = self.start if self.end is None else self.end
        if not 0 <= self.start <= last < math.inf:
            raise SchemaError(f"a time must satisfy 0 <= start <= end, found {self.start} to {self.end}")


Part: TypeAlias = Text | Image | Video | Region | Time


class Message(Struct, frozen=True, gc=False):
    """One turn: who speaks, what parts, and whether a model is trained to say it.

    :func:`system`, :func:`user` and :func:`assistant` make the usual ones.
    """

    role: Role
    content: tuple[Part, ...]
    train: bool

    @property
    def text(self) -> str:
        """The words of the message, its text and region phrases joined."""
        return "".join(part.text for part in self.content if isinstance(part, (Text, Region)))


class Media(Struct, frozen=True, gc=False):
    """An image or a video: where it is, and what is known of it.

    ``path`` is a POSIX path relative to the store's media root, an absolute one, or a URL; ``bytes`` the encoded file
    when it is embedded; ``frames`` the encoded frames of a frame cache. One of the three is there. ``width`` and
    ``height`` are pixels as presented; ``duration``, ``start``, ``end`` and ``frame_times`` are seconds, ``start`` and
    ``end`` the bounds of a clip in a longer file. ``times`` says where the times of a video come from: its ``stream``,
    or ``derived`` from the frame rate where the container stores none. ``size`` is the bytes of the file and ``hash``
    says what its content was when it was looked into (:mod:`mmdata.conversion.fingerprint`), so that another file in
    its place is found. What is None has not been probed.
    """

    type: MediaType
    path: str | None = None
    bytes: builtins.bytes | None = None
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    fps: float | None = None
    num_frames: int | None = None
    start: float | None = None
    end: float | None = None
    times: TimeSource | None = None
    frame_times: tuple[float, ...] | None = None
    frames: tuple[builtins.bytes, ...] | None = None
    size: int | None = None
    hash: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without opening the file."""
        if self.type not in _MEDIA_TYPES:
            raise SchemaError(f"media type must be 'image' or 'video', found {self.type!r}")
        if not self.path and self.bytes is None and self.frames is None:
            raise SchemaError(f"a medium needs a path, bytes or frames; this {self.type} has none")
        if self.start is not None or self.end is not None:
            Time(self.start or 0.0, self.end)
        if self.times is not None and self.times not in _TIME_SOURCES:
            raise SchemaError(f"times must be 'stream' or 'derived', found {self.times!r}")
        if self.frame_times is not None:
            _check_frame_times(self.frame_times, self.frames)


class Conversation(Struct, frozen=True):
    """One row of a store.

    ``extra`` holds, as JSON values, the fields of the source that have no other home. Making one checks it:

    - the first message may be the system's; after it user and assistant take turns, the user first;
    - every message has content, and every part that names a medium names one that is there and of its kind.

    Raises:
        SchemaError: with the rule that is broken, the message's number and the conversation's id.

    >>> cup = Media("image", "cup.jpg")
    >>> Conversation("c1", (user(Image(0), "What is this?"), assistant("A cup.")), media=(cup,)).messages[1].text
    'A cup.'
    """

    id: str
    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    source: str = ""
    split: Split = "train"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the whole."""
        if not self.id:
            raise SchemaError("a conversation needs an id, found an empty one")
        if self.split not in _SPLITS:
            raise SchemaError(f"conversation {self.id!r}: split must be train, val or test, found {self.split!r}")
        if not self.messages:
            raise SchemaError(f"conversation {self.id!r} has no messages", reason="no_conversation")
        _check_messages(self)


@checked
def system(*content: str | Part, train: bool = False) -> Message:
    """Return a system message; strings become text parts."""
    return Message("system", _parts(content), train)


@checked
def user(*content: str | Part, train: bool = False) -> Message:
    """Return a user message; strings become text parts."""
    return Message("user", _parts(content), train)


@checked
def assistant(*content: str | Part, train: bool = True) -> Message:
    """Return an assistant message, a training target unless said otherwise; strings become text parts."""
    return Message("assistant", _parts(content), train)


def _parts(content: Sequence[str | Part]) -> tuple[Part, ...]:
    return tuple(Text(part) if isinstance(part, str) else part for part in content)


def _checked_box(box: Box) -> Box:
    x1, y1, x2, y2 = rounded = _FLOAT32.unpack(_FLOAT32.pack(*box))
    if not (0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1):
        raise SchemaError(
            f"a box must satisfy 0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1 (fractions of the image), found {box}",
            reason="bad_box",
        )
    return rounded


def _check_frame_times(times: tuple[float, ...], frames: tuple[bytes, ...] | None) -> None:
    if frames is not None and len(frames) != len(times):
        raise SchemaError(f"{len(frames)} cached frames but {len(times)} frame times")
    if not all(map(math.isfinite, times)):
        raise SchemaError(f"frame times must be finite numbers, found {next(t for t in times if not math.isfinite(t))}")
    if any(later < earlier for earlier, later in pairwise(times)):
        raise SchemaError("frame times must not decrease")


def _check_messages(conversation: Conversation) -> None:
    expected = "user"
    for number, message in enumerate(conversation.messages):
        role, content = message.role, message.content
        if role != expected and not (number == 0 and role == "system"):
            _refuse_role(conversation.id, number, role, expected)
        expected = "assistant" if role == "user" else "user"
        if not content:
            raise SchemaError(f"conversation {conversation.id!r}: message {number} is empty", reason="empty_turn")
        for part in content:
            if type(part) is not Text:
                _check_reference(conversation, number, part)


def _refuse_role(identity: str, number: int, role: str, expected: str) -> None:
    if role not in _ROLES:
        raise SchemaError(
            f"conversation {identity!r}: message {number} has the role {role!r}; known are system, user and assistant",
            reason="unknown_role",
        )
    raise SchemaError(
        f"conversation {identity!r}: message {number} should be the {expected}'s, found the {role}'s",
        reason="role_order",
    )


def _check_reference(conversation: Conversation, number: int, part: Part) -> None:
    assert not isinstance(part, Text)
    media, index = conversation.media, part.media
    if not 0 <= index < len(media):
        what = f"speaks of medium {index} of {len(media)}"
    elif media[index].type == (wanted := _WANTED.get(type(part), media[index].type)):
        return
    else:
        what = f"wants medium {index} to be of type {wanted}, found {media[index].type}"
    raise SchemaError(f"conversation {conversation.id!r}: message {number} {what}", reason="media_mismatch")


_WANTED: Final[dict[type, MediaType]] = {Image: "image", Video: "video", Time: "video"}
"""Which media parts speak of; regions may be of either."""
