"""The objects of a chat record: parts of a turn, and media listed beside the turns; what they say,
and what besides.

A part is read in the spellings of OpenAI, Hugging Face, Anthropic, Gemini and DashScope. A medium
is a path, a URL, a data URI, an object that holds one of them or its bytes, or, for a video, a list
of pictures.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeGuard

from msgspec import Struct

from mmdata.errors import RecordError
from mmdata.formats._marks import has_image_suffix, has_video_suffix
from mmdata.formats._meaning import is_bound, is_said, spell
from mmdata.formats._seconds import read_seconds
from mmdata.formats._sources import json_type
from mmdata.schema import CompactTimes, Media, MediaType, Reasoning, ToolCall, replace

__all__ = [
    "KIND_OF",
    "RAW_PICTURES",
    "SHORTEST_RAW",
    "TEXT",
    "Piece",
    "Place",
    "ToolResult",
    "add_rate",
    "clip_fields",
    "is_object",
    "leftovers_of_media",
    "leftovers_of_parts",
    "media_of",
    "medium_of",
    "rate_field",
    "read_part",
    "read_tool_call",
]

KIND_OF: Final[dict[str, MediaType]] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "frames": "video",
}
"""What a part's type says it is, where it is a medium."""
TEXT: Final = frozenset({"text", "input_text", "output_text"})
"""What a part's type says it is, where it is words."""
_GEMINI: Final = frozenset({"fileData", "inlineData", "file_data", "inline_data"})
_REASONING: Final = frozenset({"thinking", "reasoning"})
_DATA: Final = re.compile(r"data:[\w.+/;=-]*;base64,", re.ASCII | re.IGNORECASE)
_WORDS: Final = ("text", "value", "content")
"""What may hold a part's words, besides the field that is called as its type."""
_ENCODED: Final = ("bytes", "data", "base64")
"""What may hold a medium itself, in base64. It comes before a path, which is then but its name."""
_PLACES: Final = (
    *_ENCODED, "url", "path", "fileUri", "file_uri", "image", "image_url", "video", "video_url",
    "source", "file", "image_path", "video_path", "file_path", "file_name", "s3Location", "uri",
)  # fmt: skip
"""What may hold the place of a medium, or itself."""
_SHOWN: Final = (
    "image", "image_url", "video", "video_url", "value", "url", "path", "source", *_ENCODED,
    "frames",
)  # fmt: skip
"""What of a part may hold a medium, besides the field that is called as its type."""
_SPELLINGS: Final = frozenset({*KIND_OF, *_WORDS, *_PLACES, *_SHOWN})
_BOUNDS: Final = (
    *(
        (f"{owner}start{unit}", f"{owner}end{unit}")
        for owner in ("", "video_", "clip_", "segment_", "event_")
        for unit in ("", "_time", "_timestamp", "_sec", "_secs", "_second", "_seconds")
    ),
    ("time_start", "time_end"),
    ("starttime", "endtime"),
    ("start_offset", "end_offset"),  # Gemini, in its metadata: "1.5s"
)
"""The fields, as :func:`spell` spells them, that say between which seconds of its file a clip is;
``clip`` may hold both.
"""
_DURATIONS: Final = ("duration", "clip_duration", "segment_duration", "length", "clip_length")
"""The fields that may say how long a clip is, of which only the beginning is said."""
_MIME: Final = frozenset({"mimeType", "mime_type", "media_type"})
"""The fields of a block that say by a MIME type whether it is an image or a video."""
_WAYS: Final = frozenset({("url", "url"), ("base64", "data")})
"""What the ``type`` of Anthropic's ``source`` says, and the field that then holds the medium."""
_RATES: Final = ("sample_fps", "fps")
"""The fields that say how many of the pictures that a video is given as there are in a second."""
_NUMBER: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{0,15})?", re.ASCII)
_LARGEST_RATE: Final = 1e6


RAW_PICTURES: Final = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk")
"""How JPEG, PNG, GIF, WebP and BMP begin in base64."""
_MAGIC: Final = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|BM.{4}\0{4}", re.DOTALL
)
"""How they begin; of BMP, four bytes of its header are reserved, and are 0."""
SHORTEST_RAW: Final = 40
"""Fewer characters than a picture of one pixel has."""


class Place(Struct, frozen=True, gc=False):
    """A part that stands for a medium listed beside the turns: the ``index``-th, else the next."""

    type: MediaType
    index: int | None = None


class ToolResult(Struct, frozen=True, gc=False):
    """A part in which a user's turn brings what a tool gave back, as Anthropic and Gemini
    have it.
    """

    content: Any
    call_id: str | None = None


Piece: TypeAlias = str | Place | Media | Reasoning | ToolCall | ToolResult
"""What a part of a turn says."""


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a JSON value is an object."""
    return isinstance(value, dict)


def read_part(item: object) -> Piece:
    """Return what one item of a list of parts says.

    >>> read_part({"type": "text", "text": "Hi"}), read_part({"type": "image"})
    ('Hi', Place(type='image', index=None))

    Raises:
        RecordError: it is no part, or one of a kind that a store does not hold.
    """
    if isinstance(item, str):
        return item
    if not is_object(item):
        raise RecordError(f"a part must be an object, found {json_type(item)}")

    what = _type_of(item)
    if what in TEXT and item.get("thought") is True:  # Gemini's
        return Reasoning(_text_of(item, what))
    if what in TEXT:
        if not isinstance(words := _body_of(item, what), str):
            raise RecordError(f"a part's text must be a string, found {json_type(words)}")
        return words
    if what in _REASONING:
        return Reasoning(_text_of(item, what))
    if what in ("tool_use", "functionCall", "function_call"):
        return read_tool_call(item.get(what) or item)
    if what in ("tool_result", "functionResponse", "function_response"):
        return _read_tool_result(item, what)
    if what in _GEMINI:
        return _add_clip(_read_gemini_medium(item[what]), item)
    if what not in KIND_OF:
        raise RecordError(
            f"a part of type {what!r} is neither text, image nor video", reason="unsupported_media"
        )

    kind = KIND_OF[what]
    key = _body_key(item, what)
    if key is not None:
        medium = medium_of(item[key], kind, encoded=key in _ENCODED)
        return _add_clip(medium, item)

    index = item.get("index")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise RecordError(f"the index of a part must be an integer, found {json_type(index)}")

    return Place(kind, index)


def read_tool_call(item: object, call_id: str | None = None) -> ToolCall:
    """Return the call that an object says: a name, and arguments as an object or as JSON text.

    >>> read_tool_call({"id": "1", "function": {"name": "add", "arguments": {"a": 1}}})
    ToolCall(name='add', arguments='{"a": 1}', call_id='1', train=None)

    Raises:
        RecordError: there is no name, or what else it says has no place in a call.
    """
    if not is_object(item):
        raise RecordError(f"a tool call must be an object, found {json_type(item)}")

    call_id = item.get("id") or item.get("call_id") or call_id
    inner = item["function"] if is_object(item.get("function")) else item
    name = inner.get("name")
    if not isinstance(name, str) or not name:
        raise RecordError(f"a tool call needs the name of the tool, found {json_type(name)}")
    if not isinstance(call_id, str | None):
        raise RecordError(f"the id of a tool call must be a string, found {json_type(call_id)}")

    key = next((key for key in ("arguments", "input", "args", "parameters") if key in inner), None)
    arguments = None if key is None else inner[key]
    known = {"id", "call_id", "type", "function", "name", "index", key}
    if others := [name for part in (item, inner) for name in part if name not in known]:
        raise RecordError(
            f"a tool call has the field {others[0]!r}, which is not understood",
            reason="unsupported_field",
        )
    if arguments is None:
        return ToolCall(name, call_id=call_id)

    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name, text or "{}", call_id)


def media_of(value: object, medium: MediaType) -> list[Media]:
    """Return the media that a field lists: paths, URLs, data URIs or objects that hold one of them;
    or one such. Of videos, several pictures are the frames of one.

    >>> [medium.path for medium in media_of(["a.jpg", {"url": "b.jpg"}], "image")]
    ['a.jpg', 'b.jpg']
    >>> media_of(["1.jpg", "2.jpg"], "video")[0].frame_paths
    ('1.jpg', '2.jpg')
    """
    if value is None or value in ("", [], {}) or value != value:
        return []
    if medium == "video" and _are_pictures(value):
        return [medium_of(value, medium)]
    return [medium_of(item, medium) for item in (value if isinstance(value, list) else [value])]


def medium_of(item: object, medium: MediaType, *, encoded: bool = False) -> Media:
    """Return the medium that a path, a URL, a data URI, an object that holds one of them or bytes,
    or a list of pictures stands for. Text that is ``encoded`` is the medium itself, in base64.

    >>> medium_of("data:image/png;base64,aGk=", "image").bytes
    b'hi'
    >>> medium_of({"path": "1.mp4", "start": 2, "end": 3.5}, "video").end
    3.5

    Raises:
        RecordError: it stands for none.
    """
    if is_object(item):
        key = _where(item)
        inner = None if key is None else item[key]
        return _add_clip(medium_of(inner, medium, encoded=key in _ENCODED), item)
    if isinstance(item, list):
        return _read_frames(item, medium)
    if isinstance(item, bytes):  # of a table
        return _embedded(item, medium)
    if not isinstance(item, str):
        raise RecordError(f"{_a(medium)} must be a path, found {json_type(item)}")
    if not item:
        raise RecordError(f"the path of {_a(medium)} is empty", reason="missing_media")
    if head := _DATA.match(item):
        return _decode_base64(item[head.end() :], medium)
    if item[:5].lower() == "data:":
        raise RecordError(
            f"{_a(medium)} in the record must be in base64, as in data:image/png;base64,…, found "
            f"{item[:40]!r}",
            reason="unreadable_media",
        )
    if medium == "image" and not encoded and (data := _read_raw_picture(item)) is not None:
        return Media(medium, bytes=data)
    if encoded:
        return _decode_base64(item, medium)
    if medium == "image" and has_video_suffix(item):
        raise RecordError(
            f"{item[:200]!r} is listed as an image, and its name is that of a video",
            reason="media_mismatch",
        )
    return Media(medium, item)


def _read_raw_picture(text: str) -> bytes | None:
    """Return the picture that text is in base64 where a path is looked for, as ms-swift and
    VLMEvalKit's tables have it; None where it is none, which the first bytes that it stands for
    tell. A path may begin alike, but is no base64 as it has a suffix.
    """
    if len(text) < SHORTEST_RAW or not text.startswith(RAW_PICTURES):
        return None
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return None
    return data if _MAGIC.match(data) else None


def clip_fields(item: Mapping[str, Any]) -> tuple[dict[str, float], frozenset[str]]:
    """Return between which seconds a clip is, as ``start`` and ``end`` of :class:`Media`, and the
    fields that say so.

    >>> clip_fields({"video_start": 1, "video_end": "2.5", "fps": 2})[0]
    {'start': 1.0, 'end': 2.5}

    Raises:
        RecordError: two pairs of fields say it, or one says no time.
    """
    found: list[tuple[dict[str, float], frozenset[str]]] = []
    spelt = {spell(name): name for name, said in item.items() if is_said(said)}
    for names in _BOUNDS if any(map(is_bound, spelt)) else ():
        times = {
            bound: _seconds(spelt[name], item[spelt[name]])
            for bound, name in zip(("start", "end"), names, strict=True)
            if name in spelt
        }
        lasts = next((spelt[name] for name in _DURATIONS if name in spelt), None)
        if times.keys() == {"start"} and lasts is not None:
            raise RecordError(
                f"{spelt[names[0]]!r} has no end beside it, and {lasts!r} may be the clip's or "
                "the whole video's; say the end",
                reason="unsupported_field",
            )
        if times:
            found.append((times, frozenset(spelt[name] for name in names if name in spelt)))

    metadata = spelt.get("video_metadata")
    if metadata is not None and is_object(inner := item[metadata]):
        times = clip_fields(inner)[0]
        if times:
            is_all = len(times) == len(inner)
            found.append((times, frozenset({metadata} if is_all else ())))

    clip = item.get("clip")
    if isinstance(clip, list) and len(clip) == 2:
        times = {
            bound: _seconds("clip", time)
            for bound, time in zip(("start", "end"), clip, strict=True)
        }
        found.append((times, frozenset({"clip"})))
    elif is_object(clip) and clip.keys() == {"start", "end"}:
        found.append(
            ({name: _seconds(name, time) for name, time in clip.items()}, frozenset({"clip"}))
        )

    if len(found) > 1:
        fields = sorted(name for _, some in found for name in some)
        raise RecordError(f"{', '.join(fields)} all say when a clip begins; keep one pair of them")

    return found[0] if found else ({}, frozenset())


def leftovers_of_media(value: object, medium: MediaType = "video") -> dict[str, Any]:
    """Return the fields of listed media besides where each is, by its number, of those that have
    any. Of a video the bounds of a clip are heard, of an image they are left.

    >>> leftovers_of_media([{"path": "1.jpg", "start": 2}], "image")
    {'0': {'start': 2}}
    """
    items = value if isinstance(value, list) else [value]
    found = {}
    for number, item in enumerate(items):
        if rest := _rest_of_medium(item, medium):
            found[str(number)] = rest
    return found


def leftovers_of_parts(key: object, content: object) -> dict[str, Any]:
    """Return the fields of a turn's parts besides what they say, by the part's number, under the
    turn's ``key``.
    """
    parts = content if isinstance(content, list) else [content]
    found = _number_nonempty(map(_rest_of_part, parts))
    return {str(key): found} if found else {}


def _a(medium: MediaType) -> str:
    return f"{'a' if medium == 'video' else 'an'} {medium}"


def _type_of(item: dict[str, Any]) -> str:
    """Return what a part says it is; one without a type is what its only field is called."""
    what = item.get("type")
    if isinstance(what, str):
        return what
    said = [key for key, value in item.items() if value is not None]
    if "type" not in item and (known := [key for key in said if key in _TYPELESS]):
        return known[0]
    raise RecordError(f"a part's type must be a string, found {json_type(item.get('type'))}")


_TYPELESS: Final = (
    "text", "image", "video", "fileData", "inlineData", "file_data", "inline_data", "functionCall",
    "functionResponse", "function_call", "function_response",
)  # fmt: skip
"""The fields that say by their name what a part without a type is (DashScope, Gemini)."""


def _text_of(item: dict[str, Any], what: str) -> str:
    words: str | None = next(
        (item[key] for key in (what, *_WORDS) if isinstance(item.get(key), str)), None
    )
    if words is None:
        raise RecordError(f"a part of type {what!r} needs text, found none")
    return words


def _read_tool_result(item: dict[str, Any], what: str) -> ToolResult:
    inner = item.get(what) if is_object(item.get(what)) else item
    assert is_object(inner)
    content = next((inner[key] for key in ("content", "response", "output") if key in inner), "")
    if is_object(content):
        content = json.dumps(content, ensure_ascii=False)
    return ToolResult(content, inner.get("tool_use_id") or inner.get("id"))


def _read_gemini_medium(found: object) -> Media:
    if not is_object(found):
        raise RecordError(f"a part's file must be an object, found {json_type(found)}")
    mime = str(found.get("mimeType") or found.get("mime_type") or "image")
    kind = mime.partition("/")[0]
    if kind not in ("image", "video"):
        raise RecordError(f"a file of the type {mime} is neither", reason="unsupported_media")
    return medium_of(found, kind)  # type: ignore[arg-type]


def _are_pictures(value: object) -> bool:
    """Return whether several paths are all of pictures: of a video, they are its frames."""
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(path, str) and has_image_suffix(path) for path in value)
    )


def _read_frames(items: Sequence[Any], medium: MediaType) -> Media:
    # Tables hold a picture as an object; one that has no bytes is its path.
    paths = [
        item["path"] if is_object(item) and item.get("path") and not _holds_bytes(item) else item
        for item in items
    ]
    if medium == "video" and paths and all(isinstance(path, str) and path for path in paths):
        if len(paths) == 1 and not has_image_suffix(paths[0]):
            return Media(medium, paths[0])
        return Media(medium, frame_paths=tuple(path.removeprefix("file://") for path in paths))
    raise RecordError(f"{_a(medium)} given as a list of files", reason="unsupported_media")


def _holds_bytes(item: dict[str, Any]) -> bool:
    return any(item.get(key) for key in _ENCODED)


def add_rate(medium: Media, item: Mapping[str, Any]) -> Media:
    """Return a video given as pictures with the times of those, where the object beside it says at
    which rate they were taken.

    >>> add_rate(Media("video", frame_paths=("1.jpg", "2.jpg")), {"fps": 2}).clock.step
    0.5
    """
    if medium.frame_paths is not None and medium.clock is None and (key := rate_field(item)):
        return replace(medium, clock=CompactTimes(step=1 / _rate(item[key])))
    return medium


def _add_clip(medium: Media, item: dict[str, Any]) -> Media:
    """Return a medium with what the object beside it says about when it is."""
    if medium.type != "video":
        return medium
    times, _ = clip_fields(item)
    if times:
        medium = replace(medium, **times)
    return add_rate(medium, item)


def rate_field(item: Mapping[str, Any]) -> str | None:
    """Return the field that says at which rate pictures were taken, if one does."""
    return next((key for key in _RATES if 0 < _rate(item.get(key)) < _LARGEST_RATE), None)


def _rate(value: object) -> float:
    """Return a rate as a number or as text, which says it in Qwen's own examples; 0 for none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return 0.0
    if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
        return 0.0
    return float(value)


def _seconds(name: str, value: object) -> float:
    """Return a number of seconds."""
    seconds = read_seconds(value)
    if seconds is None:
        raise RecordError(
            f"{name!r} must be a number of seconds, or HH:MM:SS, found {str(value)[:40]!r}"
        )
    return seconds


def _embedded(data: bytes, medium: MediaType) -> Media:
    if not data:
        raise RecordError(f"{_a(medium)} in the record has no bytes", reason="empty_media")
    return Media(medium, bytes=data)


def _decode_base64(text: str, medium: MediaType) -> Media:
    try:
        # Encoders break lines, as MIME has it.
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise RecordError(
            f"{_a(medium)} in the record is not base64: {error}", reason="unreadable_media"
        ) from error
    return _embedded(data, medium)


def _body_of(item: dict[str, Any], what: str) -> Any:
    key = _body_key(item, what)
    return None if key is None else item[key]


def _body_key(item: dict[str, Any], what: str) -> str | None:
    """Return the field of a part that holds its body."""
    others = _WORDS if what in TEXT else _SHOWN
    return next((key for key in (what, *others) if item.get(key) is not None), None)


def _where(item: dict[str, Any]) -> str | None:
    """Return the field of an object that says where a medium is, or holds it."""
    for key in _PLACES:  # a loop costs a third of a generator, and each picture of a table is asked
        if item.get(key):
            return key
    return None


def _number_nonempty(rests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {str(number): rest for number, rest in enumerate(rests) if rest}


def _rest_of_part(item: object) -> dict[str, Any]:
    if not is_object(item):
        return {}

    what = _type_of(item)
    if what in ("tool_use", "functionCall", "function_call"):
        # A call refuses what it does not understand; what stands around it is left.
        around = item if item.get(what) else {}
        rest = {key: found for key, found in around.items() if key not in {"type", what}}
        _require_one_medium(rest)
        return rest
    if what in ("tool_result", "functionResponse", "function_response"):
        inside = item[what] if is_object(item.get(what)) else {}
        rest = {
            key: found
            for key, found in (*item.items(), *inside.items())
            if key not in _HEARD_OF_RESULTS and key != what
        }
        _require_one_medium(rest)
        return rest

    said = what if what not in KIND_OF and what in item else _body_key(item, what)
    heard = {"type", said} | ({"index"} if said is None else set())
    if what in TEXT and item.get("thought") is True:
        heard.add("thought")
    kind: MediaType = "image"
    if what in KIND_OF:
        kind = KIND_OF[what]
    elif what in _GEMINI:
        kind = _read_gemini_medium(item[what]).type

    heard |= _heard_of_video(item, kind, said)
    rest = {
        key: found for key, found in item.items() if key not in heard and not _is_unused(key, found)
    }
    _require_one_medium(rest)
    inner = {} if said is None else _rest_of_medium(item[said], kind)
    if said == "source" or said in _GEMINI:
        inner = {
            key: found
            for key, found in inner.items()
            if not _says_what_is_shown(key, found, item[said], kind)
        }
    return {**rest, said: inner} if said is not None and inner else rest


def _says_what_is_shown(key: str, found: object, block: dict[str, Any], kind: MediaType) -> bool:
    """Return whether a field of a block says of its medium what was read of it: its kind, or where
    in the block it is.
    """
    if key in _MIME:
        return isinstance(found, str) and found.partition("/")[0] == kind
    return key == "type" and isinstance(found, str) and (found, _where(block)) in _WAYS


_HEARD_OF_RESULTS: Final = frozenset(
    {"type", "content", "response", "output", "tool_use_id", "id", "name"}
)
"""The fields of what a tool gave back that are read, or say nothing that its call does not."""


def _rest_of_medium(item: object, medium: MediaType) -> dict[str, Any]:
    if not is_object(item):
        return {}
    where = _where(item)
    heard = _heard_of_video(item, medium, where)
    rest = {
        key: found
        for key, found in item.items()
        if key != where and key not in heard and (found or not _is_unused(key, found))
    }
    _require_one_medium(rest)
    if where is None or not is_object(item[where]):
        return rest
    inner = _rest_of_medium(item[where], medium)
    return {**rest, where: inner} if inner else rest


def _require_one_medium(rest: dict[str, Any]) -> None:
    """Raise a :class:`RecordError` where what is left over of a part or a medium has another medium
    in it: under that name stands what is left over of the one that is shown.
    """
    for key, found in rest.items():
        if key in KIND_OF and is_object(found) and is_said(found):
            raise RecordError(
                f"a part shows one medium; {key!r} stands beside it", reason="unsupported_field"
            )


def _heard_of_video(item: dict[str, Any], medium: MediaType, where: str | None) -> frozenset[str]:
    """Return the fields of a video that say when it is, or how many of the pictures in ``where``
    there are in a second.
    """
    if medium != "video":
        return frozenset()
    heard = clip_fields(item)[1]
    pictures = None if where is None else item[where]
    rate = rate_field(item)
    if rate is None or not isinstance(pictures, list):
        return heard
    return heard if _read_frames(pictures, medium).frame_paths is None else heard | {rate}


def _is_unused(key: str, found: object) -> bool:
    """Return whether a field is one of those that say what a part is, and empty: tables give every
    part all of them.
    """
    return key in _SPELLINGS and found in (None, "")
