"""Everything mmdata raises on purpose.

MMDataError
├── UsageError            the call is at fault (command line exit code 2)
│   ├── ConfigError       a configuration file or option says something impossible
│   └── UnknownNameError  no format, template, … of that name
├── StorageError          a network, or what is behind it, is at fault (exit code 1)
├── PluginError           a format, template or resizer of another package is at fault (exit code 1)
└── DataError             the data is at fault (exit code 1)
    ├── RecordError       one source record; becomes a line of ``rejects.jsonl``
    ├── SampleError       one sample on its way into a batch
    ├── SchemaError       a conversation breaks a rule of the schema
    ├── StoreError        a store is damaged, locked or absent
    ├── MediaError        a media file
    │   ├── ImageError
    │   └── VideoError
    └── TokenError        a tokenizer file or a conversation that a template cannot encode
        └── DroppedSampleError  too long under a policy that leaves it out; the reader counts it

Each can be built from one string (data loaders of other frameworks rebuild exceptions that way) and
carries what is known as attributes besides.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "DataError",
    "DroppedSampleError",
    "ImageError",
    "MMDataError",
    "MediaError",
    "PluginError",
    "RecordError",
    "SampleError",
    "SchemaError",
    "StorageError",
    "StoreError",
    "TokenError",
    "UnknownNameError",
    "UsageError",
    "VideoError",
    "as_media_error",
    "nearest",
]


class MMDataError(Exception):
    """The root: what was found, where, and what to do about it."""


class UsageError(MMDataError):
    """The call is at fault: an argument, an option, a path that cannot be meant."""


class ConfigError(UsageError):
    """A configuration says something impossible; the message lists every fault found."""


class UnknownNameError(UsageError):
    """No such name in a registry; the message lists those there are and the nearest."""


class PluginError(MMDataError):
    """A format, a template or a resizer that another package brings is at fault; its own exception
    is the ``__cause__``.
    """


class StorageError(MMDataError):
    """An object behind the network cannot be read or written: ``path`` is its URL, and ``status``
    what its server answered, where it did.

    It is not the data's fault: it ends a run, and is no reject but where one medium is concerned.
    """

    def __init__(self, message: str, *, path: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.status = status


class DataError(MMDataError):
    """The data is at fault."""


class RecordError(DataError):
    """One source record cannot become a conversation.

    ``reason`` is a code of :class:`mmdata.rejects.Reason`, the message its detail.
    """

    def __init__(self, message: str, *, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class SampleError(DataError):
    """One sample of a stream cannot become part of a batch;
    ``reason`` is what a count of such samples is kept by.

    ``row`` is its number in the mixture, ``id`` its own, ``path`` the file that is at fault; each
    where it is known.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "unreadable",
        row: int | None = None,
        id: str | None = None,  # noqa: A002
        path: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.row = row
        self.id = id
        self.path = path


class SchemaError(DataError):
    """A conversation breaks a rule of the schema;
    ``reason`` is the code a converter rejects it with.
    """

    def __init__(self, message: str, *, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class StoreError(DataError):
    """A store is damaged, incomplete, of another version,
    absent, or being written by somebody else.
    """

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class MediaError(DataError):
    """A media file cannot be used:
    ``path``, and ``reason`` as a code of :class:`mmdata.rejects.Reason`.
    """

    def __init__(self, message: str, *, path: str = "", reason: str = "unreadable_media") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


class ImageError(MediaError):
    """An image cannot be decoded, or is larger than the limits allow."""


class VideoError(MediaError):
    """A video cannot be decoded as asked; ``frames_read`` frames could be."""

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        reason: str = "unreadable_media",
        frames_read: int = 0,
    ) -> None:
        super().__init__(message, path=path, reason=reason)
        self.frames_read = frames_read


class TokenError(DataError):
    """A tokenizer file is missing or wrong, or a conversation cannot be encoded by a template."""


class DroppedSampleError(TokenError):
    """A conversation is left out because it does not fit;
    ``reason`` is what a count of such samples is kept by.

    ``too_long``: it has more tokens than the limit. ``nothing_to_learn``: it could be cut to the
    limit, but no word of an answer is before the cut.
    """

    def __init__(self, message: str, *, reason: str = "too_long") -> None:
        super().__init__(message)
        self.reason = reason


def as_media_error(error: Exception, path: str) -> MediaError:
    """Return the error of a medium for whatever decoding it has raised.

    ``path`` is its file, or empty where that is not known; an error of a medium that does not name
    one is given its name. Decoders are given files by strangers, and no list of what they raise on
    them is complete. So all of it is the file's fault, but what says that the call or a plug-in is:
    that is raised again.

    Raises:
        UsageError, PluginError: ``error`` is one.

    >>> as_media_error(KeyError("layer 3"), "clip.mp4")
    MediaError("clip.mp4: cannot be decoded: KeyError: 'layer 3'")
    """
    if isinstance(error, MediaError):
        if error.path or not path:
            return error
        return _with_cause(type(error)(f"{path}: {error}", path=path, reason=error.reason), error)
    if isinstance(error, (UsageError, PluginError)):
        raise error

    if isinstance(error, StorageError):  # which names the file
        return _with_cause(MediaError(str(error), path=path, reason="remote_media"), error)
    if isinstance(error, (FileNotFoundError, PermissionError)) and error.filename == path:
        reason = "missing_media" if isinstance(error, FileNotFoundError) else "remote_media"
        found = MediaError(f"{path}: {error.strerror}", path=path, reason=reason)
        return _with_cause(found, error)

    reason = "media_limit" if isinstance(error, MemoryError) else "unreadable_media"
    what = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        what = f"{what}; raise memory (--memory, Limits(memory=...)) if it is meant"
    where = f"{path}: " if path else ""
    found = MediaError(f"{where}cannot be decoded: {what}", path=path, reason=reason)
    return _with_cause(found, error)


def _with_cause(found: MediaError, error: Exception) -> MediaError:
    found.__cause__ = error
    return found


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""
