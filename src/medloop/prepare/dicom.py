"""DICOM to one 8-bit picture."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medloop.errors import RejectedInput
from medloop.prepare.dicom_grey import Shape, grey_tone
from medloop.prepare.dicom_meta import IDENTIFIERS, KEPT, USED, Identifiers, frame_values, reduce_header
from medloop.prepare.dicom_walk import Outline, walk
from medloop.prepare.header import check_frames, check_size, jpeg_size
from medloop.prepare.refuse import malformed, reject, shielded
from medloop.prepare.rule import Decoded, DecodeLimits, DecodeRule, Frames, Pixels

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

_J2K_SIZE = b"\xff\x4f\xff\x51"
# Lossless JPEG and JPEG-LS.
_BY_GDCM = {f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81)}
_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")


def decode_dicom(data: bytes, rule: DecodeRule, limits: DecodeLimits, *, start: int = 0) -> tuple[Frames, Identifiers]:
    """Decodes the frames that the rule chooses, some from one on, and gives the identifiers apart, to be hashed."""
    outline = walk(data, limits)
    with _quiet():
        return shielded(lambda: _decode(outline, rule, limits, start), lambda: malformed("its values cannot be read"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the library, whose warnings quote the file."""
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


def _decode(outline: Outline, rule: DecodeRule, limits: DecodeLimits, start: int) -> tuple[Frames, Identifiers]:
    dataset = _read(outline)
    shape = _read_shape(dataset)
    chosen = _choose_frames(shape.frames, rule, limits)
    _check_pixel_data(dataset, outline, shape, chosen[0])
    check_size(shape.columns, shape.rows, limits)
    at_once = max(1, min(limits.frames_at_once, limits.max_pixels // (shape.columns * shape.rows)))
    pictures = []
    for index in chosen[start : start + at_once]:
        if outline.encapsulated:
            _check_stream(dataset, shape, index)
        pictures.append(_decode_frame(dataset, shape, index, rule))
    return Frames(pictures, len(chosen)), Identifiers.of(dataset)


def _decode_frame(dataset: Dataset, shape: Shape, index: int, rule: DecodeRule) -> Decoded:
    lookup = frame_values(dataset, index)
    # Before the pixels are decoded, since a wrong slope is cheap to find.
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


def _read(outline: Outline) -> Dataset:
    """Reads the wanted tags and no others, so that names and dates never enter this process's objects."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    file = io.BytesIO(outline.body)
    file.seek(outline.start)
    wanted = [Tag(name) for name in (*KEPT, *USED, *IDENTIFIERS)]
    dataset = read_dataset(file, outline.implicit, outline.little, specific_tags=list(wanted))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(outline.syntax)
    return dataset


def _read_shape(dataset: Dataset) -> Shape:
    element = next((n for n in ("PixelData", *_FLOATS) if n in dataset), None)
    if element is None:
        raise reject("a DICOM file without pixel data", must="a DICOM file must hold an image")
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    samples, allocated = _whole(dataset, "SamplesPerPixel"), _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated if element != "PixelData" else None)
    frames = _whole(dataset, "NumberOfFrames", 1)
    depths = (1, 8, 16, 32) if element == "PixelData" else (32, 64)
    if allocated not in depths or not 1 <= stored <= allocated:
        raise malformed(f"{stored} bits stored in {allocated} allocated")
    if _whole(dataset, "HighBit", stored - 1) != stored - 1:
        raise malformed("its highest bit does not agree with its stored bits")
    if samples not in (1, 3) or frames < 1 or rows < 1 or columns < 1:
        raise malformed(f"{columns} x {rows} pixels, {samples} samples, {frames} frames")
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    _check_photometric(photometric, samples)
    if element == "PixelData" and _whole(dataset, "PixelRepresentation") not in (0, 1):
        raise malformed("its pixels are neither signed nor unsigned")
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
            raise malformed(f"it has no {name}")
        return default
    if not isinstance(value, int):
        raise malformed(f"its {name} is not one whole number")
    return int(value)


def _check_photometric(name: str, samples: int) -> None:
    grey = name in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    if not grey and name != "RGB" and not name.startswith("YBR_"):
        raise malformed("its photometric interpretation is none of the standard's")
    if grey != (samples == 1):
        raise malformed(f"{samples} samples a pixel for {name if grey else 'a colour image'}")


def _choose_frames(frames: int, rule: DecodeRule, limits: DecodeLimits) -> Sequence[int]:
    check_frames(frames, limits.max_dicom_frames)
    if frames > 1 and rule.frame == "refuse":
        raise reject(
            f"a DICOM file of {frames} frames",
            must="a DICOM file must hold one frame, where the rule chooses none",
            hint="set prepare.frame in the recipe: first, middle, or all for a model that decides per patient",
        )
    if rule.frame == "all":
        return range(frames)
    return [frames // 2 if rule.frame == "middle" else 0]


def _check_pixel_data(dataset: Dataset, outline: Outline, shape: Shape, index: int) -> None:
    """Sees that the pixel data have the declared length, or a stream of the declared size."""
    uid = dataset.file_meta.TransferSyntaxUID
    if not uid.is_transfer_syntax or uid.is_private:
        raise reject("a DICOM file in a transfer syntax that is not supported")
    if uid.is_encapsulated != outline.encapsulated:
        raise malformed("its pixel data are not in the form that its transfer syntax names")
    if outline.encapsulated:
        _check_stream(dataset, shape, index)
        return
    found = len(dataset[shape.element].value or b"")
    bits = shape.rows * shape.columns * shape.samples * shape.frames * shape.allocated
    needed = (bits + 7) // 8
    if shape.photometric == "YBR_FULL_422":
        needed = needed // 3 * 2
    if found not in (needed, needed + needed % 2):
        raise malformed(f"its pixel data are {'shorter' if found < needed else 'longer'} than declared")


def _check_stream(dataset: Dataset, shape: Shape, index: int) -> None:
    from pydicom.encaps import get_frame

    offsets = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    stream = shielded(
        lambda: get_frame(dataset.PixelData, index, number_of_frames=shape.frames, extended_offsets=offsets),
        lambda: malformed("its pixel data cannot be split into frames"),
    )
    # JPEG 2000 decoders fill what is missing with grey and say nothing; both families end with this marker.
    if stream[:2] in (b"\xff\xd8", b"\xff\x4f") and b"\xff\xd9" not in stream[-16:]:
        raise malformed("its compressed pixel data are cut off")
    size = _stream_size(stream)
    if size is not None and size != (shape.columns, shape.rows):
        raise malformed(f"a stream of {size[0]} x {size[1]} pixels where {shape.columns} x {shape.rows} are declared")


def _stream_size(stream: bytes) -> tuple[int, int] | None:
    """Gives width and height of a JPEG, JPEG-LS or JPEG 2000 stream, which may differ from what is declared."""
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
        raise malformed("its pixel data have another shape than declared")
    unused = shape.allocated - shape.stored
    if unused and stored.dtype.kind in "iu":
        # Bits above the stored ones may hold overlays; the way back extends the sign.
        unused = 8 * stored.dtype.itemsize - shape.stored
        stored = np.right_shift(np.left_shift(stored, unused), unused)
    return stored


def _unreadable(syntax: UID, shape: Shape) -> RejectedInput:
    from pydicom.pixels.decoders.base import get_decoder

    if syntax in _BY_GDCM and not get_decoder(syntax).is_available:
        return reject(
            f"{syntax.name} where gdcm is not installed",
            must="lossless JPEG and JPEG-LS in a DICOM file need gdcm",
            hint='pip install "medloop[dicom]", or save the file in another transfer syntax',
        )
    return reject(f"DICOM pixel data that no decoder reads ({syntax.name}, {shape.stored} bits)")


def _colour(dataset: Dataset, stored: NDArray[Any], shape: Shape) -> Pixels:
    from pydicom.pixels.processing import apply_color_lut

    bits = shape.stored
    if shape.photometric == "PALETTE COLOR":
        stored = shielded(lambda: apply_color_lut(stored, dataset), lambda: malformed("its palette cannot be read"))
        bits = 8 * stored.dtype.itemsize
    if stored.dtype.kind != "u":
        raise malformed("colours with a sign")
    if bits < 8:
        return np.asarray(stored.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    return np.asarray(stored >> (bits - 8)).astype(np.uint8)
