"""The objects of a chat record: parts of a turn, and media listed beside the turns; what they say,
and what besides.

A medium is a path, a URL, a data URI, or an object that holds one of them or its bytes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any, Final, TypeGuard

from mmdata.errors import RecordError
from mmdata.formats._sources import json_type
from mmdata.schema import Media, MediaType

__all__ = [
    "KIND_OF",
    "TEXT",
    "body_of",
    "is_object",
    "leftovers_of_media",
    "leftovers_of_parts",
    "media_of",
    "medium_in",
    "medium_of",
]

KIND_OF: Final[dict[str, MediaType]] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
}
"""What a part's type says it is, where it is a medium."""
TEXT: Final = frozenset({"text", "input_text", "output_text"})
"""What a part's type says it is, where it is words."""
_DATA: Final = re.compile(r"data:[\w.+/;=-]*;base64,", re.ASCII | re.IGNORECASE)
_WORDS: Final = ("text", "value", "content")
"""What may hold a part's words, besides the field that is called as its type."""
_ENCODED: Final = ("data", "base64", "bytes")
"""What may hold a medium itself, in base64."""
_PLACES: Final = ("url", "path", *_ENCODED, "image", "video")
"""What may hold the place of a medium, or itself."""
_SHOWN: Final = (
    "image",
    "image_url",
    "video",
    "video_url",
    "value",
    "url",
    "path",
    "source",
    *_ENCODED,
    "frames",
)
"""What of a part may hold a medium, besides the field that is called as its type."""
_SPELLINGS: Final = frozenset({*KIND_OF, *_WORDS, *_PLACES, *_SHOWN})


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a JSON value is an object."""
    return isinstance(value, dict)


def media_of(value: object, medium: MediaType) -> list[Media]:
    """Return the media that a field lists: paths, URLs, data URIs or objects that hold one of them;
    or one such.

    >>> [medium.path for medium in media_of(["a.jpg", {"url": "b.jpg"}], "image")]
    ['a.jpg', 'b.jpg']
    """
    if value is None or value in ("", []):
        return []
    return [medium_of(item, medium) for item in (value if isinstance(value, list) else [value])]


def medium_of(item: object, medium: MediaType, *, encoded: bool = False) -> Media:
    """Return the medium that a path, a URL, a data URI or an object that holds one of them or bytes
    stands for.

    Text that is ``encoded`` is the medium itself, in base64.

    >>> medium_of("data:image/png;base64,aGk=", "image").bytes
    b'hi'
    """
    if is_object(item):
        key = _where(item)
        item, encoded = (None if key is None else item[key]), key in _ENCODED
    if isinstance(item, bytes):
        return Media(medium, bytes=item)
    if isinstance(item, list):
        raise RecordError(f"a {medium} given as a list of files", reason="unsupported_media")
    if not isinstance(item, str):
        raise RecordError(f"a {medium} must be a path, found {json_type(item)}")
    if not item:
        raise RecordError(f"the path of a {medium} is empty", reason="missing_media")
    if head := _DATA.match(item):
        return _decode_base64(item[head.end() :], medium)
    return _decode_base64(item, medium) if encoded else Media(medium, item)


def _decode_base64(text: str, medium: MediaType) -> Media:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise RecordError(
            f"a {medium} in the record is not base64: {error}", reason="unreadable_media"
        ) from error
    if not data:
        raise RecordError(f"a {medium} in the record has no bytes", reason="empty_media")
    return Media(medium, bytes=data)


def medium_in(item: dict[str, Any], medium: MediaType) -> Media | None:
    """Return the medium that a part brings with it; None where that is listed beside the turns."""
    key = _body_key(item)
    return None if key is None else medium_of(item[key], medium, encoded=key in _ENCODED)


def body_of(item: dict[str, Any]) -> Any:
    """Return what a part says: its words, or where its medium is; None where it has neither."""
    key = _body_key(item)
    return None if key is None else item[key]


def leftovers_of_media(value: object) -> dict[str, Any]:
    """Return the fields of listed media besides where each is, by its number, of those that have
    any.
    """
    return _number_nonempty(map(_rest_of_medium, value if isinstance(value, list) else [value]))


def leftovers_of_parts(key: object, content: object) -> dict[str, Any]:
    """Return the fields of a turn's parts besides what they say, by the part's number, under the
    turn's ``key``.
    """
    found = _number_nonempty(map(_rest_of_part, content)) if isinstance(content, list) else {}
    return {str(key): found} if found else {}


def _body_key(item: dict[str, Any]) -> str | None:
    """Return the field of a part that holds its body."""
    what = item.get("type", "")
    return next(
        (key for key in (what, *(_WORDS if what in TEXT else _SHOWN)) if item.get(key) is not None),
        None,
    )


def _where(item: dict[str, Any]) -> str | None:
    """Return the field of an object that holds a medium, or else says where it is.

    Its bytes come first: the path beside them is that of a file which somebody else had.
    """
    return next((key for key in (*_ENCODED, *_PLACES) if item.get(key)), None)


def _number_nonempty(rests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {str(number): rest for number, rest in enumerate(rests) if rest}


def _rest_of_part(item: object) -> dict[str, Any]:
    if not is_object(item):
        return {}
    said = _body_key(item)
    rest = {
        key: found
        for key, found in item.items()
        if key not in {"type", said} and not _is_unused(key, found)
    }
    inner = {} if said is None else {said: _rest_of_medium(item[said])}
    return rest | {key: found for key, found in inner.items() if found}


def _rest_of_medium(item: object) -> dict[str, Any]:
    if not is_object(item):
        return {}
    where = _where(item)
    return {
        key: found for key, found in item.items() if key != where and not _is_unused(key, found)
    }


def _is_unused(key: str, found: object) -> bool:
    """Return whether a field is one of those that say what a part is, and empty: tables give every
    part all of them.
    """
    return key in _SPELLINGS and found in (None, "")
