"""The limits of decoding, the rule that turns any image into 8 bits, and its result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medloop.errors import UnknownName, UserError

Format = Literal["png", "jpeg", "bmp", "tiff", "dicom"]
Pixels = NDArray[np.uint8]
MetaValue = str | int | float | list[float]
Meta = dict[str, MetaValue]

# Centre and width in Hounsfield units.
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
CHOICES: dict[str, tuple[str, ...]] = {
    "frame": ("refuse", "first", "middle", "all"),
    "sixteen_bit": ("full", "stretch"),
    "background": ("black", "white"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """The most that one file may need; checked on the header, before anything is decoded."""

    max_bytes: int = 100_000_000
    max_pixels: int = 64_000_000
    max_frames: int = 1
    max_dicom_frames: int = 4096
    # Frames decoded in one go, so that neither time nor memory grow with the length of a series.
    frames_at_once: int = 16
    max_inflated_bytes: int = 64_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeRule:
    """How a file with more than 8 bits, more than one frame or transparency becomes one 8-bit picture."""

    # "auto": the file's window, else 8-bit values as stored, else the 0.5 to 99.5 percentiles of the picture.
    window: str | tuple[float, float] = "auto"
    # "all": each frame is a separate picture, where the frames of a file are asked for.
    frame: Literal["refuse", "first", "middle", "all"] = "refuse"
    # PNG and TIFF only: "full" keeps the upper 8 of 16 bits, "stretch" takes the percentiles of the picture.
    sixteen_bit: Literal["full", "stretch"] = "full"
    # Black, as air is in most scans: a white frame would look like a bright structure.
    background: Literal["black", "white"] = "black"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UnknownName(name, getattr(self, name), choices)
        if isinstance(self.window, str):
            if self.window not in ("auto", "from file", *WINDOWS):
                raise UnknownName("window", self.window, ("auto", "from file", *WINDOWS))
        else:
            object.__setattr__(self, "window", _checked_window(self.window))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        window = self.window if isinstance(self.window, str) else list(self.window)
        return {**asdict(self), "window": window}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DecodeRule:
        """Build the rule from the result of `to_json`."""
        unknown = sorted(set(data) - {"window", *CHOICES})
        if unknown:
            raise UnknownName("field of the decode rule", unknown[0], ("window", *CHOICES))
        return cls(**data)


def _checked_window(window: object) -> tuple[float, float]:
    numbers = list(window) if isinstance(window, list | tuple) else []
    valid = len(numbers) == 2 and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
    if not valid or numbers[1] < 1:
        raise UserError(
            f"{window!r} is not a window.",
            "Write centre and width (at least 1), such as [-600, 1500], or a name: auto, from file, "
            f"{', '.join(WINDOWS)}.",
        )
    return float(numbers[0]), float(numbers[1])


class Decoded(NamedTuple):
    """One picture of 8 bits, H x W or H x W x 3 (red first), with the facts that may be kept of its file."""

    pixels: Pixels
    mode: str
    format: Format
    width: int
    height: int
    bits: int
    meta: Mapping[str, MetaValue] = MappingProxyType({})
    patient: str | None = None
    # Equal for patient ids that differ only in case or blanks.
    patient_alike: str | None = None
    study: str | None = None
    series: str | None = None

    @property
    def whose(self) -> str | None:
        """Return the hashed id of the patient, else of the study or the series, if the file has one."""
        return self.patient or self.study or self.series


class Frames(NamedTuple):
    """A few frames of a file, in order, and how many frames the rule chooses in all."""

    pictures: Sequence[Decoded]
    total: int
