"""Turn the bytes of an image into the model's array, with one function for training and serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from medloop.decode.raster import DEFAULT_RULE, decode, plain
from medloop.decode.rule import Decoded, DecodeRule, Pixels
from medloop.errors import UnknownName, UserError

FIELDS = ("size", "channels", "fit", "rule")


class Decoder(Protocol):
    """The function `decode`, or the method of a Sandbox."""

    def __call__(self, data: bytes, *, rule: DecodeRule) -> Decoded: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePreparer:
    """How an image becomes an array of one size; stored in the bundle."""

    size: int | tuple[int, int] = 224
    channels: Literal[1, 3] = 1
    # pad: the whole image, centred on black; crop: the centre, filling the array; stretch: the whole image, distorted.
    fit: Literal["pad", "stretch", "crop"] = "pad"
    rule: DecodeRule = DEFAULT_RULE

    def __post_init__(self) -> None:
        sizes = [self.size, self.size] if isinstance(self.size, int) else list(self.size)
        if len(sizes) != 2 or not all(isinstance(n, int) and 8 <= n <= 4096 for n in sizes):
            raise UserError(
                f"Image size {self.size!r} is not one or two integers from 8 to 4096.",
                "Set `prepare.size` to a number such as 224, or to [height, width].",
            )
        object.__setattr__(self, "size", (sizes[0], sizes[1]))
        if self.channels not in (1, 3):
            raise UserError(f"An image cannot have {self.channels!r} channels.", "Set `prepare.channels` to 1 or 3.")
        if self.fit not in _FITTERS:
            raise UnknownName("prepare.fit", self.fit, _FITTERS)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and channels of a prepared array."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return height, width, self.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of one prepared array, including its shape."""
        return np.dtype((np.uint8, self.shape))

    def prepare(self, data: bytes, *, decoder: Decoder = decode) -> Pixels:
        """Turn the bytes of one image into the model's array, H x W x C of 0 to 255."""
        return self.fit_pixels(decoder(data, rule=self.rule).pixels)

    def fit_pixels(self, pixels: Pixels) -> Pixels:
        """Bring a decoded picture to the model's size and channels, the second half of `prepare`."""
        height, width, channels = self.shape
        # Grey is converted to colour last, so that one channel is resized instead of three.
        picture = _to_grey(pixels) if channels == 1 else plain(pixels)
        if picture.shape[:2] != (height, width):
            picture = _FITTERS[self.fit](picture, height, width)
        if picture.ndim == 2:
            picture = picture[..., None] if channels == 1 else _in_colour(picture)
        return np.ascontiguousarray(picture)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        return {
            "size": list(self.shape[:2]),
            "channels": self.channels,
            "fit": self.fit,
            "rule": self.rule.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ImagePreparer:
        """Build the preparer from the result of `to_json`."""
        unknown = sorted(set(data) - set(FIELDS))
        if unknown:
            raise UnknownName("field of the image preparer", unknown[0], FIELDS)
        size, rule = data["size"], DecodeRule.from_json(data["rule"])
        return cls(
            size=size if isinstance(size, int) else tuple(size), channels=data["channels"], fit=data["fit"], rule=rule
        )


def _to_grey(pixels: Pixels) -> Pixels:
    if pixels.ndim == 2:
        return pixels
    import cv2

    # ITU-R BT.601, as in nearly every tool; equal channels keep their value.
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)


def _in_colour(grey: Pixels) -> Pixels:
    import cv2

    return np.asarray(cv2.merge((grey, grey, grey)), np.uint8)


def _crop(pixels: Pixels, height: int, width: int) -> Pixels:
    """Cut out the centre with the proportions of the target, and scale it."""
    rows, columns = pixels.shape[:2]
    cut_rows = max(1, min(rows, round(columns * height / width)))
    cut_columns = max(1, min(columns, round(rows * width / height)))
    top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
    return _resize(pixels[top : top + cut_rows, left : left + cut_columns], height, width)


def _pad(pixels: Pixels, height: int, width: int) -> Pixels:
    """Scale the whole image into the target and centre it on black."""
    rows, columns = pixels.shape[:2]
    factor = min(height / rows, width / columns)
    new_rows = min(height, max(1, round(rows * factor)))
    new_columns = min(width, max(1, round(columns * factor)))
    scaled = _resize(pixels, new_rows, new_columns)
    if scaled.shape[:2] == (height, width):
        return scaled
    framed = np.zeros((height, width, *pixels.shape[2:]), np.uint8)
    top, left = (height - new_rows) // 2, (width - new_columns) // 2
    framed[top : top + new_rows, left : left + new_columns] = scaled
    return framed


def _resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Shrink by area, which keeps small nodules visible, then enlarge linearly, which adds no structure."""
    import cv2

    rows, columns = pixels.shape[:2]
    small = (min(width, columns), min(height, rows))
    if small != (columns, rows):
        pixels = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
    if small != (width, height):
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return pixels


_FITTERS: dict[str, Callable[[Pixels, int, int], Pixels]] = {"pad": _pad, "stretch": _resize, "crop": _crop}
