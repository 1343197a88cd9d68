"""Walks the structure of a DICOM file without recursion and without reading a value, before a library parses it."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from medloop.prepare.refuse import malformed, reject
from medloop.prepare.rule import DecodeLimits

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

MAX_DEPTH = 32
# More than a film of a thousand frames has; what follows takes some 20 us an element.
MAX_ELEMENTS = 100_000
_PIECE = 1 << 16

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
    *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """Where the data set of a well-formed file lies, inflated where it was deflated."""

    body: bytes
    start: int
    syntax: str
    implicit: bool
    little: bool
    encapsulated: bool


@dataclass(slots=True)
class _Level:
    """A data set or a sequence that is being walked; end is None where only a delimiter ends it."""

    sequence: bool
    end: int | None
    implicit: bool


def walk(data: bytes, limits: DecodeLimits) -> Outline:
    """Sees that every length lies within the file and that nothing is nested absurdly deep."""
    syntax, start = _read_meta(data)
    body, little = data, syntax != BIG_ENDIAN
    if syntax == DEFLATED:
        # The little-endian explicit syntax is what the inflated bytes are in.
        body, start, syntax = inflate(data[start:], limits), 0, EXPLICIT
    implicit = _is_implicit(body, start, little=little)
    walker = _Walker(body, little=little)
    walker.run(start, implicit=implicit)
    return Outline(
        body=body, start=start, syntax=syntax, implicit=implicit, little=little, encapsulated=walker.encapsulated
    )


def inflate(data: bytes, limits: DecodeLimits) -> bytes:
    """Inflates a deflated data set, after measuring in pieces that it fits."""
    try:
        _measure(data, limits)
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)
    except zlib.error:
        raise malformed("its deflated data are damaged") from None


def _measure(data: bytes, limits: DecodeLimits) -> None:
    engine, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(0, len(data), _PIECE):
        rest = data[start : start + _PIECE]
        while rest and not engine.eof:
            total += len(engine.decompress(rest, _PIECE))
            rest = engine.unconsumed_tail
            if total > limits.max_inflated_bytes:
                raise reject(
                    f"malformed DICOM: deflated data of {len(data):,} bytes that inflate to more",
                    must=f"a deflated file must inflate to at most {limits.max_inflated_bytes:,} bytes",
                )
    if not engine.eof:
        raise malformed("its deflated data are cut off")


def _read_meta(data: bytes) -> tuple[str, int]:
    """Gives the transfer syntax and the place where the data set begins."""
    pos, syntax = 132, ""
    for _ in range(1000):
        if data[pos : pos + 2] != b"\x02\x00":
            break
        if pos + 8 > len(data):
            raise malformed("it ends inside its header")
        element = data[pos + 2 : pos + 4]
        if data[pos + 4 : pos + 6] in _LONG:
            value, length = pos + 12, int.from_bytes(data[pos + 8 : pos + 12], "little")
        else:
            value, length = pos + 8, int.from_bytes(data[pos + 6 : pos + 8], "little")
        if value + length > len(data):
            raise malformed("a length in its header points past its end")
        if element == b"\x10\x00":
            syntax = data[value : value + min(length, 64)].rstrip(b"\x00 ").decode("ascii", "replace")
        pos = value + length
    if not syntax:
        raise malformed("it names no transfer syntax")
    return syntax, pos


def _is_implicit(body: bytes, start: int, *, little: bool) -> bool:
    """Looks at the first element, since writers are known to name the wrong one of the two syntaxes."""
    kind = body[start + 4 : start + 6]
    return little and kind not in _LONG and kind not in _SHORT


class _Walker:
    """One walk over one data set."""

    def __init__(self, body: bytes, *, little: bool) -> None:
        order = "<" if little else ">"
        self.body, self.size = body, len(body)
        self.tag = struct.Struct(order + "HH").unpack_from
        self.short = struct.Struct(order + "H").unpack_from
        self.long = struct.Struct(order + "I").unpack_from
        self.levels: list[_Level] = []
        self.elements = 0
        self.encapsulated = False

    def run(self, start: int, *, implicit: bool) -> None:
        self.levels = [_Level(sequence=False, end=self.size, implicit=implicit)]
        pos = start
        while self.levels:
            level = self.levels[-1]
            if level.end is not None and pos >= level.end:
                if pos > level.end:
                    raise malformed("a length points past the end of its sequence")
                self.levels.pop()
            else:
                pos = self._item(pos, level) if level.sequence else self._element(pos, level)

    def _read_tag(self, pos: int) -> int:
        self.elements += 1
        if self.elements > MAX_ELEMENTS:
            raise malformed(f"it has more than {MAX_ELEMENTS:,} elements")
        if pos + 8 > self.size:
            raise malformed("it is cut off")
        group, element = self.tag(self.body, pos)
        return int(group) << 16 | int(element)

    def _item(self, pos: int, level: _Level) -> int:
        """Reads the start of an item of a sequence, or the sequence's end."""
        tag = self._read_tag(pos)
        (length,) = self.long(self.body, pos + 4)
        if tag == _SEQUENCE_END and level.end is None:
            self.levels.pop()
        elif tag == _ITEM:
            self._enter(pos + 8, length, sequence=False, implicit=level.implicit)
        else:
            raise malformed("a sequence holds something else than items")
        return pos + 8

    def _element(self, pos: int, level: _Level) -> int:
        tag = self._read_tag(pos)
        if tag == _ITEM_END:
            if level.end is None:
                self.levels.pop()
            return pos + 8
        kind, length, value = self._read_length(pos, implicit=level.implicit)
        if tag == _PIXEL_DATA and length == _UNDEFINED:
            self.encapsulated = self.encapsulated or len(self.levels) == 1
            return self._fragments(value)
        if length == _UNDEFINED or kind == b"SQ":
            if kind not in (b"SQ", b"UN", b""):
                raise malformed("a value of undefined length")
            # PS3.5 6.2.2: an unknown value of undefined length is a sequence in the implicit syntax.
            self._enter(value, length, sequence=True, implicit=level.implicit or kind == b"UN")
            return value
        if level.implicit and _is_sequence(tag):
            self._enter(value, length, sequence=True, implicit=True)
            return value
        self._check_end(value + length)
        return value + length

    def _read_length(self, pos: int, *, implicit: bool) -> tuple[bytes, int, int]:
        """Gives the kind, the length and the place of a value."""
        if implicit:
            return b"", int(self.long(self.body, pos + 4)[0]), pos + 8
        kind = self.body[pos + 4 : pos + 6]
        if kind in _LONG:
            if pos + 12 > self.size:
                raise malformed("it is cut off")
            return kind, int(self.long(self.body, pos + 8)[0]), pos + 12
        return kind, int(self.short(self.body, pos + 6)[0]), pos + 8

    def _enter(self, pos: int, length: int, *, sequence: bool, implicit: bool) -> None:
        if len(self.levels) > 2 * MAX_DEPTH:
            raise malformed(f"its sequences are nested deeper than {MAX_DEPTH}")
        if length != _UNDEFINED:
            self._check_end(pos + length)
        self.levels.append(
            _Level(sequence=sequence, end=None if length == _UNDEFINED else pos + length, implicit=implicit)
        )

    def _check_end(self, end: int) -> None:
        if end > self.size:
            raise malformed("a length points past its end")

    def _fragments(self, pos: int) -> int:
        """Steps over encapsulated pixel data up to the delimiter, without which the file is cut off."""
        while True:
            tag = self._read_tag(pos)
            (length,) = self.long(self.body, pos + 4)
            if tag == _SEQUENCE_END:
                return pos + 8
            if tag != _ITEM or length == _UNDEFINED:
                raise malformed("its pixel data are not a list of fragments")
            pos += 8 + int(length)
            self._check_end(pos)


def _is_sequence(tag: int) -> bool:
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False
