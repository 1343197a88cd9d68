"""Map deep values to 8 bits: windows, percentiles and lookup tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medloop.decode.rule import Pixels

Numbers = NDArray[np.float64]
Tone = Callable[[Numbers], Pixels]

# Percentiles of a large picture are taken from every n-th pixel.
SAMPLE = 1_000_000
MAX_TABLE = 65_536


def window(values: Numbers, centre: float, width: float, function: str = "LINEAR") -> Pixels:
    """Apply a VOI window as DICOM PS3.3 C.11.2.1.2 defines it."""
    if function == "SIGMOID":
        steepness = np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)
        return _rounded(1.0 / (1.0 + np.exp(steepness)))
    if function == "LINEAR_EXACT":
        return _rounded((values - centre) / width + 0.5)
    # A width of 1 is a threshold; the formula would divide by zero.
    return _rounded((values - (centre - 0.5)) / max(width - 1.0, 1e-9) + 0.5)


def spread(values: NDArray[Any]) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles, which are robust to a few outliers."""
    flat = values.ravel()
    flat = flat[:: max(1, flat.size // SAMPLE)]
    if flat.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
    if not flat.size:
        return 0.0, 0.0
    low, high = np.percentile(flat, (0.5, 99.5))
    return float(low), float(high)


def scale(values: NDArray[Any], low: float, high: float) -> Pixels:
    """Scale the range from low to high to 0 to 255; a constant picture becomes black."""
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return _rounded((values.astype(np.float64) - low) / (high - low))


def by_table(stored: NDArray[Any], tone: Tone) -> Pixels:
    """Apply a tone once per value instead of once per pixel, where the values are integers."""
    if stored.dtype.kind == "f" or not stored.size:
        return tone(stored.astype(np.float64))
    low, high = int(stored.min()), int(stored.max())
    if high - low >= MAX_TABLE:
        return tone(stored.astype(np.float64))
    table = tone(np.arange(low, high + 1, dtype=np.float64))
    # The difference fits into 16 bits even where it wraps around in the stored type.
    index = (stored - stored.dtype.type(low)).view(f"u{stored.dtype.itemsize}")
    return np.asarray(table[index], np.uint8)


def _rounded(share: Numbers) -> Pixels:
    """Map 0.0 to 1.0 to 0 to 255; NaN becomes black."""
    bounded = np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    return (bounded * 255.0 + 0.5).astype(np.uint8)
