"""The chunks of a PNG file, found without decoding it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The chunks that the pixels need; a text, a date or the name of a camera could identify a person.
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})

_HEAD = struct.Struct(">I4s").unpack_from
# The length and the name before the content, and the checksum after it.
_BEFORE, _AFTER = 8, 4


class Chunk(NamedTuple):
    """A chunk, and where it begins and ends in the file."""

    name: bytes
    start: int
    end: int

    def content(self, data: bytes) -> bytes:
        """Return the content without length, name and checksum."""
        return data[self.start + _BEFORE : self.end - _AFTER]


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND, which a file that is cut off or damaged does not reach."""
    start = len(SIGNATURE)
    while start + _BEFORE + _AFTER <= len(data):
        length, name = _HEAD(data, start)
        end = start + _BEFORE + length + _AFTER
        if end > len(data):
            return
        yield Chunk(name, start, end)
        if name == b"IEND":
            return
        start = end
