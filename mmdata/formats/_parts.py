"""The objects of a chat record: parts of a turn, and media listed beside the turns; what they say, and what besides.

A medium is a path, a URL, a data URI, or an object that holds one of them or its bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Any, Final, TypeGuard

from mmdata.errors import RecordError
from mmdata.formats._sources import kind
from mmdata.schema import Media, MediaType

__all__ = ["KIND_OF", "body_of", "is_object", "leftovers_of_media", "leftovers_of_parts", "media_of", "medium_of"]

KIND_OF: Final[dict[str, MediaType]] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
}
"""What a part's type says it is, where it is a medium."""
_DATA: Final = re.compile(r"data:[\w.+/-]*;base64,", re.ASCII)
_BODIES: Final = ("value", "text", "content", "url", "path")
"""What may hold a part's text or place, besides the field that is called as its type."""
_PLACES: Final = ("url", "path", "bytes", "image", "video")
"""What may hold the place of a medium, or its bytes."""
_SPELLINGS: Final = frozenset({*KIND_OF, *_BODIES, *_PLACES})


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a JSON value is an object."""
    return isinstance(value, dict)


def media_of(value: object, medium: MediaType) -> list[Media]:
    """Return the media that a field lists: paths, URLs, data URIs or objects that hold one of them; or one such."""
    if value is None or value in ("", []):
        return []
    return [medium_of(item, medium) for item in (value if isinstance(value, list) else [value])]


def medium_of(item: object, medium: MediaType) -> Media:
    """Return the medium that a path, a URL, a data URI or an object that holds one of them or bytes stands for."""
    if is_object(item):
        item = None if (key := _where(item)) is None else item[key]
    if isinstance(item, list):
        raise RecordError(f"a {medium} given as a list of files", reason="unsupported_media")
    if not isinstance(item, str):
        raise RecordError(f"a {medium} must be a path, found {kind(item)}")
    if not item:
        raise RecordError(f"the path of a {medium} is empty", reason="missing_media")
    if not (head := _DATA.match(item)):
        return Media(medium, item)
    try:
        data = base64.b64decode(item[head.end() :], validate=True)
    except binascii.Error as error:
        raise RecordError(f"a {medium} in a data URI is not base64: {error}", reason="unreadable_media") from error
    if not data:
        raise RecordError(f"a {medium} in a data URI has no bytes", reason="empty_media")
    return Media(medium, bytes=data)


def body_of(item: dict[str, Any]) -> Any:
    """Return what a part says: its text, or where its medium is; None where that is listed beside the turns."""
    key = _body_key(item)
    return None if key is None else item[key]


def leftovers_of_media(value: object) -> dict[str, Any]:
    """Return the fields of listed media besides where each is, by its number, of those that have any."""
    return _numbered(map(_rest_of_medium, value if isinstance(value, list) else [value]))


def leftovers_of_parts(key: object, content: object) -> dict[str, Any]:
    """Return the fields of a turn's parts besides what they say, by the part's number, under the turn's ``key``."""
    found = _numbered(map(_rest_of_part, content)) if isinstance(content, list) else {}
    return {str(key): found} if found else {}


def _body_key(item: dict[str, Any]) -> str | None:
    """Return the field of a part that holds its body."""
    return next((key for key in (item.get("type", ""), *_BODIES) if item.get(key) is not None), None)


def _where(item: dict[str, Any]) -> str | None:
    """Return the field of an object that says where a medium is, or holds it."""
    return next((key for key in _PLACES if item.get(key)), None)


def _numbered(rests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {str(number): rest for number, rest in enumerate(rests) if rest}


def _rest_of_part(item: object) -> dict[str, Any]:
    if not is_object(item):
        return {}
    said = _body_key(item)
    rest = {key: found for key, found in item.items() if key not in {"type", said} and not _is_unused(key, found)}
    inner = {} if said is None else {said: _rest_of_medium(item[said])}
    return rest | {key: found for key, found in inner.items() if found}


def _rest_of_medium(item: object) -> dict[str, Any]:
    if not is_object(item):
        return {}
    where = _where(item)
    return {key: found for key, found in item.items() if key != where and not _is_unused(key, found)}


def _is_unused(key: str, found: object) -> bool:
    """Return whether a field is one of those that say what a part is, and empty: tables give every part all of them."""
    return key in _SPELLINGS and found in (None, "")
