"""The eight orientations in which a square image can be stored, and their effect on its spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]

# An orientation is the number of quarter turns, plus MIRROR if the image is then flipped left to right.
MIRROR = 4
# A rotation by 180 degrees does not change the magnitude of the spectrum, so the eight orientations have four spectra.
COSETS = ((0, 2), (1, 3), (MIRROR, MIRROR + 2), (MIRROR + 1, MIRROR + 3))
HALF_TURN, TOP_TO_BOTTOM = 2, MIRROR + 2
CHANGES = {
    0: "upright",
    HALF_TURN: "rotated by 180 degrees",
    MIRROR: "flipped left to right",
    TOP_TO_BOTTOM: "flipped top to bottom",
    **dict.fromkeys((1, 3), "rotated by 90 degrees"),
    **dict.fromkeys((MIRROR + 1, MIRROR + 3), "rotated by 90 degrees and flipped"),
}


def orient(images: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return the images in this orientation."""
    rotated = np.rot90(images, orientation % MIRROR, axes=(1, 2))
    return rotated[..., ::-1] if orientation >= MIRROR else rotated


def spectra_of_cosets(rows: Places, columns: Places) -> list[Places]:
    """Return, for each coset, where the magnitudes of these frequencies are in the spectrum of the upright image.

    The frequencies are those of a half plane, without negative columns.
    """
    at = {}
    for number, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        # The spectrum of a real image has the same magnitude at the opposite frequency.
        at[row, column] = at[-row, -column] = number
    sources = ((rows, columns), (columns, -rows), (rows, -columns), (columns, rows))
    return [np.array([at[int(row), int(column)] for row, column in np.stack(source, axis=1)]) for source in sources]
