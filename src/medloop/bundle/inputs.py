"""The inputs of a bundle, rows or images: how they are read, and which ones the model should not judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.case import Row
from medloop.decode.pool import Sandbox
from medloop.decode.raster import DEFAULT_LIMITS, lossless_png, only, plain
from medloop.decode.rule import Decoded, Frames, Pixels
from medloop.decode.sniff import read_header
from medloop.errors import RejectedInput, UnknownName
from medloop.prepare.image import ImagePreparer
from medloop.prepare.table import TablePreparer
from medloop.storage.png import PIXEL_CHUNKS, SIGNATURE, png_chunks

DECODERS = 2
ROWS_AT_ONCE = 4096
PICTURES_AT_ONCE = 32
# Standard deviation of the grey levels below which an image counts as blank.
MIN_CONTRAST = 1.0
# Compression and coloured marks on a scan stay below; photographs have 30 to 60.
MIN_COLOUR_LIMIT = 16.0

# Files with fewer pixels are decoded within a few hundredths of a second.
LIGHT_PIXELS = 4_000_000

_ROTATING_CHUNK = b"eXIf"

Complaints = list[str | None]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A prepared image, and what is wrong with it."""

    pixels: Pixels
    complaint: str | None


@dataclass(frozen=True, kw_only=True)
class TableInput:
    """Rows for a table model."""

    preparer: TablePreparer
    at_once: int = ROWS_AT_ONCE

    def read(self, cases: Sequence[Row]) -> tuple[dict[str, NDArray[Any]], Complaints]:
        """Return the inputs of the model, without complaints, since the columns are checked one by one."""
        return self.preparer.prepare(cases), [None] * len(cases)

    def example(self) -> Row:
        """Return a row that every table model can score."""
        return dict.fromkeys(self.preparer.names)


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Image files for an image model, decoded in a child process where they are not plain PNG or JPEG."""

    preparer: ImagePreparer
    sandbox: Sandbox
    contrast: float
    colour: float
    at_once: int = PICTURES_AT_ONCE

    def read(self, cases: Sequence[bytes | Decoded | Picture]) -> tuple[dict[str, NDArray[Any]], Complaints]:
        """Return the inputs of the model, and what is wrong with each image."""
        pictures = [case if isinstance(case, Picture) else self.picture(case) for case in cases]
        return model_input([picture.pixels for picture in pictures]), [picture.complaint for picture in pictures]

    def is_light(self, data: bytes) -> bool:
        """Return whether a file is likely to be decoded quickly enough for others to wait for it."""
        try:
            header = read_header(data, DEFAULT_LIMITS)
        except RejectedInput:
            return False
        return header.quick and header.width * header.height <= LIGHT_PIXELS

    def decode(self, data: bytes) -> Decoded:
        """Return the decoded image of a file, before it is resized for the model."""
        return only(self.frames(data))

    def frames(self, data: bytes, *, start: int = 0, patient_key: bytes | None = None) -> Frames:
        """Return some of the frames of a file, beginning with one, as many as the bundle's rule selects."""
        if not isinstance(data, bytes):
            raise RejectedInput("The model takes images, but got something else.", "Send PNG, JPEG or DICOM.")
        return self.sandbox.frames(data, start=start, rule=self.preparer.rule, patient_key=patient_key)

    def picture(self, data: bytes | Decoded) -> Picture:
        """Return the prepared image, and what is wrong with it."""
        decoded = data if isinstance(data, Decoded) else self.decode(data)
        shown = plain(decoded.pixels)
        pixels = self.preparer.fit_pixels(shown)
        complaint = None
        # The input of a grey model has no colours left, so those of the file count.
        seen = shown if self.preparer.channels == 1 or shown.ndim == 2 else pixels
        if contrast_of(pixels) < self.contrast:
            complaint = "blank picture"
        elif colour_of(seen) > self.colour:
            complaint = "colour picture, but the model was trained on grey ones"
        return Picture(pixels=pixels, complaint=complaint)

    def example(self) -> bytes:
        """Return an image that every image model can score."""
        import cv2

        height, width, _ = self.preparer.shape
        ramp = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
        return bytes(cv2.imencode(".png", ramp)[1])


def model_input(pictures: Sequence[Pixels] | Pixels) -> dict[str, NDArray[Any]]:
    """Return images of H x W x C as the input of the graph."""
    import cv2

    height, width, channels = pictures[0].shape
    image = np.empty((len(pictures), channels, height, width), np.float32)
    for place, picture in enumerate(pictures):
        # Channel by channel, since NumPy is three times slower along an axis of length three.
        for channel, plane in enumerate(cv2.split(picture)):
            image[place, channel] = plane
    return {"image": image}


def contrast_of(pixels: Pixels) -> float:
    """Return the standard deviation of the grey levels."""
    import cv2

    # Ten times faster than NumPy, which makes a floating-point copy.
    _, deviation = cv2.meanStdDev(pixels.reshape(-1))
    return float(deviation[0, 0])


def colour_of(pixels: Pixels) -> float:
    """Return the mean difference between the highest and the lowest channel."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return 0.0
    import cv2

    step = max(1, min(pixels.shape[:2]) // 256)
    # Channel by channel, since NumPy is 25 times slower along an axis of length three.
    red, green, blue = cv2.split(np.ascontiguousarray(pixels[::step, ::step]))
    apart = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    return float(cv2.sumElems(apart)[0]) / apart.size


def keepable_png(data: bytes, decoded: Decoded) -> bytes:
    """Return the picture as a PNG that names nobody, for corrections and replays; it has the same prediction."""
    if decoded.format == "png" and (stripped := _without_descriptions(data)) is not None:
        return stripped
    return lossless_png(decoded.pixels)


def _without_descriptions(data: bytes) -> bytes | None:
    """Return the PNG with the chunks of its pixels alone; None where another one rotates the picture."""
    kept = [SIGNATURE]
    for chunk in png_chunks(data):
        if chunk.name == _ROTATING_CHUNK:
            return None
        if chunk.name in PIXEL_CHUNKS:
            kept.append(data[chunk.start : chunk.end])
        if chunk.name == b"IEND":
            return b"".join(kept)
    return None


def find_input(meta: Mapping[str, Any]) -> TableInput | ImageInput:
    """Return the reader for the inputs of this bundle."""
    content = dict(meta["preparer"])
    kind = content.get("kind")
    if kind == "table":
        return TableInput(preparer=TablePreparer.from_json(content))
    if kind != "image":
        raise UnknownName("a preparer", kind, ("table", "image"))
    checks = meta["checks"]
    return ImageInput(
        preparer=ImagePreparer.from_json({name: value for name, value in content.items() if name != "kind"}),
        sandbox=Sandbox(children=DECODERS),
        contrast=float(checks["contrast"]),
        colour=float(checks["colour"]),
    )
