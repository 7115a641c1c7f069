"""Calls of tools in text, as ChatML families write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mmdata._tools.strict_json import STRICT_DECODER
from mmdata.errors import SchemaError
from mmdata.schema import Part, Text, ToolCall
from mmdata.templates._content import Mark, Piece

__all__ = ["call_pieces", "read_calls"]

_CALL: Final = re.compile(r"\n?<tool_call>\n?(.*?)\n?</tool_call>", re.DOTALL)


def call_pieces(call: ToolCall, *, after: bool) -> Sequence[Piece]:
    """Return a call between its marks; a line break comes before it if it is ``after`` something.

    The arguments are as the source wrote them.
    """
    said = f'\n{{"name": "{call.name}", "arguments": {call.arguments}}}\n'
    pieces = (Mark("<tool_call>"), said, Mark("</tool_call>"))
    return ("\n", *pieces) if after else pieces


def read_calls(text: str) -> Iterator[Part]:
    """Yield a text as parts, its calls of tools as such; what is malformed stays text."""
    done = 0
    for match in _CALL.finditer(text):
        try:
            call = _read(STRICT_DECODER.decode(match[1]))
        except (ValueError, RecursionError, SchemaError):
            continue
        if match.start() > done:
            yield Text(text[done : match.start()])
        yield call
        done = match.end()
    if done < len(text):
        yield Text(text[done:])


def _read(found: Any) -> ToolCall:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise ValueError("no call")
    arguments = found.get("arguments", {})
    return ToolCall(found["name"], json.dumps(arguments, ensure_ascii=False))
