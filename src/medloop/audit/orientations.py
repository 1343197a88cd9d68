"""The eight orientations in which a square picture can be stored, and what they do to its spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]

# An orientation is a number: so many quarter turns, plus MIRROR where the picture is then flipped left to right.
MIRROR = 4
# Half a turn leaves the strength of a spectrum alone, so the eight orientations have four different spectra.
COSETS = ((0, 2), (1, 3), (MIRROR, MIRROR + 2), (MIRROR + 1, MIRROR + 3))
HALF_TURN, TOP_TO_BOTTOM = 2, MIRROR + 2
CHANGES = {
    0: "upright",
    HALF_TURN: "turned by 180 degrees",
    MIRROR: "flipped left to right",
    TOP_TO_BOTTOM: "flipped top to bottom",
    **dict.fromkeys((1, 3), "turned by 90 degrees"),
    **dict.fromkeys((MIRROR + 1, MIRROR + 3), "turned by 90 degrees and flipped"),
}


def oriented(pictures: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return the pictures in this orientation."""
    turned = np.rot90(pictures, orientation % MIRROR, axes=(1, 2))
    return turned[..., ::-1] if orientation >= MIRROR else turned


def spectra_of_cosets(rows: Places, columns: Places) -> list[Places]:
    """For each coset, where to read the strengths of these frequencies in the spectrum of the upright picture.

    The frequencies are those of a half plane, without negative columns.
    """
    at = {}
    for number, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        # A real picture has the same strength at the opposite frequency.
        at[row, column] = at[-row, -column] = number
    sources = ((rows, columns), (columns, -rows), (rows, -columns), (columns, rows))
    return [np.array([at[int(row), int(column)] for row, column in np.stack(source, axis=1)]) for source in sources]
