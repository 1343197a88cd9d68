"""Makes archives: honest ones, and each kind of hostile one that medloop must refuse."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
ZIP_LOCAL = "<4s5H3I2H"
ZIP_CENTRAL = "<4s6H3I5H2I"
ZIP_END = "<4s4H2IH"


def make_zip(tree: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """A zip file, with the names as they are."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in tree.items() if isinstance(tree, Mapping) else tree:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return content.getvalue()


def make_tar(tree: Mapping[str, bytes] | Iterable[tuple[str, bytes]], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An uncompressed tar, with the names as they are."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for name, data in tree.items() if isinstance(tree, Mapping) else tree:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return content.getvalue()


def make(kind: str, tree: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of a kind: zip, tar, tar.gz, tar.bz2 or tar.xz."""
    return make_zip(tree) if kind == "zip" else PACKERS[kind](make_tar(tree))


def tar_with(kind: bytes, *, target: str = "good.png", name: str = "entry") -> bytes:
    """A tar with a good file and one entry of another kind."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("good.png")
        archive.addfile(info)
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return content.getvalue()


def zip_with_mode(mode: int, content: bytes = b"/etc/passwd") -> bytes:
    """A zip with an entry of the given Unix mode, such as a symbolic link."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        info = zipfile.ZipInfo("entry")
        info.create_system = 3
        info.external_attr = (mode | 0o644) << 16
        opened.writestr(info, content)
    return archive.getvalue()


def zip_packed_by(method: int) -> bytes:
    """A zip packed with a given method."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        archive.writestr("entry", b"0" * 1000)
    return content.getvalue()


def zip_with_flag(flag: int) -> bytes:
    """A zip whose only entry carries a flag, such as that of encryption, in both of its headers."""
    content = bytearray(make_zip({"entry": b"0" * 1000}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(magic) + offset
        struct.pack_into("<H", content, at, struct.unpack_from("<H", content, at)[0] | flag)
    return bytes(content)


def zip_that_declares(size: int, content: bytes) -> bytes:
    """A zip whose headers lie about how much its only entry unpacks to."""
    archive = bytearray(make_zip({"entry": content}))
    struct.pack_into("<I", archive, archive.index(b"PK\x03\x04") + 22, size)
    struct.pack_into("<I", archive, archive.rindex(b"PK\x01\x02") + 24, size)
    return bytes(archive)


def zip_of_empty_files(count: int) -> bytes:
    """A zip whose directory has many entries, all of them the same empty file."""
    local = struct.pack(ZIP_LOCAL, b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 7, 0) + b"0000000"
    header = struct.pack(ZIP_CENTRAL, b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    directory = b"".join(header + b"%07d" % number for number in range(count))
    # The count has 16 bits, and readers go by the size.
    end = struct.pack(ZIP_END, b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), len(local), 0)
    return local + directory + end


def zip_of_one_body(count: int, content: bytes) -> bytes:
    """A zip of many large files that share one packed body, told apart only by letters of their name."""
    packed = make_zip({"000": content})
    central = packed.index(b"PK\x01\x02")
    entry = packed[central : packed.index(b"PK\x05\x06")]
    directory = b"".join(entry[:46] + b"%03d" % number for number in range(count))
    return (
        packed[:central]
        + directory
        + struct.pack(ZIP_END, b"PK\x05\x06", 0, 0, count, count, len(directory), central, 0)
    )


def zip_of_zips(depth: int, width: int, content: bytes) -> bytes:
    """The shape of 42.zip: zips in zips, down to zeros."""
    inner = make_zip({"zeros": content})
    for _ in range(depth):
        inner = make_zip({f"{number}.zip": inner for number in range(width)})
    return inner


def tar_header(name: str, kind: bytes, size: int) -> bytes:
    """A tar header with whatever size one likes."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def tar_with_records(records: bytes, content: bytes = b"") -> bytes:
    """A tar whose only file has the given extended header."""
    padded = records + b"\0" * (-len(records) % 512)
    body = content + b"\0" * (-len(content) % 512)
    header = tar_header("pax", tarfile.XHDTYPE, len(records))
    return header + padded + tar_header("entry", tarfile.REGTYPE, len(content)) + body + b"\0" * 1024


HOSTILE_NAMES = {
    "parent": "../evil",
    "parent inside": "a/../../evil",
    "parent at the end": "a/..",
    "absolute": "/tmp/evil",
    "absolute twice": "//tmp/evil",
    "drive": "C:evil",
    "drive path": "C:/Windows/evil",
    "backslash": "..\\evil",
    "share": "\\\\server\\evil",
    "control": "a\nb",
    "escape": "a\x1b[2Jb",
    "long part": "x" * 256,
    "long part in bytes": "ß" * 128,
    "long path": "x/" * 600 + "x",
}
CLASHES = {
    "same name": ["a", "b", "a"],
    "other capitals": ["A.png", "a.png"],
    "other capitals above": ["Scan/a.png", "scan/A.PNG"],
    "sharp s": ["straße", "STRASSE"],
    "composed and not": ["é", "é"],
    "same after dots": ["a/b", "./a//b"],
    "file and folder": ["a", "a/b"],
    "folder and file": ["a/b", "A"],
}
HOSTILE_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "tar symbolic link": (tar_with(tarfile.SYMTYPE, target="/etc/passwd"), "entry 2 .* symbolic link"),
    "tar symbolic link inside": (tar_with(tarfile.SYMTYPE), "entry 2 .* symbolic link"),
    "tar hard link": (tar_with(tarfile.LNKTYPE), "entry 2 .* hard link"),
    "tar character device": (tar_with(tarfile.CHRTYPE), "entry 2 .* device"),
    "tar block device": (tar_with(tarfile.BLKTYPE), "entry 2 .* device"),
    "tar pipe": (tar_with(tarfile.FIFOTYPE), "entry 2 .* pipe"),
    "tar sparse file": (tar_with(tarfile.GNUTYPE_SPARSE), "entry 2 .* special file"),
    "tar unknown kind": (tar_with(b"Z"), "entry 2 .* special file"),
    "tar sparse by record": (tar_with_records(b"25 GNU.sparse.size=99999\n"), "entry 1 .* sparse file"),
    "tar absolute by record": (tar_with_records(b"18 path=/tmp/evil\n"), "entry 1 .* absolute"),
    "zip symbolic link": (zip_with_mode(stat.S_IFLNK), "entry 1 .* symbolic link"),
    "zip pipe": (zip_with_mode(stat.S_IFIFO), "entry 1 .* special file"),
    "zip device": (zip_with_mode(stat.S_IFCHR), "entry 1 .* special file"),
    "zip encrypted": (zip_with_flag(0x1), "entry 1 .* encrypted"),
    "zip strongly encrypted": (zip_with_flag(0x41), "entry 1 .* encrypted"),
    "zip by bzip2": (zip_packed_by(zipfile.ZIP_BZIP2), "entry 1 .* neither store nor deflate"),
    "zip by lzma": (zip_packed_by(zipfile.ZIP_LZMA), "entry 1 .* neither store nor deflate"),
    "zip name that is empty": (make_zip({"": b""}), "entry 1 .* no name"),
    "zip name with NUL": (make_zip({"a\0b": b""}), "entry 1 .* control"),
    "tar name not in UTF-8": (
        make_tar([("a", b"1")]).replace(make_tar([("a", b"1")])[:512], tar_header("\udcff", tarfile.REGTYPE, 1)),
        "entry 1 .* not UTF-8",
    ),
}
DAMAGED_ARCHIVES: dict[str, bytes] = {
    "size beyond the end": tar_header("entry", tarfile.REGTYPE, 10**12) + b"x" * 4096,
    "negative size": tar_header("entry", tarfile.REGTYPE, -512) + b"\0" * 1024,
    "long name of gigabytes": tar_header("x", tarfile.GNUTYPE_LONGNAME, 5 * 2**30) + b"x" * 4096,
    "record header of gigabytes": tar_header("x", tarfile.XHDTYPE, 5 * 2**30) + b"x" * 4096,
    "record without end": tar_with_records(b"99 path=x\n"),
    "record of no length": tar_with_records(b"0 path=x\n"),
    "record of negative length": tar_with_records(b"-9 path=x\n"),
    "record of words": tar_with_records(b"path=x\n"),
    "record with a size of words": tar_with_records(b"12 size=many\n"[:13].replace(b"12", b"13")),
    "record with a negative size": tar_with_records(b"12 size=-10\n"),
    "no end": make_tar({"a": b"1", "b": b"2"})[:2048],
    "second header damaged": make_tar({"a": b"1"})[:1024] + b"x" * 512 + b"\0" * 1024,
    "more after the end": make_tar({"a": b"1"}) + make_tar({"b": b"2"}),
    "less than declared": zip_that_declares(10**9, b"0" * 1000),
    "more than declared": zip_that_declares(1, b"0" * 1000),
}
