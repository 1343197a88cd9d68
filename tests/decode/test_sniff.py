from __future__ import annotations

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from medloop.decode.rule import DecodeLimits
from medloop.decode.sniff import MAX_CHUNKS, MAX_SCANS, jpeg_size, read_header, sniff
from medloop.errors import RejectedInput
from tests.decode.dicom_files import dicom, element, ramp
from tests.decode.picture_files import (
    animated_png,
    colour,
    grey,
    huge_png,
    jpeg,
    paged_tiff,
    png,
    saved,
    with_size,
)

LIMITS = DecodeLimits()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", png(grey()))
    return file.getvalue()


KNOWN = {
    "png": png(grey()),
    "jpeg": jpeg(colour()),
    "bmp": saved(Image.fromarray(colour()), "BMP"),
    "tiff": saved(Image.fromarray(grey()), "TIFF"),
    "dicom": dicom(ramp()),
}

OTHERS = {
    "empty": b"",
    "a text file": b"patient,label\n1,normal\n",
    "a PDF document": b"%PDF-1.7\n",
    "an SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "an XML document": b'<?xml version="1.0"?><a/>',
    "an HTML page": b"\n<!DOCTYPE html><html><body>404</body></html>",
    "a GIF image": saved(Image.fromarray(grey()), "GIF"),
    "a WebP image": saved(Image.fromarray(grey()), "WEBP"),
    "a JPEG 2000 image outside DICOM": saved(Image.fromarray(grey()), "JPEG2000"),
    "a zip archive": zipped(),
    "a gzip archive": b"\x1f\x8b\x08\0",
    "not in a known image format": bytes(range(200, 256)) * 9,
    "like DICOM, but has no preamble ('DICM' at byte 128)": element("StudyDate", "20200101")[:0]
    + b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100",
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_content_tells_the_format(name: str) -> None:
    assert sniff(KNOWN[name]) == name


@pytest.mark.parametrize("likeness", OTHERS)
def test_other_content_is_refused_by_what_it_looks_like(likeness: str) -> None:
    with pytest.raises(RejectedInput) as refusal:
        sniff(OTHERS[likeness])
    assert refusal.value.problem == f"The file is {likeness}."
    assert "PNG" in refusal.value.hint


def test_a_picture_that_also_says_dicm_is_a_picture() -> None:
    data = bytearray(png(grey()))
    data[128:132] = b"DICM"
    assert sniff(bytes(data)) == "png"


@pytest.mark.parametrize(
    ("data", "mode", "bits"),
    [
        (png(grey()), "L", 8),
        (png(grey().astype(np.uint16)), "I;16", 16),
        (saved(Image.fromarray(grey()).convert("1"), "PNG"), "1", 1),
        (saved(Image.fromarray(colour()).convert("RGBA"), "PNG"), "RGBA", 8),
        (saved(Image.fromarray(colour()).quantize(200), "PNG"), "P", 8),
        (jpeg(grey()), "L", 8),
        (saved(Image.fromarray(colour()).convert("CMYK"), "JPEG"), "CMYK", 8),
    ],
)
def test_size_mode_and_bits_come_from_the_header(data: bytes, mode: str, bits: int) -> None:
    header = read_header(data, LIMITS)
    assert (header.width, header.height, header.mode, header.bits) == (32, 24, mode, bits)
    assert header.quick


@pytest.mark.parametrize(
    "data",
    [
        saved(Image.fromarray(grey()), "BMP"),
        saved(Image.fromarray(grey()), "TIFF"),
        saved(Image.fromarray(grey()), "PNG", transparency=3),
    ],
)
def test_rarer_codecs_are_not_for_this_process(data: bytes) -> None:
    assert not read_header(data, LIMITS).quick


HUGE = {
    "png": huge_png(13_300, 13_300),
    "jpeg": with_size(jpeg(colour()), 65_500, 65_500),
    "bmp": KNOWN["bmp"][:18] + b"\xff\xff\xff\x7f\xff\xff\xff\x7f" + KNOWN["bmp"][26:],
    "tiff": saved(Image.new("1", (9000, 9000)), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_picture_is_refused_without_being_allocated(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RejectedInput, match="more than the 64,000,000 allowed"):
            read_header(HUGE[name], LIMITS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("data", [animated_png(10_000), paged_tiff(10_000), animated_png(2), paged_tiff(2)])
def test_films_are_refused(data: bytes) -> None:
    with pytest.raises(RejectedInput, match="more than one frame"):
        read_header(data, LIMITS)


def test_frames_within_the_limit_are_allowed() -> None:
    assert read_header(paged_tiff(3), DecodeLimits(max_frames=3)).frames == 3


def test_a_tiff_whose_pages_run_in_a_circle_ends() -> None:
    data = bytearray(paged_tiff(1))
    data[-4:] = (8).to_bytes(4, "little")
    with pytest.raises(RejectedInput, match="more than one frame"):
        read_header(bytes(data), LIMITS)


def test_a_file_of_too_many_bytes_is_refused() -> None:
    with pytest.raises(RejectedInput, match="more than the 100 allowed"):
        read_header(png(grey()), DecodeLimits(max_bytes=100))


def test_a_jpeg_of_many_passes_is_refused() -> None:
    data = saved(Image.fromarray(grey()), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(RejectedInput, match="scans"):
        read_header(data[:-2] + scan * MAX_SCANS + data[-2:], LIMITS)


def test_a_progressive_jpeg_of_too_many_scans_is_refused() -> None:
    data = saved(Image.fromarray(grey()), "JPEG", progressive=True)
    with pytest.raises(RejectedInput, match="scans"):
        read_header(data + b"\xff\xda" * MAX_SCANS, LIMITS)


def test_a_jpeg_cut_off_before_its_pixels_is_refused() -> None:
    data = saved(Image.fromarray(grey()), "JPEG")
    with pytest.raises(RejectedInput, match="cut off"):
        read_header(data[: data.index(b"\xff\xda") + 6], LIMITS)


def test_a_large_progressive_jpeg_is_left_to_the_sandbox() -> None:
    data = saved(Image.new("L", (5000, 5000)), "JPEG", progressive=True)
    assert not read_header(data, LIMITS).quick
    assert read_header(saved(Image.new("L", (500, 500)), "JPEG", progressive=True), LIMITS).quick


@pytest.mark.parametrize("place", [b"\xff\xc3", b"\xff\xc9", b"\xff\xc7"])
def test_rare_jpeg_processes_are_named(place: bytes) -> None:
    data = jpeg(colour()).replace(b"\xff\xc0", place, 1)
    with pytest.raises(RejectedInput, match="unsupported process"):
        read_header(data, LIMITS)


def test_a_png_of_nothing_but_tiny_parts_is_refused() -> None:
    data = png(grey())
    with pytest.raises(RejectedInput, match="cut off or damaged"):
        read_header(data[:33] + b"\0\0\0\0tEXt\0\0\0\0" * (MAX_CHUNKS + 1) + data[33:], LIMITS)


def test_a_tiff_tag_of_absurd_length_is_refused_without_being_read() -> None:
    data = bytearray(paged_tiff(1) + b"\0" * 4_000_000)
    place = data.index((279).to_bytes(2, "little") + b"\x03\x00")
    data[place + 4 : place + 8] = (1_000_000).to_bytes(4, "little")
    with pytest.raises(RejectedInput, match="The TIFF file is cut off"):
        read_header(bytes(data), LIMITS)


def test_a_jpeg_stream_tells_its_size() -> None:
    assert jpeg_size(jpeg(colour())) == (32, 24, 8)
    assert jpeg_size(b"\xff\xd8\xff\xe0\x00\x04") is None
    assert jpeg_size(b"\xff\xd8" + b"\xff" * 5000) is None
