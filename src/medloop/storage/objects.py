"""Files in S3-compatible object stores; credentials and endpoint come from the usual AWS configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from medloop.errors import UserError
from medloop.storage.entries import CHUNK

FILES_AT_ONCE = 256
# The most that is read into memory at once.
MAX_READ_BYTES = 4 * 2**20


class StorageAway(UserError):
    """An object store that cannot be reached, or denies access."""

    http_status = 503


@contextmanager
def receive(uri: str) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """Open an object, and yield its content in chunks and its size."""
    s3 = _s3()
    with _explained(uri):
        file = s3.open(_key(uri), "rb")
    with file:
        yield _read(file, uri), int(file.size)


def _read(file: Any, uri: str) -> Iterator[bytes]:
    with _explained(uri):
        while chunk := file.read(CHUNK):
            yield chunk


def list_objects(uri: str) -> dict[str, int]:
    """Return the objects under a prefix, or the one of this name, with their sizes."""
    s3 = _s3()
    with _explained(uri):
        found = s3.find(_key(uri), detail=True)
    return {f"s3://{key}": int(info["size"]) for key, info in sorted(found.items()) if not key.endswith("/")}


def read(uri: str, *, seconds: float) -> bytes | None:
    """Read a small object, if it exists; an object store that takes longer counts as unreachable."""
    from fsspec.asyn import sync

    s3 = _s3()
    with _explained(uri):
        try:
            content: bytes = sync(s3.loop, s3._cat_file, _key(uri), start=0, end=MAX_READ_BYTES, timeout=seconds)
        except FileNotFoundError:
            return None
    return content


def download(prefix: str, uris: Sequence[str], paths: Sequence[Path]) -> Iterator[int]:
    """Download objects to files, many at once, and yield the number of bytes of each batch."""
    s3 = _s3()
    for start in range(0, len(uris), FILES_AT_ONCE):
        batch = slice(start, start + FILES_AT_ONCE)
        with _explained(prefix):
            s3.get([_key(uri) for uri in uris[batch]], [str(path) for path in paths[batch]])
        yield sum(path.stat().st_size for path in paths[batch])


def upload(paths: Sequence[Path], uris: Sequence[str]) -> None:
    """Upload files, many at once."""
    s3 = _s3()
    for start in range(0, len(uris), FILES_AT_ONCE):
        batch = slice(start, start + FILES_AT_ONCE)
        with _explained(uris[start]):
            s3.put([str(path) for path in paths[batch]], [_key(uri) for uri in uris[batch]])


def write(uri: str, content: bytes) -> None:
    """Write a small object."""
    s3 = _s3()
    with _explained(uri):
        s3.pipe_file(_key(uri), content)


def remove_older(uri: str, before: datetime) -> int:
    """Remove the objects under a prefix that were written before a time, and return how many."""
    s3 = _s3()
    with _explained(uri):
        found = s3.find(_key(uri), detail=True)
        old = [key for key, info in found.items() if info["LastModified"] < before]
        if old:
            s3.rm(old)
    return len(old)


def _key(uri: str) -> str:
    return uri.partition("://")[2].rstrip("/")


def _s3() -> Any:
    """Return a connection for the current environment; a fork cannot use that of its parent."""
    return _connect(os.getpid(), frozenset(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=1)
def _connect(_process: int, _environment: frozenset[tuple[str, str]]) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise UserError("s3:// needs s3fs, which is not installed.", "Run `pip install 'medloop[s3]'`.") from error
    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn errors of the object store into UserErrors; its own messages can contain keys of patients."""
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"There is no object at {uri}.", "Check bucket and key.") from error
    except (OSError, BotoCoreError, ClientError) as error:
        reason = getattr(error, "strerror", None)
        raise StorageAway(
            f"The object store failed for {uri} ({type(error).__name__}{f': {reason}' if reason else ''}).",
            "Check the AWS_* variables (credentials, region, AWS_ENDPOINT_URL) and the permissions on the bucket.",
        ) from error
