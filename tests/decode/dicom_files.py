"""Writes DICOM files by hand, so that any length, nesting or value can be wrong on purpose."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom.data
from numpy.typing import NDArray

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
J2K = "1.2.840.10008.1.2.4.90"

Value = int | str | bytes | list[int]
UNDEFINED = 0xFFFFFFFF

TAGS: dict[str, tuple[int, str]] = {
    "SpecificCharacterSet": (0x00080005, "CS"),
    "StudyDate": (0x00080020, "DA"),
    "Modality": (0x00080060, "CS"),
    "Manufacturer": (0x00080070, "LO"),
    "InstitutionName": (0x00080080, "LO"),
    "ReferencedStudySequence": (0x00081110, "SQ"),
    "PrivateCreator": (0x00090010, "LO"),
    "PrivateValue": (0x00091001, "LO"),
    "PatientName": (0x00100010, "PN"),
    "PatientID": (0x00100020, "LO"),
    "PatientBirthDate": (0x00100030, "DA"),
    "PatientSex": (0x00100040, "CS"),
    "PatientAge": (0x00101010, "AS"),
    "BodyPartExamined": (0x00180015, "CS"),
    "SliceThickness": (0x00180050, "DS"),
    "StudyInstanceUID": (0x0020000D, "UI"),
    "SeriesInstanceUID": (0x0020000E, "UI"),
    "SamplesPerPixel": (0x00280002, "US"),
    "PhotometricInterpretation": (0x00280004, "CS"),
    "PlanarConfiguration": (0x00280006, "US"),
    "NumberOfFrames": (0x00280008, "IS"),
    "Rows": (0x00280010, "US"),
    "Columns": (0x00280011, "US"),
    "PixelSpacing": (0x00280030, "DS"),
    "BitsAllocated": (0x00280100, "US"),
    "BitsStored": (0x00280101, "US"),
    "HighBit": (0x00280102, "US"),
    "PixelRepresentation": (0x00280103, "US"),
    "WindowCenter": (0x00281050, "DS"),
    "WindowWidth": (0x00281051, "DS"),
    "RescaleIntercept": (0x00281052, "DS"),
    "RescaleSlope": (0x00281053, "DS"),
    "VOILUTFunction": (0x00281056, "CS"),
    "RedPaletteColorLookupTableDescriptor": (0x00281101, "US"),
    "GreenPaletteColorLookupTableDescriptor": (0x00281102, "US"),
    "BluePaletteColorLookupTableDescriptor": (0x00281103, "US"),
    "RedPaletteColorLookupTableData": (0x00281201, "OW"),
    "GreenPaletteColorLookupTableData": (0x00281202, "OW"),
    "BluePaletteColorLookupTableData": (0x00281203, "OW"),
    "VOILUTSequence": (0x00283010, "SQ"),
    "LUTDescriptor": (0x00283002, "US"),
    "LUTData": (0x00283006, "OW"),
    "SharedFunctionalGroupsSequence": (0x52009229, "SQ"),
    "PerFrameFunctionalGroupsSequence": (0x52009230, "SQ"),
    "PixelValueTransformationSequence": (0x00289145, "SQ"),
    "PixelData": (0x7FE00010, "OW"),
}


def element(name: str, value: Value, *, length: int | None = None) -> bytes:
    """Writes one element; a given length need not be the true one."""
    tag, vr = TAGS[name]
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, str):
        data = value.encode() + (b"" if len(value.encode()) % 2 == 0 else b"\0" if vr == "UI" else b" ")
    else:
        numbers = value if isinstance(value, list) else [value]
        data = struct.pack(f"<{len(numbers)}H", *numbers)
    said = len(data) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in ("SQ", "OW", "OB"):
        return head + b"\0\0" + struct.pack("<I", said) + data
    return head + struct.pack("<H", said) + data


def item(content: bytes) -> bytes:
    """Writes one item of a sequence."""
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content


def nested(depth: int, *, defined: bool) -> bytes:
    """Writes sequences within sequences."""
    if not defined:
        start = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
        return start * depth + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    content = b""
    for _ in range(depth):
        content = element("ReferencedStudySequence", item(content))
    return content


def encapsulated(fragments: list[bytes]) -> bytes:
    """Writes pixel data of undefined length, with an empty offset table."""
    parts = [item(b""), *(item(part + b"\0" * (len(part) % 2)) for part in fragments)]
    head = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
    return head + b"".join(parts) + b"\xfe\xff\xdd\xe0\0\0\0\0"


def part10(body: bytes, *, syntax: str = EXPLICIT) -> bytes:
    """Puts preamble and file meta information before a data set."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    meta = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(uid)) + uid
    if syntax == DEFLATED:
        engine = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = engine.compress(body) + engine.flush()
    return b"\0" * 128 + b"DICM" + meta + body


def dicom(
    pixels: NDArray[np.generic], *, syntax: str = EXPLICIT, tail: bytes | None = None, **changes: Value | None
) -> bytes:
    """Writes a picture as DICOM; None leaves a tag out, tail stands in for the pixel data."""
    bits = 8 * pixels.dtype.itemsize
    colour = pixels.ndim == 3
    values: dict[str, Value | None] = {
        "Modality": "CT",
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "PlanarConfiguration": 0 if colour else None,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 1 if pixels.dtype.kind == "i" else 0,
        "PixelData": pixels.tobytes() if tail is None else None,
        **changes,
    }
    kept = {name: value for name, value in values.items() if value is not None}
    body = b"".join(element(name, kept[name]) for name in sorted(kept, key=lambda name: TAGS[name][0]))
    return part10(body + (tail or b""), syntax=syntax)


def ramp(rows: int = 16, columns: int = 20, *, low: int = -1000, step: int = 7) -> NDArray[np.int16]:
    """Gives Hounsfield-like values that rise from corner to corner."""
    return (low + step * np.arange(rows * columns).reshape(rows, columns)).astype(np.int16)


def shipped(name: str) -> bytes:
    """Reads a file that the installed pydicom brings along."""
    return (Path(pydicom.data.__file__).parent / "test_files" / name).read_bytes()
