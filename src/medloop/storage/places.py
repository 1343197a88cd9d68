"""Fetch data from a local path, a web address or an object store to a local path."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO
from urllib.parse import unquote

from medloop.errors import RefusedAddress, RejectedInput, UnknownName, UserError
from medloop.storage.archives import is_archive, unpack
from medloop.storage.atomic import atomic_file, atomic_folder, scratch_folder, sha256_file
from medloop.storage.limits import Limits, Meter, OnBytes
from medloop.storage.names import TakenNames, is_litter, why_unsafe

LOCAL = ""
SCHEMES = ("http", "https", "s3")
# Zip files that are not unpacked.
FORMATS_IN_ZIP = (".npz", ".xlsx", ".ods")


def fetch(
    uri: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    allow_hosts: Collection[str] = (),
    sha256: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Path:
    """Return the local path of a file: a remote one is downloaded into `folder`."""
    if _scheme(uri) == LOCAL:
        path = _existing(uri)
        if not path.is_file():
            raise UserError(f"{uri} is a folder, not a file.", "Give a file in it.")
        if sha256 is not None:
            _check_sha256(uri, sha256_file(path), sha256)
        return path
    path = folder / _file_name(uri)
    with _receive(uri, allow_hosts) as (chunks, size), atomic_file(path) as file:
        found = _save(chunks, file, Meter(limits or Limits(), what=path.name), size, on_bytes)
        if sha256 is not None:
            _check_sha256(path.name, found, sha256)
    return path


def place(
    uri: str,
    folder: Path,
    *,
    limits: Limits | None = None,
    allow_hosts: Collection[str] = (),
    sha256: str | None = None,
    on_bytes: OnBytes | None = None,
) -> Path:
    """Return the local path of any place; a remote or packed one becomes the new content of `folder`."""
    limits = limits or Limits()
    scheme = _scheme(uri)
    if scheme == LOCAL:
        return _place_local(uri, folder, limits, sha256)
    if scheme == "s3":
        from medloop.storage.objects import list_objects

        sizes = list_objects(uri)
        if uri not in sizes:
            _refuse_sha256(uri, sha256)
            return _place_prefix(uri, sizes, folder, limits, on_bytes)
    with scratch_folder(folder.with_name(f".{folder.name}.download")) as scratch:
        path = fetch(uri, scratch, limits=limits, allow_hosts=allow_hosts, sha256=sha256, on_bytes=on_bytes)
        if _is_packed(path):
            unpack(path, folder, limits=limits)
            return folder
        with atomic_folder(folder) as new:
            path.rename(new / path.name)
    return folder / path.name


def list_uris(uri: str) -> Iterator[str]:
    """Yield the files at a place, sorted; a web address is one file."""
    scheme = _scheme(uri)
    if scheme == "s3":
        from medloop.storage.objects import list_objects

        yield from list_objects(uri)
    elif scheme == LOCAL and _existing(uri).is_dir():
        root = _existing(uri)
        yield from sorted(
            str(root / folder / file.name)
            for folder, files in walk_files(root)
            for file in files
            if not is_litter(PurePosixPath(folder, file.name))
        )
    else:
        yield uri


def walk_files(
    root: Path, skip: Callable[[str], bool] = lambda _name: False
) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """Yield every folder below the root, as a path from there, with its files; links to folders are not followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        files: list[os.DirEntry[str]] = []
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if skip(entry.name):
                    continue
                if entry.is_file():
                    files.append(entry)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{folder}{entry.name}/")
        yield folder, files


@contextmanager
def open_uri(uri: str, *, limits: Limits | None = None, allow_hosts: Collection[str] = ()) -> Iterator[BinaryIO]:
    """Open a file at any place for reading; a remote one is downloaded first, within the limits."""
    if _scheme(uri) == LOCAL:
        with fetch(uri, Path()).open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        with _receive(uri, allow_hosts) as (chunks, size):
            _save(chunks, copy, Meter(limits or Limits(), what=_file_name(uri)), size, None)
        copy.seek(0)
        yield copy


def _scheme(uri: str) -> str:
    """Return the scheme of an address, or LOCAL for a path."""
    scheme, mark, _ = uri.partition("://")
    if not mark:
        return LOCAL
    if scheme == "file":
        raise RefusedAddress("file:// addresses are not supported.", "Give the path without 'file://'.")
    if scheme not in SCHEMES:
        raise UnknownName("address scheme", scheme, SCHEMES)
    return scheme


def _existing(uri: str) -> Path:
    path = Path(uri).expanduser()
    if not path.exists():
        raise UserError(f"{uri} does not exist.", "Check the spelling.")
    return path


def _file_name(uri: str) -> str:
    """Return the name for a downloaded file; the server cannot choose it."""
    path = uri.partition("://")[2].partition("/")[2]
    if _scheme(uri) != "s3":
        path = unquote(re.split("[?#]", path)[0].rpartition("/")[2])
    name = path.rpartition("/")[2] or "download"
    reason = why_unsafe(name) if PurePosixPath(name).name else "it has no file name"
    if reason is not None:
        raise RejectedInput(f"The address does not end in a usable file name: {reason}.", "Check the address.")
    return name


def _receive(uri: str, allow_hosts: Collection[str]) -> AbstractContextManager[tuple[Iterator[bytes], int | None]]:
    if _scheme(uri) == "s3":
        from medloop.storage import objects

        return objects.receive(uri)
    from medloop.storage import web

    return web.receive(uri, allow_hosts=allow_hosts)


def _save(chunks: Iterator[bytes], file: IO[bytes], meter: Meter, size: int | None, on_bytes: OnBytes | None) -> str:
    """Write chunks to a file within the limits of the meter, and return their SHA-256."""
    meter.expect_bytes(size or 0)
    digest = hashlib.sha256()
    for chunk in chunks:
        meter.add_bytes(len(chunk))
        digest.update(chunk)
        file.write(chunk)
        if on_bytes is not None:
            on_bytes(meter.bytes, size)
    return digest.hexdigest()


def _check_sha256(what: str, found: str, wanted: str) -> None:
    if found != wanted.lower():
        raise RejectedInput(
            f"The SHA-256 of {what} is {found}, not {wanted} as expected.",
            "Check where the file comes from, or correct the SHA-256.",
        )


def _refuse_sha256(uri: str, sha256: str | None) -> None:
    if sha256 is not None:
        raise UserError(f"A SHA-256 was given, and {uri} is a folder, not one file.", "Leave it out.")


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() not in FORMATS_IN_ZIP and is_archive(path)


def _place_local(uri: str, folder: Path, limits: Limits, sha256: str | None) -> Path:
    path = _existing(uri)
    if path.is_dir():
        _refuse_sha256(uri, sha256)
        return path
    path = fetch(uri, folder, sha256=sha256)
    if not _is_packed(path):
        return path
    unpack(path, folder, limits=limits)
    return folder


def _place_prefix(uri: str, sizes: dict[str, int], folder: Path, limits: Limits, on_bytes: OnBytes | None) -> Path:
    """Download all objects under a prefix, whose keys are as untrusted as names in an archive."""
    from medloop.storage import objects

    meter = Meter(limits, what=uri)
    meter.add_entries(len(sizes))
    total = sum(sizes.values())
    meter.expect_bytes(total)
    names = _names_under(uri, list(sizes))
    if not names:
        raise UserError(f"There are no files at {uri}.", "Check bucket and prefix.")
    with atomic_folder(folder) as new:
        paths = [new / name for name in names.values()]
        for parent in {path.parent for path in paths}:
            parent.mkdir(parents=True, exist_ok=True)
        for count in objects.download(uri, list(names), paths):
            meter.add_bytes(count)
            if on_bytes is not None:
                on_bytes(meter.bytes, total)
    return folder


def _names_under(uri: str, objects: list[str]) -> dict[str, PurePosixPath]:
    prefix = uri.rstrip("/") + "/"
    taken = TakenNames()
    names = {}
    for number, key in enumerate(objects, 1):
        name = key.removeprefix(prefix)
        path = PurePosixPath(name)
        if why_unsafe(name) is not None or not taken.take(path, folder=False):
            reason = why_unsafe(name) or "another one has the same name"
            raise RejectedInput(
                f"The key of object {number} under {uri} cannot be used as a file name: {reason}.",
                "Rename the object, or give another prefix.",
            )
        if not is_litter(path):
            names[key] = path
    return names
