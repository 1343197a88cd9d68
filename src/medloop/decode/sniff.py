"""Detect the format of a file by its content and read its size without decoding it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from medloop.decode.refuse import SUPPORTED, cut_off, reject
from medloop.decode.rule import DecodeLimits, Format
from medloop.storage.png import SIGNATURE, png_chunks

# JPEG scans times pixels, up to which a file is decoded without the time limit of the sandbox.
QUICK_SCAN_PIXELS = 100_000_000
MAX_SCANS = 64
# More than any writer makes; a file of nothing but tiny parts would take seconds to scan.
MAX_SEGMENTS = 1_000
MAX_CHUNKS = 65_536
MAX_STRIPS = 200_000

_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_PROGRESSIVE = 0xC2
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEGMENT = struct.Struct(">BBH").unpack_from
_JPEG_FRAME = struct.Struct(">BHHB").unpack_from
_TIFF_WANTED = {256, 257, 258, 262, 273, 279, 324, 325, 339}

# Files that people upload by mistake, named for the message only.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image outside DICOM"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image outside DICOM"),
    (4, b"ftyp", "an MP4 video or HEIC image"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (344, b"n+1\x00", "a NIfTI volume"),
    (0, b"II+\x00", "a BigTIFF image"),
    (0, b"MM\x00+", "a BigTIFF image"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
)
_DICOM_STARTS = tuple(bytes(group) for group in ((2, 0, 0, 0), (2, 0, 16, 0), (8, 0, 0, 0), (8, 0, 5, 0), (8, 0, 8, 0)))


class Header(NamedTuple):
    """The facts in the first bytes of a file; zeros for DICOM, whose header is read in the sandbox."""

    format: Format
    width: int = 0
    height: int = 0
    frames: int = 1
    bits: int = 8
    mode: str = ""
    orientation: int = 1
    inverted: bool = False
    # Whether it may be decoded in this process, by decoders that are hardened against hostile files.
    quick: bool = False


def sniff(data: bytes) -> Format:
    """Return the format, by content, since file names can be wrong."""
    if data.startswith(SIGNATURE):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[128:132] == b"DICM":
        return "dicom"
    if data.startswith((b"II*\x00", b"MM\x00*")):
        return "tiff"
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADERS:
        return "bmp"
    raise reject(f"The file is {_likeness(data)}.", f"Convert it to {SUPPORTED}.")


def read_header(data: bytes, limits: DecodeLimits) -> Header:
    """Read the size from the first bytes, and refuse files that would cost too much to decode."""
    if len(data) > limits.max_bytes:
        raise reject(
            f"The file has {len(data):,} bytes, more than the {limits.max_bytes:,} allowed.",
            "Send a smaller file, or raise the limit.",
        )
    known = sniff(data)
    if known == "dicom":
        return Header(format="dicom")
    header = _READERS[known](data, limits)
    check_size(header.width, header.height, limits)
    check_frames(header.frames, limits.max_frames)
    return header


def check_size(width: int, height: int, limits: DecodeLimits) -> None:
    """Refuse images without pixels and images with too many."""
    if width < 1 or height < 1:
        raise reject(f"The image has {width} x {height} pixels.")
    if width * height > limits.max_pixels:
        raise reject(
            f"The image has {width:,} x {height:,} pixels, more than the {limits.max_pixels:,} allowed.",
            "Scale it down, or raise the limit.",
        )


def check_frames(frames: int, max_frames: int) -> None:
    """Refuse films and stacks of pages."""
    if frames > max_frames:
        allowed = f"{max_frames} frames" if max_frames > 1 else "one frame"
        raise reject(f"The file has more than {allowed}.", "Send one frame per file.")


def jpeg_size(data: bytes) -> tuple[int, int, int] | None:
    """Return width, height and bits of any kind of JPEG stream, or None if its header is broken."""
    pos = 2
    for _ in range(MAX_SEGMENTS):
        if pos + 9 > len(data) or data[pos] != 0xFF:
            break
        marker = data[pos + 1]
        if marker in _JPEG_FRAMES or marker == 0xF7:
            bits, height, width = struct.unpack_from(">BHH", data, pos + 4)
            return width, height, bits
        pos += 1 if marker == 0xFF else 2 + int.from_bytes(data[pos + 2 : pos + 4], "big")
    return None


def _likeness(data: bytes) -> str:
    if not data:
        return "empty"
    head = bytes(data[:1024])
    if head.startswith(_DICOM_STARTS):
        return "like DICOM, but has no preamble ('DICM' at byte 128)"
    known = next((name for offset, magic, name in _OTHERS if head.startswith(magic, offset)), None)
    return known or _text_likeness(head)


def _text_likeness(head: bytes) -> str:
    if b"\x00" in head or not head.lstrip(b"\xef\xbb\xbf").isascii():
        return "not in a known image format"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text:
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<head", b"<body")) or b"<html" in text:
        return "an HTML page"
    return "an XML document" if text.startswith(b"<?xml") else "a text file"


def _read_png(data: bytes, limits: DecodeLimits) -> Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise cut_off("PNG")
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    if kind not in _PNG_MODES or depth not in (1, 2, 4, 8, 16):
        raise cut_off("PNG")
    # The size first: a huge file is refused without scanning it.
    check_size(width, height, limits)
    frames, orientation, keyed = _scan_png(data)
    mode = {1: "1", 16: "I;16"}.get(depth, "L") if kind == 0 else _PNG_MODES[kind]
    # OpenCV ignores a transparent shade of grey.
    quick = not (kind == 0 and keyed)
    return Header(
        format="png",
        width=width,
        height=height,
        frames=frames,
        bits=depth,
        mode=mode,
        orientation=orientation,
        quick=quick,
    )


def _scan_png(data: bytes) -> tuple[int, int, bool]:
    """Return frames, orientation and whether a colour is transparent; refuse a file that does not reach its end."""
    frames, orientation, keyed = 1, 1, False
    for chunk in islice(png_chunks(data), MAX_CHUNKS):
        if chunk.name == b"IEND":
            return frames, orientation, keyed
        content = chunk.content(data) if chunk.name in (b"acTL", b"eXIf") else b""
        if chunk.name == b"acTL" and len(content) >= 4:
            frames = int.from_bytes(content[:4], "big")
        elif chunk.name == b"eXIf":
            orientation = _exif_orientation(content)
        elif chunk.name == b"tRNS":
            keyed = True
    raise cut_off("PNG")


def _read_jpeg(data: bytes, limits: DecodeLimits) -> Header:
    pos, last = 2, len(data) - 4
    orientation, frame = 1, None
    for _ in range(MAX_SEGMENTS):
        if pos > last:
            break
        start, marker, length = _JPEG_SEGMENT(data, pos)
        if start != 0xFF:
            break
        if marker == 0xFF:
            pos += 1
            continue
        if length < 2 or pos + length - 2 > last:
            break
        if marker in _JPEG_FRAMES and length >= 8:
            frame = (marker, *_JPEG_FRAME(data, pos + 4))
        elif marker == 0xDA and frame:
            return _jpeg_header(data, pos, frame, orientation, limits)
        elif marker == 0xE1 and data[pos + 4 : pos + 10] == b"Exif\x00\x00":
            orientation = _exif_orientation(data[pos + 10 : pos + 2 + length])
        pos += 2 + length
    raise cut_off("JPEG")


def _jpeg_header(
    data: bytes, scan: int, frame: tuple[int, int, int, int, int], orientation: int, limits: DecodeLimits
) -> Header:
    marker, bits, height, width, channels = frame
    check_size(width, height, limits)
    if marker not in (0xC0, 0xC1, _PROGRESSIVE) or bits != 8 or channels not in _JPEG_MODES:
        raise reject(
            f"The JPEG has an unsupported process {marker - 0xC0}, {bits} bits or {channels} channels.",
            "Save it as a baseline or progressive JPEG with 8 bits and 1, 3 or 4 channels.",
        )
    # A small file can ask for thousands of scans over a large picture; each begins with this marker.
    scans = data.count(b"\xff\xda", scan) if marker == _PROGRESSIVE else channels
    if scans > MAX_SCANS:
        raise reject(f"The progressive JPEG has {scans} scans, more than the {MAX_SCANS} allowed.")
    return Header(
        format="jpeg",
        width=width,
        height=height,
        mode=_JPEG_MODES[channels],
        orientation=orientation,
        quick=scans * width * height <= QUICK_SCAN_PIXELS,
    )


def _exif_orientation(block: bytes) -> int:
    """Return 1 to 8; a block that cannot be read turns nothing."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(order + "H", block, start)
    for pos in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, _, _, value = struct.unpack_from(order + "HHIH", block, pos)
        if tag == 0x0112:
            return value if 1 <= value <= 8 else 1
    return 1


_BMP_HEADERS = {struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124)}


def _read_bmp(data: bytes, limits: DecodeLimits) -> Header:
    if len(data) < 54:
        raise cut_off("BMP")
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    check_size(width, height, limits)
    if compression not in (0, 3) or bits not in (1, 4, 8, 16, 24, 32):
        raise reject("The BMP file is compressed.", "Save it as PNG.")
    if offset + (width * bits + 31) // 32 * 4 * height > len(data):
        raise cut_off("BMP")
    return Header(format="bmp", width=width, height=height, bits=min(bits, 8), mode="P" if bits <= 8 else "RGB")


def _read_tiff(data: bytes, limits: DecodeLimits) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    try:
        first, frames = _count_tiff_pages(data, order, limits.max_frames)
        tags = _tiff_tags(data, order, first)
    except struct.error:
        raise cut_off("TIFF") from None
    bits, shape = max(tags.get(258, [1])), tags.get(339, [1])
    if bits not in (1, 2, 4, 8, 16) or set(shape) - {1, 4}:
        raise reject(f"The TIFF file does not hold unsigned integers of at most 16 bits (it has {bits} bits).")
    return Header(
        format="tiff",
        width=tags.get(256, [0])[0],
        height=tags.get(257, [0])[0],
        frames=frames,
        bits=bits,
        inverted=tags.get(262, [1])[0] == 0,
    )


def _count_tiff_pages(data: bytes, order: str, max_pages: int) -> tuple[int, int]:
    """Return the offset of the first page and the number of pages, counted no further than needed."""
    (start,) = struct.unpack_from(order + "I", data, 4)
    page, pages = start, 0
    while page and pages <= max_pages:
        pages += 1
        (entries,) = struct.unpack_from(order + "H", data, page)
        (page,) = struct.unpack_from(order + "I", data, page + 2 + 12 * entries)
    return start, pages


def _tiff_tags(data: bytes, order: str, start: int) -> dict[int, list[int]]:
    """Read the wanted tags of one page, and refuse strips or tiles that lie outside the file."""
    tags: dict[int, list[int]] = {}
    (entries,) = struct.unpack_from(order + "H", data, start)
    for pos in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, pos)
        if tag not in _TIFF_WANTED or tag in tags or kind not in (3, 4):
            continue
        total = count * (2 if kind == 3 else 4)
        place = pos + 8 if total <= 4 else struct.unpack_from(order + "I", data, pos + 8)[0]
        if not 1 <= count <= MAX_STRIPS or place + total > len(data):
            raise cut_off("TIFF")
        tags[tag] = list(struct.unpack_from(f"{order}{count}{'H' if kind == 3 else 'I'}", data, place))
    for offsets, sizes in ((273, 279), (324, 325)):
        pairs = zip(tags.get(offsets, []), tags.get(sizes, []), strict=False)
        if any(offset + size > len(data) for offset, size in pairs):
            raise cut_off("TIFF")
    return tags


_READERS: dict[Format, Callable[[bytes, DecodeLimits], Header]] = {
    "png": _read_png,
    "jpeg": _read_jpeg,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
}
