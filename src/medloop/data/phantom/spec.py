"""What can be asked of the phantoms, and what one of their slices is."""

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
    """Grey levels of a scale from 0 (black) to 1 (white)."""
    return np.asarray(np.rint(unit.clip(0, 1) * 255), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which slice of which patient a file is."""

    patient_id: str
    index: int


@dataclass(frozen=True, kw_only=True)
class Nodule:
    """Where the tumour truly is, in pixels of the written picture."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True)
class Window:
    """How stored values become grey: the linear function of DICOM PS3.3 C.11.2.1.2."""

    centre: int
    width: int

    def to_unit(self, values: Values) -> Values:
        """Map values to 0 (black) .. 1 (white), without clipping."""
        return ((values - (self.centre - 0.5)) / (self.width - 1) + 0.5).astype(np.float32)

    def to_values(self, unit: Values) -> Values:
        """Undo to_unit."""
        return ((unit - 0.5) * (self.width - 1) + (self.centre - 0.5)).astype(np.float32)

    def to_pixels(self, values: Values) -> Pixels:
        """Grey levels as a viewer shows them."""
        return to_grey(self.to_unit(values))


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture as the scanner would measure it, before a window is laid over it."""

    values: Values
    window: Window
    modality: str
    body_part: str
    nodule: Nodule | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """One generated picture with its truth."""

    pixels: Pixels
    patient_id: str
    label: str
    index: int
    drawing: Drawing

    @property
    def nodule(self) -> Nodule | None:
        """The tumour, or None where there is none."""
        return self.drawing.nodule


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault to plant, in a share of the cases or in one class."""

    name: str
    share: float = 0.05
    label: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError("a fault's share must lie above 0 and not above 1", found=str(self.share), hint="try 0.05")


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """Which phantoms to make; equal specs make equal bytes."""

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
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownName("the kind of phantom", self.kind, KINDS)
        classes, size = KINDS[self.kind]
        for label in self.classes:
            if label not in classes:
                raise UnknownName(f"a class of {self.kind}", label, classes)
        object.__setattr__(self, "classes", tuple(self.classes) or classes)
        object.__setattr__(self, "size", self.size or size)
        self._check_numbers()
        if self.format not in get_args(Format):
            raise UnknownName("the format", self.format, get_args(Format))
        if self.monochrome1 and self.format != "dicom":
            raise UserError("MONOCHROME1 exists in DICOM only", found=self.format, hint="set format='dicom'")

    def _check_numbers(self) -> None:
        low, high = self.slices
        for what, value, holds in (
            ("patients must be at least 1", self.patients, self.patients >= 1),
            ("slices must be (fewest, most) with 1 <= fewest <= most <= 12", self.slices, 1 <= low <= high <= 12),
            ("size must lie between 32 and 1024", self.size, 32 <= self.size <= 1024),
            ("seed must not be negative", self.seed, self.seed >= 0),
            ("difficulty must lie between 0 and 1", self.difficulty, 0 <= self.difficulty <= 1),
            ("classes must differ", self.classes, len(set(self.classes)) == len(self.classes)),
            ("test_share must lie between 0 and 0.9", self.test_share, 0 <= self.test_share <= 0.9),
        ):
            if not holds:
                raise UserError(what, found=str(value), hint="change this field of the PhantomSpec")
