"""Read the wanted tags of a DICOM file, and refuse lengths that point outside it, which pydicom ignores."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

from medloop.decode.dicom.tags import IDENTIFIERS, KEPT, USED
from medloop.decode.refuse import malformed
from medloop.decode.rule import DecodeLimits

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"

PREAMBLE = 132
ELEMENT_HEAD = 8
UNDEFINED_LENGTH = 0xFFFFFFFF
PIECE = 1 << 16


class _WholeFile(io.BytesIO):
    """A file that notes reads and seeks past its end, where pydicom stops without an error."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size, self._is_short = len(data), False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        # No bytes instead of the head of an element are the regular end.
        if size and len(data) < size and (data or size != ELEMENT_HEAD):
            self._is_short = True
        return data

    def check(self) -> None:
        """Refuse a file that ended before what was read or passed over did."""
        if self._is_short or self.tell() > self._size:
            raise malformed("a length points past the end of the file")


def read_dicom(data: bytes, limits: DecodeLimits) -> Dataset:
    """Return a data set with the wanted tags and no others, so that names and dates never become objects here."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    file = _WholeFile(data)
    syntax = _read_syntax(file)
    if syntax == DEFLATED:
        # The inflated data are in the explicit little-endian syntax.
        file, syntax = _WholeFile(inflate(data[file.tell() :], limits)), EXPLICIT
    wanted = [Tag(name) for name in (*KEPT, *USED, *IDENTIFIERS)]
    dataset = read_dataset(file, syntax == IMPLICIT, syntax != BIG_ENDIAN, specific_tags=list(wanted))
    file.check()
    # pydicom drops everything if a value of undefined length has no end.
    if not len(dataset):
        raise malformed("the file is cut off")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def is_encapsulated(dataset: Dataset) -> bool:
    """Return whether the pixel data are a list of compressed fragments."""
    return getattr(dataset.get_item("PixelData"), "length", None) == UNDEFINED_LENGTH


def inflate(data: bytes, limits: DecodeLimits) -> bytes:
    """Inflate a deflated data set, after measuring in pieces that it fits."""
    try:
        _measure(data, limits)
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data)
    except zlib.error:
        raise malformed("the deflated data are damaged") from None


def _measure(data: bytes, limits: DecodeLimits) -> None:
    engine, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(0, len(data), PIECE):
        rest = data[start : start + PIECE]
        while rest and not engine.eof:
            total += len(engine.decompress(rest, PIECE))
            rest = engine.unconsumed_tail
            if total > limits.max_inflated_bytes:
                raise malformed(
                    f"{len(data):,} bytes of deflated data inflate to more than {limits.max_inflated_bytes:,} bytes"
                )
    if not engine.eof:
        raise malformed("the deflated data are cut off")


def _read_syntax(file: _WholeFile) -> str:
    """Return the transfer syntax, and leave the file where the data set begins."""
    from pydicom.filereader import read_dataset

    file.seek(PREAMBLE)
    meta = read_dataset(file, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
    file.check()
    syntax = str(meta.get("TransferSyntaxUID") or "")
    if not syntax:
        raise malformed("no transfer syntax is named")
    return syntax
