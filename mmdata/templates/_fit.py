"""What becomes of a sequence that is longer than the limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec.structs import replace

from mmdata.errors import DroppedSampleError, TokenError
from mmdata.templates._sequence import Item, Medium, Run, num_tokens

__all__ = ["OverLong", "truncate"]

OverLong: TypeAlias = Literal["error", "drop", "truncate_right"]


def truncate(
    items: Sequence[Item], max_length: int | None, over_long: OverLong, conversation: str
) -> tuple[Sequence[Item], int]:
    """Return what fits of a sequence of ``max_length`` tokens at most,
    and how many tokens were cut off its end.

    - ``error``: nothing is cut; too long a sequence is an error that stops the run;
    - ``drop``: nothing is cut; too long a sequence is an error of its own kind, which the caller
      counts;
    - ``truncate_right``: the end goes; a medium that would be cut goes as a whole, with all that
      follows it. A sequence that had an answer to learn and has nothing left of it is dropped.

    Raises:
        TokenError: too long under ``error``.
        DroppedSampleError: too long under ``drop``, or nothing left to learn.
    """
    length = num_tokens(items)
    if max_length is None or length <= max_length:
        return items, 0

    message = f"conversation {conversation!r} has {length} tokens, the limit is {max_length}"
    if over_long == "error":
        raise TokenError(
            f"{message}; over_long='truncate_right' cuts such samples, "
            "'drop' leaves them out and counts"
        )
    if over_long == "drop":
        raise DroppedSampleError(message, reason="too_long")

    kept = _front(items, max_length)
    if _learns(items) and not _learns(kept):
        raise DroppedSampleError(
            f"{message}; no word of an answer is before the cut", reason="nothing_to_learn"
        )

    return kept, length - num_tokens(kept)


def _front(items: Sequence[Item], room: int) -> list[Item]:
    kept: list[Item] = []
    for item in items:
        if len(item.ids) <= room:
            kept.append(item)
            room -= len(item.ids)
        elif isinstance(item, Medium):
            break
        else:
            kept.append(replace(item, ids=item.ids[:room]))
            break
    return kept


def _learns(items: Sequence[Item]) -> bool:
    return any(
        isinstance(item, Run) and item.trained and not item.mark and item.ids for item in items
    )
