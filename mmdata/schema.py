"""A conversation: messages made of parts, beside the media they speak of.

This is the currency of the house. Formats make conversations, the store keeps them, templates read
them. They are checked once, when they are made, and never change; what holds a
:class:`Conversation` may trust it. :func:`replace` makes a changed copy. The way to Arrow is
:mod:`mmdata.store.encode`, the way back :mod:`mmdata.store.decode`.

They are ``msgspec`` structs rather than dataclasses: a million conversations are ten million of
these objects, and a frozen dataclass takes five to twenty times as long to make.
"""

from __future__ import annotations

import builtins
import math
import struct as binary
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from msgspec import DecodeError, Struct, field
from msgspec.json import decode as decode_json
from msgspec.json import encode as encode_json
from msgspec.structs import astuple, force_setattr
from msgspec.structs import replace as replace_fields

from mmdata._tools import markup
from mmdata._tools.options import checked
from mmdata._tools.strict_json import STRICT_DECODER, RepeatedKeyError
from mmdata.errors import SchemaError

__all__ = [
    "SCHEMA_VERSION",
    "Audio",
    "Box",
    "BoxUnit",
    "CompactTimes",
    "Conversation",
    "Image",
    "Media",
    "MediaType",
    "Message",
    "Oddity",
    "Part",
    "Reasoning",
    "Region",
    "Role",
    "Split",
    "Text",
    "Time",
    "TimeSource",
    "ToolCall",
    "Video",
    "assistant",
    "replace",
    "system",
    "tool",
    "user",
]

SCHEMA_VERSION: Final = 3

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Split: TypeAlias = Literal["train", "val", "test"]
MediaType: TypeAlias = Literal["image", "video", "audio"]
TimeSource: TypeAlias = Literal["stream", "derived"]
Oddity: TypeAlias = Literal[
    "trimmed",
    "joined",
    "begins_between_keyframes",
    "fields",
    "dropped_frames",
    "odd_matrix",
    "hdr",
    "attached_picture",
    "damaged",
]
"""How a sound video may be oddly made: docs/videos.md says what is made of each."""
Box: TypeAlias = tuple[float, float, float, float]
Made = TypeVar("Made", bound=Struct)
BoxUnit: TypeAlias = Literal["fraction", "pixel"]

_ROLES: Final = frozenset(get_args(Role))
_SPLITS: Final = frozenset(get_args(Split))
_MEDIA_TYPES: Final = frozenset(get_args(MediaType))
_ODDITIES: Final = frozenset(get_args(Oddity))
_TIME_SOURCES: Final = frozenset(get_args(TimeSource))
_BOX_UNITS: Final = frozenset(get_args(BoxUnit))
_STRINGS: Final = frozenset([str])
_FLOAT32: Final = binary.Struct("4f")

# Every part has ``train``: whether a model is trained to say it; None for as its message is.


class Text(Struct, frozen=True, gc=False, tag_field="type", tag="text"):
    """A run of text. Placeholders such as ``<image>`` never stand in it; they are parts."""

    text: str
    train: bool | None = None


class Image(Struct, frozen=True, gc=False, tag_field="type", tag="image"):
    """The place of an image in a message; ``media`` is its index in ``Conversation.media``."""

    media: int
    train: bool | None = None


class Video(Struct, frozen=True, gc=False, tag_field="type", tag="video"):
    """The place of a video in a message; ``media`` is its index in ``Conversation.media``."""

    media: int
    train: bool | None = None


class Audio(Struct, frozen=True, gc=False, tag_field="type", tag="audio"):
    """The place of a sound in a message; ``media`` is its index in ``Conversation.media``."""

    media: int
    train: bool | None = None


class Region(Struct, frozen=True, gc=False, tag_field="type", tag="region"):
    """A phrase and the boxes it speaks of:
    (x1, y1, x2, y2) in 0..1 of the medium at index ``media``.

    Coordinates are rounded to float32 when the region is made, which is how a store keeps them.

    ``unit="pixel"`` is for a source that says pixels and not the size of the picture: such a region
    lives between the format and :func:`mmdata.conversion.boxes.scale_boxes`, which finds the size.
    No store holds one, and no template reads one.
    """

    text: str
    boxes: tuple[Box, ...]
    media: int = 0
    train: bool | None = None
    unit: BoxUnit = "fraction"

    def __post_init__(self) -> None:
        """Check and round the boxes."""
        if self.unit not in _BOX_UNITS:
            raise SchemaError(
                f"the unit of boxes must be 'fraction' or 'pixel', found {self.unit!r}"
            )
        check = _checked_box if self.unit == "fraction" else _checked_pixels
        force_setattr(self, "boxes", tuple(map(check, self.boxes)))


class Time(Struct, frozen=True, gc=False, tag_field="type", tag="time"):
    """A moment (``end`` is None) or a span of the video at index ``media``,
    in seconds since its first frame.
    """

    start: float
    end: float | None = None
    media: int = 0
    train: bool | None = None

    def __post_init__(self) -> None:
        """Check the order of the two times."""
        last = self.start if self.end is None else self.end
        if not 0 <= self.start <= last < math.inf:
            raise SchemaError(
                f"a time must satisfy 0 <= start <= end, found {self.start} to {self.end}"
            )


class Reasoning(Struct, frozen=True, gc=False, tag_field="type", tag="reasoning"):
    """What is thought before something is said; it is no part of what is said."""

    text: str
    train: bool | None = None


class ToolCall(Struct, frozen=True, gc=False, tag_field="type", tag="tool_call"):
    """A tool that is called: its ``name``, its ``arguments`` as JSON text,
    and the ``call_id``, where there is one.
    """

    name: str
    arguments: str = "{}"
    call_id: str | None = None
    train: bool | None = None

    def __str__(self) -> str:
        """Return the call as JSON, as most models are taught to write it."""
        return f'{{"name": {encode_json(self.name).decode()}, "arguments": {self.arguments}}}'

    def __post_init__(self) -> None:
        """Check that it says which tool, and that the arguments are JSON."""
        if not self.name:
            raise SchemaError("a tool call needs the name of the tool, found an empty one")
        if self.call_id == "":
            raise SchemaError(f"the call of {self.name!r} has an empty id; None stands for no id")
        _check_json(self.arguments, f"the arguments of {self.name!r}")


Part: TypeAlias = Text | Image | Video | Region | Time | Audio | Reasoning | ToolCall


class Message(Struct, frozen=True, gc=False):
    """One turn: who speaks, what parts, and whether a model is trained to say it.

    :func:`system`, :func:`user`, :func:`assistant` and :func:`tool` make the usual ones.
    """

    role: Role
    content: tuple[Part, ...]
    train: bool

    @property
    def text(self) -> str:
        """The words of the message, its text and region phrases joined."""
        return "".join(part.text for part in self.content if isinstance(part, (Text, Region)))


class CompactTimes(Struct, frozen=True, gc=False):
    """The presentation times of all frames of a file, in seconds since its first presented frame.

    At a constant rate frame ``n`` is at ``start + n * step``, and ``Media.num_frames`` says how
    many there are; with a ``unit``, ``n * step`` is rounded to whole ticks of so many seconds,
    halves up, as containers round it. Else the frame is at ``start + unit * sum(deltas[:n])``:
    ``deltas`` are the steps from frame to frame, one fewer than frames, in ticks of ``unit``
    seconds.

    With ``first_tick``, the time of the first presented frame in the file's own ticks of ``unit``,
    and ``keyframes``, the numbers of frames that decode by themselves, a reader seeks to any frame
    without reading the packets before it.
    """

    start: float = 0.0
    step: float | None = None
    deltas: tuple[int, ...] | None = None
    unit: float | None = None
    first_tick: int | None = None
    keyframes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check that it is one of the two, and that times do not decrease."""
        is_one = (self.step is None) != (self.deltas is None)
        if not is_one or (self.deltas is not None and self.unit is None):
            raise SchemaError("the times of frames are a step, or deltas with their unit")
        for length in (self.step, self.unit):
            if not math.isfinite(self.start) or not (length is None or 0 < length < math.inf):
                raise SchemaError(
                    "the times of frames need a finite start and a positive step or unit, "
                    f"found {self.start} and {length}"
                )
        if self.deltas and not (min(self.deltas) >= 0 and max(self.deltas) < 1 << 31):
            raise SchemaError(
                "the times of frames must not decrease, and no step may exceed 2**31 - 1 ticks"
            )
        if any(after <= before for before, after in pairwise((-1, *(self.keyframes or ())))):
            raise SchemaError("the numbers of keyframes must increase, from 0 on")


class Media(Struct, frozen=True, gc=False):
    """An image, a video or a sound: where it is, and what is known of it.

    ``path`` is a POSIX path relative to the store's media root, an absolute one, or a URL;
    ``bytes`` the encoded file when it is embedded; ``frame_paths`` the paths of the pictures that a
    video is given as; ``frames`` the encoded frames of a frame cache. One of the four is there.
    ``clock`` says when the frames of the file are. ``width`` and ``height`` are pixels as
    presented; ``duration``, ``start``, ``end`` and ``frame_times`` are seconds, ``start`` and
    ``end`` the bounds of a clip in a longer file. ``times`` says where the times of a video come
    from: its ``stream``, or ``derived`` from the frame rate where the container stores none.
    ``size`` is the bytes of the file and ``hash`` says what its content was when it was looked into
    (:mod:`mmdata.conversion.fingerprint`), so that another file in its place is found. ``oddities``
    says how a sound video is oddly made. What is None has not been probed; of ``oddities`` it is
    also that there are none.
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
    frame_paths: tuple[str, ...] | None = None
    clock: CompactTimes | None = None
    oddities: tuple[Oddity, ...] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without opening the file."""
        if self.type not in _MEDIA_TYPES:
            raise SchemaError(
                f"media type must be 'image', 'video' or 'audio', found {self.type!r}"
            )
        if (
            not self.path
            and self.bytes is None
            and self.frames is None
            and self.frame_paths is None
        ):
            raise SchemaError(f"a medium needs a path, bytes or frames; this {self.type} has none")

        if self.start is not None or self.end is not None:
            Time(self.start or 0.0, self.end)

        if self.times is not None and self.times not in _TIME_SOURCES:
            raise SchemaError(f"times must be 'stream' or 'derived', found {self.times!r}")

        if self.oddities is not None and not _ODDITIES.issuperset(self.oddities):
            raise SchemaError(
                f"oddities must be of {', '.join(sorted(_ODDITIES))}, found {self.oddities!r}"
            )

        if self.frame_times is not None:
            _check_frame_times(self.frame_times, self.frames)

        if self.frame_paths is not None or self.clock is not None:
            _check_frame_paths(self)

        # One by one: a loop over names would take longer than all the rest of making a medium.
        if self.width is not None:
            _check_whole(self, "width", self.width, 32)
        if self.height is not None:
            _check_whole(self, "height", self.height, 32)
        if self.num_frames is not None:
            _check_whole(self, "num_frames", self.num_frames, 64)
        if self.size is not None:
            _check_whole(self, "size", self.size, 64)
        if self.fps is not None and not _is_finite(self.fps):
            raise _odd_number(self, "fps", "a finite number")
        if self.duration is not None and not _is_finite(self.duration):
            raise _odd_number(self, "duration", "a finite number")


class Conversation(Struct, frozen=True):
    """One row of a store.

    ``tools`` is JSON text: the tools that were declared. ``rejected`` is the worse ending of a
    preference pair. ``desirable`` says of a judged answer whether it is good. ``extra`` holds, as
    JSON values, the fields of the source that have no other home. Making one checks it:

    - roles come in any order, and several turns of one role stay several;
    - every message has content, and every part that names a medium names one that is there and of
      its kind;
    - ``extra`` is a mapping whose keys are strings;
    - ``tools`` is JSON, ``rejected`` has messages where it is given, and an answer judged bad is no
      training target.

    Raises:
        SchemaError: with the rule that is broken, the message's number and the conversation's id.

    >>> cup = Media("image", "cup.jpg")
    >>> messages = user(Image(0), "What is this?"), assistant("A cup.")
    >>> Conversation("c1", messages, media=(cup,)).messages[1].text
    'A cup.'
    """

    id: str
    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    source: str = ""
    split: Split = "train"
    extra: Mapping[str, Any] = field(default_factory=dict)
    tools: str | None = None
    rejected: tuple[Message, ...] | None = None
    desirable: bool | None = None

    def __post_init__(self) -> None:
        """Check the whole."""
        if not self.id:
            raise SchemaError("a conversation needs an id, found an empty one")
        if self.split not in _SPLITS:
            raise SchemaError(
                f"conversation {self.id!r}: split must be train, val or test, found {self.split!r}"
            )
        if not self.messages:
            raise SchemaError(f"conversation {self.id!r} has no messages", reason="no_conversation")

        if self.extra or type(self.extra) is not dict:
            _check_extra(self)

        _check_messages(self, self.messages)
        if self.tools is not None:
            _check_json(self.tools, f"conversation {self.id!r}: tools")

        if self.rejected is not None:
            if not self.rejected:
                raise SchemaError(
                    f"conversation {self.id!r}: rejected has no messages", reason="no_conversation"
                )
            _check_messages(self, self.rejected, "rejected message")

        if self.desirable is False:
            _check_untrained(self)

    def _repr_html_(self) -> str:
        """Return the turns as a table, for a notebook; those that are trained on have a mark."""
        rows = [("media", markup.text(_where(medium))) for medium in self.media]
        rows += [("tools", markup.text(markup.shorten(self.tools)))] if self.tools else []
        for before, turns in (("", self.messages), ("rejected: ", self.rejected or ())):
            for turn in turns:
                said = "".join(map(_said, turn.content))
                mark = " *" if turn.train else ""
                rows.append((f"{before}{turn.role}{mark}", markup.text(markup.shorten(said, 2000))))
        title = f"{self.id} ({self.source or 'no source'}, {self.split})"
        return markup.table(title, ((markup.text(name), cell) for name, cell in rows))


def _where(medium: Media) -> str:
    pictures = f"{len(medium.frame_paths or medium.frames or ()):,} pictures"
    embedded = pictures if medium.bytes is None else f"{len(medium.bytes):,} bytes"
    return f"{medium.type} {medium.path or embedded}"


def _said(part: Part) -> str:
    """Return words as they are, and any other part with its name and fields."""
    if isinstance(part, Text):
        return part.text
    fields = " ".join(str(value) for value in astuple(part) if value is not None)
    return f"<{part.__struct_config__.tag} {fields}>"


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
    """Return an assistant message, a training target unless said otherwise;
    strings become text parts.
    """
    return Message("assistant", _parts(content), train)


@checked
def tool(*content: str | Part, train: bool = False) -> Message:
    """Return what a tool gave back; strings become text parts."""
    return Message("tool", _parts(content), train)


def replace(struct: Made, /, **changes: Any) -> Made:
    """Return a copy of a conversation, or of a part of one, with some fields changed; it is checked
    as a new one is.

    >>> replace(Media("image", "cup.jpg"), path="dog.jpg").path
    'dog.jpg'

    Raises:
        SchemaError: a rule of the schema is broken.
    """
    made = replace_fields(struct, **changes)
    # Releases of msgspec before 0.22 do not, and none is harmed by a second look.
    if hasattr(made, "__post_init__"):
        made.__post_init__()
    return made


def _parts(content: Sequence[str | Part]) -> tuple[Part, ...]:
    return tuple(Text(part) if isinstance(part, str) else part for part in content)


def _checked_box(box: Box) -> Box:
    x1, y1, x2, y2 = rounded = _FLOAT32.unpack(_FLOAT32.pack(*box))
    if not (0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1):
        raise SchemaError(
            "a box must satisfy 0 <= x1 <= x2 <= 1 and 0 <= y1 <= y2 <= 1 "
            f"(fractions of the image), found {box}",
            reason="bad_box",
        )
    return rounded


def _checked_pixels(box: Box) -> Box:
    x1, y1, x2, y2 = box
    if not (-math.inf < x1 <= x2 < math.inf and -math.inf < y1 <= y2 < math.inf):
        raise SchemaError(
            f"a box in pixels must satisfy x1 <= x2 and y1 <= y2, found {box}", reason="bad_box"
        )
    return x1, y1, x2, y2


def _check_frame_times(times: tuple[float, ...], frames: tuple[bytes, ...] | None) -> None:
    if frames is not None and len(frames) != len(times):
        raise SchemaError(f"{len(frames)} cached frames but {len(times)} frame times")
    if not all(map(math.isfinite, times)):
        raise SchemaError(
            "frame times must be finite numbers, "
            f"found {next(t for t in times if not math.isfinite(t))}"
        )
    if any(later < earlier for earlier, later in pairwise(times)):
        raise SchemaError("frame times must not decrease")


def _check_whole(media: Media, name: str, value: Any, bits: int) -> None:
    end = 1 << bits - 1
    if type(value) is int and -end <= value < end:
        return
    if not (_is_finite(value) and value == int(value) and -end <= value < end):
        raise _odd_number(media, name, f"a whole number of at most {bits} bits")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):  # no number, or a larger one than any float
        return False


def _odd_number(media: Media, name: str, wanted: str) -> SchemaError:
    return SchemaError(
        f"{name} of {_where(media)} must be {wanted}, found {getattr(media, name)!r:.80}; "
        "None says that it is not known"
    )


def _check_extra(conversation: Conversation) -> None:
    extra: Any = conversation.extra
    if type(extra) is not dict and not isinstance(extra, Mapping):
        raise SchemaError(
            f"conversation {conversation.id!r}: extra must be a mapping of names to values, "
            f"found {extra!r:.80}; {{}} says that there is nothing"
        )
    if _STRINGS.issuperset(map(type, extra)):
        return
    if odd := [key for key in extra if not isinstance(key, str)]:
        raise SchemaError(
            f"conversation {conversation.id!r}: extra has the key {odd[0]!r:.80}; "
            "keys of JSON are strings, make it one"
        )


def _check_json(text: str, what: str) -> None:
    try:
        found = decode_json(text)
    except (DecodeError, UnicodeError, RecursionError, TypeError) as error:
        raise SchemaError(f"{what}: must be JSON text, found {text!r:.80}: {error}") from error

    # msgspec keeps the last of the values whose key stands twice, and so would whoever reads the
    # text after us. Then what was read has fewer strings than the text; the reader that can name
    # the key is four times as slow, and not asked before.
    if _count_quotes(text) == _count_quotes(encode_json(found).decode()):
        return
    try:
        STRICT_DECODER.decode(text)
    except RepeatedKeyError as error:
        raise SchemaError(f"{what}: {error}", reason="bad_json") from error


def _count_quotes(text: str) -> int:
    """Return how many quotes of JSON text begin or end a string."""
    if "\\" not in text:
        return text.count('"')
    text = text.replace("\\\\", "")
    return text.count('"') - text.count('\\"')


def _check_frame_paths(media: Media) -> None:
    if media.type != "video":
        raise SchemaError(f"frame_paths and clock are of videos, found them of {media.type}")
    if media.frame_paths is not None and not (media.frame_paths and all(media.frame_paths)):
        raise SchemaError("frame_paths must be paths, one at least and none of them empty")


def _check_messages(
    conversation: Conversation, messages: Sequence[Message], what: str = "message"
) -> None:
    for number, message in enumerate(messages):
        if message.role not in _ROLES:
            raise SchemaError(
                f"conversation {conversation.id!r}: {what} {number} has the role {message.role!r}; "
                "known are system, user, assistant and tool",
                reason="unknown_role",
            )
        if not message.content:
            raise SchemaError(
                f"conversation {conversation.id!r}: {what} {number} is empty", reason="empty_turn"
            )
        for part in message.content:
            if type(part) is not Text:
                _check_reference(conversation, what, number, part)


def _check_untrained(conversation: Conversation) -> None:
    for number, message in enumerate(conversation.messages):
        if message.train or any(part.train for part in message.content):
            raise SchemaError(
                f"conversation {conversation.id!r}: "
                f"message {number} is to be learned, but the answer was judged bad; "
                "train must be false"
            )


def _check_reference(conversation: Conversation, what: str, number: int, part: Part) -> None:
    if isinstance(part, (Text, Reasoning, ToolCall)):
        return
    media, index = conversation.media, part.media
    if not 0 <= index < len(media):
        fault = f"speaks of medium {index} of {len(media)}"
    elif media[index].type == (wanted := _WANTED.get(type(part), media[index].type)):
        return
    else:
        fault = f"wants medium {index} to be of type {wanted}, found {media[index].type}"
    raise SchemaError(
        f"conversation {conversation.id!r}: {what} {number} {fault}", reason="media_mismatch"
    )


_WANTED: Final[dict[type, MediaType]] = {
    Image: "image",
    Video: "video",
    Time: "video",
    Audio: "audio",
}
"""Which media parts speak of; regions may be of any."""
