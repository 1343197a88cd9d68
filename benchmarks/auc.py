"""How often the interval of an area under the ROC curve holds the true one: few of a class, several of a patient."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from benchmarks.row import Row
from medloop.metrics.intervals.area import Sizes, area_bounds, design_effect
from medloop.metrics.intervals.bootstrap import draw_weights
from medloop.metrics.intervals.estimate import normal_quantile
from medloop.metrics.ranking import roc_auc
from medloop.progress import track

TRIALS = 10_000
CLUSTERED_TRIALS = 2_000
DRAWS = 500
LEAST = 0.93
POSITIVES = (4, 6, 10, 15, 20, 40)
NEGATIVES = (40, 100, 400)
AREAS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
# Two normal scores; the positive ones spread half as wide again; exponential ones, which Hanley and McNeil assume.
SHAPES = ("even", "uneven", "exponential")
SPREAD = {"even": 1.0, "uneven": 1.5}
NORMAL = NormalDist()

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class World:
    """Patients of each class with so many slices, of whose noise a share is common to a patient."""

    area: float
    positives: int
    negatives: int
    slices: int = 1
    within: float = 0.5
    shape: str = "even"

    def drawn(self, trials: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Scores of the positive and of the negative cases, one row a trial."""
        high, low = (self._noise(trials, patients, rng) for patients in (self.positives, self.negatives))
        if self.shape == "exponential":
            return -self.area / (1 - self.area) * log_ndtr(-high), -log_ndtr(-low)
        spread = SPREAD[self.shape]
        return NORMAL.inv_cdf(self.area) * np.sqrt(1 + spread**2) + spread * high, low

    def _noise(self, trials: int, patients: int, rng: np.random.Generator) -> Floats:
        common = rng.normal(size=(trials, patients, 1))
        own = rng.normal(size=(trials, patients, self.slices))
        return np.asarray(np.sqrt(self.within) * common + np.sqrt(1 - self.within) * own).reshape(trials, -1)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """The areas found, and their variances: Obuchowski's and that of independent cases."""

    areas: Floats
    clustered: Floats
    independent: Floats


def placed(high: Floats, low: Floats, slices: int) -> Placed:
    """What `medloop.metrics.intervals.area` computes, for all trials at once."""
    m, n = high.shape[1], low.shape[1]
    ranks = _ranks(np.concatenate([high, low], axis=1))
    shares = (ranks[:, :m] - _ranks(high)) / n, 1 - (ranks[:, m:] - _ranks(low)) / m
    areas = np.round(shares[0].sum(axis=1) * n) / (m * n)
    clustered, independent = np.zeros(len(areas)), np.zeros(len(areas))
    for share in shares:
        cases = share.shape[1]
        apart = (share - areas[:, None]).reshape(len(areas), -1, slices).sum(axis=2)
        groups = apart.shape[1]
        clustered += groups / max(groups - 1, 1) * (apart**2).sum(axis=1) / cases**2
        independent += share.var(axis=1, ddof=1) / cases
    return Placed(areas=areas, clustered=clustered, independent=independent)


def _ranks(scores: Floats) -> NDArray[np.int64]:
    return scores.argsort(axis=1).argsort(axis=1)


def bounds(world: World, found: Placed) -> tuple[Floats, Floats]:
    """The intervals of medloop."""
    m, n, slices = world.positives, world.negatives, world.slices
    if slices == 1:
        return area_bounds(found.areas, Sizes.single(m, n))
    effect = design_effect(found.clustered, found.independent, groups=min(m, n), level=0.95)
    sizes = Sizes(positives=m * slices, negatives=n * slices, min_positives=m, min_negatives=n, effect=effect)
    return area_bounds(found.areas, sizes)


def logit_bounds(areas: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """The usual interval on the logit scale; nothing is known of a perfect area."""
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.log(areas / (1 - areas))
        reach = normal_quantile(0.95) * np.sqrt(variance) / (areas * (1 - areas))
        lower, upper = (1 / (1 + np.exp(-bound)) for bound in (middle - reach, middle + reach))
    perfect = areas == 1
    return np.where(perfect, 0.0, lower), np.where(perfect, 1.0, upper)


def coverage(world: World, *, trials: int, seed: int) -> tuple[float, float]:
    """How often the interval holds the true area, and how often its lower bound is above it."""
    found = placed(*world.drawn(trials, np.random.default_rng(seed)), world.slices)
    lower, upper = bounds(world, found)
    return float(((lower <= world.area) & (world.area <= upper)).mean()), float((lower > world.area).mean())


def logit_coverage(world: World, *, trials: int, seed: int) -> tuple[float, float]:
    """The same of the percentile bootstrap of patients, and of Obuchowski's variance on the logit scale."""
    high, low = world.drawn(trials, np.random.default_rng(seed))
    found = placed(high, low, world.slices)
    lower, upper = logit_bounds(found.areas, found.clustered)
    drawn = [_percentiles(world, *scores, seed=number) for number, scores in enumerate(zip(high, low, strict=True))]
    held = [low <= world.area <= high for low, high in drawn]
    return float(np.mean(held)), float(((lower <= world.area) & (world.area <= upper)).mean())


def _percentiles(world: World, high: Floats, low: Floats, *, seed: int) -> tuple[float, float]:
    patients = world.positives + world.negatives
    groups = np.repeat(np.arange(patients), world.slices)
    y = (groups < world.positives).astype(np.int64)
    share = 1 / (1 + np.exp(-np.concatenate([high, low])))
    shares = np.column_stack([1 - share, share])
    parts = draw_weights(groups, patients, draws=DRAWS, seed=seed)
    values = np.concatenate([roc_auc(y, shares, weights) for weights in parts])
    return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))


CLUSTERED = (
    World(area=0.80, positives=100, negatives=200, slices=4),
    World(area=0.92, positives=43, negatives=71, slices=3),
    World(area=0.96, positives=15, negatives=60, slices=4),
    World(area=0.98, positives=10, negatives=30, slices=3),
)


def measure() -> list[Row]:
    """Coverage for 4 to 40 positives of single cases, worst over the areas and shapes; then for patients."""
    return [*map(single_row, ((m, n) for m in POSITIVES for n in NEGATIVES)), *map(clustered_row, CLUSTERED)]


def single_row(sizes: tuple[int, int]) -> Row:
    """One line: the coverage at each area, and how often the lower bound was too high."""
    positives, negatives = sizes
    found = {
        shape: [
            coverage(World(area=area, positives=positives, negatives=negatives, shape=shape), trials=TRIALS, seed=seed)
            for seed, area in enumerate(AREAS)
        ]
        for shape in track(SHAPES, total=len(SHAPES), what=f"{positives} + {negatives} cases")
    }
    too_high = max(share for values in found.values() for _, share in values)
    told = "; ".join(f"{shape} {' '.join(f'{held:.3f}' for held, _ in values)}" for shape, values in found.items())
    return Row(
        what=f"{positives} + {negatives} cases, coverage at {', '.join(map(str, AREAS))}",
        found=f"{told}; lower bound too high in at most {too_high:.1%}",
        wanted=f">= {LEAST:.0%} or noted",
        holds=too_high <= 0.035 and min(held for held, _ in found["even"]) >= LEAST,
    )


def clustered_row(world: World) -> Row:
    """One line: medloop's interval beside the percentile bootstrap and the plain logit interval."""
    held, _ = coverage(world, trials=TRIALS, seed=0)
    by_draws, by_logit = logit_coverage(world, trials=CLUSTERED_TRIALS, seed=0)
    return Row(
        what=f"{world.positives} + {world.negatives} patients of {world.slices} slices, area {world.area:g}",
        found=f"coverage {held:.3f}; bootstrap {by_draws:.3f}, Obuchowski on the logit scale {by_logit:.3f}",
        wanted=f">= {LEAST:.0%}",
        holds=held >= LEAST,
    )
