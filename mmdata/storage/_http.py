"""Files over HTTP, from machines that may be asked and no others.

Who writes the URLs of a data set must not choose what this machine asks of its own network. So a
name is resolved once, each of its addresses is looked at, and the connection goes to one of these;
a name that leads elsewhere the next moment changes nothing. The same holds for every redirect.
Proxies that the environment names are not used: they would resolve names themselves.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import re
import socket
import ssl
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from threading import Event, Timer
from typing import IO, Final, TypeAlias
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from mmdata._tools.options import PositiveFloat, PositiveInt, checked
from mmdata.errors import StorageError
from mmdata.storage._access import WEB_PORTS, Access
from mmdata.storage._backend import RemoteFaultError, RemoteInfo, retry

__all__ = ["HttpBackend", "fetch", "is_public"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What a server answers that may answer otherwise the next time."""
_TRIES: Final = 4
_PIECE: Final = 1 << 16
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_SAFE: Final = "/:?#[]@!$&'()*+,;=%~-._"


@checked
def fetch(
    url: str,
    *,
    hosts: Sequence[str] = (),
    seconds: PositiveFloat = 60.0,
    max_bytes: PositiveInt = 64 << 20,
) -> bytes:
    """Return what is behind an ``http://`` or ``https://`` URL.

    ``hosts`` are names or addresses of this network that may be asked: loopback, link-local and
    private addresses may not, nor may a redirect lead to one. ``seconds`` is what each attempt may
    take and ``max_bytes`` what may come.

    Raises:
        StorageError: it may not be asked, it did not answer, or not with the file; ``status`` is
            what it answered.
    """
    access = Access(remote=True, hosts=tuple(hosts), seconds=seconds, max_bytes=max_bytes)

    def read() -> bytes:
        with _get(url, access, {}) as answer:
            if answer.status != 200:
                raise _refusal(answer)
            return b"".join(answer.pieces())

    try:
        return retry(url, read, tries=_TRIES)
    except OSError as error:
        raise StorageError(f"{url}: {error.strerror}", path=url, status=_status_of(error)) from (
            error
        )


class HttpBackend:
    """Files behind URLs, read in ranges where the server gives them, else fetched whole once."""

    refuses_replaced = True

    def __init__(self, access: Access) -> None:
        self._access = access
        self._whole: tuple[str, str, IO[bytes]] | None = None

    def info(self, url: str) -> RemoteInfo | None:
        """Return what is at a URL.

        Raises:
            FileNotFoundError, PermissionError: as the server says.
            StorageError: it may not be asked, or does not say how large the file is.
        """
        # Of the first byte and not by HEAD, which URLs that were signed for reading refuse.
        with _get(url, self._access, {"Range": "bytes=0-0"}) as answer:
            if answer.status == 416:  # an empty file has no first byte
                return RemoteInfo(0, version=answer.version)
            if answer.status not in (200, 206):
                raise _refusal(answer)
            size = answer.whole_size
            if size is None:
                return RemoteInfo(self._fetch_whole(url, ""), version=answer.version)
            _check_size(url, size, self._access)
            return RemoteInfo(size, version=answer.version)

    def content_mark(self, url: str, info: RemoteInfo) -> str:
        """Return its ETag, or when it was changed."""
        return info.version

    def read(self, url: str, start: int, size: int, info: RemoteInfo) -> bytes:
        """Return ``size`` bytes of a file from ``start`` on.

        Raises:
            StorageError: besides, another file has taken its place.
        """
        if self._whole is not None and self._whole[:2] == (url, info.version):
            return self._read_whole(start, size)
        with _get(url, self._access, {"Range": f"bytes={start}-{start + size - 1}"}) as answer:
            if answer.status not in (200, 206):
                raise _refusal(answer)
            if answer.version != info.version or answer.whole_size not in (None, info.bytes):
                raise StorageError(f"{url}: another file has taken its place", path=url)
            if answer.status == 206:
                if answer.first != start:
                    raise RemoteFaultError(f"bytes from {answer.first} on came, not from {start}")
                return b"".join(answer.pieces(size))
        self._fetch_whole(url, info.version)
        return self._read_whole(start, size)

    def list(self, url: str, *, recursive: bool) -> Iterator[tuple[str, RemoteInfo]]:
        """Refuse: a server does not say what files it has."""
        raise StorageError(f"{url}: HTTP has no folders; name the files", path=url)

    def _fetch_whole(self, url: str, version: str) -> int:
        """Fetch a file that its server gives in one piece alone; return its size."""
        kept = tempfile.TemporaryFile()  # noqa: SIM115 - kept for the reads that follow
        weakref.finalize(self, kept.close)
        with _get(url, self._access, {}) as answer:
            if answer.status != 200:
                raise _refusal(answer)
            for piece in answer.pieces():
                kept.write(piece)
            version = version or answer.version
        if self._whole is not None:
            self._whole[2].close()
        self._whole = (url, version, kept)
        return kept.tell()

    def _read_whole(self, start: int, size: int) -> bytes:
        assert self._whole is not None
        file = self._whole[2]
        file.seek(start)
        return file.read(size)


class _Answer:
    """What a server answered, and the way to what follows."""

    def __init__(
        self, url: str, response: http.client.HTTPResponse, access: Access, watch: _Watch
    ) -> None:
        self.url = url
        self.status = response.status
        self.reason = response.reason
        self.location = response.getheader("Location")
        # A weak mark stands for what a reader would take for the same; bytes may differ.
        self.version = response.getheader("ETag") or response.getheader("Last-Modified") or ""
        self._response = response
        self._access = access
        self._watch = watch
        found = _RANGE.fullmatch(response.getheader("Content-Range") or "")
        self.first = int(found[1]) if found else 0
        length = response.getheader("Content-Length")
        self._length = int(length) if length and length.isdigit() else None
        # A part says the size of the whole, or `*` for that nobody knows it.
        self.whole_size = None if self.status == 206 else self._length
        if found and found[3] != "*":
            self.whole_size = int(found[3])

    def pieces(self, expected: int | None = None) -> Iterator[bytes]:
        """Yield the body, no more of it than is allowed or ``expected``.

        Raises:
            StorageError: it is too large.
            RemoteFaultError: it ends too early, or is packed.
        """
        if (self._response.getheader("Content-Encoding") or "identity") != "identity":
            raise StorageError(f"{self.url}: was sent packed, which was not asked", path=self.url)
        if self._length is not None:
            _check_size(self.url, self._length, self._access)
        done = 0
        try:
            while piece := self._response.read1(_PIECE):
                done += len(piece)
                _check_size(self.url, done, self._access)
                if expected is not None and done > expected:
                    raise RemoteFaultError(f"more came than {expected} bytes")
                yield piece
        except http.client.HTTPException as error:
            raise RemoteFaultError(f"cut off after {done} bytes: {error!r}") from error
        # Where nobody says how long a file is, its end looks like that of a connection.
        if self._watch.why:
            raise RemoteFaultError(self._watch.why)
        if done < (self._length or 0):
            raise RemoteFaultError(f"{done} bytes came of {self._length}")


@contextmanager
def _get(url: str, access: Access, headers: dict[str, str]) -> Iterator[_Answer]:
    """Ask for a URL, and for where it leads, and give what came in the end."""
    asked = url
    for _ in range(_MOST_REDIRECTS + 1):
        with _ask(asked, access, headers) as answer:
            if answer.status not in _REDIRECTS or answer.location is None:
                yield answer
                return
            asked = urljoin(asked, answer.location)
    raise StorageError(f"{url}: redirected more than {_MOST_REDIRECTS} times", path=url)


@contextmanager
def _ask(url: str, access: Access, headers: dict[str, str]) -> Iterator[_Answer]:
    """Ask for one URL, on a connection to an address that was looked at."""
    parts = _split(url)
    host = parts.hostname or ""
    port = parts.port or WEB_PORTS[parts.scheme]
    addresses = _allowed_addresses(url, host, port, access)

    with _connect(addresses, port, access.seconds) as raw, _Watch(raw, access.seconds) as watch:
        try:
            channel = raw
            if parts.scheme == "https":
                channel = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
            connection = http.client.HTTPConnection(parts.netloc)
            connection.sock, connection.auto_open = channel, 0  # never to another address
            path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            usual = {"Accept-Encoding": "identity", "User-Agent": "mmdata", "Connection": "close"}
            connection.request("GET", quote(path, safe=_SAFE), headers=usual | headers)
            with closing(connection), connection.getresponse() as response:
                yield _Answer(url, response, access, watch)
        except ssl.SSLCertVerificationError as error:
            raise StorageError(f"{url}: {error.verify_message}", path=url) from error
        except http.client.HTTPException as error:
            raise RemoteFaultError(f"no answer: {watch.why or repr(error)}") from error
        except OSError as error:
            if watch.why:
                raise RemoteFaultError(watch.why) from error
            raise


class _Watch:
    """Ends a connection after some seconds, whatever goes on: the limit of a socket begins anew
    with every byte. ``why`` says that it has.
    """

    def __init__(self, channel: socket.socket, seconds: float) -> None:
        # TLS takes over a socket and leaves it without a connection; a twin keeps it.
        self._twin = channel.dup()
        self._ended = Event()
        self._seconds = seconds
        self._timer = Timer(seconds, self._end)
        self._timer.daemon = True

    @property
    def why(self) -> str:
        """What to say of a connection that was ended; empty for others."""
        return f"not done within {self._seconds:g} seconds" if self._ended.is_set() else ""

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._twin.close()

    def _end(self) -> None:
        self._ended.set()
        with suppress(OSError):
            self._twin.shutdown(socket.SHUT_RDWR)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - read for what it raises
    except ValueError as error:
        raise StorageError(f"{url}: is not a URL: {error}", path=url) from error
    if parts.scheme not in WEB_PORTS or not parts.hostname:
        raise StorageError(f"{url}: is not an http:// or https:// URL", path=url)
    if parts.username is not None or parts.password is not None:
        raise StorageError(f"{url}: URLs with a user name are not read", path=url)
    return parts


def _allowed_addresses(url: str, host: str, port: int, access: Access) -> list[str]:
    """Return the addresses of a host, every one of which may be asked.

    Raises:
        StorageError: one may not.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RemoteFaultError(f"no address of {host}: {error}") from error
    addresses = list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))
    if host.lower() in {name.lower().strip("[]") for name in access.hosts}:
        return addresses
    for address in addresses:
        if not is_public(address):
            at = "" if address == host else f", at {address}"
            raise StorageError(
                f"{url}: {host}{at} is a machine of this network and is not asked; "
                f"--allow-host {host} admits it",
                path=url,
            )
    return addresses


@checked
def is_public(address: str) -> bool:
    """Return whether an IP address is one of the whole internet's: neither loopback, link-local,
    private, reserved nor for many, also where it stands inside one of version 6.

    >>> is_public("127.0.0.1"), is_public("::ffff:10.0.0.1"), is_public("8.8.8.8")
    (False, False, True)
    """
    found: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if found.teredo is not None or found.is_site_local:
            return False
        if inner is not None:
            found = inner
    return found.is_global and not found.is_multicast


def _connect(addresses: Sequence[str], port: int, seconds: float) -> socket.socket:
    fault: OSError = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=seconds)
        except OSError as error:
            fault = error
    raise fault


def _check_size(url: str, size: int, access: Access) -> None:
    if size > access.max_bytes:
        raise StorageError(
            f"{url}: is larger than {access.max_bytes} bytes, which is the limit", path=url
        )


def _refusal(answer: _Answer) -> Exception:
    """Return the error for a status that comes without the file."""
    what = f"HTTP {answer.status} {answer.reason}".rstrip()
    if answer.status in _LATER:
        return RemoteFaultError(what)
    if answer.status in (404, 410):
        return FileNotFoundError(errno.ENOENT, what, answer.url)
    if answer.status in (401, 403):
        return PermissionError(errno.EACCES, what, answer.url)
    return StorageError(f"{answer.url}: {what}", path=answer.url, status=answer.status)


def _status_of(error: OSError) -> int | None:
    found = re.match(r"HTTP (\d{3})", error.strerror or "")
    return int(found[1]) if found else None
