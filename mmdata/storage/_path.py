"""A path that is a URL."""

from __future__ import annotations

import errno
import io
import os
import posixpath
import re
import stat
from collections.abc import Callable, Generator, Sequence
from fnmatch import translate
from functools import lru_cache, partial
from pathlib import Path, PosixPath
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, cast

from mmdata._tools.options import checked
from mmdata._tools.paths import is_url
from mmdata.errors import StorageError, UsageError
from mmdata.storage._access import WEB_PORTS, Access
from mmdata.storage._arrow import ArrowBackend, endpoint_of
from mmdata.storage._backend import Backend, RemoteFaultError, RemoteInfo, retry
from mmdata.storage._cache import CacheEntry, KnownContent
from mmdata.storage._file import RemoteFile, Spool

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RemotePath", "backend_of", "common_folder", "path_of", "remote_path"]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A URL that a path was made of has lost one of its slashes; a drive of Windows has one letter."""
_KEPT: Final = 4 << 30  # bytes of files that are kept, while they are read more than once
_READINGS: Final = 5  # how often a file is read that is replaced meanwhile
ReadRange: TypeAlias = Callable[[int, int], bytes]
"""What gives so many bytes of a file, from a place on: ``read_range(start, size)``."""

_FILE: Final = stat.S_IFREG | 0o444
_FOLDER: Final = stat.S_IFDIR | 0o555


class _Kept:
    """What was fetched of files that are read more than once, on the disk of this machine."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[RemoteInfo, Spool]] = {}

    def find(self, url: str) -> tuple[RemoteInfo, Spool] | tuple[None, None]:
        """Return what is known of a file, and what is there of it."""
        return self._files.get(url, (None, None))

    def add(self, url: str, info: RemoteInfo) -> Spool:
        """Return the place for what will be fetched of a file."""
        room = _KEPT - sum(other.bytes for other, _ in self._files.values())
        spool = Spool(max(0, room))
        self._files[url] = info, spool
        return spool


class RemotePath(PosixPath):
    """A path in object storage or behind a URL: of :class:`pathlib.Path`, what reading takes.

    It is opened where it is used, by each process anew: what travels to another is the URL and its
    :class:`Access`. Nothing can be written by it.
    """

    _url: str | None = None
    _access: Access = Access()
    _known: KnownContent | None = None
    _kept: _Kept | None = None

    def __str__(self) -> str:
        """Return the URL."""
        return _with_slashes(super().__str__()) if self._url is None else self._url

    def __fspath__(self) -> str:
        """Return the URL, which is what messages call it; no file of this machine has this name."""
        return str(self)

    def __repr__(self) -> str:
        """Return the URL."""
        return f"RemotePath({str(self)!r})"

    def __reduce__(self) -> Any:
        """Travel as a URL."""
        return remote_path, (str(self), self._access, self._known)

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    @property
    def scheme(self) -> str:
        """The kind of storage."""
        return str(self).partition(":")[0].lower()

    @property
    def has_folders(self) -> bool:
        """Whether it may be a folder; HTTP has none."""
        return self.scheme not in WEB_PORTS

    @property
    def access(self) -> Access:
        """What may be read."""
        return self._access

    @property
    def parent(self) -> Self:
        """The folder that it is in; of a bucket, the bucket."""
        above = str(self).rstrip("/").rpartition("/")[0]
        return self if above.endswith(("/", ":")) else self.like(above)

    def __truediv__(self, name: str | os.PathLike[str]) -> Self:
        """Return the path of a name below it; a path or URL that is absolute as it is."""
        text = os.fspath(name)
        if is_url(text):
            return self.like(text)
        if text.startswith("/"):
            return cast("Self", Path(text))
        return self.like(posixpath.join(str(self), text))

    def joinpath(self, *names: str | os.PathLike[str]) -> Self:
        """Return the path of names below it."""
        path = self
        for name in names:
            path = path / name
        return path

    def with_name(self, name: str) -> Self:
        """Return the path of another name beside it."""
        return self.parent / name

    def is_below(self, folder: RemotePath) -> bool:
        """Return whether it is in a folder, at any depth."""
        return str(self).startswith(f"{str(folder).rstrip('/')}/")

    def absolute(self) -> Self:
        """Return itself."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Return itself."""
        return self

    def is_absolute(self) -> bool:
        """Return that it does not depend on a folder of this process."""
        return True

    def like(self, url: str) -> Self:
        """Return the path of another URL that may be read as this one."""
        path = remote_path(url, self._access)
        path._kept = self._kept
        return cast("Self", path)

    def keep(self) -> Self:
        """Return the same path, and so those below it and beside it, for a file that is read more
        than once: what was fetched of it is kept on the disk of this machine, up to 4 GiB of all
        such files, until the last of these paths is gone. It stays the file that it was at first.

        What travels to another process leaves that behind.
        """
        path = remote_path(str(self), self._access, self._known)
        path._kept = self._kept or _Kept()
        return cast("Self", path)

    # --- what is there

    def info(self) -> RemoteInfo | None:
        """Return what is known of it without reading it, or None where nothing is there.

        Raises:
            PermissionError: the storage does not let us see it.
            StorageError: it cannot be reached.
        """
        backend = backend_of(self)
        return retry(f"{self}", lambda: backend.info(str(self)))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return its size, its kind and when it was changed."""
        found = self.info()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        mode = _FOLDER if found.is_folder else _FILE
        return os.stat_result((mode, 0, 0, 1, 0, 0, found.bytes, 0, found.changed, 0))

    def lstat(self) -> os.stat_result:
        """Return what :meth:`stat` does: there are no links."""
        return self.stat()

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether something is there."""
        return self._seen() is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a file."""
        found = self._seen()
        return found is not None and not found.is_folder

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Return whether it is a folder: something is called as it and a slash."""
        found = self._seen()
        return found is not None and found.is_folder

    def _seen(self) -> RemoteInfo | None:
        try:
            return self.info()
        except FileNotFoundError:  # with the server's own words
            return None

    def is_symlink(self) -> bool:
        """Return that it is no link."""
        return False

    def iterdir(self) -> Generator[Self, None, None]:
        """Yield what is in the folder, sorted."""
        for url, _ in self.listed():
            yield self.like(url)

    def files(self) -> list[tuple[Self, int]]:
        """Return the files below the folder, at any depth, sorted, with the size of each."""
        found = self.listed(recursive=True)
        return [(self.like(url), info.bytes) for url, info in found if not info.is_folder]

    def listed(self, *, recursive: bool = False) -> list[tuple[str, RemoteInfo]]:
        """Return what is in the folder by URL, sorted."""
        backend = backend_of(self)
        what = f"{self}: listing what is there"
        return sorted(
            retry(what, lambda: list(backend.list(str(self), recursive=recursive))),
            key=lambda one: one[0].split("/"),
        )

    def glob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """Yield the files below it whose names fit a pattern, sorted."""
        fits = re.compile(_pattern(pattern))
        base = len(str(self).rstrip("/")) + 1
        for path, _size in self.files():
            if fits.fullmatch(str(path)[base:]):
                yield path

    def rglob(self, pattern: str, **_: Any) -> Generator[Self, None, None]:
        """Yield the files at any depth below it whose names fit a pattern, sorted."""
        return self.glob(f"**/{pattern}")

    def relative_to(self, *other: Any, **options: Any) -> Any:
        """Return the part of the path below another, as a path of names."""
        base = f"{os.fspath(other[0]).rstrip('/')}/"
        if not f"{self}/".startswith(base):
            raise ValueError(f"{self} is not below {other[0]}")
        return Path(str(self)[len(base) :])

    # --- what is in it

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open the file for reading; bytes come from the storage as they are asked for.

        Raises:
            FileNotFoundError, PermissionError: it is not there, or not for us.
            StorageError: it cannot be reached.
        """
        if mode not in ("r", "rb", "rt"):
            self._refuse()
        raw = self.open_range()
        if mode == "rb":
            return cast("IO[Any]", raw if buffering == 0 else io.BufferedReader(raw, 1 << 17))
        return io.TextIOWrapper(io.BufferedReader(raw), encoding, errors, newline)

    def open_range(self, *, spool: Spool | None = None) -> RemoteFile:
        """Open the file for reading from any place; from a ``spool`` what is in it already."""
        if (cached := self._open_known()) is not None:
            return cached
        noted, kept = (None, None) if self._kept is None else self._kept.find(str(self))
        found = noted or self.info()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        if found.is_folder:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self))
        backend, read_range = backend_of(self), self._range_reader(found)
        version, entry = self._open_entry(backend, found)
        if entry is not None:
            fetch = self._fetcher(backend, read_range, version)
            read_range = partial(_read_entry, entry, fetch)
        elif self._kept is not None and spool is None:
            spool = kept or self._kept.add(str(self), found)
        return RemoteFile(read_range, found.bytes, str(self), spool=spool)

    def _range_reader(self, found: RemoteInfo) -> ReadRange:
        url, backend, info = str(self), backend_of(self), found

        def read_range(start: int, size: int) -> bytes:
            def read() -> bytes:
                data = backend.read(url, start, size, info)
                # Who is cut off by the network is not told by every library.
                if len(data) != size:
                    if self.info() != found:
                        raise StorageError(f"{url}: was replaced while it was read", path=url)
                    raise RemoteFaultError(f"{len(data)} bytes came of {size}")
                return data

            return retry(f"{url}: reading {size} bytes from {start}", read)

        return read_range

    # --- what is kept of media on this machine

    def _open_known(self) -> RemoteFile | None:
        """Open what the cache of media keeps of the content that a store knows, for which nobody is
        asked until a block is missing; None where nothing was noted of it.
        """
        cache, known = self._access.cache, self._known
        version = cache.version_of(str(self), known) if cache and known else None
        if cache is None or known is None or version is None:
            return None
        entry = cache.open(str(self), version, known.size)
        if entry is None:
            return None

        def fetch(start: int, size: int) -> bytes:
            found, backend = self.info(), backend_of(self)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
            if found.bytes != known.size or self._mark(backend, found) != version:
                raise StorageError(
                    f"{self}: is not the file any more that the store was made of, of which the "
                    "media cache keeps a part. Restore it or convert again.",
                    path=str(self),
                )
            return self._fetcher(backend, self._range_reader(found), version)(start, size)

        return RemoteFile(partial(_read_entry, entry, fetch), known.size, str(self))

    def _open_entry(self, backend: Backend, found: RemoteInfo) -> tuple[str, CacheEntry | None]:
        """Return the version of a content and what the cache of media keeps of it; None where there
        is no cache, or nobody says of a content whether it is another.
        """
        cache, known = self._access.cache, self._known
        version = "" if cache is None else self._mark(backend, found)
        entry = cache.open(str(self), version, found.bytes) if cache and version else None
        if cache and entry and known and known.size == found.bytes:
            cache.note_version(str(self), known, version)
        return version, entry

    def _mark(self, backend: Backend, found: RemoteInfo) -> str:
        return retry(f"{self}", lambda: backend.content_mark(str(self), found))

    def _fetcher(self, backend: Backend, read_range: ReadRange, version: str) -> ReadRange:
        """Return what fetches a stretch of a version and of no other."""

        def fetch(start: int, size: int) -> bytes:
            data = read_range(start, size)
            # What is kept is read for a long time: it must be of the content that it stands for.
            if not backend.refuses_replaced:
                again = self.info()
                if again is None or self._mark(backend, again) != version:
                    raise StorageError(f"{self}: was replaced while it was read", path=str(self))
            return data

        return fetch

    def read_bytes(self) -> bytes:
        """Return what is in the file; of one that is replaced meanwhile, what is in the new one.

        Raises:
            StorageError: it cannot be reached, or is replaced again and again.
        """
        for _ in range(_READINGS):
            found = self.info()
            try:
                with self.open_range() as file:
                    data = file.readall()
            except StorageError:
                if self.info() == found:
                    raise
            else:
                if self.info() == found:
                    return data
        raise StorageError(f"{self}: is replaced faster than it can be read", path=str(self))

    # --- what would write, and must not make a folder of this machine that is called as a URL

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(f"{self} cannot be written as a file of this machine")

    mkdir = touch = write_text = write_bytes = unlink = rmdir = rename = replace = _refuse
    symlink_to = hardlink_to = chmod = _refuse


def _with_slashes(path: str) -> str:
    return _SCHEME.sub(r"\1://\2", path)


def _pattern(glob: str) -> str:
    """Return the regular expression of a pattern in which ``**`` stands for any folders."""
    parts = []
    for part in glob.split("/"):
        if part == "**":
            parts.append("(?:[^/]+/)*")
        else:
            parts.append(translate(part).replace(".*", "[^/]*").replace(r"\Z", "") + "/")
    text = "".join(parts)
    return text[:-1] if text.endswith("/") else f"{text}[^/]+"


def _read_entry(entry: CacheEntry, fetch: ReadRange, start: int, size: int) -> bytes:
    return entry.read(start, size, fetch)


@checked
def remote_path(
    url: str, access: Access | None = None, known: KnownContent | None = None
) -> RemotePath:
    """Return the path of a URL; nothing is asked of the network yet. ``known`` is what a store
    knows of the file's content.

    >>> str(remote_path("s3://bucket/a//b.json")), remote_path("s3://bucket/a/b.json").name
    ('s3://bucket/a//b.json', 'b.json')
    """
    path = RemotePath(url)
    path._url = _with_slashes(url)
    path._access = access or Access()
    path._known = known
    return path


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that holds all the files.

    Raises:
        UsageError: they are not all on this machine, or not all in one bucket.
    """
    if not any(isinstance(path, RemotePath) for path in paths):
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]  # noqa: PTH100, PTH120
        return Path(os.path.commonpath(folders))
    first, names = paths[0], [str(path) for path in paths]
    common = posixpath.commonpath([posixpath.dirname(name) for name in names])
    if isinstance(first, RemotePath) and _SCHEME.fullmatch(common):
        return first.like(_with_slashes(common))
    raise UsageError(
        f"{names[0]} and {names[-1]} are in no folder together: name one with --media-root"
    )


@checked
def path_of(path: str | os.PathLike[str], what: str, access: Access | None = None) -> Path:
    """Return the path of ``what`` in a call: a source, a media root, a store; on this machine or
    not.

    Raises:
        UsageError: it is a ``file:`` URL, or one that may not be read.

    >>> path_of("s3://bucket/clips.json", "source")
    RemotePath('s3://bucket/clips.json')
    """
    if isinstance(path, RemotePath):
        path = str(path)
    found = _SCHEME.fullmatch(os.fspath(path))
    if found is None:
        return Path(path)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        raise UsageError(f"{what} file:///{rest}: name it as a path, /{rest}")
    if "::" in rest or "::" in scheme:
        raise UsageError(f"{what} {scheme}://{rest}: URLs in URLs (::) are not read")
    access = access or Access()
    if scheme in WEB_PORTS and not access.remote:
        raise UsageError(
            f"{what} {scheme}://{rest}: {scheme}:// is read only where it is allowed: "
            "--allow-remote (allow_remote=True), or download it and name the file"
        )
    return remote_path(f"{scheme}://{rest}", access)


def backend_of(path: RemotePath) -> Backend:
    """Return what reads a path, opened in this process when it is first asked for.

    Raises:
        UsageError: nothing reads URLs of this kind, or they may not be read.
    """
    scheme = path.scheme
    # Connections do not survive a fork: on the other side of one they are opened anew.
    endpoint = endpoint_of(scheme)
    return _open_backend(
        scheme, path.access if scheme in WEB_PORTS else None, endpoint, os.getpid()
    )


@lru_cache(maxsize=64)
def _open_backend(
    scheme: str, access: Access | None, endpoint: str | None, process: int
) -> Backend:
    if scheme in ("s3", "gs"):
        return ArrowBackend(scheme, endpoint)
    if scheme in WEB_PORTS and access is not None and access.remote:
        from mmdata.storage._http import HttpBackend

        return HttpBackend(access)
    if scheme in WEB_PORTS:
        raise StorageError(f"{scheme}:// is read only where it is allowed: --allow-remote")
    if scheme == "hf":
        from mmdata.storage._hub import HubBackend

        return HubBackend(endpoint)
    from mmdata.storage._fsspec import FsspecBackend

    return FsspecBackend(scheme)
