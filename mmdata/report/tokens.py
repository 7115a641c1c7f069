"""A conversation as a model reads it:
its tokens, those that are trained on, the slots of its media, in colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata._tools.terminal import visible
from mmdata.templates import IGNORE, Encoded, Template, registry
from mmdata.templates._plugins import encode
from mmdata.tokenizers import Tokenizer

if TYPE_CHECKING:
    from rich.text import Text

    from mmdata.schema import Conversation

__all__ = ["color_tokens", "conversation_tokens", "spell_tokens"]

# Two shades each, in turns, so that every token can be told from the next.
_TRAINED: Final = ("black on green", "black on bright_green")
_UNTRAINED: Final = ("dim", "default")
_SLOT: Final = "white on blue"
# Tokens that may share a character; past that, broken UTF-8 is shown as such.
_LONGEST_CHARACTER: Final = 12


@checked
def conversation_tokens(
    conversation: Conversation, template: Template, *, prompt: bool = False
) -> Text:
    """Return a conversation as ``template`` reads it,
    as a training sample or as the ``prompt`` of its last question.

    Raises:
        TokenError: the template cannot encode it.
    """
    encoded = encode(template, conversation, prompt=prompt)
    with registry.blame_plugin(type(template)):
        return color_tokens(encoded, template.tokenizer)


def color_tokens(encoded: Encoded, tokenizer: Tokenizer) -> Text:
    """Return the tokens as text for a terminal:
    green is trained on, plain is not, blue are slots of media.
    """
    from rich.text import Text

    slots = sum(slot.length for slot in encoded.slots)
    head = (
        f"{len(encoded)} tokens, {encoded.trained} trained, {slots} in {len(encoded.slots)} slots"
    )
    text = Text(f"{head}; green: trained on, blue: media\n\n")
    for style, piece in _pieces(encoded, tokenizer):
        text.append(visible(piece), style)
    return text


def spell_tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Give the text of each token with the number of tokens it stands for,
    more than one where they share a character.

    Control tokens have their names. A token's text is what it adds to the text before it, leading
    blank included.
    """
    names = {token: name for name, token in tokenizer.special.items()}
    before: list[int] = []
    run: list[int] = []
    for token in map(int, ids):
        if not run and token in names:
            yield 1, names[token]
            before = []
            continue
        run.append(token)
        piece = tokenizer.decode([*before, *run])[len(tokenizer.decode(before)) :]
        if "\N{REPLACEMENT CHARACTER}" not in piece or len(run) == _LONGEST_CHARACTER:
            yield len(run), piece
            before, run = run, []
    if run:
        yield len(run), tokenizer.decode(run)


def _pieces(encoded: Encoded, tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    done = 0
    for slot in encoded.slots:
        yield from _words(encoded, tokenizer, done, slot.start)
        yield _SLOT, f"[medium {slot.media}: {slot.length} tokens]"
        done = slot.stop
    yield from _words(encoded, tokenizer, done, len(encoded))


def _words(
    encoded: Encoded, tokenizer: Tokenizer, start: int, stop: int
) -> Iterator[tuple[str, str]]:
    shades = {True: cycle(_TRAINED), False: cycle(_UNTRAINED)}
    trained = (encoded.labels[start:stop] != IGNORE).tolist()
    done = 0
    for count, piece in spell_tokens(tokenizer, encoded.input_ids[start:stop].tolist()):
        yield next(shades[trained[done]]), piece
        done += count
