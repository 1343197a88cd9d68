"""What each kind of bundle takes - rows or pictures - and what of it the model should not judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.case import Row
from medloop.errors import RejectedInput, UnknownName
from medloop.prepare.decode import only, plain
from medloop.prepare.header import glance
from medloop.prepare.image import ImagePreparer
from medloop.prepare.rule import Decoded, Frames, Pixels
from medloop.prepare.sandbox import Sandbox
from medloop.prepare.table import TablePreparer

DECODERS = 2
ROWS_AT_ONCE = 4096
PICTURES_AT_ONCE = 32
# A picture whose grey levels deviate by less shows nothing.
LEAST_CONTRAST = 1.0
# Compression and coloured marks on a scan stay below; photographs lie at 30 to 60.
LEAST_COLOUR = 16.0

# Below it a file is decoded within a few hundredths of a second.
LIGHT_PIXELS = 4_000_000

Complaints = list[str | None]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as the model takes it, and what is wrong with it."""

    pixels: Pixels
    complaint: str | None


@dataclass(frozen=True, kw_only=True)
class TableInput:
    """Rows for a table's model."""

    preparer: TablePreparer
    at_once: int = ROWS_AT_ONCE

    def read(self, cases: Sequence[Row]) -> tuple[dict[str, NDArray[Any]], Complaints]:
        """The model's inputs, and nothing to complain of: the columns are checked one by one."""
        return self.preparer.prepare(cases), [None] * len(cases)

    def example(self) -> Row:
        """A row that every such model must answer."""
        return dict.fromkeys(self.preparer.names)


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """Files with pictures for an image model; a child process decodes what strangers send."""

    preparer: ImagePreparer
    sandbox: Sandbox
    contrast: float
    colour: float
    at_once: int = PICTURES_AT_ONCE

    def read(self, cases: Sequence[bytes | Decoded | Picture]) -> tuple[dict[str, NDArray[Any]], Complaints]:
        """The model's inputs, and what is wrong with each picture."""
        pictures = [case if isinstance(case, Picture) else self.picture(case) for case in cases]
        return model_input([picture.pixels for picture in pictures]), [picture.complaint for picture in pictures]

    def is_light(self, data: bytes) -> bool:
        """Whether a file seems to be decoded so soon that nobody need mind to wait for it."""
        pixels = glance(data)
        return pixels is not None and pixels <= LIGHT_PIXELS

    def decode(self, data: bytes) -> Decoded:
        """The picture of a file as it is, before it is brought to the model's size."""
        return only(self.frames(data))

    def frames(self, data: bytes, *, start: int = 0, patient_key: bytes | None = None) -> Frames:
        """Some of the pictures of a file, from one on, as many as the bundle's rule takes of it."""
        if not isinstance(data, bytes):
            raise RejectedInput("an image model needs images", found="something else", hint="send PNG, JPEG or DICOM")
        return self.sandbox.frames(data, start=start, rule=self.preparer.rule, patient_key=patient_key)

    def picture(self, data: bytes | Decoded) -> Picture:
        """One prepared picture, and what is wrong with it."""
        decoded = data if isinstance(data, Decoded) else self.decode(data)
        # Most scans are grey, and are looked for colours once.
        shown = plain(decoded.pixels)
        pixels = self.preparer.fit_pixels(shown)
        complaint = None
        # A grey model's input is grey already, whatever the file was.
        seen = shown if self.preparer.channels == 1 or shown.ndim == 2 else pixels
        if contrast_of(pixels) < self.contrast:
            complaint = "blank picture"
        elif colour_of(seen) > self.colour:
            complaint = "colour picture, and the model learned from grey ones"
        return Picture(pixels=pixels, complaint=complaint)

    def example(self) -> bytes:
        """A picture that every such model must answer."""
        import cv2

        height, width, _ = self.preparer.shape
        ramp = np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)
        return bytes(cv2.imencode(".png", ramp)[1])


def model_input(pictures: Sequence[Pixels] | Pixels) -> dict[str, NDArray[Any]]:
    """Pictures of H x W x C as the graph takes them."""
    import cv2

    height, width, channels = pictures[0].shape
    image = np.empty((len(pictures), channels, height, width), np.float32)
    for place, picture in enumerate(pictures):
        # Channel by channel, since NumPy takes three times as long to go along an axis of three.
        for channel, plane in enumerate(cv2.split(picture)):
            image[place, channel] = plane
    return {"image": image}


def contrast_of(pixels: Pixels) -> float:
    """How far the grey levels deviate from their mean."""
    import cv2

    # Ten times as quick as NumPy, which makes a copy in floating point.
    _, deviation = cv2.meanStdDev(pixels.reshape(-1))
    return float(deviation[0, 0])


def colour_of(pixels: Pixels) -> float:
    """How far the channels lie apart, in the mean over the picture."""
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return 0.0
    import cv2

    step = max(1, min(pixels.shape[:2]) // 256)
    # Channel by channel, since NumPy takes 25 times as long to go along an axis of three.
    red, green, blue = cv2.split(np.ascontiguousarray(pixels[::step, ::step]))
    apart = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    return float(cv2.sumElems(apart)[0]) / apart.size


def find_input(meta: Mapping[str, Any]) -> TableInput | ImageInput:
    """What the bundle's preparer takes."""
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
