"""Records of the commonest shape of LLaVA, read as what they are: faster than as dictionaries, and
as strictly.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from mmdata.sources._run import decoded, has_strings

__all__ = ["Gpt", "Human", "Plain", "read_plainly"]


class Turn(Struct, frozen=True, gc=False, forbid_unknown_fields=True, tag_field="from"):
    """What a speaker says; the class tells which."""

    text: str = field(name="value")


class Human(Turn, frozen=True, gc=False, tag="human"):
    """Who asks."""


class Gpt(Turn, frozen=True, gc=False, tag="gpt"):
    """Who answers."""


class Plain(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A record that has none but these fields, and of the last two one at most; what it lacks is
    unset.
    """

    conversations: list[Human | Gpt]
    id: str | UnsetType = UNSET
    image: str | UnsetType = UNSET
    video: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    data_source: str | UnsetType = UNSET


_others_of: Final = attrgetter("id", "image", "video", "model", "data_source")
_one: Final = msgspec.json.Decoder(Plain)
_array: Final = msgspec.json.Decoder(list[Plain])


def read_plainly(data: bytes, in_array: bool) -> list[Plain]:
    """Return the records that JSON text consists of, one after the other; none of them unless all
    are plain.

    The decoder would let NUL by, and a key that stands twice; the latter shows in the count of
    strings.
    """
    records = decoded(data, _array if in_array else _one, in_array=in_array)
    turns = list(chain.from_iterable(map(attrgetter("conversations"), records)))
    others = list(chain.from_iterable(map(_others_of, records)))
    types = list(map(type, others))
    strings = len(records) + 2 * types.count(str) + 4 * len(turns)  # keys and values
    disordered = str in types[3::5] and str in types[4::5]
    if not records or disordered or not has_strings(data, strings):
        return []
    every = "".join(chain(filter(None, others), map(attrgetter("text"), turns)))
    return [] if "\0" in every else records
