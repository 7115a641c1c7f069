"""Chat records column by column: what ``converse`` of :mod:`mmdata.formats._chat` says of each,
where all are plain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final

from mmdata.formats._flat import Medium, NotPlainError, TurnColumns, flatten_turns, require
from mmdata.formats._grounding import BoxStyle
from mmdata.formats._meaning import is_said
from mmdata.formats._parts import leftovers_of_media
from mmdata.formats._sources import conversation_id, unmapped_fields
from mmdata.formats._turns import IMAGE, ROLES, VIDEO
from mmdata.schema import MediaType, Split
from mmdata.sources.record import Record
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows

__all__ = ["MEDIA_FIELDS", "flatten_with", "read_chats", "read_extras", "read_media_lists"]

MEDIA_FIELDS: Final[dict[str, MediaType]] = {
    "images": "image",
    "image": "image",
    "videos": "video",
    "video": "video",
}
"""The fields of a chat record that list media, and the type of each."""

_LOOKED_FOR: Final = frozenset({"frames", "audios", "audio", "system", "tools", "functions"})
"""The fields besides that are looked for in every record, and go nowhere where they are empty."""
_ROLE_CODE: dict[str, int] = {speaker: ROLE_CODES[role] for speaker, role in ROLES.items()}
_IMAGE_PART = PART_CODES["image"]
_NO_MEDIA: Final[tuple[object, ...]] = (None, "", [])


def flatten_with(
    read: Callable[[Sequence[dict[str, Any]], Sequence[Record]], TurnColumns],
    records: Sequence[Record],
    dataset_name: str,
    *,
    marks: tuple[str, ...] = (IMAGE, VIDEO),
    refused: tuple[str, ...] = (),
    split: Split = "train",
    boxes: BoxStyle = "auto",
) -> FlatRows | None:
    """Return the rows of what ``read`` makes of the records' values, or None where not all of them
    are plain.

    ``read`` may trust nothing but that values are objects: a field that is missing (``KeyError``)
    or of another type (``TypeError``), and a condition that it has to :func:`require`, are reasons
    for None as well.
    """
    values = [record.raw for record in records]
    try:
        require(set(map(type, values)) == {dict})
        return flatten_turns(
            read(values, records),
            dataset_name,
            marks=marks,
            refused=refused,
            split=split,
            boxes=boxes,
        )
    except (NotPlainError, KeyError, TypeError):  # the last two from one of another shape
        return None


def read_chats(
    values: Sequence[dict[str, Any]],
    records: Sequence[Record],
    *,
    turns_fields: Sequence[str],
    mapped_fields: frozenset[str],
    has_system: bool,
) -> TurnColumns:
    """Return the columns of records whose turns are objects, in one of ``turns_fields``.

    ``mapped_fields`` are those that are not kept in ``extra``, that of the turns aside; with
    ``has_system`` the field ``system`` holds what the system says first.
    """
    field = next((field for field in turns_fields if field in values[0]), "")
    others = [other for other in turns_fields if other != field]
    require(not any(other in value for value in values for other in others))
    conversations = [value[field] for value in values]
    turns = list(chain.from_iterable(conversations))
    require(bool(turns))
    role, content = ("role", "content") if "role" in turns[0] else ("from", "value")
    require(set(map(len, turns)) == {2})  # no flag, no field besides
    speakers = bytes([_ROLE_CODE[turn[role]] for turn in turns])
    said = [turn[content] for turn in turns]
    num_turns = list(map(len, conversations))
    if has_system and any(value.get("system") is not None for value in values):
        num_turns, speakers, said = _prepend_system(values, num_turns, speakers, said)

    images, videos = read_media_lists(values, "image"), read_media_lists(values, "video")
    ids = [record.id or conversation_id(record) for record in records]
    extras = read_extras(values, records, mapped_fields | {field})
    kinds = set(map(type, said))
    if kinds == {str}:
        return TurnColumns(ids, num_turns, speakers, said, images, videos, extras)
    require(kinds <= {str, list} and not any(images) and not any(videos))
    texts, placed, images = _read_parts(said, num_turns)
    return TurnColumns(ids, num_turns, speakers, texts, images, videos, extras, placed)


def _prepend_system(
    values: Sequence[dict[str, Any]], num_turns: Sequence[int], speakers: bytes, said: Sequence[Any]
) -> tuple[list[int], bytes, list[Any]]:
    """Return the turns with what the field ``system`` says in front of each record's."""
    counts: list[int] = []
    roles = bytearray()
    texts: list[Any] = []
    start = 0
    for value, count in zip(values, num_turns, strict=True):
        text = value.get("system")
        require(text is None or type(text) is str)
        if text:
            roles.append(ROLE_CODES["system"])
            texts.append(text)
        roles += speakers[start : start + count]
        texts += said[start : start + count]
        counts.append(count + bool(text))
        start += count
    return counts, bytes(roles), texts


def read_extras(
    values: Sequence[dict[str, Any]], records: Sequence[Record], mapped_fields: frozenset[str]
) -> list[dict[str, Any]]:
    """Return what of records goes to ``extra``: fields that are not mapped, and what media that are
    objects have besides their bytes.
    """
    extras = [
        unmapped_fields(value, record, mapped_fields)
        for value, record in zip(values, records, strict=True)
    ]
    # Tables give every record these; empty, they are nothing that a record says.
    for key in _LOOKED_FOR.intersection(set().union(*extras)):
        for extra in extras:
            if key in extra and not is_said(extra[key]):
                del extra[key]

    for key, kind in MEDIA_FIELDS.items():
        if not any(key in value for value in values):
            continue
        for value, extra in zip(values, extras, strict=True):
            found = value.get(key)
            first = found[0] if type(found) is list and found else found
            if type(first) is dict and (rest := leftovers_of_media(found, kind)):
                extra[key] = rest
    return extras


def read_media_lists(values: Sequence[dict[str, Any]], kind: str) -> list[Sequence[Medium]]:
    """Return the paths or the bytes of each record's media of a kind: for images those of
    ``images``, then those of ``image``.
    """
    several, one = f"{kind}s", kind
    for value in values:
        require(value.get("audios") in _NO_MEDIA and value.get("audio") in _NO_MEDIA)
    found = [_paths(value.get(several)) for value in values]
    # Several pictures are the frames of one video.
    require(kind != "video" or not any(len(paths) > 1 for paths in found))
    if any(one in value for value in values):
        found = [
            [*paths, *_paths(value.get(one))] for paths, value in zip(found, values, strict=True)
        ]
    return found


def _paths(value: object) -> Sequence[Medium]:
    """Return the paths of media, or the bytes of those that a table holds; all are one or the
    other.
    """
    if not value:
        require(value in _NO_MEDIA)
        return ()
    items: list[Any] = value if isinstance(value, list) else [value]
    if type(items[0]) is dict:
        found = [item["bytes"] for item in items]
        require(all(isinstance(data, (bytes, memoryview)) and bool(data) for data in found))
        return found
    for path in items:
        # One that begins with "[" may be a list that a table holds as text.
        require(type(path) is str and path[:1] not in ("", "[") and path[:5].lower() != "data:")
    return items


def _read_parts(
    said: Sequence[Any], num_turns: Sequence[int]
) -> tuple[list[str], list[tuple[int, Sequence[tuple[int, Any]]]], list[Sequence[Medium]]]:
    """Return what turns say that are texts or lists of parts: the text of each turn that has but
    one, the parts of the others by the turn's number, and the images of each record.
    """
    texts: list[str] = []
    placed: list[tuple[int, Sequence[tuple[int, Any]]]] = []
    images: list[Sequence[Medium]] = []
    turn = 0

    for count in num_turns:
        shown: list[Medium] = []
        for content in said[turn : turn + count]:
            if type(content) is str:
                texts.append(content)
            else:
                parts = [_read_part(item, shown) for item in content]
                require(bool(parts))
                if len(parts) > 1 or parts[0][0]:
                    placed.append((turn, parts))
                texts.append(parts[0][1] if len(parts) == 1 and not parts[0][0] else "")
            turn += 1
        images.append(shown)

    return texts, placed, images


def _read_part(item: dict[str, Any], shown: list[Medium]) -> tuple[int, Any]:
    """Return the code of a part, and its text or the number of its image, which is added to those
    ``shown``.
    """
    require(len(item) == 2)
    kind = item["type"]
    body = item[kind]
    if kind == "text":
        require(type(body) is str)
        return 0, body
    require(kind in ("image", "image_url"))
    if type(body) is dict:
        require(len(body) == 1)
        body = body["url"]
    require(type(body) is str and bool(body))
    shown.extend(_paths(body))
    return _IMAGE_PART, len(shown) - 1
