"""Draw montages: small images side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medloop.storage.names import visible

TILE, CAPTION, GAP = 104, 16, 8
PAPER, INK = (255, 255, 255), (27, 39, 51)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image with the caption below it."""

    pixels: NDArray[np.uint8]
    caption: str


@dataclass(frozen=True, kw_only=True)
class Montage:
    """One montage on the page: its kind, its caption and the image."""

    kind: str
    caption: str
    jpeg: bytes


def draw_montage(rows: Sequence[Sequence[Tile]]) -> bytes:
    """Return a JPEG with the tiles row by row."""
    width = max(len(row) for row in rows) * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (TILE + CAPTION + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            left, top = GAP + across * (TILE + GAP), GAP + down * (TILE + CAPTION + GAP)
            sheet.paste(Image.fromarray(_fit(tile.pixels)), (left, top))
            pen.text((left, top + TILE + 1), _truncate(visible(tile.caption), pen, font), fill=INK, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _fit(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    colour = small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)
    tile = np.full((TILE, TILE, 3), 238, np.uint8)
    top, left = (TILE - colour.shape[0]) // 2, (TILE - colour.shape[1]) // 2
    tile[top : top + colour.shape[0], left : left + colour.shape[1]] = colour
    return tile


def _truncate(text: str, pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if pen.textlength(text, font=font) <= TILE:
        return text
    while text and pen.textlength(text + "…", font=font) > TILE:
        text = text[:-1]
    return text + "…"
