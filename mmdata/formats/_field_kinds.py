"""Kinds of fields that change what a record means, told by the words of their names and by what
they hold.

The table of :mod:`mmdata.formats._meaning` holds the names that everyone uses. People make others
of the same words: ``output_with_loss``, ``Complex_CoT``, ``gt_timestamps``, ``answer_bbox``. Of
such a name alone one cannot be sure (``eval_loss`` is a figure, ``reasoning_type`` a class), and so
each kind says which values it takes as well: a flag, words, two times, the corners of a box.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from msgspec import Struct

from mmdata.formats._seconds import read_seconds

__all__ = ["FIELD_KINDS", "SPLIT_BOXES", "FieldKind", "is_bound", "is_span", "kinds_of"]

Test: TypeAlias = Callable[[Any], bool]

_BOUND: Final = re.compile(
    r"(?P<owner>(?:video|clip|segment|seg|event|shot|moment|trim|scene|action|caption|narration"
    r"|chunk|window|span|interval|parent|gt|ts|t)_?)?"
    r"(?P<end>start|end|begin|stop)"
    r"(?P<unit>(?:_?(?:time|timestamp|secs?|seconds?|s|ms|msec|millis|milliseconds|offset|frame"
    r"|pts)){0,2}(?:(?<=frame)_(?:idx|index|id|number))?)"
    r"|(?P<turned>(?:time|timestamp|sec|seconds|ms|frame|t|ts)_(?:start|end|begin|stop))"
    r"|(?:from|to)_(?:time|timestamp|secs?|seconds?|ms)|(?:in|out)_(?:point|time)"
)
_TIME: Final = r"[0-9][0-9:.]{0,20}\s?s?"
_TWO_TIMES: Final = re.compile(rf"({_TIME})\s*(?:-|\u2013|\u2014|~|,|;|\bto\b)\s*({_TIME})")
"""Two times as text has them: ``00:01-00:02``, ``1.5 to 4 s``."""
_AROUND: Final = str.maketrans("", "", "[](){}'\"")
_LONGEST_SPAN: Final = 100

SPLIT_BOXES: Final = tuple(
    frozenset(names.split())
    for names in (
        "x1 y1 x2 y2", "x0 y0 x1 y1", "xmin ymin xmax ymax", "x_min y_min x_max y_max",
        "left top right bottom", "left top width height", "x y w h", "x y width height",
    )
)  # fmt: skip
"""The fields that are a box where a record has all of them."""
_SIDES: Final = frozenset().union(*SPLIT_BOXES)

_JUDGING: Final = frozenset((
    "good", "bad", "positive", "negative", "yes", "no", "up", "down", "accept", "accepted",
    "reject", "rejected", "desirable", "undesirable", "correct", "incorrect", "wrong", "right",
    "true", "false",
))  # fmt: skip
_FLAGS: Final = frozenset({"true", "false", "0", "1"})


class FieldKind(Struct, frozen=True):
    """Fields whose whole name ``pattern`` matches, as they are spelt with ``_``, and which hold
    something of which ``changes`` is true; ``meaning`` is what they then say, for people, with an
    ``example``.
    """

    meaning: str
    example: str
    pattern: re.Pattern[str]
    changes: Test


@lru_cache(4096)
def is_bound(spelt: str) -> bool:
    """Return whether a field, as :func:`mmdata.formats._meaning.spell` spells it, says where a clip
    begins or ends, in whatever unit.

    >>> [is_bound(name) for name in ("end", "clip_begin_sec", "frame_start", "stop", "legend")]
    [True, True, True, False, False]
    """
    found = _BOUND.fullmatch(spelt)
    if found is None:
        return False
    # What generation stops at goes by the name of `stop` too.
    return found["end"] != "stop" or bool(found["owner"] or found["unit"])


@lru_cache(4096)  # a source has few names of fields, and each record has them all
def kinds_of(spelt: str) -> tuple[FieldKind, ...]:
    """Return the kinds that a field may be of by its name.

    >>> [kind.meaning for kind in kinds_of("complex_cot")], kinds_of("license")
    (['reasoning'], ())
    """
    return tuple(kind for kind in FIELD_KINDS if kind.pattern.fullmatch(spelt))


def is_span(value: object) -> bool:
    """Return whether a value is two times, or a list of such: a list, text, or an object with the
    bounds of a clip.

    >>> [is_span(value) for value in ([1, 2.5], "00:01-00:04", {"begin": 1, "end": 2}, "10:31")]
    [True, True, True, False]
    """
    if isinstance(value, str):
        return _is_written_span(value)
    if isinstance(value, Mapping):
        return any(_is_bound_field(str(name)) and said is not None for name, said in value.items())
    if not isinstance(value, list) or not value:
        return False
    if all(isinstance(item, list) for item in value):
        return all(map(is_span, value))
    return len(value) == 2 and all(read_seconds(bound) is not None for bound in value)


def _is_written_span(text: str) -> bool:
    if not text or len(text) > _LONGEST_SPAN:
        return False
    found = _TWO_TIMES.fullmatch(text.translate(_AROUND).strip())
    if found is None:
        return False
    first, second = map(read_seconds, found.groups())
    # A month is written as two numbers as well; the second is the smaller then.
    return first is not None and second is not None and first < second


@lru_cache(4096)  # each record of a source has the same few
def _is_bound_field(name: str) -> bool:
    return is_bound(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def _bounds_clip(value: object) -> bool:
    """Return whether an object that tells of a video says where a clip of it begins and ends."""
    if not isinstance(value, Mapping):
        return False
    bounds = [name for name in value if _is_bound_field(str(name)) and value[name] is not None]
    return len(bounds) > 1 or is_span(value.get("split"))  # `split` is VTimeLLM's


def _is_flag(value: object) -> bool:
    if isinstance(value, str):
        return value.lower() in _FLAGS
    if isinstance(value, list):
        return bool(value) and all(map(_is_flag, value))
    return isinstance(value, (bool, int, float)) and value in (0, 1)


def _is_judgement(value: object) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _JUDGING)


def _is_share(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_share, value))
    return isinstance(value, (int, float))


def _has_words(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_words, value))
    if isinstance(value, Mapping):
        return any(map(_has_words, value.values()))
    return isinstance(value, str) and value.strip() != ""


def _is_declared(value: object) -> bool:
    return bool(value) and isinstance(value, (str, list, dict))


def _is_listed(value: object) -> bool:
    return bool(value) and isinstance(value, (list, dict))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_numbers(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_numbers, value))
    return _is_number(value)


def _has_corners(value: object) -> bool:
    """Return whether somewhere in a value there are four numbers, or two points."""
    if isinstance(value, Mapping):
        sides = sum(_is_number(side) for name, side in value.items() if str(name) in _SIDES)
        return sides >= 4 or any(map(_has_corners, value.values()))
    if isinstance(value, str):
        return value[:1] in ("[", "(", "{") and len(re.findall(r"[0-9]+(?:\.[0-9]+)?", value)) >= 4
    if not isinstance(value, list):
        return False
    if sum(map(_is_number, value)) >= 4 or sum(map(_is_point, value)) >= 2:
        return True
    return any(map(_has_corners, value))


def _is_point(value: object) -> bool:
    if isinstance(value, Mapping):
        return _is_number(value.get("x")) and _is_number(value.get("y"))
    return isinstance(value, list) and len(value) >= 2 and all(map(_is_number, value))


def _has_points(value: object) -> bool:
    return _is_point(value) or (isinstance(value, list) and any(map(_is_point, value)))


_ANY: Final = "(?:[a-z0-9]+_)*"
"""Words before the one that tells."""
_END: Final = "(?:_[a-z0-9]+)*"
"""Words after it."""

FIELD_KINDS: Final = (
    FieldKind(
        "two times, which bound a clip",
        "gt_timestamps",
        re.compile(
            rf"{_ANY}(?:time_?stamps?|ts|segments?|seg|intervals?|times?|time_?spans?|spans?"
            r"|windows?|moments?|clips?)"
            rf"|{_ANY}(?:time|clip|frames?|temporal|video|seconds?)_(?:range|window|bounds)"
            r"|range|bounds|seconds"
        ),
        is_span,
    ),
    FieldKind(
        "the bounds of a clip, in an object",
        "clip_info",
        # A video's metadata are read where the video is, and what they say besides stays.
        re.compile(
            r"(?!video_metadata$)(?:video_|clip_|segment_|event_)?"
            r"(?:meta|metadata|meta_info|info|details)"
        ),
        _bounds_clip,
    ),
    FieldKind(
        "how long a clip after its beginning is",
        "clip_offset",
        re.compile(r"(?:video_|clip_|segment_|time_)?offset"),
        _is_number,
    ),
    FieldKind(
        "which frames are shown",
        "sampled_frames",
        re.compile(
            r"(?:[a-z]+_)?(?:key_?)?frames?_?(?:idxs|indexes|indices|ids|nums|numbers|list|paths"
            r"|files|times|time_?stamps?|range|span)|frames?_idx"
            r"|(?:sampled?|selected|chosen|extracted|used|input)_frames|key_?frames"
            r"|sampled?_(?:frame_)?(?:idxs?|indices|indexes)"
        ),
        _is_listed,
    ),
    FieldKind(
        "the times that marks in the words stand for",  # ET-Instruct's, for <vid>
        "tgt",
        re.compile(r"src|tgt|gt_se"),
        _has_numbers,
    ),
    FieldKind(
        "whether a turn is trained on",
        "output_with_loss",
        re.compile(
            rf"{_ANY}(?:loss|losses|masks?|masked|masking|train|trained|trainable|training"
            rf"|untrainable|supervise|supervised|grad){_END}|is_target"
            r"|(?:need|add|no|with|append|skip)_[eb]os(?:_token)?"
        ),
        _is_flag,
    ),
    FieldKind(
        "the weight of a turn or a token",
        "turn_weight",
        re.compile(
            r"(?:turn|token|label|sample|loss|train|example|instance|step|message|segment|sequence)"
            r"_weights?"
        ),
        _is_share,
    ),
    FieldKind(
        "whether an answer is good",
        "is_preferred",
        re.compile(
            r"(?:is_|was_)?(?:good|bad|chosen|rejected|preferred|accepted|desirable|desired"
            r"|undesirable|correct|incorrect|wrong|liked|disliked|approved)|thumbs_?(?:up|down)"
            r"|(?:kto|binary|preference|human|user)_(?:label|feedback|judge?ment)|feedback|verdict"
            r"|judge?ment"
        ),
        _is_judgement,
    ),
    FieldKind(
        "whether an answer is good, as a number",
        "binary_label",
        re.compile(r"(?:kto|binary|preference)_(?:label|tag)|is_(?:chosen|preferred|desirable)"),
        _is_flag,
    ),
    FieldKind(
        "reasoning",
        "Complex_CoT",
        re.compile(
            rf"{_ANY}(?:co_?ts?|chains?_of_thoughts?|thoughts?|thinking|reasonings?|rationales?"
            r"|scratch_?pad|monologue|think)(?:_(?:process|content|text|traces?|chains?|steps?|path"
            r"|trajector(?:y|ies)|details|summary|output|block|response|annotation|en|zh|[0-9]+))?"
        ),
        _has_words,
    ),
    FieldKind(
        "what the system says",
        "system_msg",
        re.compile(
            r"(?:(?:default|meta|base|custom|initial|global)_)?(?:sys|system)"
            r"(?:_?(?:prompts?|messages?|msgs?|instructions?|contents?|text|role|input))?"
            r"|developer_(?:message|prompt|instructions?)|(?:meta|role)_(?:instruction|prompt)s?"
        ),
        _has_words,
    ),
    FieldKind(
        "tools",
        "available_tools",
        re.compile(
            r"(?:available|callable|candidate|all|rejected|chosen)_(?:tools|functions|apis)"
            r"|(?:tool|function|api)s?_(?:list|defs?|definitions?|schemas?|specs?|json|config"
            r"|descriptions?|set)|toolset|apis"
        ),
        _is_declared,
    ),
    FieldKind(
        "boxes",
        "answer_bbox",
        re.compile(
            rf"{_ANY}(?:b?_?box|b?_?boxe?s|bounding_?box(?:es)?|quads?|polygons?|rects?|rectangles?"
            rf"|crops?){_END}|coords?|coordinates?|{_ANY}regions?|region_[a-z0-9]+|locations?"
            r"|visual_prompts?|groundings?|roi_[a-z0-9]+"
        ),
        _has_corners,
    ),
    FieldKind(
        "points",
        "click_point",
        re.compile(rf"{_ANY}points?(?:_(?:2d|xy|norm))?|click(?:_[a-z]+)?"),
        _has_points,
    ),
)
"""The kinds, each with the names and the values that make a field one of it."""
