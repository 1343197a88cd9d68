"""Turn the bytes of one file into one 8-bit picture, or refuse it with the reason."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from medloop.decode.dicom.tags import Identifiers, keyed_hash
from medloop.decode.refuse import cut_off, reject, shielded
from medloop.decode.rule import WINDOWS, Decoded, DecodeLimits, DecodeRule, Format, Frames, Pixels
from medloop.decode.sniff import Header, read_header, sniff
from medloop.decode.window import by_table, scale, spread

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "WINDOWS",
    "DecodeLimits",
    "DecodeRule",
    "Decoded",
    "Format",
    "Pixels",
    "decode",
    "decode_apart",
    "decode_picture",
    "each_frame",
    "flatten",
    "keyed_hash",
    "lossless_png",
    "only",
    "pixel_hash",
    "plain",
    "sniff",
    "turn",
]

_JPEG_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}

DEFAULT_RULE = DecodeRule()
DEFAULT_LIMITS = DecodeLimits()


def decode(
    data: bytes,
    *,
    rule: DecodeRule = DEFAULT_RULE,
    limits: DecodeLimits = DEFAULT_LIMITS,
    patient_key: bytes | None = None,
) -> Decoded:
    """Decode in this process; untrusted files belong in a Sandbox, which has the same method."""
    frames, identifiers = decode_apart(data, rule, limits)
    return identifiers.attach(only(frames), patient_key)


def decode_apart(data: bytes, rule: DecodeRule, limits: DecodeLimits, *, start: int = 0) -> tuple[Frames, Identifiers]:
    """Decode frames, and return the identifiers apart, so that the process that decodes does not need the key."""
    header = read_header(data, limits)
    if header.format != "dicom":
        return Frames([decode_picture(data, header, rule)], 1), Identifiers()
    from medloop.decode.dicom.picture import decode_dicom

    return decode_dicom(data, rule, limits, start=start)


def only(frames: Frames) -> Decoded:
    """Return the only picture of a file."""
    if frames.total > 1:
        raise reject(
            f"The file has {frames.total} frames, and only one picture can be used here.",
            "Send it as a patient's images, or set `prepare.frame` to `first` or `middle`.",
        )
    return frames.pictures[0]


def each_frame(ask: Callable[[int], Frames]) -> Iterator[Decoded]:
    """Yield all frames of a file, a few at a time; `ask` decodes some from a number on."""
    done, total = 0, 1
    while done < total:
        some, total = ask(done)
        yield from some
        done += len(some)


def decode_picture(data: bytes, header: Header, rule: DecodeRule) -> Decoded:
    """Decode anything but DICOM, once its header was read and checked."""
    if not header.quick:
        pixels, mode = _by_pillow(data, header, rule)
    elif header.format == "jpeg":
        pixels, mode = _by_simplejpeg(data, header), header.mode
    else:
        pixels, mode = _by_opencv(data, header, rule), header.mode
    return Decoded(turn(pixels, header.orientation), mode, header.format, header.width, header.height, header.bits)


def plain(pixels: Pixels) -> Pixels:
    """Return one channel where three equal ones store a grey picture; colour pictures are returned unchanged."""
    if pixels.ndim == 2:
        return pixels
    import cv2

    # Several times as fast as NumPy along an axis of three.
    red, green, blue = (np.asarray(channel, np.uint8) for channel in cv2.split(pixels))
    has_colour = cv2.norm(red, green, cv2.NORM_INF) or cv2.norm(red, blue, cv2.NORM_INF)
    return pixels if has_colour else red


def pixel_hash(pixels: Pixels) -> str:
    """Return the hash of the decoded pixels; the same grey stored in three channels is the same picture."""
    pixels = plain(pixels)
    digest = _digest_of(pixels.shape).copy()
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _digest_of(shape: tuple[int, ...]) -> hashlib._Hash:
    """Most pictures of a set have the same shape."""
    return hashlib.sha256(repr(shape).encode())


def lossless_png(pixels: Pixels) -> bytes:
    """Return a PNG of the pixels, with fast compression and no metadata."""
    import cv2

    picture = np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels
    return bytes(cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror a picture by its EXIF orientation, 1 to 8."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def flatten(colour: Pixels, alpha: Pixels, rule: DecodeRule) -> Pixels:
    """Blend a transparent picture with the background of the rule."""
    if alpha.size and alpha.min() == 255:
        return np.ascontiguousarray(colour)
    opaque = alpha.astype(np.uint16)[..., None] if colour.ndim == 3 else alpha.astype(np.uint16)
    mixed = colour * opaque
    if rule.background == "white":
        mixed += 255 * (255 - opaque)
    return ((mixed + 127) // 255).astype(np.uint8)


def _by_simplejpeg(data: bytes, header: Header) -> Pixels:
    space = _JPEG_SPACES[header.mode]
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace=space)
    except ValueError:
        raise cut_off("JPEG") from None
    if space == "CMYK":
        return _rgb_of_cmyk(pixels, inverted=b"Adobe" in data[:65536])
    return pixels[..., 0] if space == "GRAY" else pixels


def _rgb_of_cmyk(inks: Pixels, *, inverted: bool) -> Pixels:
    light = inks if inverted else 255 - inks
    product = light[..., :3].astype(np.uint16) * light[..., 3:]
    return ((product + 127) // 255).astype(np.uint8)


def _by_opencv(data: bytes, header: Header, rule: DecodeRule) -> Pixels:
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape[:2] != (header.height, header.width):
        raise cut_off("PNG")
    pixels = _eight_bits(image, rule)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4:
        colour = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
        pixels = flatten(np.asarray(colour, np.uint8), pixels[..., 3], rule)
    else:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
    return np.ascontiguousarray(pixels[..., 0]) if header.mode == "LA" else pixels


def _eight_bits(image: NDArray[np.generic], rule: DecodeRule) -> Pixels:
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    if image.dtype != np.uint16:
        raise reject("The image has more than 16 bits per channel.")
    deep = np.asarray(image, np.uint16)
    if rule.sixteen_bit == "full":
        return (deep >> 8).astype(np.uint8)
    shown = deep[..., :3] if deep.ndim == 3 else deep
    low, high = spread(shown)
    pixels = by_table(deep, lambda values: scale(values, low, high))
    if deep.ndim == 3 and deep.shape[2] == 4:
        pixels[..., 3] = deep[..., 3] >> 8
    return pixels


def _by_pillow(data: bytes, header: Header, rule: DecodeRule) -> tuple[Pixels, str]:
    from PIL import BmpImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

    openers: dict[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
        "bmp": BmpImagePlugin.BmpImageFile,
        "jpeg": JpegImagePlugin.JpegImageFile,
        "png": PngImagePlugin.PngImageFile,
        "tiff": TiffImagePlugin.TiffImageFile,
    }

    def work() -> tuple[Pixels, str]:
        # The plugin itself, not Image.open: no other format can slip in, and the size was checked before.
        with openers[header.format](io.BytesIO(data)) as image:
            # Pillow applies the orientation of a TIFF by itself.
            if sorted(image.size) != sorted((header.width, header.height)):
                raise cut_off(header.format.upper())
            image.load()
            return _pixels_of(image, header, rule), image.mode

    return shielded(work, lambda: cut_off(header.format.upper()))


def _pixels_of(image: Image.Image, header: Header, rule: DecodeRule) -> Pixels:
    mode = image.mode
    if mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint16)
        return _eight_bits(~deep if header.inverted else deep, rule)
    if mode in ("LA", "La") or (mode in ("1", "L") and "transparency" in image.info):
        both = np.asarray(image.convert("LA"))
        return flatten(both[..., 0], both[..., 1], rule)
    if mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        four = np.asarray(image.convert("RGBA"))
        return flatten(four[..., :3], four[..., 3], rule)
    if mode in ("1", "L"):
        return np.array(image.convert("L"), np.uint8)
    if mode in ("P", "RGB", "CMYK", "YCbCr"):
        return np.array(image.convert("RGB"), np.uint8)
    raise reject("The image has an unsupported pixel format.", "Save it as PNG with 8 or 16 bits.")
