"""Unpack untrusted zip and tar archives within limits, completely or not at all."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from medloop.errors import RejectedInput, UserError
from medloop.storage.atomic import atomic_folder
from medloop.storage.entries import BLOCK, Entry, Read, tar_entries, zip_entries
from medloop.storage.limits import Limits, Meter
from medloop.storage.names import TakenNames, is_litter, why_unsafe

Item = TypeVar("Item")

ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_MAGIC, BZIP2_MAGIC, XZ_MAGIC = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
# Raised by the readers on damaged archives; most of them by zipfile alone.
DAMAGE_ERRORS = (
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def is_archive(path: Path) -> bool:
    """Return whether the content is a zip or tar archive, whatever the file name."""
    if _head(path).startswith(ZIP_MAGIC):
        return True
    with _open_plain(path) as file:
        try:
            tarfile.TarInfo.frombuf(file.read(BLOCK), "utf-8", "surrogateescape")
        except DAMAGE_ERRORS:
            return False
    return True


def unpack(archive: Path, folder: Path, *, limits: Limits | None = None) -> list[Path]:
    """Replace the content of `folder` by that of an archive, and return its files; one bad entry refuses it all."""
    if archive.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{archive.name} lies in {folder.name}, the folder that its content would replace.",
            "Move the archive, or choose another folder.",
        )
    if not is_archive(archive):
        raise RejectedInput(
            f"{archive.name} is not a zip, tar, tar.gz, tar.bz2 or tar.xz archive.",
            "Pack the files as one of these, or give the folder itself.",
        )
    with atomic_folder(folder) as new:
        paths = _unpack_into(new, archive, limits or Limits())
    return [folder / path for path in paths]


def _unpack_into(folder: Path, archive: Path, limits: Limits) -> list[PurePosixPath]:
    meter = Meter(limits, what=archive.name, packed=archive.stat().st_size)
    taken = TakenNames()
    paths = []
    for number, entry in enumerate(_refuse_damage(_entries(archive, meter), archive.name), 1):
        meter.add_entries()
        path = _check(entry, taken, where=f"entry {number} of {archive.name}")
        if is_litter(path):
            continue
        if entry.kind == "folder":
            (folder / path).mkdir(parents=True, exist_ok=True)
        else:
            _write(folder / path, _refuse_damage(entry.chunks, archive.name))
            paths.append(path)
    if not paths:
        raise RejectedInput(f"{archive.name} has no files.", "Pack it again.")
    return paths


def _entries(archive: Path, meter: Meter) -> Iterator[Entry]:
    if _head(archive).startswith(ZIP_MAGIC):
        yield from zip_entries(archive, meter)
        return
    with _open_plain(archive) as file:
        yield from tar_entries(_metered(file, meter))


def _check(entry: Entry, taken: TakenNames, *, where: str) -> PurePosixPath:
    """Return the path of an entry; errors name it by number, because file names can be those of patients."""
    path = PurePosixPath(entry.name)
    reason = why_unsafe(entry.name)
    if entry.kind not in ("file", "folder"):
        reason = f"it is a {entry.kind}"
    if reason is None and not taken.take(path, folder=entry.kind == "folder"):
        reason = "another entry has the same name, perhaps in other case"
    if reason is not None:
        raise RejectedInput(
            f"{where} is unsafe to unpack: {reason}.",
            "List the archive to see it; pack the files again without links, passwords and odd names.",
        )
    return path


def _write(path: Path, chunks: Iterator[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.writelines(chunks)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(XZ_MAGIC))


def _open_plain(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Open a file, decompressed if it is compressed."""
    head = _head(path)
    if head.startswith(GZIP_MAGIC):
        return gzip.open(path)
    if head.startswith(BZIP2_MAGIC):
        return bz2.open(path)
    if head.startswith(XZ_MAGIC):
        return lzma.open(path)
    return path.open("rb")


def _metered(file: IO[bytes] | gzip.GzipFile, meter: Meter) -> Read:
    def read(size: int) -> bytes:
        content = file.read(size)
        meter.add_bytes(len(content))
        return content

    return read


def _refuse_damage(items: Iterator[Item], what: str) -> Iterator[Item]:
    """Yield the items; an error while reading them means a damaged archive, one while writing does not."""
    try:
        yield from items
    except DAMAGE_ERRORS as error:
        raise RejectedInput(f"{what} is cut off or damaged.", "Download or pack it again.") from error
