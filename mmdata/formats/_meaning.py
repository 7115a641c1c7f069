"""What is said is heard: the fields that change what a record means, and a look for those that
nobody obeyed.

A format reads the fields that it knows; what it does not know it keeps in ``extra``. Most of that
is harmless: ids, sizes, where a record came from. But a system prompt, the bounds of a clip, a flag
that says "do not train on this" or a list of tools that no one obeyed would make another
conversation of the record without a word. So a row whose ``extra`` holds such a field, with
something in it, is a reject that names it, unless the user admits the field by its name; what
depends on the row besides is told in :mod:`mmdata.formats._heard`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from mmdata.formats._field_kinds import SPLIT_BOXES, is_bound, is_span, kinds_of

__all__ = [
    "MEANING_FIELDS",
    "SPAN_FIELDS",
    "is_bound",
    "is_said",
    "may_change_meaning",
    "spell",
    "unheard_fields",
]

MEANING_FIELDS: Final = frozenset((
    "system", "system_prompt", "system_message", "system_instruction", "system_content",
    "sys_prompt", "clip", "trim", "frame_idx", "frame_index", "frame_indices", "frame_ids",
    "timestamps", "crop", "crop_box", "crop_bbox", "roi", "train", "trainable", "training",
    "do_train", "no_train", "supervised", "compute_loss", "ignore_loss", "skip_loss", "no_loss",
    "loss", "loss_mask", "loss_scale", "loss_weight", "loss_weights", "weight", "weights",
    "sample_weight", "sample_weights", "train_mask", "label_mask", "labels_mask", "mask", "masked",
    "ignore", "train_detail", "training_detail", "tools", "chat_template_kwargs", "functions",
    "tool_calls", "tool_call", "function_call", "tool_call_id", "tool_choice", "call_id",
    "reasoning", "reasoning_content", "reasoning_details", "reasoning_text", "reasoning_process",
    "reasoning_steps", "enable_thinking", "refusal", "rationale", "thinking", "thought",
    "thoughts", "think", "cot", "chain_of_thought", "chosen", "rejected", "chosen_messages",
    "chosen_conversations", "chosen_response", "chosen_answer", "rejected_response",
    "rejected_messages", "rejected_conversations", "rejected_answer", "rejected_images",
    "rejected_videos",
    "preferred_output", "non_preferred_output", "positive_messages", "negative_messages",
    "preference", "preferences", "margin", "label", "kto_tag", "score", "reward", "rewards",
    "desirable", "is_correct", "messages", "conversations", "conversation", "contents", "objects",
    "bbox", "bboxes", "bboxs", "box", "boxes", "bbox_2d", "bbox2d", "bounding_box",
    "bounding_boxes", "bndbox", "gt_box", "gt_boxes", "gt_bbox", "gt_bboxes", "points", "polygon",
    "polygons", "history", "image", "images", "image_path", "image_paths", "image_url",
    "image_file", "img", "img_path", "video", "videos", "video_path", "video_paths", "video_url",
    "video_frames", "frames", "audio", "audios", "audio_path", "data_path",
))  # fmt: skip
"""The fields of a record, a turn, a part or a medium, as :func:`spell` spells them, that say who
says what, about which media, or what is trained on; the ends of a clip are besides
(:func:`is_bound`).
"""
SPAN_FIELDS: Final = frozenset((
    "timestamp", "segment", "segments", "interval", "intervals", "time", "times", "time_span",
    "time_range", "time_window", "time_interval", "timespan", "clip_range", "clip_time", "clips",
    "span", "spans", "window", "windows", "relevant_windows", "moment", "moments",
))  # fmt: skip
"""The fields that change the meaning where they hold two times, which are the bounds of a clip, or
a list of such; a single time or a name in them only says where a record is from.
"""
_OF_CLIPS: Final = "video_metadata"
"""The field, an object, that may bound a clip besides what else it says of a video (Gemini)."""
_OF_TURNS_AND_PARTS: Final = MEANING_FIELDS | {"index"}
"""In a part ``index`` says which of the listed media it is; of a record it is a number like
any other.
"""
_MEDIA: Final = frozenset((
    "image", "image_url", "input_image", "video", "video_url", "source", "value", "url", "path",
    "file_data", "inline_data", "fileData", "inlineData",
))  # fmt: skip
"""What of a part or a medium may hold a medium, as it is spelt there; where that is an object, what
is left of it stands there.
"""
_TURNS: Final = "turns"
_ANNOTATIONS: Final = "annotations"
"""Under this name stand the annotations that a record is made of, in a list."""
_MEDIA_LISTS: Final = ("images", "image", "videos", "video")
"""Under these names stands what is left over of turns and of listed media."""
_SIDES_OF_BOX: Final = 4
_NOTHING: Final = frozenset({"", "[]", "{}", "null", "none", "nan"})
_BORDER: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@lru_cache(4096)  # a source has few names of fields, and each record has them all
def spell(name: str) -> str:
    """Return a field's name in lower case, with ``_`` between its words.

    >>> spell("systemInstruction"), spell("Video-Start")
    ('system_instruction', 'video_start')
    """
    return _BORDER.sub("_", name.strip()).replace("-", "_").replace(" ", "_").lower()


def is_said(value: object) -> bool:
    """Return whether a field says something: tables give every record every field, empty where it
    has none.

    >>> [is_said(value) for value in (None, "", "[]", [None], float("nan"), False, 0, "no")]
    [False, False, False, False, False, True, True, True]
    """
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    if isinstance(value, Mapping):
        return any(map(is_said, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(is_said, value))
    return value is not None and value == value  # NaN is no value


def may_change_meaning(
    extras: Sequence[Mapping[str, Any] | str],
    allowed: Collection[str] = (),
    own: Collection[str] = (),
) -> bool:
    """Return whether one of many rows has a field in ``extra`` that could change what it means: a
    quick look at the names alone, and at what is left over of turns and media, for rows that are
    read many at a time. A text is an extra that its format has written itself, and looked through
    before.

    >>> may_change_meaning([{"license": "MIT"}, {}]), may_change_meaning([{}, {"Start": 3}])
    (False, True)
    """
    fields = [extra for extra in extras if not isinstance(extra, str)]
    names = set().union(*fields)
    if any(_find_split_boxes(names, allowed)) and any(
        any(_find_split_boxes(extra, allowed)) for extra in fields
    ):
        return True
    doubtful = {name for name in names if _is_doubtful(name)}
    known = {name for name in names - doubtful if _is_meant(name, allowed, MEANING_FIELDS)}
    known |= {name for name in names - doubtful if _is_meant(name, allowed, own)}
    if not known.issubset(_MEDIA_LISTS) or _OF_CLIPS in map(spell, names):
        return True  # a clip is bounded where its record is read alone
    # Every row of a table with pictures in it has their names left over, and is plain all the same;
    # so is one with the time at which it was made.
    doubtful |= known
    rows = [extra for extra in fields if not doubtful.isdisjoint(extra)]
    if doubtful.issubset(_MEDIA_LISTS) and _are_plain_media(rows, doubtful):
        return False
    for extra in rows:
        some = {name: extra[name] for name in doubtful if name in extra}
        if any(unheard_fields(some, allowed, own)):
            return True
    return False


def _is_doubtful(name: str) -> bool:
    """Return whether it depends on what a field holds whether it changes the meaning."""
    if name.startswith(_TURNS) or name == _ANNOTATIONS:
        return True
    return spell(name) in SPAN_FIELDS or bool(kinds_of(spell(name)))


def _are_plain_media(extras: Sequence[Mapping[str, Any]], names: Collection[str]) -> bool:
    """Return whether what is left over of listed media, under these ``names``, is plain: by the
    numbers of media, and of none a field whose name could change what it means.

    All rows together it is a look at few names. Where it is not, :func:`unheard_fields` tells.
    """
    numbers: set[str] = set()
    keys: set[str] = set()
    for extra in extras:
        for name in names:
            media = extra.get(name, {})
            if type(media) is not dict:
                return False
            numbers.update(media)
            for rest in media.values():
                if type(rest) is not dict or dict in map(type, rest.values()):
                    return False
                keys.update(rest)

    spelt = set(map(spell, keys))
    is_meant = not spelt.isdisjoint(_OF_TURNS_AND_PARTS) or not spelt.isdisjoint(SPAN_FIELDS)
    if is_meant or any(map(is_bound, spelt)) or any(map(kinds_of, spelt)):
        return False
    return all(map(str.isdigit, numbers)) and not any(_find_split_boxes(keys, ()))


def unheard_fields(
    extra: Mapping[str, Any], allowed: Collection[str] = (), own: Collection[str] = ()
) -> Iterator[str]:
    """Yield the names of the fields in ``extra`` that change what the record means, those
    ``allowed`` left out; a format may have some of its ``own``.

    What is left over of turns, parts and listed media stands in ``extra`` by their numbers; it is
    looked through as well. What a source keeps inside fields of its own is none of a record's
    fields.

    >>> list(unheard_fields({"license": "MIT", "Start": 3, "turns": {"1": {"weight": 0.5}}}))
    ['Start', 'weight']
    """
    yield from _find_split_boxes(extra, allowed)
    for name, value in extra.items():
        if name == _ANNOTATIONS and isinstance(value, list):
            for annotation in value:
                if isinstance(annotation, dict):
                    yield from _unheard_in_record(annotation, allowed)
        elif name.startswith(_TURNS) and (turns := _by_number(value)):
            for turn in turns:
                yield from _unheard_in_turn(turn, allowed)
        elif name in _MEDIA_LISTS and (media := _by_number(value)):
            for medium in media:
                yield from _unheard_in_part(medium, allowed)
        elif _is_unheard(name, value, allowed, MEANING_FIELDS) or (
            own and _is_unheard(name, value, allowed, own)
        ):
            yield name


def _unheard_in_record(rest: Mapping[str, Any], allowed: Collection[str]) -> Iterator[str]:
    """Yield the names of such fields in what is left over of one of a record's annotations."""
    for name, value in rest.items():
        if _is_unheard(name, value, allowed, MEANING_FIELDS):
            yield name


def _unheard_in_turn(rest: Mapping[str, Any], allowed: Collection[str]) -> Iterator[str]:
    """Yield the names of such fields in what is left over of a turn, its parts and its media."""
    for name, value in rest.items():
        is_field = _is_meant(name, (), _OF_TURNS_AND_PARTS) and name not in _MEDIA_LISTS
        if not is_field and (parts := _by_number(value)):
            for part in parts:
                yield from _unheard_in_part(part, allowed)
        elif _is_unheard(name, value, allowed, _OF_TURNS_AND_PARTS):
            yield name


def _unheard_in_part(rest: Mapping[str, Any], allowed: Collection[str]) -> Iterator[str]:
    """Yield the names of such fields in what is left over of a part, or of a listed medium."""
    yield from _find_split_boxes(rest, allowed)
    for name, value in rest.items():
        if isinstance(value, dict) and name in _MEDIA:
            yield from _unheard_in_part(value, allowed)
        elif _is_unheard(name, value, allowed, _OF_TURNS_AND_PARTS):
            yield name


def _by_number(value: object) -> list[dict[str, Any]]:
    """Return what is left over of several things, by whose numbers it stands; else nothing."""
    if not isinstance(value, dict) or not all(map(str.isdigit, value)):
        return []
    return [rest for rest in value.values() if isinstance(rest, dict)]


def _is_unheard(name: str, value: object, allowed: Collection[str], table: Collection[str]) -> bool:
    spelt = spell(name)
    if spelt in allowed:
        return False
    if (spelt in table or is_bound(spelt)) and is_said(value):
        return True
    if spelt in SPAN_FIELDS and is_span(value):
        return True
    return any(kind.changes(value) for kind in kinds_of(spelt))


def _is_meant(name: str, allowed: Collection[str], table: Collection[str]) -> bool:
    """Return whether a field is one of a table, or a bound, that nobody allows."""
    spelt = spell(name)
    return (spelt in table or is_bound(spelt)) and spelt not in allowed


def _find_split_boxes(names: Collection[str], allowed: Collection[str]) -> Iterator[str]:
    """Yield the names of fields that are the sides of a box, where all four are there."""
    if len(names) < _SIDES_OF_BOX:
        return
    spelt = {spell(name): name for name in names}
    for sides in SPLIT_BOXES:
        if sides <= spelt.keys() and sides.isdisjoint(allowed):
            yield from (spelt[side] for side in sorted(sides))
