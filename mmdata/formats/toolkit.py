"""What a format is made of: everything that the formats of this package use, for those who write
their own.

A format is a frozen dataclass that follows :class:`Format`. Most formats read records: they inherit
:class:`RecordSource`, which finds files of any kind, JSON, tables or tars, reads records one by one
and accounts for broken ones, and add ``conversation(record)``. The page ``docs/write_a_format.md``
leads through one from the first line to the installed package; :func:`mmdata.testing.check_format`
checks it.

Reading a record
    :func:`mapping`, :func:`conversation_id`, :func:`json_type`, :func:`media_of`,
    :func:`medium_of`, :func:`is_said`; what is not read goes to ``extra``: :func:`unmapped_fields`,
    :func:`add_fields`. :func:`split_rows` makes several records of one.
Turns and their media
    :func:`read_any_turns`, :func:`read_chat` and :func:`converse` for chats, and what they are made
    of: :func:`role_of`, :class:`Turn`, :class:`Chat`; :func:`fill` and :class:`MediaCursor` for
    placeholders in any text; :func:`insert_before_question`, :func:`require_answer`,
    :func:`require_turns`.
Phrases and boxes
    :func:`ground` makes regions of what is marked in texts, and of ms-swift's objects, which
    :func:`read_objects` reads; :func:`read_sizes` reads the sizes that a record says its pictures
    have. :func:`parse_corners` and :func:`scale_pixels` are for boxes that a format finds itself.
Many records at once
    :class:`TurnColumns`, :func:`flatten_with`, :func:`flatten_turns`, :func:`read_chats`,
    :func:`read_media_lists`, :func:`read_extras`, :func:`require`; :func:`may_have_boxes` for texts
    that :func:`ground` must see. A format without ``flatten`` is right, too, and takes several
    times as long.
"""

from __future__ import annotations

from collections.abc import Callable

from mmdata.formats import registry
from mmdata.formats._boxes import Size, parse_corners, read_sizes, scale_pixels
from mmdata.formats._chat import Chat, Thoughts, Turn, converse
from mmdata.formats._chat_flat import flatten_with, read_chats, read_extras, read_media_lists
from mmdata.formats._chat_record import read_chat
from mmdata.formats._flat import NotPlainError, TurnColumns, flatten_turns, require
from mmdata.formats._format import Format, Origin, Sample
from mmdata.formats._grounding import BoxStyle, ground, may_have_boxes
from mmdata.formats._meaning import is_said
from mmdata.formats._nested import split_rows
from mmdata.formats._objects import Objects, read_objects
from mmdata.formats._parts import leftovers_of_media, media_of, medium_of
from mmdata.formats._placeholders import fill
from mmdata.formats._sources import (
    RecordSource,
    add_fields,
    below_folders,
    conversation_id,
    json_files,
    json_type,
    mapping,
    unmapped_fields,
)
from mmdata.formats._turn_reader import (
    TRAIN_FLAGS,
    list_turns,
    read_any_turns,
    read_literal,
    read_pairs,
    read_turns,
)
from mmdata.formats._turns import (
    IMAGE,
    MAPPED_FIELDS,
    ROLES,
    VIDEO,
    MediaCursor,
    add_turn_fields,
    insert_before_question,
    leftover_fields,
    require_answer,
    require_turns,
    role_of,
)
from mmdata.sources.files import SourceFile
from mmdata.sources.record import Record
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows

__all__ = [
    "IMAGE",
    "MAPPED_FIELDS",
    "PART_CODES",
    "ROLES",
    "ROLE_CODES",
    "TRAIN_FLAGS",
    "VIDEO",
    "BoxStyle",
    "Chat",
    "FlatRows",
    "Format",
    "MediaCursor",
    "NotPlainError",
    "Objects",
    "Origin",
    "Record",
    "RecordSource",
    "Sample",
    "Size",
    "SourceFile",
    "Thoughts",
    "Turn",
    "TurnColumns",
    "add_fields",
    "add_turn_fields",
    "below_folders",
    "conversation_id",
    "converse",
    "fill",
    "flatten_turns",
    "flatten_with",
    "ground",
    "insert_before_question",
    "is_said",
    "json_files",
    "json_type",
    "leftover_fields",
    "leftovers_of_media",
    "list_turns",
    "mapping",
    "may_have_boxes",
    "media_of",
    "medium_of",
    "parse_corners",
    "read_any_turns",
    "read_chat",
    "read_chats",
    "read_extras",
    "read_literal",
    "read_media_lists",
    "read_objects",
    "read_pairs",
    "read_sizes",
    "read_turns",
    "register",
    "require",
    "require_answer",
    "require_turns",
    "role_of",
    "scale_pixels",
    "split_rows",
    "unmapped_fields",
]


def register(name: str) -> Callable[[type[Format]], type[Format]]:
    """Return a decorator that makes a class the format ``name`` in this process.

    An installed package needs no decorator: its entry point in the group ``mmdata.formats`` says
    the name.

    Raises:
        ValueError: the name is taken.
    """
    return registry.register(name)
