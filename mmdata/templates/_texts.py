"""Texts that stand side by side, tokenized as one string: which ids are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from mmdata.templates._sequence import Run
from mmdata.templates._turns import Bit

__all__ = ["Encode", "encode_texts"]

Encode: TypeAlias = "Callable[[str], Sequence[int]]"
Words: TypeAlias = "tuple[str, bool]"
"""A text, and whether it is trained on."""


def encode_texts(
    bits: Iterable[Bit], encode: Encode, *, lead: str = ""
) -> tuple[list[Run], Sequence[int]]:
    """Return the ids of texts that stand side by side, and those of the ``lead`` of a medium that
    comes after them.

    What no bit that is ``apart`` parts is one string to the tokenizer, so that a token may belong
    to two texts: it is then the later one's.
    """
    *before, last = _split_apart(bits)

    runs: list[Run] = []
    for words in before:
        runs += _encode_words(words, encode, "")[0]
    others, rest = _encode_words(last, encode, lead)
    return runs + others, rest


def _split_apart(bits: Iterable[Bit]) -> list[list[Words]]:
    """Return the strings to tokenize, neighbours of one fate as one text; the last may be empty."""
    strings: list[list[Words]] = [[]]
    for bit in bits:
        words = strings[-1]
        if bit.apart and words:
            words = []
            strings.append(words)
        if not bit.piece:
            continue

        text = str(bit.piece)
        if words and words[-1][1] == bit.trained:
            words[-1] = (words[-1][0] + text, bit.trained)
        else:
            words.append((text, bit.trained))
    return strings


def _encode_words(
    words: Sequence[Words], encode: Encode, lead: str
) -> tuple[list[Run], Sequence[int]]:
    if not words:
        return [], encode(lead) if lead else ()

    text = "".join(word for word, _ in words)
    ids = encode(text + lead)
    end = _count_shared(ids, encode(text)) if lead else len(ids)

    # Borders are sought from the front: what the ids of the beginning alone have in common with
    # those of the whole is before the border.
    runs: list[Run] = []
    done, begun = 0, ""
    for word, trained in words[:-1]:
        begun += word
        stop = min(_count_shared(ids, encode(begun)), end)
        if stop > done:
            runs.append(Run(ids[done:stop], trained))
            done = stop
    if end > done:
        runs.append(Run(ids[done:end], words[-1][1]))
    return runs, ids[end:]


def _count_shared(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return how many ids two sequences begin with alike."""
    count = 0
    for one, other in zip(ids, others, strict=False):
        if one != other:
            break
        count += 1
    return count
