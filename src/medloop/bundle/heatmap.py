"""Heatmaps: the class activation map of the graph, drawn over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloop.decode.rule import Pixels

MIN_SIDE = 224
MAX_OPACITY = 0.5
# Standard deviation of the smoothing, in places of the map.
SMOOTHING = 0.75

FloatArray = NDArray[np.float64]


def evidence(
    cam: NDArray[np.float32],
    choice: int,
    *,
    against: Sequence[int],
    height: int,
    width: int,
    shift: tuple[float, float] = (0.0, 0.0),
) -> FloatArray:
    """Return the evidence for the class rather than the other classes, 0 to 1, at the size of the image."""
    import cv2

    # A softmax ignores what all classes have in common, and so does the map.
    apart = np.asarray(cam[choice] - cam[list(against)].mean(axis=0), np.float32)
    grown = cv2.resize(apart, (width, height), interpolation=cv2.INTER_LINEAR)
    # An object between two places shows in both: only a smooth map has its peak there, not at the centre of a place.
    down, across = (SMOOTHING * side / cells for side, cells in zip((height, width), apart.shape, strict=True))
    grown = cv2.GaussianBlur(grown, (0, 0), sigmaX=across, sigmaY=down, borderType=cv2.BORDER_REPLICATE)
    # The shift, down and across, is in parts of the image.
    moved = np.array([[1, 0, shift[1] * width], [0, 1, shift[0] * height]])
    grown = cv2.warpAffine(grown, moved, (width, height), borderMode=cv2.BORDER_REPLICATE)
    spread = float(np.ptp(grown))
    return np.asarray((grown - grown.min()) / (spread or 1.0), np.float64)


def overlay(picture: Pixels, strength: FloatArray) -> bytes:
    """Return a PNG of the image with the evidence in colour; small images are enlarged."""
    import cv2

    grey = picture[..., 0] if picture.shape[-1] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    base = cv2.cvtColor(np.asarray(grey, np.uint8), cv2.COLOR_GRAY2BGR).astype(np.float64)
    colours = cv2.applyColorMap(np.asarray(strength * 255, np.uint8), cv2.COLORMAP_INFERNO).astype(np.float64)
    weight = MAX_OPACITY * strength[..., None]
    mixed = np.asarray(base * (1 - weight) + colours * weight, np.uint8)
    times = -(-MIN_SIDE // min(mixed.shape[:2]))
    mixed = np.repeat(np.repeat(mixed, times, axis=0), times, axis=1)
    return bytes(cv2.imencode(".png", mixed)[1])
