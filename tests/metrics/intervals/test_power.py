"""The number of cases that is stated for an area has the power that is stated, by the interval that decides."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest

from medloop.metrics.intervals.area import Sizes, area_bounds
from medloop.metrics.intervals.power import cases_needed_for_area

POWER, DRAWS = 0.8, 1500


@pytest.mark.parametrize(
    ("auc", "limit", "counts"),
    [(0.9, 0.8, (71, 43)), (0.9, 0.7, (109, 11)), (0.85, 0.7, (4, 116)), (0.9, 0.85, (300, 100))],
)
def test_as_many_cases_as_are_stated_have_the_power(auc: float, limit: float, counts: tuple[int, int]) -> None:
    needed = cases_needed_for_area(auc, limit, counts=counts, power=POWER, level=0.95)
    negatives, positives = (round(count * needed / sum(counts)) for count in counts)
    rng, apart = np.random.default_rng(0), sqrt(2) * NormalDist().inv_cdf(auc)
    areas = np.array(
        [
            np.searchsorted(np.sort(rng.normal(size=negatives)), rng.normal(apart, 1, positives)).mean() / negatives
            for _ in range(DRAWS)
        ]
    )
    lower, _ = area_bounds(areas, Sizes.single(positives, negatives))
    assert (lower >= limit).mean() == pytest.approx(POWER, abs=0.06)
