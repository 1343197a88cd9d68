from __future__ import annotations

import hmac
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from medloop.decode.raster import DecodeLimits, DecodeRule, decode, keyed_hash, pixel_hash, plain, turn
from medloop.errors import RejectedInput
from tests.decode.dicom_files import dicom, ramp
from tests.decode.picture_files import chunk, colour, grey, jpeg, png, saved, with_orientation

DEEP = (np.arange(24 * 32, dtype=np.uint16) * 80).reshape(24, 32)


def pillow(data: bytes, mode: str) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode))


LOSSLESS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": lambda image: saved(image, "PNG"),
    "interlace-free png, best compression": lambda image: saved(image, "PNG", optimize=True),
    "bmp": lambda image: saved(image, "BMP"),
    "tiff": lambda image: saved(image, "TIFF"),
    "lzw tiff": lambda image: saved(image, "TIFF", compression="tiff_lzw"),
    "deflate tiff": lambda image: saved(image, "TIFF", compression="tiff_deflate"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_grey_comes_back_as_it_went_in(name: str) -> None:
    decoded = decode(LOSSLESS[name](Image.fromarray(grey())))
    np.testing.assert_array_equal(decoded.pixels, grey())
    assert (decoded.width, decoded.height, decoded.patient) == (32, 24, None)


@pytest.mark.parametrize("name", LOSSLESS)
def test_colour_comes_back_red_first(name: str) -> None:
    decoded = decode(LOSSLESS[name](Image.fromarray(colour())))
    np.testing.assert_array_equal(decoded.pixels, colour())


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}])
def test_jpeg_agrees_with_pillow(mode: str, options: dict[str, int]) -> None:
    data = saved(Image.fromarray(colour()).convert(mode), "JPEG", **options)
    decoded = decode(data)
    expected = pillow(data, "L" if mode == "L" else "RGB")
    # The inks of CMYK are mixed by a formula that rounds in another place.
    assert np.abs(decoded.pixels.astype(int) - expected).max() <= (1 if mode == "CMYK" else 0)
    assert decoded.mode == mode


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "P"])
def test_one_bit_and_palette_are_expanded(mode: str, kind: str) -> None:
    image = Image.fromarray(colour()).convert(mode)
    decoded = decode(saved(image, kind))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(image.convert("L" if mode == "1" else "RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(orientation: int) -> None:
    data = with_orientation(jpeg(colour()), orientation)
    decoded = decode(data)
    np.testing.assert_array_equal(decoded.pixels, pillow(data, "RGB"))
    assert (decoded.width, decoded.height) == (32, 24)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_rotation_holds_in_other_formats(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(grey()), kind, exif=exif)
    np.testing.assert_array_equal(decode(data).pixels, turn(grey(), 6))


def test_a_broken_exif_block_turns_nothing() -> None:
    data = with_orientation(jpeg(grey()), 6).replace(b"MM\0*\0\0\0\x08", b"MM\0*\xff\xff\xff\xff")
    assert decode(data).pixels.shape == (24, 32)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_the_background_of_the_rule(mode: str, kind: str) -> None:
    image = Image.fromarray(colour() if mode == "RGBA" else grey()).convert(mode)
    alpha = grey()
    alpha[:4] = 0
    alpha[4:8] = 255
    image.putalpha(Image.fromarray(alpha))
    data = saved(image, kind)
    black, white = decode(data).pixels, decode(data, rule=DecodeRule(background="white")).pixels
    opaque = np.asarray(image.convert("RGB" if mode == "RGBA" else "L"))
    assert black[:4].max() == 0
    assert white[:4].min() == 255
    np.testing.assert_array_equal(black[4:8], opaque[4:8])
    share = alpha[..., None] / 255 if mode == "RGBA" else alpha / 255
    np.testing.assert_allclose(black, opaque * share, atol=0.51)
    np.testing.assert_allclose(white, opaque * share + 255 * (1 - share), atol=0.51)


def test_a_transparent_shade_or_colour_counts_as_transparency() -> None:
    shade = decode(saved(Image.fromarray(grey()), "PNG", transparency=int(grey()[0, 1]))).pixels
    assert shade[0, 1] == 0
    red = decode(saved(Image.fromarray(colour()), "PNG", transparency=tuple(int(n) for n in colour()[5, 6]))).pixels
    assert red[5, 6].max() == 0
    assert red[7, 9].max() > 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_upper_eight(kind: str) -> None:
    decoded = decode(saved(Image.fromarray(DEEP), kind))
    np.testing.assert_array_equal(decoded.pixels, DEEP >> 8)
    assert decoded.bits == 16


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_can_be_stretched_to_the_values_in_use(kind: str) -> None:
    twelve = (DEEP >> 4).astype(np.uint16)
    rule = DecodeRule(sixteen_bit="stretch")
    low, high = np.percentile(twelve, (0.5, 99.5))
    expected = np.clip((twelve - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(decode(saved(Image.fromarray(twelve), kind), rule=rule).pixels, expected, atol=0.51)


def test_sixteen_bit_tiff_with_white_as_zero_is_inverted() -> None:
    data = saved(Image.fromarray(DEEP), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(decode(data).pixels, (65535 - DEEP.astype(int)) >> 8)


def test_floating_point_tiff_is_refused() -> None:
    with pytest.raises(RejectedInput, match="at most 16 bits"):
        decode(saved(Image.fromarray(DEEP.astype(np.float32)), "TIFF"))


def test_a_jpeg_named_png_is_a_jpeg() -> None:
    assert decode(jpeg(grey())).format == "jpeg"


WHOLE = {
    "png": png(grey(64, 80)),
    "colour png": png(colour(64, 80)),
    "deep png": png(DEEP),
    "jpeg": jpeg(grey(64, 80)),
    "colour jpeg": jpeg(colour(64, 80)),
    "progressive jpeg": saved(Image.fromarray(colour(64, 80)), "JPEG", progressive=True),
    "cmyk jpeg": saved(Image.fromarray(colour(64, 80)).convert("CMYK"), "JPEG"),
    "bmp": saved(Image.fromarray(grey(64, 80)), "BMP"),
    "tiff": saved(Image.fromarray(grey(64, 80)), "TIFF"),
    "lzw tiff": saved(Image.fromarray(colour(64, 80)), "TIFF", compression="tiff_lzw"),
    "jpeg tiff": saved(Image.fromarray(colour(64, 80)), "TIFF", compression="jpeg"),
    "dicom": dicom(ramp(40, 50)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_at_every_percent_is_refused(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = WHOLE[name]
    assert decode(whole).pixels.size
    for percent in range(100):
        with pytest.raises(RejectedInput) as refusal:
            decode(whole[: len(whole) * percent // 100])
        assert refusal.value.problem.endswith(".")
    with pytest.raises(RejectedInput):
        decode(whole[:-1])
    capfd.readouterr()


def png_of(rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", 32, 24, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_png_of_too_few_rows_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in grey())
    np.testing.assert_array_equal(decode(png_of(zlib.compress(rows))).pixels, grey())
    for broken in (zlib.compress(rows[: 33 * 12]), zlib.compress(rows)[:-9], zlib.compress(rows)[:-4] + b"nope"):
        with pytest.raises(RejectedInput, match="cut off or damaged"):
            decode(png_of(broken))
    capfd.readouterr()


def test_a_wrong_checksum_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(png(grey()))
    data[len(data) // 2] ^= 1
    with pytest.raises(RejectedInput, match="cut off or damaged"):
        decode(bytes(data))
    capfd.readouterr()


def test_a_damaged_jpeg_stream_is_refused() -> None:
    data = bytearray(jpeg(colour(64, 80)))
    scan = data.index(b"\xff\xda") + 200
    data[scan : scan + 40] = b"\xff\xd9" * 20
    with pytest.raises(RejectedInput, match="The JPEG file is cut off"):
        decode(bytes(data))


def test_limits_hold_in_decode() -> None:
    with pytest.raises(RejectedInput, match="more than the 100 allowed"):
        decode(png(grey()), limits=DecodeLimits(max_pixels=100))


def test_the_pixel_hash_knows_a_picture_in_any_file() -> None:
    same = [png(grey()), saved(Image.fromarray(grey()), "BMP"), saved(Image.fromarray(grey()).convert("RGBA"), "PNG")]
    assert len({pixel_hash(decode(data).pixels) for data in same}) == 1


def test_grey_is_grey_however_it_was_stored() -> None:
    picture = Image.fromarray(grey())
    palette = picture.quantize(256)
    files = {mode: saved(picture.convert(mode), "PNG") for mode in ("L", "LA", "RGB", "RGBA")}
    files |= {"BMP": saved(picture.convert("RGB"), "BMP"), "P": saved(palette, "PNG")}
    # Whatever colour stands where nothing shows.
    hidden = np.dstack([grey(), grey(), grey(), np.full_like(grey(), 255)])
    hidden[0, 0] = [9, 200, 30, 0]
    shown = grey()
    shown[0, 0] = 0
    for data in files.values():
        np.testing.assert_array_equal(plain(decode(data).pixels), grey())
    np.testing.assert_array_equal(plain(decode(saved(Image.fromarray(hidden), "PNG")).pixels), shown)


def test_one_coloured_pixel_keeps_the_colours() -> None:
    pixels = np.dstack([grey()] * 3)
    for channel in range(3):
        marked = pixels.copy()
        marked[5, 7, channel] ^= 1
        np.testing.assert_array_equal(plain(decode(png(marked)).pixels), marked)


def test_the_pixel_hash_tells_pictures_apart() -> None:
    other = grey()
    other[3, 3] ^= 1
    pictures = [grey(), other, grey().T, grey().reshape(32, 24), colour(), colour()[..., ::-1]]
    assert len({pixel_hash(picture) for picture in pictures}) == len(pictures)


def test_a_keyed_hash_needs_key_and_value() -> None:
    assert keyed_hash("p1", b"key") == hmac.new(b"key", b"p1", "sha256").hexdigest()
    assert keyed_hash("p1", None) is None
    assert keyed_hash("", b"key") is None
