"""Small pictures side by side, for the eye."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medloop.storage.names import visible

TILE, WORDS, GAP = 104, 16, 8
PAPER, INK = (255, 255, 255), (27, 39, 51)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture with the words below it."""

    pixels: NDArray[np.uint8]
    words: str


@dataclass(frozen=True, kw_only=True)
class Montage:
    """A picture for the page, of what it shows and how it is called."""

    kind: str
    caption: str
    jpeg: bytes


def montage(rows: Sequence[Sequence[Tile]]) -> bytes:
    """A JPEG with the tiles row by row."""
    width = max(len(row) for row in rows) * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, len(rows) * (TILE + WORDS + GAP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            left, top = GAP + across * (TILE + GAP), GAP + down * (TILE + WORDS + GAP)
            sheet.paste(Image.fromarray(_fitted(tile.pixels)), (left, top))
            pen.text((left, top + TILE + 1), _cut(visible(tile.words), pen, font), fill=INK, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _fitted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    colour = small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)
    tile = np.full((TILE, TILE, 3), 238, np.uint8)
    top, left = (TILE - colour.shape[0]) // 2, (TILE - colour.shape[1]) // 2
    tile[top : top + colour.shape[0], left : left + colour.shape[1]] = colour
    return tile


def _cut(words: str, pen: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    if pen.textlength(words, font=font) <= TILE:
        return words
    while words and pen.textlength(words + "…", font=font) > TILE:
        words = words[:-1]
    return words + "…"
