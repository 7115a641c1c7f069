"""Turns of ChatML: the pieces that they are made of, with what is trained of them, and those that
declare tools and give back what tools answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from mmdata.errors import TokenError
from mmdata.schema import Conversation, Message, Part, ToolCall
from mmdata.templates._content import Mark, Piece
from mmdata.templates._tool_calls import call_pieces

__all__ = ["Bit", "Turn", "call_bits", "message_bits", "tool_head", "tool_responses", "tools_of"]

_HEAD_BEFORE: Final = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_HEAD_AFTER: Final = (
    "\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
)
_CALL_FORM: Final = '\n{"name": <function-name>, "arguments": <args-json-object>}\n'


class Bit(Struct, frozen=True, gc=False):
    """A piece of a turn, whether it is ``trained``, and whether it is tokenized ``apart`` from what
    is before it, which text else is not.
    """

    piece: Piece
    trained: bool = False
    apart: bool = False


class Turn(Struct, frozen=True, gc=False):
    """One ``<|im_start|>ROLE ... <|im_end|>``.

    ``opening`` is what a prompt for it ends with after the role line, ``ends`` whether its end is
    trained.
    """

    role: str
    content: Sequence[Bit]
    opening: Sequence[Bit] = ()
    newline: bool = True
    answer: bool = False
    ends: bool = False

    @property
    def head(self) -> list[Bit]:
        """What is said before the content."""
        role = f"{self.role}\n" if self.newline else self.role
        return [Bit(role), *self.opening]


def message_bits(message: Message, pieces: Iterable[tuple[Part, Iterable[Piece]]]) -> list[Bit]:
    """Return the bits of a message, each part trained as it says itself, or else as the message.

    A part that is trained otherwise than its message is tokenized apart from its neighbours.
    """
    bits: list[Bit] = []
    differed = False
    for part, rendered in pieces:
        trained = message.train if part.train is None else part.train
        differs = trained != message.train
        apart = differs or differed
        for piece in rendered:
            bits.append(Bit(piece, trained, apart))
            apart, differed = False, differs
    return bits


def call_bits(message: Message, said: Sequence[Bit]) -> list[Bit]:
    """Return the calls of a message, after what it ``said``."""
    bits: list[Bit] = []
    for part in message.content:
        if isinstance(part, ToolCall):
            trained = message.train if part.train is None else part.train
            after = bool(bits) or any(bit.piece for bit in said)
            pieces = call_pieces(part, after=after)
            bits += [Bit(piece, trained) for piece in pieces]
    return bits


def tools_of(conversation: Conversation) -> str | None:
    """Return the tools that a conversation declares, as JSON; None where it declares none, be it by
    an empty list.
    """
    tools = conversation.tools
    return tools if tools is not None and json.loads(tools) != [] else None


def tool_head(tools: str) -> list[Piece]:
    """Return the words that declare tools, which are given as the JSON of a list.

    Raises:
        TokenError: they are no list.
    """
    declared = json.loads(tools)
    if not isinstance(declared, list):
        raise TokenError(f"tools must be the JSON of a list, found {tools[:60]!r}")
    lines = [json.dumps(tool, ensure_ascii=False) for tool in declared]
    listed = "".join(f"\n{line}" for line in lines)
    call, end = Mark("<tool_call>"), Mark("</tool_call>")
    before = f"{_HEAD_BEFORE}{listed}{_HEAD_AFTER}"
    return [before, call, end, " XML tags:\n", call, _CALL_FORM, end]


def tool_responses(messages: Sequence[Sequence[Bit]]) -> Turn:
    """Return what tools gave back, one message after the other, as one turn of the user."""
    content: list[Bit] = []
    for bits in messages:
        opened = [Bit("\n"), Bit(Mark("<tool_response>")), Bit("\n")]
        content += [*opened, *bits, Bit("\n"), Bit(Mark("</tool_response>"))]
    return Turn("user", content, newline=False)
