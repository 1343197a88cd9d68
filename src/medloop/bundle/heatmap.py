"""Where the class was seen: the class activation map of the graph, laid over the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medloop.prepare.rule import Pixels

SMALLEST_SIDE = 224
STRONGEST = 0.5
# In places of the map.
SMOOTH = 0.75

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
    """How much each place speaks for the class rather than for the others named, 0 to 1, at the picture's size."""
    import cv2

    # A softmax does not see what all classes have in common, so neither does the map.
    apart = np.asarray(cam[choice] - cam[list(against)].mean(axis=0), np.float32)
    grown = cv2.resize(apart, (width, height), interpolation=cv2.INTER_LINEAR)
    # What lies between two places shows in both: only a smooth map has its peak there, and not at a place's centre.
    down, across = (SMOOTH * side / cells for side, cells in zip((height, width), apart.shape, strict=True))
    grown = cv2.GaussianBlur(grown, (0, 0), sigmaX=across, sigmaY=down, borderType=cv2.BORDER_REPLICATE)
    # How far beside its cell a place looks, down and across, is told in parts of the picture.
    moved = np.array([[1, 0, shift[1] * width], [0, 1, shift[0] * height]])
    grown = cv2.warpAffine(grown, moved, (width, height), borderMode=cv2.BORDER_REPLICATE)
    spread = float(np.ptp(grown))
    return np.asarray((grown - grown.min()) / (spread or 1.0), np.float64)


def overlay(picture: Pixels, shown: FloatArray) -> bytes:
    """A PNG of the picture with the evidence in colour; small pictures are enlarged."""
    import cv2

    grey = picture[..., 0] if picture.shape[-1] == 1 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    base = cv2.cvtColor(np.asarray(grey, np.uint8), cv2.COLOR_GRAY2BGR).astype(np.float64)
    colours = cv2.applyColorMap(np.asarray(shown * 255, np.uint8), cv2.COLORMAP_INFERNO).astype(np.float64)
    weight = STRONGEST * shown[..., None]
    mixed = np.asarray(base * (1 - weight) + colours * weight, np.uint8)
    times = -(-SMALLEST_SIDE // min(mixed.shape[:2]))
    mixed = np.repeat(np.repeat(mixed, times, axis=0), times, axis=1)
    return bytes(cv2.imencode(".png", mixed)[1])
