"""Files in S3 and what speaks like it; credentials and endpoint come from where boto looks for them."""

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
# What may be read into memory at once.
SMALL = 4 * 2**20


class StorageAway(UserError):
    """An object store that does not answer, or not to us."""

    http_status = 503


@contextmanager
def receive(uri: str) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """The content of an object, in chunks, and its size."""
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
    """The objects under a prefix, or the one of this name, and the size of each."""
    s3 = _s3()
    with _explained(uri):
        found = s3.find(_key(uri), detail=True)
    return {f"s3://{key}": int(info["size"]) for key, info in sorted(found.items()) if not key.endswith("/")}


def read(uri: str, *, seconds: float) -> bytes | None:
    """A small object whole, if there is one; an object store that takes longer is away."""
    from fsspec.asyn import sync

    s3 = _s3()
    with _explained(uri):
        try:
            content: bytes = sync(s3.loop, s3._cat_file, _key(uri), start=0, end=SMALL, timeout=seconds)
        except FileNotFoundError:
            return None
    return content


def download(prefix: str, uris: Sequence[str], paths: Sequence[Path]) -> Iterator[int]:
    """Write objects under a prefix to files, many at once, and tell after each lot how many bytes it was."""
    s3 = _s3()
    for start in range(0, len(uris), FILES_AT_ONCE):
        lot = slice(start, start + FILES_AT_ONCE)
        with _explained(prefix):
            s3.get([_key(uri) for uri in uris[lot]], [str(path) for path in paths[lot]])
        yield sum(path.stat().st_size for path in paths[lot])


def upload(paths: Sequence[Path], uris: Sequence[str]) -> None:
    """Bring files into the object store, many at once."""
    s3 = _s3()
    for start in range(0, len(uris), FILES_AT_ONCE):
        lot = slice(start, start + FILES_AT_ONCE)
        with _explained(uris[start]):
            s3.put([str(path) for path in paths[lot]], [_key(uri) for uri in uris[lot]])


def write(uri: str, content: bytes) -> None:
    """Make a small object, or give it another content."""
    s3 = _s3()
    with _explained(uri):
        s3.pipe_file(_key(uri), content)


def remove_older(uri: str, before: datetime) -> int:
    """Remove the objects under a prefix that were written before a time; how many that were."""
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
    """The connection for the environment as it is now; a fork cannot use its parent's."""
    return _connect(os.getpid(), frozenset(item for item in os.environ.items() if item[0].startswith("AWS_")))


@lru_cache(maxsize=1)
def _connect(_process: int, _environment: frozenset[tuple[str, str]]) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise UserError("s3:// needs s3fs", found="it is not installed", hint="pip install 'medloop[s3]'") from error
    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what the object store does into an error that says so; its own words can hold keys of patients."""
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    try:
        yield
    except FileNotFoundError as error:
        raise UserError("an object must exist", found=f"none at {uri}", hint="check bucket and key") from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise StorageAway(
            "the object store must answer",
            found=f"{type(error).__name__} for {uri}: {getattr(error, 'strerror', None) or 'no more is known'}",
            hint="check the AWS_* variables (credentials, region, AWS_ENDPOINT_URL) and the rights on the bucket",
        ) from error
