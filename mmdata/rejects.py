"""Why a record was not kept: the codes, and a line of the file that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mmdata.errors import DataError

__all__ = ["Reason", "Reject"]


class Reason(str, Enum):
    """A reason code and, as ``explanation``, one line for people."""

    explanation: str

    def __new__(cls, code: str, explanation: str) -> Reason:
        """Make a member whose value is its code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.explanation = explanation
        return member

    @classmethod
    def of(cls, code: str) -> Reason:
        """Return the member of a code; a code that is none of ours counts as ``malformed``."""
        return next((reason for reason in cls if reason.value == code), cls.MALFORMED)

    BAD_JSON = "bad_json", "the record is not valid JSON"
    BAD_ENCODING = (
        "bad_encoding",
        "the bytes are not UTF-8, or hold what no text may (NUL, lone surrogates)",
    )
    BAD_SOURCE = (
        "bad_source",
        "a source file is damaged, cut or not what its name says; what of it can be read is kept",
    )
    TOO_DEEP = "too_deep", "the record is nested deeper than a reader can follow"
    MALFORMED = (
        "malformed",
        "the record has not the shape of its format: a field is missing or of another type",
    )
    UNSUPPORTED_FIELD = (
        "unsupported_field",
        "a field changes what the record means and is not understood (--allow-fields admits it)",
    )
    NO_CONVERSATION = (
        "no_conversation",
        "the record holds no conversation, or no answer to learn from",
    )
    EMPTY_TURN = "empty_turn", "a turn says nothing"
    UNKNOWN_ROLE = (
        "unknown_role",
        "a turn's speaker is none of system, user, assistant and tool, nor an alias of theirs",
    )
    ROLE_ORDER = "role_order", "an assistant speaks before the first question"
    MEDIA_MISMATCH = (
        "media_mismatch",
        "the placeholders in the text and the media of the record do not correspond",
    )
    UNSUPPORTED_MEDIA = (
        "unsupported_media",
        "the record needs a medium that a store does not hold, such as audio",
    )
    BAD_BOX = "bad_box", "a box is degenerate, out of the image, or marks a crowd"
    MISSING_MEDIA = "missing_media", "a media file is not there"
    EMPTY_MEDIA = "empty_media", "a media file has no bytes"
    UNREADABLE_MEDIA = "unreadable_media", "a media file cannot be decoded as what it is said to be"
    DAMAGED_MEDIA = "damaged_media", "a media file decodes in part"
    MEDIA_LIMIT = "media_limit", "a media file exceeds a limit of time, memory or size"
    CHANGED_MEDIA = (
        "changed_media",
        "a media file is not the one that was looked into: its size or content differs",
    )
    CLOCK_MISMATCH = (
        "clock_mismatch",
        "a frame of a file is not at the time that was told of it: another file has its place",
    )
    REMOTE_MEDIA = (
        "remote_media",
        "a medium is behind a URL that may not be read, or could not be (--allow-remote; "
        "--check none keeps it by name)",
    )
    OUTSIDE_MEDIA_ROOT = (
        "outside_media_root",
        "a path leaves the media root (--allow-outside admits it)",
    )
    UNSAYABLE = (
        "unsayable",
        "the target of an export has no way to say what the row says (--drop leaves it out)",
    )
    DUPLICATE_ID = "duplicate_id", "an earlier record has this id and the same content"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not kept.

    ``record`` is its number in ``file``, counted from 0; ``id`` the source's own id, where it has
    one; ``reason`` why, and ``detail`` what exactly was found.
    """

    record: int
    file: str
    id: str | None
    reason: Reason
    detail: str

    @classmethod
    def from_error(cls, error: Exception, *, record: int, file: str, id: str | None) -> Reject:  # noqa: A002
        """Return the reject that a record becomes by an error;
        an exception that is not ours is named with its type.
        """
        reason = Reason.of(getattr(error, "reason", Reason.MALFORMED.value))
        detail = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        return cls(record, file, id, reason, detail)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Reject:
        """Return the reject that a line of ``rejects.jsonl`` stands for, as JSON has it."""
        return cls(**{**values, "reason": Reason.of(values["reason"])})
