"""A picture as it is kept for corrections and for computing the answer again: a PNG that names nobody."""

from __future__ import annotations

from medloop.prepare.decode import lossless_png
from medloop.prepare.rule import Decoded

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What the pixels need; texts, dates and whatever else a writer added stay behind.
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_TURNING = b"eXIf"


def keepable_png(data: bytes, decoded: Decoded) -> bytes:
    """The file itself without its descriptions where it is a PNG, else its picture; both give the same answer."""
    if decoded.format == "png" and (stripped := _stripped(data)) is not None:
        return stripped
    return lossless_png(decoded.pixels)


def _stripped(data: bytes) -> bytes | None:
    """Nothing where a description turns the picture."""
    kept, pos = [_SIGNATURE], len(_SIGNATURE)
    while pos + 12 <= len(data):
        end = pos + 12 + int.from_bytes(data[pos : pos + 4], "big")
        name = data[pos + 4 : pos + 8]
        if name == _TURNING:
            return None
        if name in _NEEDED:
            kept.append(data[pos:end])
        if name == b"IEND":
            return b"".join(kept)
        pos = end
    return None
