"""Whether a row says all that its record said: a look at what stayed in ``extra`` beside what the
row says and shows.

Most fields change the meaning of a record or do not, whatever else it says
(:mod:`mmdata.formats._meaning`). Some do by what stands beside them: the choices of a question that
does not spell them out, the name of a picture that the row does not show.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from mmdata.errors import RecordError
from mmdata.formats._marks import ALL_MARKS, has_image_suffix, has_video_suffix
from mmdata.formats._meaning import is_said, spell, unheard_fields
from mmdata.schema import Conversation, Text

__all__ = ["check_heard", "may_mean_more"]

_OF_QUESTIONS: Final = re.compile(
    r"prompt|instruction|query|question|problem|context|passage|hint|options?|choices?|candidates"
    r"|[a-j]|(?:choice|option|candidate|opt)_?(?:[a-j]|[0-9])|a[0-9]|op[a-e]|preamble|instructions"
    r"|(?:[a-z]+_)?(?:choice|option)s?_(?:list|texts?)|multi(?:ple)?_choices?|selections|alternatives"
    r"|(?:answer|mc|multi|multiple|multiple_choice|question|all|candidate|possible|shuffled)"
    r"_(?:options|choices|candidates|answers)"
)
"""Fields that are part of what is asked, and say nothing more where its words have them; ``A`` to
``J`` are VLMEvalKit's choices, of which there are several, ``a0`` to ``a4`` NExT-QA's, ``opa`` to
``ope`` MedMCQA's.
"""
_LABEL: Final = re.compile(r"\(?[a-z0-9]{1,2}\)?[.:)]\s+(?=\S)")
"""What may stand before a choice: ``A. ``, ``(b) ``."""

_MEDIA: Final = frozenset((
    "image", "images", "img", "imgs", "video", "videos", "vid", "picture", "pictures", "pic",
    "photo", "photos", "gif", "figure", "youtube",
))  # fmt: skip
"""Words for a medium in the name of a field."""
_FRAMES: Final = frozenset(("frame", "frames"))
"""Words for a picture of a video; its number or its name says but where a row is from."""
_NAMING: Final = frozenset((
    "id", "ids", "idx", "index", "name", "names", "file", "files", "filename", "path", "paths",
    "url", "urls", "uri", "link", "key", "base64", "b64", "bytes", "data", "str", "local", "rel",
    "relative", "abs", "absolute", "full", "s3", "source", "coco", "flickr", "vg", "original",
))  # fmt: skip
"""Words beside those that make of a field the name, or the place, of a medium."""
_RUN_TOGETHER: Final = frozenset(("imageid", "imagename", "imgname", "imgid", "videoid"))
_NOT_PLACES: Final = frozenset(("id", "ids", "idx", "index", "name", "names", "key", "source"))
_URL: Final = re.compile(r"(?:https?|s3|gs|hf|oss)://", re.IGNORECASE)
_LONGEST_PATH: Final = 1024
_OF_WORDS: Final = frozenset((
    "meta", "token", "tokens", "time", "times", "timestamp", "timestamps", "time_tokens",
    "special_tokens", "marks", "placeholders",
))  # fmt: skip
"""Fields that may say what marks in the words stand for."""
_IN_OBJECTS: Final = frozenset({"bytes", "path", "url"})
"""Where an object that is a medium has it."""
_BESIDE_REJECTED: Final = ("rejected_response", "rejected_images", "rejected_videos")
"""What stays in ``extra`` beside the worse ending: a store's ``rejected`` shows no media of
its own.
"""


def check_heard(
    conversation: Conversation, allowed: Collection[str] = (), own: Collection[str] = ()
) -> None:
    """Raise a :class:`RecordError` that names the fields in a row's ``extra`` which change what its
    record means; those ``allowed`` do not, and a format may have some of its ``own`` that do.

    Raises:
        RecordError: there are some, with the reason ``unsupported_field``.
    """
    if not conversation.extra:
        return
    shown = _names_of_media(conversation)
    extra = {
        name: found
        for name, found in conversation.extra.items()
        if not _is_name_of_shown(name, found, conversation, shown)
    }
    if conversation.rejected is not None:  # which holds what they say, pictures aside
        extra = {name: found for name, found in extra.items() if name not in _BESIDE_REJECTED}

    if found := list(dict.fromkeys(unheard_fields(extra, allowed, own))):
        raise _unheard(found, "changes what the record means and is not understood here")
    extra = {name: found for name, found in extra.items() if spell(name) not in allowed}
    if found := [name for name, value in extra.items() if _names_medium(name, value, bool(shown))]:
        what = "beside those that the row shows" if shown else "and the row shows none"
        raise _unheard(found, f"names a medium {what}")
    if found := [name for name, value in extra.items() if _explains_words(name, value)]:
        raise _unheard(found, "says what marks in the words stand for")
    if found := list(_unsaid_words(conversation, extra)):
        raise _unheard(found, "is part of what is asked, and the turns do not say it")


def may_mean_more(
    extras: Sequence[Mapping[str, Any] | str],
    num_media: Sequence[int],
    allowed: Collection[str] = (),
) -> bool:
    """Return whether one of many rows, which have so many media, may have a field in ``extra`` that
    means something beside what the row says and shows: a quick look at names and values.

    >>> may_mean_more([{"image_id": 7}], [1]), may_mean_more([{"image_id": 7}], [0])
    (False, True)
    """
    names = set().union(*(extra for extra in extras if not isinstance(extra, str)))
    names = {name for name in names if spell(name) not in allowed}
    asked = {name for name in names if _is_of_question(name)}
    # Of a row that shows a medium few fields matter; any may name the one that another lacks.
    places = {name for name in names if _is_place(name)}
    explaining = {name for name in names if spell(name) in _OF_WORDS}
    for extra, count in zip(extras, num_media, strict=True):
        if not extra or isinstance(extra, str):
            continue
        if asked and _asked_fields(extra):
            return True
        looked_at = places if count else names
        for name, value in extra.items():  # a loop costs half of a generator
            if name in explaining and _explains_words(name, value):
                return True
            if name in looked_at and _names_medium(name, value, count > 0):
                return True
    return False


def _explains_words(name: str, value: object) -> bool:
    """Return whether a field says what marks in the words stand for, as VTimeLLM's ``meta`` has
    times for ``<s0>`` and ``<e0>`` under ``token``.
    """
    if spell(name) not in _OF_WORDS or not isinstance(value, Mapping):
        return False
    marks = value.get("token") if "token" in value else value
    return isinstance(marks, Mapping) and any(key[:1] == "<" and key[-1:] == ">" for key in marks)


def _unheard(names: Sequence[str], why: str) -> RecordError:
    which = ", ".join(map(repr, names))
    return RecordError(
        f"{which}: {why}; --allow-fields {','.join(names)} keeps it in `extra`, unused",
        reason="unsupported_field",
    )


# A source has few names of fields, and each record has them all.
@lru_cache(4096)
def _is_of_question(name: str) -> bool:
    return _OF_QUESTIONS.fullmatch(spell(name)) is not None


@lru_cache(4096)
def _is_name(name: str) -> bool:
    """Return whether a field is called as the name or the place of a medium."""
    words = set(spell(name).split("_"))
    is_named = not words.isdisjoint(_MEDIA) and words <= _MEDIA | _NAMING
    return is_named or spell(name) in _RUN_TOGETHER


@lru_cache(4096)
def _is_place(name: str) -> bool:
    """Return whether a field is called as what holds a medium, whichever: ``image2``,
    ``target_image``, ``video_path_b``.
    """
    words = re.split(r"_|(?<=[a-z])(?=[0-9])", spell(name))
    is_medium = not _MEDIA.isdisjoint(words) or not _FRAMES.isdisjoint(words)
    return is_medium and _NOT_PLACES.isdisjoint(words)


def _names_medium(name: str, value: object, shows_media: bool) -> bool:
    """Return whether a field of a record names a medium that its row does not show."""
    if shows_media:  # the cheap question first: every row of a table with pictures is asked
        return _is_place(name) and _is_medium(value) and is_said(value) and not _is_url(value)
    return is_said(value) and (_is_name(name) or _is_medium(value))


def _is_medium(value: object) -> bool:
    """Return whether a value is a medium: a path or a URL by its suffix, bytes, or an object or a
    list of such.
    """
    if isinstance(value, str):
        path = value.partition("?")[0]
        is_path = len(value) <= _LONGEST_PATH and "\n" not in value
        return is_path and (has_image_suffix(path) or has_video_suffix(path))
    if isinstance(value, dict):
        if _IN_OBJECTS.isdisjoint(value):
            return False  # such as what is left over of listed media, by their numbers
        return (
            is_said(value.get("bytes"))
            or _is_medium(value.get("path"))
            or _is_medium(value.get("url"))
        )
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_is_medium, value))
    return isinstance(value, (bytes, memoryview))


def _is_url(value: object) -> bool:
    return isinstance(value, str) and _URL.match(value) is not None


def _names_of_media(conversation: Conversation) -> set[str]:
    """Return the file names of a row's media; "" for one that is in the record itself."""
    paths = [
        path
        for medium in conversation.media
        for path in (medium.frame_paths or (medium.path or "",))
    ]
    return set(map(posixpath.basename, paths))


def _is_name_of_shown(
    name: str, value: object, conversation: Conversation, shown: Collection[str]
) -> bool:
    """Return whether a field but says again which medium the row shows, or where it came from."""
    if not shown or not _is_name(name):
        return False
    if _is_url(value):
        return not any(_is_url(medium.path) for medium in conversation.media)
    names = _file_names(value)
    # What a medium in the record itself is called changes nothing.
    return bool(names) and (shown == {""} or set(names) <= set(shown))


def _file_names(value: object) -> list[str]:
    """Return the names of the files whose paths a value is; none where it is anything else."""
    names: list[str] = []
    for one in value if isinstance(value, list) else [value]:
        path = one.get("path") if isinstance(one, Mapping) else one
        if not isinstance(path, str) or not _is_medium(path):
            return []
        names.append(posixpath.basename(path.replace("\\", "/")))
    return names


def _unsaid_words(conversation: Conversation, extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that are part of a question and are not in the words of the row's turns."""
    asked = _asked_fields(extra)
    if not asked:
        return
    words = _plain(
        " ".join(
            part.text
            for message in conversation.messages
            if message.role != "assistant"
            for part in message.content
            if isinstance(part, Text)
        )
    )
    for name in asked:
        if not all(text in words for text in map(_plain_choice, _leaves(extra[name]))):
            yield name


def _asked_fields(extra: Mapping[str, Any]) -> list[str]:
    """Return the fields that are part of a question and say something."""
    asked = [name for name, value in extra.items() if _is_of_question(name) and is_said(value)]
    letters = [name for name in asked if len(name) == 1]
    return [name for name in asked if name not in letters] if len(letters) == 1 else asked


def _leaves(value: object) -> Iterator[str]:
    """Yield the texts in a value; what is no text, as it is written."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif is_said(value):
        yield str(value)


def _plain(text: str) -> str:
    """Return a text without marks, in lower case, with one space for all white space."""
    return " ".join(ALL_MARKS.sub(" ", text).lower().split())


def _plain_choice(text: str) -> str:
    return _LABEL.sub("", _plain(text), count=1)
