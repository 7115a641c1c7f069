"""What becomes of a row's words when the record that it is written as is read again.

Words may spell the mark of a medium, a box or a thought, and no rule beside the reader's own says
which of them it takes for one. So the record of a row whose words are suspect is read back before
it is written, by the format that reads the target's records, and must say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from mmdata._tools.marks import DIALOGUE, may_begin_mark
from mmdata.errors import DataError
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._media import PlacedMedium
from mmdata.schema import Conversation, Message, Reasoning, Region, Role, Text, ToolCall

if TYPE_CHECKING:
    from mmdata.formats import Format

__all__ = ["Readers"]

_Said: TypeAlias = tuple[Role, str, str]
"""Who says a thing, the type of the part that it is, and its words, without the white space around
them, which a target may need between words and marks.
"""
_READ_AS: Final = {
    "Text": "other words",
    "Image": "the place of an image",
    "Video": "the place of a video",
    "Region": "a phrase or a box",
    "Reasoning": "another thought",
    "ToolCall": "the call of a tool",
}
"""What a part is to whoever wrote it as words, by its type."""


class Readers:
    """The formats that the records of an exporter are read back by, each made once."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._formats: dict[str, Format] = {}

    def find_misreading(self, row: Row, record: Any) -> str | None:
        """Return which words of a row come back otherwise from its record, and as what; None where
        all come back as they are, or where no format reads the record.
        """
        name = self._exporter.read_by
        if name is None:
            return None
        options = self._exporter.reading_options(row.conversation)
        words = _suspect_words(row.conversation)
        # With an option more is looked for among the words than marks and boxes.
        if words is None and not options:
            return None

        if any(medium.data is not None for medium in row.media):
            # What a picture looks like changes nothing, and takes long to encode and to decode.
            record = self._exporter.record(Row(row.conversation, _name_all(row.media)))
        said = _list_said(row.conversation)
        try:
            found = _list_said(self._read(name, options, row.conversation.id, record))
        except DataError as error:
            what = _quote(words or said[0][2])
            return f"{what} is refused by the format {name}, which reads the record back: {error}"

        if found == said:
            return None
        lost = next((each[2] for each in said if each not in found), words or "")
        new = [kind for role, kind, text in found if (role, kind, text) not in said]
        what = next((kind for kind in new if kind != "Text"), "Text")
        return f"{_quote(lost)} is read back by the format {name} as {_READ_AS[what]}"

    def _read(self, name: str, options: Any, id: str, record: Any) -> Conversation:  # noqa: A002
        """Return the conversation that a format reads a record as."""
        from mmdata import formats

        key = repr((name, options))
        if key not in self._formats:
            self._formats[key] = formats.make(name, options)
        value = self._exporter.as_read(record)
        return self._formats[key].conversation(formats.Record(value, "", 0, id))


def _suspect_words(conversation: Conversation) -> str | None:
    """Return the first text of a row that a reader may take for something else than words."""
    parts = [part for message in conversation.messages for part in message.content]
    worse = [part for message in conversation.rejected or () for part in message.content]
    texts = [part.text for part in (*parts, *worse) if isinstance(part, (Text, Reasoning, Region))]
    marked = [text for text in texts if may_begin_mark(text) or text.startswith(DIALOGUE)]
    # Targets have thoughts and worse answers in fields of their own, as texts.
    fields = [part.text for part in parts if isinstance(part, Reasoning)]
    fields += [part.text for part in worse if isinstance(part, (Text, Reasoning))]
    if not marked and not fields:
        return None

    # The room of formats takes as long to import as thousands of rows to write; few rows need it.
    from mmdata.formats._meaning import is_said
    from mmdata.formats._suspects import find_suspect

    empty = (text for text in fields if not is_said(text))
    return next(filter(find_suspect, marked), None) or next(empty, None)


def _list_said(conversation: Conversation) -> list[_Said]:
    """Return what a row says, in order, and then what its worse ending says."""
    messages = [*conversation.messages, *(conversation.rejected or ())]
    return [said for message in messages for said in _list_parts(message)]


def _list_parts(message: Message) -> Iterator[_Said]:
    """Yield what a turn says; words that follow one another are one."""
    words = ""
    for part in message.content:
        if isinstance(part, Text):
            words += part.text
            continue
        if words.strip():
            yield message.role, "Text", words.strip()
        words = ""
        said = ""
        if isinstance(part, (Reasoning, Region)):
            said = part.text.strip()
        elif isinstance(part, ToolCall):
            said = part.name
        yield message.role, type(part).__name__, said
    if words.strip():
        yield message.role, "Text", words.strip()


def _name_all(media: Sequence[PlacedMedium]) -> list[PlacedMedium]:
    """Return media with names in the place of their bytes, which no words can be."""
    return [
        medium
        if medium.data is None
        else msgspec.structs.replace(medium, data=None, path=f"medium {number}.{medium.suffix}")
        for number, medium in enumerate(media)
    ]


def _quote(words: str) -> str:
    return repr(words[:60])
