"""Decode the frames of a DICOM file to 8-bit pictures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medloop.decode.dicom.grey import Shape, grey_tone
from medloop.decode.dicom.read import is_encapsulated, read_dicom
from medloop.decode.dicom.tags import Identifiers, frame_values, reduce_header
from medloop.decode.refuse import malformed, reject, shielded
from medloop.decode.rule import Decoded, DecodeLimits, DecodeRule, Frames, Pixels
from medloop.decode.sniff import check_frames, check_size, jpeg_size
from medloop.errors import RejectedInput

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

_J2K_SIZE = b"\xff\x4f\xff\x51"
# Lossless JPEG and JPEG-LS.
_BY_GDCM = {f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81)}
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")


def decode_dicom(data: bytes, rule: DecodeRule, limits: DecodeLimits, *, start: int = 0) -> tuple[Frames, Identifiers]:
    """Decode a few of the frames that the rule chooses, and return the identifiers apart, to be hashed."""
    with _quiet():
        return shielded(lambda: _decode(data, rule, limits, start), lambda: malformed("its values cannot be read"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence pydicom, whose warnings quote the file."""
    from pydicom.config import disable_value_validation

    logger = logging.getLogger("pydicom")
    was = logger.disabled
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = was


def _decode(data: bytes, rule: DecodeRule, limits: DecodeLimits, start: int) -> tuple[Frames, Identifiers]:
    dataset = read_dicom(data, limits)
    encapsulated = is_encapsulated(dataset)
    shape = _read_shape(dataset)
    chosen = _choose_frames(shape.frames, rule, limits)
    _check_pixel_data(dataset, shape, chosen[0], encapsulated=encapsulated)
    check_size(shape.columns, shape.rows, limits)
    at_once = max(1, min(limits.frames_at_once, limits.max_pixels // (shape.columns * shape.rows)))
    pictures = []
    for index in chosen[start : start + at_once]:
        if encapsulated:
            _check_stream(dataset, shape, index)
        pictures.append(_decode_frame(dataset, shape, index, rule))
    return Frames(pictures, len(chosen)), Identifiers.of(dataset)


def _decode_frame(dataset: Dataset, shape: Shape, index: int, rule: DecodeRule) -> Decoded:
    lookup = frame_values(dataset, index)
    # Checked before the pixels are decoded, which takes longer.
    tone = None if shape.colour else grey_tone(dataset, lookup, shape, rule)
    stored = _read_frame(dataset, shape, index)
    return Decoded(
        pixels=tone(stored) if tone else _colour(dataset, stored, shape),
        mode=shape.photometric,
        format="dicom",
        width=shape.columns,
        height=shape.rows,
        bits=shape.stored,
        meta=reduce_header(lookup),
    )


def _read_shape(dataset: Dataset) -> Shape:
    element = next((n for n in ("PixelData", *_FLOATS) if n in dataset), None)
    if element is None:
        raise reject("The DICOM file has no pixel data.")
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    samples, allocated = _whole(dataset, "SamplesPerPixel"), _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated if element != "PixelData" else None)
    frames = _whole(dataset, "NumberOfFrames", 1)
    depths = (1, 8, 16, 32) if element == "PixelData" else (32, 64)
    if allocated not in depths or not 1 <= stored <= allocated:
        raise malformed(f"{stored} bits stored in {allocated} allocated")
    if _whole(dataset, "HighBit", stored - 1) != stored - 1:
        raise malformed("the high bit does not match the bits stored")
    if samples not in (1, 3) or frames < 1 or rows < 1 or columns < 1:
        raise malformed(f"{columns} x {rows} pixels, {samples} samples, {frames} frames")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    _check_photometric(photometric, samples)
    if element == "PixelData" and _whole(dataset, "PixelRepresentation") not in (0, 1):
        raise malformed("PixelRepresentation is neither 0 nor 1")
    return Shape(
        rows=rows,
        columns=columns,
        samples=samples,
        frames=frames,
        allocated=allocated,
        stored=stored,
        photometric=photometric,
        element=element,
    )


def _whole(dataset: Dataset, name: str, default: int | None = None) -> int:
    value = dataset.get(name)
    if value is None or value == "":
        if default is None:
            raise malformed(f"{name} is missing")
        return default
    if not isinstance(value, int):
        raise malformed(f"{name} is not an integer")
    return int(value)


def _check_photometric(name: str, samples: int) -> None:
    grey = name in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if not grey and name != "RGB" and not name.startswith("YBR_"):
        raise malformed("the photometric interpretation is not in the standard")
    if grey != (samples == 1):
        raise malformed(f"{samples} samples per pixel for {name if grey else 'a colour image'}")


def _choose_frames(frames: int, rule: DecodeRule, limits: DecodeLimits) -> Sequence[int]:
    check_frames(frames, limits.max_dicom_frames)
    if frames > 1 and rule.frame == "refuse":
        raise reject(
            f"The DICOM file has {frames} frames, and `prepare.frame` chooses none of them.",
            "Set `prepare.frame` in the recipe: first, middle, or all for a model that decides per patient.",
        )
    if rule.frame == "all":
        return range(frames)
    return [frames // 2 if rule.frame == "middle" else 0]


def _check_pixel_data(dataset: Dataset, shape: Shape, index: int, *, encapsulated: bool) -> None:
    """Refuse pixel data that do not have the declared length, and streams that do not have the declared size."""
    uid = dataset.file_meta.TransferSyntaxUID
    if not uid.is_transfer_syntax or uid.is_private:
        raise reject("The transfer syntax of the DICOM file is not supported.")
    if uid.is_encapsulated != encapsulated:
        raise malformed("the pixel data do not match the transfer syntax")
    if encapsulated:
        _check_stream(dataset, shape, index)
        return
    found = len(dataset[shape.element].value or b"")
    bits = shape.rows * shape.columns * shape.samples * shape.frames * shape.allocated
    needed = (bits + 7) // 8
    if shape.photometric == "YBR_FULL_422":
        needed = needed // 3 * 2
    if found not in (needed, needed + needed % 2):
        raise malformed(f"the pixel data are {'shorter' if found < needed else 'longer'} than declared")


def _check_stream(dataset: Dataset, shape: Shape, index: int) -> None:
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    stream = shielded(
        lambda: get_frame(dataset.PixelData, index, number_of_frames=shape.frames, extended_offsets=offsets),
        lambda: malformed("the pixel data cannot be split into frames"),
    )
    # JPEG 2000 decoders fill missing data with grey and report no error; both families end with this marker.
    if stream[:2] in (b"\xff\xd8", b"\xff\x4f") and b"\xff\xd9" not in stream[-16:]:
        raise malformed("the compressed pixel data are cut off")
    size = _stream_size(stream)
    if size is not None and size != (shape.columns, shape.rows):
        raise malformed(f"a stream of {size[0]} x {size[1]} pixels where {shape.columns} x {shape.rows} are declared")


def _stream_size(stream: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG, JPEG-LS or JPEG 2000 stream, which may differ from the declared ones."""
    place = stream.find(_J2K_SIZE, 0, 4096)
    if place >= 0 and len(stream) >= place + 24:
        right, bottom, left, top = (int.from_bytes(stream[place + n : place + n + 4], "big") for n in (8, 12, 16, 20))
        return right - left, bottom - top
    size = jpeg_size(stream) if stream[:2] == b"\xff\xd8" else None
    return size[:2] if size else None


def _read_frame(dataset: Dataset, shape: Shape, index: int) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    stored = shielded(
        lambda: pixel_array(dataset, index=index), lambda: _unreadable(dataset.file_meta.TransferSyntaxUID, shape)
    )
    if stored.shape[:2] != (shape.rows, shape.columns) or stored.ndim != (2 if shape.samples == 1 else 3):
        raise malformed("the pixel data have a different shape than declared")
    unused = shape.allocated - shape.stored
    if unused and stored.dtype.kind in "iu":
        # Bits above the stored ones may hold overlays; shifting back extends the sign.
        unused = 8 * stored.dtype.itemsize - shape.stored
        stored = np.right_shift(np.left_shift(stored, unused), unused)
    return stored


def _unreadable(syntax: UID, shape: Shape) -> RejectedInput:
    from pydicom.pixels.decoders.base import get_decoder

    if syntax in _BY_GDCM and not get_decoder(syntax).is_available:
        return reject(
            f"Lossless JPEG and JPEG-LS in a DICOM file need gdcm, which is not installed ({syntax.name}).",
            'Run `pip install "medloop[dicom]"`, or save the file in another transfer syntax.',
        )
    return reject(f"No decoder can read the DICOM pixel data ({syntax.name}, {shape.stored} bits).")


def _colour(dataset: Dataset, stored: NDArray[Any], shape: Shape) -> Pixels:
    from pydicom.pixels.processing import apply_color_lut

    bits = shape.stored
    if shape.photometric == "PALETTE COLOR":
        stored = shielded(lambda: apply_color_lut(stored, dataset), lambda: malformed("the palette cannot be read"))
        bits = 8 * stored.dtype.itemsize
    if stored.dtype.kind != "u":
        raise malformed("the colour values are signed")
    if bits < 8:
        return np.asarray(stored.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    return np.asarray(stored >> (bits - 8)).astype(np.uint8)
