"""The options of the phantoms, and their slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medloop.errors import UnknownName, UserError

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32]
Format = Literal["png", "jpeg", "dicom"]
SUFFIX: Final[dict[Format, str]] = {"png": ".png", "jpeg": ".jpeg", "dicom": ".dcm"}

CHEST_CLASSES: Final = ("adenocarcinoma", "large_cell", "normal", "squamous")
SIX_CLASSES: Final = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
# The classes and the side in pixels that a kind has when the spec names none.
KINDS: Final[dict[str, tuple[tuple[str, ...], int]]] = {
    "chest_ct": (CHEST_CLASSES, 128),
    "six_kinds": (SIX_CLASSES, 64),
}


def to_grey(unit: Values) -> Pixels:
    """Map 0 (black) .. 1 (white) to grey levels."""
    return np.asarray(np.rint(unit.clip(0, 1) * 255), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The patient and the number of a slice."""

    patient_id: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """The true position of a tumour, in pixels of the written picture."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class Window:
    """The window that maps values to grey levels, by the linear function of DICOM PS3.3 C.11.2.1.2."""

    centre: int
    width: int

    def to_unit(self, values: Values) -> Values:
        """Map values to 0 (black) .. 1 (white), without clipping."""
        return ((values - (self.centre - 0.5)) / (self.width - 1) + 0.5).astype(np.float32)

    def to_values(self, unit: Values) -> Values:
        """Undo to_unit."""
        return ((unit - 0.5) * (self.width - 1) + (self.centre - 0.5)).astype(np.float32)

    def to_pixels(self, values: Values) -> Pixels:
        """Return grey levels as a viewer shows them."""
        return to_grey(self.to_unit(values))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture as a scanner would measure it, before a window is applied."""

    values: Values
    window: Window
    modality: str
    body_part: str
    nodule: Nodule | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """One generated picture with its true label."""

    pixels: Pixels
    patient_id: str
    label: str
    index: int
    drawing: Drawing

    @property
    def nodule(self) -> Nodule | None:
        """Return the tumour, if there is one."""
        return self.drawing.nodule


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """The phantoms to generate; equal specs result in equal bytes."""

    kind: str = "chest_ct"
    patients: int = 100
    slices: tuple[int, int] = (1, 4)
    size: int = 0  # 0: the kind's own size
    seed: int = 0
    difficulty: float = 0.5
    format: Format = "png"
    classes: tuple[str, ...] = ()  # none: all of the kind
    test_share: float = 0.0  # above 0: folders train/ and test/, apart by patient
    monochrome1: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("kind of phantom", self.kind, KINDS)
        classes, size = KINDS[self.kind]
        for label in self.classes:
            if label not in classes:
                raise UnknownName(f"class of {self.kind}", label, classes)
        object.__setattr__(self, "classes", tuple(self.classes) or classes)
        object.__setattr__(self, "size", self.size or size)
        self._check_numbers()
        if self.format not in get_args(Format):
            raise UnknownName("format", self.format, get_args(Format))
        if self.monochrome1 and self.format != "dicom":
            raise UserError(f"MONOCHROME1 does not exist in {self.format} files.", "Set format='dicom'.")

    def _check_numbers(self) -> None:
        low, high = self.slices
        for what, value, holds in (
            ("patients must be at least 1", self.patients, self.patients >= 1),
            ("slices must be (min, max) with 1 <= min <= max <= 12", self.slices, 1 <= low <= high <= 12),
            ("size must lie between 32 and 1024", self.size, 32 <= self.size <= 1024),
            ("seed must not be negative", self.seed, self.seed >= 0),
            ("difficulty must lie between 0 and 1", self.difficulty, 0 <= self.difficulty <= 1),
            ("classes must differ", self.classes, len(set(self.classes)) == len(self.classes)),
            ("test_share must lie between 0 and 0.9", self.test_share, 0 <= self.test_share <= 0.9),
        ):
            if not holds:
                raise UserError(f"Invalid PhantomSpec: {what}, not {value}.", "Change this field.")
