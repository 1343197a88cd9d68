"""Read the entries of zip and tar archives in small pieces, so that no header can fill the memory."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medloop.errors import RejectedInput
from medloop.storage.limits import Meter

CHUNK = 64 * 2**10
MAX_HEADER = 64 * 2**10
BLOCK = tarfile.BLOCKSIZE
Read = Callable[[int], bytes]

TAR_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
TAR_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
)
ZIP_ENCRYPTED = 0x1 | 0x40 | 0x2000
ZIP_KINDS = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "file", stat.S_IFLNK: "symbolic link"}
ZIP_ENTRY_MAGIC = b"PK\x01\x02"
# zipfile loads the whole directory; real ones have about a tenth of this per entry.
ZIP_DIRECTORY_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of an archive; only a "file" or a "folder" is ever unpacked."""

    name: str
    kind: str
    chunks: Iterator[bytes]


def tar_entries(read: Read) -> Iterator[Entry]:
    """Yield the entries of an uncompressed tar stream; tarfile itself treats a damaged header as the end."""
    extra: dict[str, str] = {}
    while (block := _read_exactly(read, BLOCK)).strip(b"\0"):
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if header.type in TAR_HEADERS:
            extra |= _read_header(read, header)
            continue
        kind = _tar_kind(header, extra)
        size = _size(extra.get("size", header.size)) if kind == "file" else 0
        chunks = _read_chunks(read, size)
        yield Entry(name=extra.get("path", header.name), kind=kind, chunks=chunks)
        for _ in chunks:
            continue
        _read_exactly(read, -size % BLOCK)
        extra = {}
    while rest := read(CHUNK):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("data after the end")


def _tar_kind(header: tarfile.TarInfo, extra: dict[str, str]) -> str:
    if any(key.startswith("GNU.sparse") for key in extra):
        return "sparse file"
    return TAR_KINDS.get(header.type, "special file")


def _size(value: str | int) -> int:
    size = int(value)
    if size < 0:
        raise tarfile.ReadError("negative size")
    return size


def _read_header(read: Read, header: tarfile.TarInfo) -> dict[str, str]:
    """Read an extended header, which describes the next entry."""
    size = _size(header.size)
    if size > MAX_HEADER:
        raise tarfile.ReadError("header too long")
    content = _read_exactly(read, size)
    _read_exactly(read, -size % BLOCK)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": _decode_name(content.partition(b"\0")[0])}
    if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        return _pax_records(content)
    return {}


def _pax_records(content: bytes) -> dict[str, str]:
    """Parse pax records: `20 path=some/name\\n` is `{"path": "some/name"}`."""
    records = {}
    start = 0
    while start < len(content):
        space = content.index(b" ", start)
        end = start + int(content[start:space])
        key, equals, value = content[space + 1 : end].partition(b"=")
        if not equals or not value.endswith(b"\n") or end > len(content):
            raise tarfile.ReadError("malformed record")
        records[_decode_name(key)] = _decode_name(value[:-1])
        start = end
    return records


def _decode_name(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _read_exactly(read: Read, size: int) -> bytes:
    return b"".join(_read_chunks(read, size))


def _read_chunks(read: Read, size: int) -> Iterator[bytes]:
    while size:
        chunk = read(min(size, CHUNK))
        if not chunk:
            raise EOFError("cut short")
        size -= len(chunk)
        yield chunk


def zip_entries(path: Path, meter: Meter) -> Iterator[Entry]:
    """Yield the entries of a zip file, in the order of its directory."""
    with _ZipBytes(path, meter) as content, zipfile.ZipFile(content) as archive:
        for info in archive.infolist():
            yield Entry(name=info.orig_filename, kind=_zip_kind(info), chunks=_unzip(archive, info, meter))


def _zip_kind(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & ZIP_ENCRYPTED:
        return "encrypted file"
    kind = ZIP_KINDS.get(stat.S_IFMT(info.external_attr >> 16), "special file")
    if kind != "file":
        return kind
    if info.filename.endswith("/"):
        return "folder"
    # zipfile unpacks the other methods without a bound on memory.
    usual = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return "file" if usual else "file packed with neither store nor deflate"


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, meter: Meter) -> Iterator[bytes]:
    left = info.file_size
    with archive.open(info) as member:
        while chunk := member.read(CHUNK):
            meter.add_bytes(len(chunk))
            left -= len(chunk)
            yield chunk
    if left:
        raise zipfile.BadZipFile("shorter than declared")


class _ZipBytes(io.BufferedReader):
    """A zip file that refuses to read a directory of too many entries, before zipfile parses it."""

    def __init__(self, path: Path, meter: Meter) -> None:
        super().__init__(io.FileIO(path))
        self.meter = meter

    def read(self, size: int | None = -1, /) -> bytes:
        limit = self.meter.limits.max_entries
        if size is not None and size > max(CHUNK, limit * ZIP_DIRECTORY_BYTES):
            raise RejectedInput(
                f"The directory of {self.meter.what} has {size:,} bytes, too many to load.",
                "Check where it comes from; if it is right, raise `storage.max_entries` in the settings.",
            )
        content = super().read(size)
        Meter(self.meter.limits, what=self.meter.what).add_entries(content.count(ZIP_ENTRY_MAGIC))
        return content
