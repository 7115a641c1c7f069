"""What may be read over the network, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mmdata._tools.options import PositiveFloat, PositiveInt, check_fields
from mmdata.storage._cache import MediaCache

__all__ = ["WEB_PORTS", "Access"]

WEB_PORTS: Final = {"http": 80, "https": 443}
"""The schemes of URLs that are asked over HTTP, and their usual ports."""


@dataclass(frozen=True, slots=True)
class Access:
    """What may be read over the network.

    Object storage that a call names is read with the credentials of this machine, always. Other
    URLs, and all those that records name, are read where ``remote`` is on; of machines of this
    network (loopback, link-local and private addresses) those alone that ``hosts`` names.
    ``seconds`` is what one request may take, and ``max_bytes`` the size of a file. What was fetched
    is kept in ``cache``, if one is given.

    >>> Access(remote=True, hosts=("media.internal",)).seconds
    60.0
    """

    remote: bool = False
    hosts: tuple[str, ...] = ()
    seconds: PositiveFloat = 60.0
    max_bytes: PositiveInt = 64 << 30
    # It changes nothing of what is read: not what a conversion is known by, nor a connection.
    cache: MediaCache | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)
