"""Map the grey values of DICOM to 8 bits: rescale, window and polarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medloop.decode.dicom.tags import finite_number
from medloop.decode.refuse import malformed, reject, shielded
from medloop.decode.rule import WINDOWS, DecodeRule, Pixels
from medloop.decode.window import SAMPLE, Numbers, Tone, by_table, scale, spread, window

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Lookup = Callable[[str], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What a data set declares about its pixels, after a check for consistency."""

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    photometric: str
    element: str

    @property
    def colour(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"


def grey_tone(dataset: Dataset, lookup: Lookup, shape: Shape, rule: DecodeRule) -> Callable[[NDArray[Any]], Pixels]:
    """Return the function from stored values to 8 bits, after checking all that it needs."""
    modality = _modality(dataset, lookup)
    chosen = _chosen_window(dataset, lookup, rule, exact=shape.element != "PixelData")
    padding = lookup("PixelPaddingValue")

    def apply(stored: NDArray[Any]) -> Pixels:
        shown = chosen or _fallback(stored, padding, lookup, shape, modality)
        pixels = by_table(stored, lambda values: shown(modality(values)))
        return 255 - pixels if shape.photometric == "MONOCHROME1" else pixels

    return apply


def _modality(dataset: Dataset, lookup: Lookup) -> Callable[[Numbers], Numbers]:
    """Return the function from stored values to Hounsfield or other units."""
    if dataset.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return lambda values: shielded(
            lambda: apply_modality_lut(values.astype(np.int64), dataset).astype(np.float64),
            lambda: malformed("the modality LUT cannot be read"),
        )
    slope = _finite(lookup("RescaleSlope"), "slope", 1.0)
    intercept = _finite(lookup("RescaleIntercept"), "intercept", 0.0)
    if slope == 0:
        raise malformed("the rescale slope is 0")
    return lambda values: values * slope + intercept


def _finite(value: object, name: str, default: float) -> float:
    if value is None:
        return default
    number = _first_number(value)
    if number is None:
        raise malformed(f"the rescale {name} is not a number")
    return number


def _first_number(value: object) -> float | None:
    """Return the first of several values, since windows come in lists."""
    if not isinstance(value, (str, int, float)) and isinstance(value, Sequence):
        value = value[0] if value else None
    return finite_number(value)


def _chosen_window(dataset: Dataset, lookup: Lookup, rule: DecodeRule, *, exact: bool) -> Tone | None:
    if not isinstance(rule.window, str):
        centre, width = rule.window
        return lambda values: window(values, centre, width)
    if rule.window in WINDOWS:
        centre, width = WINDOWS[rule.window]
        modality = lookup("Modality")
        if modality not in (None, "CT"):
            raise reject(
                f"The window `{rule.window}` needs Hounsfield units, and this DICOM file is not a CT image.",
                "Leave the file out, or set `prepare.window: auto`.",
            )
        return lambda values: window(values, centre, width)
    own = _own_window(dataset, lookup, exact=exact)
    if own is None and rule.window == "from file":
        raise reject(
            "The DICOM file has no window of its own.",
            "Set `prepare.window: auto`, or a window by name.",
        )
    return own


def _own_window(dataset: Dataset, lookup: Lookup, *, exact: bool) -> Tone | None:
    if dataset.get("VOILUTSequence"):
        return _voi_table(dataset)
    centre, width = _first_number(lookup("WindowCenter")), _first_number(lookup("WindowWidth"))
    # LINEAR assumes integer grey levels, which floating-point pixels do not have.
    function = "LINEAR_EXACT" if exact else str(lookup("VOILUTFunction") or "LINEAR").strip()
    if centre is None or width is None or width <= 0 or (function == "LINEAR" and width < 1):
        return None
    return lambda values: window(values, centre, width, function)


def _voi_table(dataset: Dataset) -> Tone:
    from pydicom.pixels.processing import apply_voi

    def tone(values: Numbers) -> Pixels:
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return scale(apply_voi(np.rint(values).astype(np.int64), dataset), 0, 2**bits - 1)

    return lambda values: shielded(lambda: tone(values), lambda: malformed("the VOI LUT cannot be read"))


def _fallback(
    stored: NDArray[Any], padding: object, lookup: Lookup, shape: Shape, modality: Callable[[Numbers], Numbers]
) -> Tone:
    """Return the tone where there is no window: 8-bit values unchanged, deeper ones by percentiles."""
    if shape.stored <= 8 and stored.dtype.kind == "u" and lookup("RescaleSlope") is None:
        return lambda values: scale(values, 0, 2**shape.stored - 1)
    flat = stored.ravel()[:: max(1, stored.size // SAMPLE)]
    if isinstance(padding, int) and (flat != padding).any():
        flat = flat[flat != padding]
    low, high = spread(modality(flat.astype(np.float64)))
    return lambda values: scale(values, low, high)
