"""What a chat record says beside its turns: the system's words, media and the bounds of clips, what
is trained on, tools, the other ending of a preference pair, and a judgement.

Every format whose records have turns reads them with :func:`read_chat`, so that a field means the
same in all of them. What it does not understand is left in ``extra``, where a look for fields that
change the meaning of a record finds it (:mod:`mmdata.formats._meaning`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from mmdata._tools.marks import DIALOGUE
from mmdata.errors import RecordError
from mmdata.formats._boxes import read_sizes
from mmdata.formats._chat import Chat, Turn
from mmdata.formats._frames import holds_frames, read_frames
from mmdata.formats._meaning import is_said, spell, unheard_fields
from mmdata.formats._objects import read_objects
from mmdata.formats._parts import (
    add_rate,
    clip_fields,
    is_object,
    leftovers_of_media,
    leftovers_of_parts,
    media_of,
    rate_field,
)
from mmdata.formats._sources import json_type, unmapped_fields
from mmdata.formats._turn_reader import read_any_turns, read_literal
from mmdata.schema import Media, MediaType
from mmdata.schema import replace as replace_media
from mmdata.sources.record import Record

__all__ = ["read_chat"]

_SYSTEM: Final = ("system", "system_prompt", "system_message", "system_instruction")
_TOOLS: Final = ("tools", "functions")
_MEDIA: Final[tuple[tuple[str, MediaType], ...]] = (
    ("images", "image"),
    ("image", "image"),
    ("videos", "video"),
    ("video", "video"),
)
"""The fields that list media, in the order in which they are listed."""
_OTHER_NAMES: Final[tuple[tuple[str, MediaType], ...]] = (
    ("image_path", "image"),
    ("image_paths", "image"),
    ("image_file", "image"),
    ("image_url", "image"),
    ("img", "image"),
    ("img_path", "image"),
    ("video_path", "video"),
    ("video_paths", "video"),
    ("video_url", "video"),
)
"""The names that others give to those fields, by their usual spelling."""
_CHOSEN: Final = ("chosen", "chosen_response", "preferred_output")
_REJECTED: Final = (
    "rejected_response", "rejected_messages", "rejected_conversations", "rejected",
    "non_preferred_output",
)  # fmt: skip
_JUDGED: Final = ("label", "kto_tag", "desirable", "is_correct")
_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}
"""How tables spell true and false, in lower case."""
_DIALOGUE: Final = re.compile(r"\n\n(Human|Assistant): ?")
"""What stands before each turn of a dialogue that is one text (HH-RLHF)."""


@dataclass
class _Fields:
    """The fields of a record by their usual spelling, and those that have been heard."""

    value: dict[str, Any]
    record: Record
    heard: set[str]

    def __post_init__(self) -> None:
        self._names = {spell(name): name for name in self.value}

    def name_of(self, *names: str) -> str | None:
        """Return the field, as the record spells it, of the first of the names that says something
        and has not been heard.
        """
        for name in names:
            spelt = self._names.get(name)
            if spelt is not None and spelt not in self.heard and is_said(self.value[spelt]):
                return spelt
        return None

    def hear(self, *names: str) -> Any:
        """Return what the first of the fields says that says something, and note that it was heard;
        None where none does.
        """
        spelt = self.name_of(*names)
        if spelt is None:
            return None
        self.heard.add(spelt)
        return self.value[spelt]


def read_chat(
    value: dict[str, Any],
    record: Record,
    turns: Sequence[Turn],
    mapped_fields: frozenset[str],
    *,
    label_judges: bool = False,
) -> Chat:
    """Return what a chat record says: ``turns`` are those that the format has read, out of the
    ``mapped_fields``.

    ``label_judges`` says that a ``label`` of 0 or 1, or of text, judges the answer, as it does in
    ms-swift's records; elsewhere it may as well be a class.

    >>> value = {"messages": [], "system": "Be brief.", "kto_tag": True, "license": "MIT"}
    >>> record, turns = Record(value, "a.json", 0), [Turn("user", "Hi")]
    >>> chat = read_chat(value, record, turns, frozenset({"messages"}))
    >>> [turn.role for turn in chat.turns], chat.desirable, dict(chat.extra)
    (['system', 'user'], True, {'license': 'MIT'})

    Raises:
        RecordError: a field is of another type than it must be, or there is audio.
    """
    fields = _Fields(value, record, {*mapped_fields, "id"})
    if fields.name_of("audios", "audio"):
        raise RecordError("the record holds audio", reason="unsupported_media")
    turns, rejected = _read_preference(fields, list(turns))
    turns = _apply_loss_mask(fields, turns)
    turns = _prepend_system(fields, turns)
    images, videos, names, leftovers = _read_media(fields)
    if not images and not videos and all(_is_words(turn) for turn in turns):
        images, videos, leftovers = _read_other_names(fields)
    videos = _apply_clip(fields, images, videos)
    tools = _read_tools(fields)
    desirable = _read_judgement(fields, label_judges=label_judges)
    objects = read_objects(value.get("objects"))
    if objects is not None:
        fields.hear("objects")

    # What is empty in a field that was looked for is nothing that a record says.
    empty = {name for name, _ in _MEDIA} | {"frames", "audios", "audio", "system", *_TOOLS}
    unsaid = {name for name in empty & value.keys() if not is_said(value[name])}
    extra = unmapped_fields(value, record, frozenset(fields.heard - {"rejected_response"} | unsaid))
    return Chat(
        turns,
        images,
        videos,
        {**extra, **leftovers},
        image_names=names,
        tools=tools,
        rejected=rejected,
        desirable=desirable,
        objects=objects,
        sizes=read_sizes(value),
    )


def _prepend_system(fields: _Fields, turns: list[Turn]) -> list[Turn]:
    """Return the turns, first of them what the record's own field says for the system."""
    name = fields.name_of(*_SYSTEM)
    words = fields.hear(*_SYSTEM)
    if name is None:
        return turns

    extra: dict[str, Any] = {}
    if is_object(words) and "parts" in words:  # Gemini's
        extra = {key: found for key, found in words.items() if key not in {"role", "parts"}}
        words = words["parts"]

    if not isinstance(words, (str, list)):
        raise RecordError(f"{name!r} must be a string, found {json_type(words)}")
    if isinstance(words, str) and words.isspace():
        return turns
    if turns and turns[0].role == "system":
        if turns[0].content == words:
            return turns
        raise RecordError(
            f"the record has a field {name!r} and a turn of the system's", reason="role_order"
        )

    extra |= leftovers_of_parts("content", words)
    return [Turn("system", words, extra=extra), *turns]


def _apply_loss_mask(fields: _Fields, turns: list[Turn]) -> list[Turn]:
    """Return the turns with what a list beside them says of each: whether it is trained on."""
    mask = fields.value.get("loss_mask")
    if isinstance(mask, str):
        # "0,1", "0 1" and "[0, 1]": a list as tables hold it. Anything else stays unheard.
        flags = mask.strip().removeprefix("[").removesuffix("]").replace(",", " ").split()
        mask = [_FLAGS.get(flag.lower()) for flag in flags]
    if not isinstance(mask, list) or len(mask) != len(turns):
        return turns
    if not all(flag in (0, 1) for flag in mask):
        return turns
    fields.hear("loss_mask")
    return [replace(turn, train=bool(flag)) for turn, flag in zip(turns, mask, strict=True)]


def _read_tools(fields: _Fields) -> str | None:
    """Return the JSON of what may be called."""
    name = fields.name_of(*_TOOLS)
    tools = fields.hear(*_TOOLS)
    if name is None:
        return None
    if isinstance(tools, (list, dict)):
        return json.dumps(tools, ensure_ascii=False)
    if isinstance(tools, str):
        return tools  # checked by the conversation
    raise RecordError(f"{name!r} must be an array or JSON text, found {json_type(tools)}")


def _read_judgement(fields: _Fields, *, label_judges: bool) -> bool | None:
    """Return whether the answer was judged good, where it was judged."""
    for name in _JUDGED:
        value = fields.value.get(name)
        judged = _FLAGS.get(str(value).lower()) if isinstance(value, (str, int)) else None
        may_be_class = name == "label" and not (label_judges or isinstance(value, bool))
        if judged is not None and not may_be_class:
            fields.hear(name)
            return judged
    return None


def _read_preference(fields: _Fields, turns: list[Turn]) -> tuple[list[Turn], list[Turn] | None]:
    """Return the turns up to the better answer, and the worse ending, if there is one.

    The better one is the end of the turns, or ``chosen``; both it and the worse may be text, a
    turn, or turns, with or without those that led to them.
    """
    chosen = fields.hear(*_CHOSEN)
    rejected = fields.hear(*_REJECTED)
    prompt = list(turns)
    if chosen is not None:
        whole = _read_answer(chosen)
        if prompt and len(whole) == len(prompt) and all(map(_says_same, whole, prompt)):
            # UltraFeedback has the better conversation twice.
            while prompt and prompt[-1].role != "user":
                prompt.pop()
        ending = _without_prompt(whole, prompt)
        turns = [*prompt, *ending]
    elif rejected is not None:  # the turns end with the better answer
        while prompt and prompt[-1].role != "user":
            prompt.pop()

    if rejected is None:
        return turns, None

    worse = _read_answer(rejected)
    if chosen is not None and not prompt:  # both hold all the turns
        shared = 0
        while shared < min(len(turns), len(worse)) and _says_same(turns[shared], worse[shared]):
            shared += 1
        return turns, worse[shared:] or None

    return turns, _without_prompt(worse, prompt) or None


def _read_answer(value: object) -> list[Turn]:
    """Return the turns that one side of a preference is.

    Raises:
        RecordError: it is several texts, of which a row could hold but one.
    """
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        if len(value) > 1:
            raise RecordError(
                f"there are {len(value)} answers on one side of a preference; a row holds one. "
                "Write a record for each of them",
                reason="unsupported_field",
            )
        value = value[0]
    if isinstance(value, str):
        return _read_dialogue(value) or [Turn("assistant", value)]
    return read_any_turns(value if isinstance(value, list) else [value])


def _read_dialogue(text: str) -> list[Turn]:
    """Return the turns of a text that is a whole dialogue; none where it is but an answer."""
    if not text.startswith(DIALOGUE):
        return []
    _, *pieces = _DIALOGUE.split(text)
    return [
        Turn("user" if speaker == "Human" else "assistant", words.strip("\n"))
        for speaker, words in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def _without_prompt(turns: list[Turn], prompt: Sequence[Turn]) -> list[Turn]:
    """Return turns without the prompt that they repeat.

    Raises:
        RecordError: they begin with a question, and it is not the prompt's: to put one after the
            other would ask twice.
    """
    if not prompt:
        return turns
    if len(turns) > len(prompt) and all(map(_says_same, turns, prompt)):
        return turns[len(prompt) :]
    if prompt[-1].role == "user" and turns and turns[0].role in ("system", "user"):
        raise RecordError(
            "one side of the pair begins with turns that are not those of the prompt",
            reason="role_order",
        )
    return turns


def _says_same(one: Turn, other: Turn) -> bool:
    """Return whether two turns say the same, as a prompt does that both sides of a pair repeat.

    Raises:
        RecordError: they do, and beside it stand fields that give them different meanings.
    """
    if (one.role, one.content) != (other.role, other.content):
        return False
    if list(one.media) != list(other.media):
        return False
    if one.extra != other.extra and (found := [*unheard_fields({"turns": {"0": other.extra}})]):
        raise RecordError(
            f"{found[0]!r} stands at a turn of one side of the pair alone",
            reason="unsupported_field",
        )
    return True


def _read_media(
    fields: _Fields,
) -> tuple[list[Media], list[Media], tuple[str, ...], dict[str, Any]]:
    """Return the images and the videos that a record lists, the marks that stand for the images
    where it names them, and what else it says of them.
    """
    listed: dict[MediaType, list[Media]] = {"image": [], "video": []}
    names: tuple[str, ...] = ()
    leftovers: dict[str, Any] = {}
    for name, kind in _MEDIA:
        if name not in fields.value or name in fields.heard:
            continue
        found = fields.value[name]
        fields.heard.add(name)
        if kind == "image" and is_object(found) and found and all(map(_is_mark, found)):
            names = tuple(found)  # MiniCPM-V's
            found = list(found.values())
        if isinstance(found, str) and found[:1] == "[":  # of a table
            found = _read_list(found)
        media = media_of(found, kind)
        if media != listed[kind]:  # else "image" repeats what "images" lists
            listed[kind] += media
        if rest := leftovers_of_media(found, kind):
            leftovers[name] = rest

    if holds_frames(frames := fields.value.get("frames")):
        if listed["video"]:
            raise RecordError(
                "'frames' and 'videos' both list videos; a record has all of its videos in one",
                reason="unsupported_field",
            )
        fields.heard.add("frames")
        listed["video"] = read_frames(frames)

    return listed["image"], listed["video"], names, leftovers


def _read_other_names(
    fields: _Fields,
) -> tuple[list[Media], list[Media], dict[str, Any]]:
    """Return what :func:`_read_media` does of a record that lists its media under another name."""
    for name, kind in _OTHER_NAMES:
        spelt = fields.name_of(name)
        if spelt is None:
            continue
        found = fields.hear(name)
        if isinstance(found, str) and found[:1] == "[":
            found = _read_list(found)
        media = media_of(found, kind)
        rest = leftovers_of_media(found, kind)
        leftovers = {spelt: rest} if rest else {}
        return (media, [], leftovers) if kind == "image" else ([], media, leftovers)
    return [], [], {}


def _is_words(turn: Turn) -> bool:
    """Return whether a turn brings no media of its own, beside its words or among them."""
    return not turn.media and (turn.content is None or isinstance(turn.content, str))


def _is_mark(name: str) -> bool:
    return name.startswith("<") and name.endswith(">")


def _read_list(text: str) -> Any:
    """Return the list of paths that text stands for, or the text: a file may be called like
    this.

    Raises:
        RecordError: it stands for a list in which a key stands twice in one object.
    """
    try:
        found = read_literal(text, "a list of media")
    except RecordError as error:
        if error.reason != "malformed":
            raise
        return text
    return found if isinstance(found, list) else text


def _apply_clip(fields: _Fields, images: Sequence[Media], videos: list[Media]) -> list[Media]:
    """Return the record's only video with the bounds that stand beside it; of several, the fields
    are not understood.
    """
    if len(videos) != 1 or images:
        name = fields.name_of("video_metadata")
        if name is not None and is_object(said := fields.value[name]) and clip_fields(said)[0]:
            raise RecordError(
                f"{name!r} bounds a clip, and the record has not just one video; bounds may stand "
                "beside each video, in an object or a part",
                reason="unsupported_field",
            )
        return videos
    rate = rate_field(fields.value)
    rated = add_rate(videos[0], fields.value)
    if rate is not None and rated is not videos[0]:
        fields.heard.add(rate)
    videos = [rated]
    unheard = {name: found for name, found in fields.value.items() if name not in fields.heard}
    times, names = clip_fields(unheard)
    fields.heard |= names
    return [replace_media(videos[0], **times)] if times else videos
