"""What decoding may cost, how deep pixels become 8-bit, and what comes out."""

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
    """What one file may cost; checked on the header, before anything is decoded."""

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
    # "all": each frame is a picture of its own, for those who ask for the frames of a file.
    frame: Literal["refuse", "first", "middle", "all"] = "refuse"
    # PNG and TIFF only: "full" keeps the upper 8 of 16 bits, "stretch" takes the percentiles of the picture.
    sixteen_bit: Literal["full", "stretch"] = "full"
    # Black, as air is in most scans: a white frame would be a bright shape that no body has.
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
        """Gives plain data that from_json takes back."""
        window = self.window if isinstance(self.window, str) else list(self.window)
        return {**asdict(self), "window": window}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DecodeRule:
        """Builds the rule from what to_json gave."""
        unknown = sorted(set(data) - {"window", *CHOICES})
        if unknown:
            raise UnknownName("a field of the decode rule", unknown[0], ("window", *CHOICES))
        return cls(**data)


def _checked_window(window: object) -> tuple[float, float]:
    numbers = list(window) if isinstance(window, list | tuple) else []
    valid = len(numbers) == 2 and all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
    if not valid or numbers[1] < 1:
        raise UserError(
            "a window must be a name or two numbers, centre and width, with a width of at least 1",
            found=f"{window!r}",
            hint="write for instance [-600, 1500], or a name: auto, from file, " + ", ".join(WINDOWS),
        )
    return float(numbers[0]), float(numbers[1])


class Decoded(NamedTuple):
    """One picture of 8 bits, H x W or H x W x 3 (red first), with what may be kept of its file."""

    pixels: Pixels
    mode: str
    format: Format
    width: int
    height: int
    bits: int
    meta: Mapping[str, MetaValue] = MappingProxyType({})
    patient: str | None = None
    # The same for ids of patients that differ only in upper and lower case or in blanks.
    patient_alike: str | None = None
    study: str | None = None
    series: str | None = None

    @property
    def whose(self) -> str | None:
        """Whom the picture shows, as far as the file tells: the patient, else the study or the series, in hashes."""
        return self.patient or self.study or self.series


class Frames(NamedTuple):
    """Some frames of a file, in their order, and how many of its frames the rule chooses in all."""

    pictures: Sequence[Decoded]
    total: int
