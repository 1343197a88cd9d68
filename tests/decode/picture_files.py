"""Writes PNG, JPEG, BMP and TIFF files, right and wrong ones."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def grey(rows: int = 24, columns: int = 32) -> Pixels:
    """Gives a grey picture in which no two corners are alike."""
    y, x = np.mgrid[0:rows, 0:columns]
    return ((x * 5 + y * 3 + (x * y) // 7) % 256).astype(np.uint8)


def colour(rows: int = 24, columns: int = 32) -> Pixels:
    """Gives a coloured picture, smooth enough for JPEG."""
    y, x = np.mgrid[0:rows, 0:columns]
    return np.stack([x * 255 // columns, y * 255 // rows, (x + y) * 255 // (rows + columns)], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Saves a Pillow image to bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: NDArray[Any], **options: Any) -> bytes:
    return saved(Image.fromarray(pixels), "PNG", **options)


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    shaped = pixels if pixels.ndim == 3 else pixels[..., None]
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(shaped), quality=95, colorspace="RGB" if pixels.ndim == 3 else "GRAY", **options
    )
    return encoded


def chunk(name: bytes, body: bytes) -> bytes:
    """Writes one PNG chunk with its true checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def huge_png(width: int, height: int) -> bytes:
    """Writes a small file that declares, and would inflate to, a huge picture."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width + 1) * 64), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated_png(frames: int) -> bytes:
    plain = png(grey())
    return plain[:33] + chunk(b"acTL", struct.pack(">II", frames, 0)) + plain[33:]


def paged_tiff(pages: int) -> bytes:
    """Writes a TIFF of many one-pixel pages, without a library that would take its time."""
    parts, place = [b"II*\0" + struct.pack("<I", 8)], 8
    size = 2 + 12 * 5 + 4
    for number in range(pages):
        following = place + size if number + 1 < pages else 0
        entries = [(256, 1), (257, 1), (258, 8), (273, 4), (279, 1)]
        packed = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
        parts.append(struct.pack("<H", 5) + packed + struct.pack("<I", following))
        place += size
    return b"".join(parts)


def with_orientation(data: bytes, orientation: int) -> bytes:
    """Puts an EXIF block into a JPEG."""
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def with_size(data: bytes, width: int, height: int) -> bytes:
    """Lets a JPEG declare another size."""
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]
