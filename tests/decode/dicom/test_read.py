from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest

from medloop.decode.dicom.read import is_encapsulated, read_dicom
from medloop.decode.raster import DecodeLimits, decode
from medloop.errors import RejectedInput
from tests.decode.dicom_files import (
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    dicom,
    element,
    item,
    nested,
    part10,
    ramp,
    shipped,
)

LIMITS = DecodeLimits()
PICTURE = dicom(ramp())


def with_part(part: bytes) -> bytes:
    """Puts something in front of the elements of a good file."""
    start = PICTURE.index(b"\x08\x00\x60\x00CS")
    return PICTURE[:start] + part + PICTURE[start:]


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_expb.dcm", "image_dfl.dcm"])
def test_real_files_of_every_native_syntax_pass(name: str) -> None:
    assert not is_encapsulated(read_dicom(shipped(name), LIMITS))


@pytest.mark.parametrize(
    "name", ["JPEG2000.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "examples_ybr_color.dcm"]
)
def test_real_files_with_fragments_pass(name: str) -> None:
    assert is_encapsulated(read_dicom(shipped(name), LIMITS))


@pytest.mark.parametrize("defined", [True, False])
def test_modest_nesting_is_normal(defined: bool) -> None:
    np.testing.assert_array_equal(decode(with_part(nested(8, defined=defined))).pixels, decode(PICTURE).pixels)


def test_nesting_ten_thousand_deep_is_malformed() -> None:
    with pytest.raises(RejectedInput, match="Malformed DICOM: nested too deep"):
        decode(with_part(nested(10_000, defined=False)))


@pytest.mark.parametrize(
    "part",
    [
        element("Manufacturer", "ACME", length=60_000),
        element("ReferencedStudySequence", b"", length=2_000_000_000),
        element("ReferencedStudySequence", item(b""), length=6),
        b"\x09\x00\x10\x10OB\0\0\xff\xff\xff\xff",
    ],
    ids=["value past the end", "sequence past the end", "short sequence", "endless bytes"],
)
def test_wrong_lengths_are_malformed(part: bytes) -> None:
    with pytest.raises(RejectedInput, match="Malformed DICOM: "):
        decode(with_part(part))


@pytest.mark.parametrize(
    "part",
    [
        b"\x08\x00\x10\x11SQ\0\0\x08\0\0\0\xfe\xff\x00\xe0\x60\0\0\0",
        b"\x08\x00\x10\x11SQ\0\0\x08\0\0\0\x08\x00\x05\x00CS\0\0",
    ],
    ids=["long item", "no item"],
)
def test_damage_in_a_sequence_that_is_not_read_does_no_harm(part: bytes) -> None:
    np.testing.assert_array_equal(decode(with_part(part)).pixels, decode(PICTURE).pixels)


def test_a_small_file_that_inflates_to_a_large_one_is_refused_unread() -> None:
    bomb = part10(b"\x08\x00\x05\x00CS\x00\x00" * 12_000_000, syntax=DEFLATED)
    assert len(bomb) < 500_000
    tracemalloc.start()
    try:
        with pytest.raises(RejectedInput, match=r"Malformed DICOM: .* inflate to more"):
            decode(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_a_deflated_picture_is_read() -> None:
    np.testing.assert_array_equal(decode(dicom(ramp(), syntax=DEFLATED)).pixels, decode(PICTURE).pixels)


@pytest.mark.parametrize("percent", range(0, 100, 9))
def test_cut_or_damaged_deflated_data_are_malformed(percent: int) -> None:
    whole = dicom(ramp(), syntax=DEFLATED)
    start = whole.index(DEFLATED.encode()) + 22
    cut = start + (len(whole) - start) * percent // 100
    for broken in (whole[:cut], whole[:cut] + b"\xff\xff" + whole[cut + 2 :]):
        with pytest.raises(RejectedInput):
            decode(broken)


def test_what_follows_the_deflated_data_is_ignored() -> None:
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    extra = engine.compress(b"\0" * 1000) + engine.flush()
    np.testing.assert_array_equal(decode(dicom(ramp(), syntax=DEFLATED) + extra).pixels, decode(PICTURE).pixels)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 128 + b"DICM",
        b"\0" * 128 + b"DICM\x02\x00\x10\x00UI",
        b"\0" * 128 + b"DICM\x02\x00\x10\x00UI\xff\xff1.2",
        part10(b"", syntax=EXPLICIT)[:-4],
        b"\0" * 128 + b"DICM" + element("Modality", "CT"),
    ],
)
def test_a_broken_header_is_malformed(data: bytes) -> None:
    with pytest.raises(RejectedInput, match="Malformed DICOM: "):
        decode(data)


def test_a_writer_that_names_the_wrong_syntax_is_understood() -> None:
    data = PICTURE.replace(b"UI\x14\x00" + EXPLICIT.encode() + b"\0", b"UI\x12\x00" + IMPLICIT.encode() + b"\0")
    np.testing.assert_array_equal(decode(data).pixels, decode(PICTURE).pixels)
