"""What each kind of storage can do, and how often it is asked again when the network fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from mmdata.errors import StorageError

__all__ = ["Backend", "RemoteFaultError", "RemoteInfo", "retry"]

T = TypeVar("T")

_TRIES: Final = 6
_FIRST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class RemoteInfo:
    """What is known of a file or folder without reading it: ``bytes``, the second since 1970 in
    which it was ``changed`` (0 where nobody says), and its ``version``, if it has one.
    """

    bytes: int
    changed: float = 0.0
    version: str = ""
    is_folder: bool = False


class Backend(Protocol):
    """One kind of storage. URLs come whole, and so do those that it lists.

    Whatever it raises but ``FileNotFoundError``, ``PermissionError`` and errors of this package is
    taken for a fault of the network, which may not be there the next time.
    """

    refuses_replaced: bool
    """Whether reading refuses a file in whose place another has come since ``info`` was asked."""

    def info(self, url: str) -> RemoteInfo | None:
        """Return what is at a URL, or None."""
        ...

    def content_mark(self, url: str, info: RemoteInfo) -> str:
        """Return what is another one whenever the bytes of a file are others, such as its ETag;
        nothing where nobody says it.
        """
        ...

    def read(self, url: str, start: int, size: int, info: RemoteInfo) -> bytes:
        """Return ``size`` bytes of a file from ``start`` on."""
        ...

    def list(self, url: str, *, recursive: bool) -> Iterator[tuple[str, RemoteInfo]]:
        """Yield what is in a folder, in any order."""
        ...


class RemoteFaultError(Exception):
    """A fault of the network that another attempt may not meet."""


def retry(what: str, action: Callable[[], T], *, tries: int = _TRIES) -> T:
    """Return what ``action`` does, which is tried again after a while where the network fails.

    ``what`` says, for people, what is done with which object.

    Raises:
        FileNotFoundError, FileExistsError, PermissionError: the storage says so, once and for all.
        StorageError: it failed each time.
    """
    wait = _FIRST_WAIT
    for attempt in range(1, tries + 1):
        try:
            return action()
        except (FileExistsError, FileNotFoundError, PermissionError):
            raise
        except (OSError, RemoteFaultError) as error:
            if attempt == tries:
                raise StorageError(f"{what}: failed {tries} times, at last: {error}") from error
        # Of many readers that met the same fault, not all come back at the same moment.
        time.sleep(wait * random.Random().uniform(0.5, 1.0))
        wait = min(2 * wait, _LONGEST_WAIT)
    raise AssertionError("a try returns or raises")
