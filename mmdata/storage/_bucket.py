"""Writing to object storage: whole objects, and one that appears only where none is.

Arrow can write objects, and not on a condition; so what is written goes through boto3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

from mmdata._tools.paths import is_url
from mmdata.errors import StorageError, UsageError
from mmdata.storage._backend import RemoteFaultError, retry
from mmdata.storage._path import RemotePath, path_of

__all__ = ["Bucket", "target_of"]

T = TypeVar("T")

_TRIES: Final = 4  # each of which boto3 tries a few times itself
_MANY: Final = 1000  # objects that one request may remove
_TAKEN: Final = ("PreconditionFailed", "ConditionalRequestConflict")
_ABSENT: Final = ("404", "NoSuchKey", "NotFound")
_REFUSED: Final = ("AccessDenied", "403", "NoSuchBucket", "InvalidAccessKeyId")


def target_of(path: str | os.PathLike[str], what: str) -> Path:
    """Return the path at which ``what`` is to appear, whole or not at all.

    Raises:
        UsageError: that is in no storage in which it can.
    """
    if is_url(os.fspath(path)) and not os.fspath(path).startswith(("s3://", "file:")):
        scheme = os.fspath(path).partition("://")[0]
        raise UsageError(
            f"{what} {os.fspath(path)}: is written to a folder or to s3:// and not to {scheme}://; "
            "write it to a folder and copy that"
        )
    target = path_of(path, what)
    if isinstance(target, RemotePath) and target.scheme != "s3":  # whose slashes were lost
        return target_of(str(target), what)
    if isinstance(target, RemotePath) and "//" in str(target).partition("://")[2].rstrip("/"):
        raise UsageError(
            f"{what} {target}: has an empty name between two slashes, by which nothing could be "
            "read again; name it without"
        )
    return target


class Bucket:
    """What writes objects of S3, and of what speaks its language."""

    def __init__(self) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise UsageError(
                "writing to s3:// needs boto3: pip install 'mmdata-arrow[remote]'"
            ) from error
        patient = Config(
            connect_timeout=20,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        # A session of its own: the one that boto3 keeps may be somebody else's.
        self._client: Any = boto3.session.Session().client("s3", config=patient)

    def upload(self, file: Path, url: RemotePath) -> None:
        """Write a file of this machine as an object, in parts where it is large."""
        from boto3.s3.transfer import TransferConfig

        # Two parts on their way at a time: each is held in memory until it has arrived.
        parts = TransferConfig(max_concurrency=2, multipart_chunksize=16 << 20)
        bucket, key = _split(url)
        self._ask(url, lambda: self._client.upload_file(str(file), bucket, key, Config=parts))

    def version(self, url: RemotePath) -> str | None:
        """Return what changes when an object does, or None where there is none."""
        bucket, key = _split(url)
        try:
            found = self._ask(url, lambda: self._client.head_object(Bucket=bucket, Key=key))
        except FileNotFoundError:
            return None
        return str(found["ETag"])

    def require(self, url: RemotePath) -> None:
        """Refuse a URL whose bucket is not there; whoever may not look is told when he writes.

        Raises:
            UsageError: there is no such bucket.
        """
        bucket, _ = _split(url)
        try:
            self._ask(url, lambda: self._client.head_bucket(Bucket=bucket))
        except FileNotFoundError as error:
            raise UsageError(f"{url}: there is no bucket {bucket!r}") from error
        except StorageError:
            return

    def create(self, url: RemotePath, data: bytes, *, replaces: str | None) -> None:
        """Write an object where there is none, or in the place of the version that it ``replaces``.

        Raises:
            FileExistsError: another one is there.
        """
        bucket, key = _split(url)
        condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}

        def put() -> None:
            try:
                self._client.put_object(Bucket=bucket, Key=key, Body=data, **condition)
            except self._client.exceptions.ClientError as error:
                # After a fault on the way back our own may be there already.
                if _code(error) in _TAKEN and self._holds(bucket, key, data):
                    return
                if _code(error) in (*_TAKEN, *_ABSENT):
                    raise FileExistsError(str(url)) from error
                raise

        self._ask(url, put)

    def delete(self, urls: Iterable[RemotePath]) -> None:
        """Remove objects; those that are gone already do not matter."""
        left = list(urls)
        while left:
            some, left = left[:_MANY], left[_MANY:]
            self._delete(some)

    def _delete(self, urls: list[RemotePath]) -> None:
        bucket = _split(urls[0])[0]
        named = {"Objects": [{"Key": _split(url)[1]} for url in urls], "Quiet": True}
        self._ask(urls[0], lambda: self._client.delete_objects(Bucket=bucket, Delete=named))

    def _holds(self, bucket: str, key: str, data: bytes) -> bool:
        try:
            found = self._client.get_object(Bucket=bucket, Key=key)
        except self._client.exceptions.ClientError:
            return False
        return bool(found["Body"].read() == data)

    def _ask(self, url: RemotePath, action: Callable[[], T]) -> T:
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        def ask() -> T:
            try:
                return action()
            except FileExistsError:
                raise
            except NoCredentialsError as error:
                raise UsageError(f"{url}: no credentials were found for it: {error}") from error
            except ClientError as error:
                if _code(error) in _ABSENT:
                    raise FileNotFoundError(str(url)) from error
                if _code(error) in _REFUSED:
                    raise StorageError(f"{url}: {error}", path=str(url)) from error
                raise RemoteFaultError(str(error)) from error
            except (BotoCoreError, S3UploadFailedError) as error:
                raise RemoteFaultError(str(error)) from error

        return retry(str(url), ask, tries=_TRIES)


def _split(url: RemotePath) -> tuple[str, str]:
    bucket, _, key = str(url).partition("://")[2].partition("/")
    return bucket, key


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
