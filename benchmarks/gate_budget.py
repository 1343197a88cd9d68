"""Many small regressions one after the other: where they end, and what the guard against them costs good models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate_models import Edition, Generator, Model
from benchmarks.row import Row
from medloop.gate.against_champion import ERROR
from medloop.gate.ledger import error_allowed
from medloop.metrics.intervals.gain import Area, PairedScores, compared_areas, is_gain_above, pair_scores
from medloop.metrics.intervals.power import Plan, growth_of_areas
from medloop.progress import track
from medloop.recipe import GateSection

SEQUENCES, LOOKS, TRIALS = 1000, 30, 1000
START, STEP, MARGIN = Model().auc, 0.005, 0.03
MOST_DRIFTED = 0.05
# Of the noise in a score, the share that two versions of a model have in common.
CORRELATED = 0.9
SMALL = Edition(name="43 + 71 cases", positives=43, negatives=71)
LARGE = Edition(name="400 + 1,600 cases", positives=400, negatives=1600)
NORMAL = NormalDist()
PLANNED = GateSection().looks
BARELY = 1e-6

# The true area of challenger k, where what serves has this one.
Challengers = Callable[[int, float], float]
SCENARIOS: dict[str, Challengers] = {
    f"{LOOKS} challengers, each truly {STEP:g} worse than the one before": lambda k, _: START - STEP * k,
    f"{LOOKS} challengers, each truly {STEP:g} worse than what serves": lambda _, serves: serves - STEP,
    f"{LOOKS} challengers, each just beyond the margin": lambda *_: START - MARGIN - BARELY,
}


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What the challengers are held against; without spending, every look has the error of the first interval."""

    reference: bool = True
    spends: bool = True

    def errors(self, number: int) -> tuple[float, float]:
        """The error allowed against the champion and against the reference version."""
        return ERROR, error_allowed(number, planned=PLANNED) if self.spends else ERROR


NOW, BEFORE = Guard(), Guard(reference=False, spends=False)


def rows(*, sequences: int = SEQUENCES, trials: int = TRIALS) -> list[Row]:
    """The ends of the sequences with the guard and without, then the price."""
    found = []
    for edition in (SMALL, LARGE):
        for name, scenario in SCENARIOS.items():
            before, now = (drifted(edition, scenario, guard, sequences=sequences, seed=1) for guard in (BEFORE, NOW))
            found.append(
                Row(
                    what=f"{name}: what serves ends below the reference by more than {MARGIN:g}; {edition.name}",
                    found=f"{now:.1%} of sequences (against the champion alone: {before:.1%})",
                    wanted=f"<= {MOST_DRIFTED:.0%}",
                    holds=now <= MOST_DRIFTED,
                )
            )
        found += [price_row(edition, better, trials=trials) for better in (0.0, 0.01, 0.02)]
    return found


def price_row(edition: Edition, better: float, *, trials: int) -> Row:
    """How often an equal or better challenger is promoted at the first looks and later, and what would be enough."""
    shares = [promoted(edition, better, number, trials=trials, seed=2) for number in (1, 10, LOOKS)]
    needed = [needed_at(edition, better, number, seed=3) for number in (1, 10, LOOKS)]
    return Row(
        what=f"AUC truly {better:+g}, not worse than both by {MARGIN:g}; {edition.name}",
        found=f"promoted at look 1, 10, {LOOKS}: {', '.join(f'{share:.0%}' for share in shares)}; 80% against the "
        f"reference with n = {', '.join(f'{n:,}' for n in needed)}",
        wanted="printed",
        holds=True,
    )


def drifted(edition: Edition, scenario: Challengers, guard: Guard, *, sequences: int, seed: int) -> float:
    """In what share of the sequences a version serves at the end that is truly below the reference by the margin."""
    rng, below = np.random.default_rng(seed), 0
    for _ in track(range(sequences), total=sequences, what=f"sequences, {edition.name}"):
        draw = _drawer(edition, rng)
        reference = champion = draw(START)
        serves = START
        for number in range(1, LOOKS + 1):
            truth = scenario(number, serves)
            challenger = draw(truth)
            if _passes(challenger, champion, reference, guard, number):
                champion, serves = challenger, truth
        below += serves < START - MARGIN - BARELY / 2
    return below / sequences


def promoted(edition: Edition, better: float, number: int, *, trials: int, seed: int) -> float:
    """How often a challenger passes at this look; at the first the reference serves, later another as good."""
    rng, passed = np.random.default_rng(seed), 0
    for _ in range(trials):
        draw = _drawer(edition, rng)
        reference = draw(START)
        champion = reference if number == 1 else draw(START)
        passed += _passes(draw(START + better), champion, reference, NOW, number)
    return passed / trials


def needed_at(edition: Edition, better: float, number: int, *, seed: int) -> int:
    """Cases, in classes of this proportion, for a power of 80% at this look."""
    rng, n, grown = np.random.default_rng(seed), 20_000, []
    factor = n / (edition.positives + edition.negatives)
    large = Edition(name="", positives=round(factor * edition.positives), negatives=round(factor * edition.negatives))
    plan = Plan(limit=-MARGIN, error=NOW.errors(number)[1], power=0.8, equal=False)
    for _ in range(5):
        draw = _drawer(large, rng)
        grown.append(growth_of_areas(draw(START + better), draw(START), plan))
    return round(n * float(np.median(grown)))


def _passes(challenger: Area, champion: Area, reference: Area, guard: Guard, number: int) -> bool:
    error, spent = guard.errors(number)
    if champion is reference and guard.reference:
        return is_above(challenger, champion, -MARGIN, spent)
    above = is_above(challenger, champion, -MARGIN, error)
    return above and (not guard.reference or is_above(challenger, reference, -MARGIN, spent))


def is_above(first: Area, second: Area, limit: float, error: float) -> bool:
    """Whether the lower end of the gain is above the limit, as the gate finds it, without looking for that end."""
    return first.auc - second.auc > limit and is_gain_above(first, second, limit, 1 - 2 * error)


def both_drawn(edition: Edition, first: float, second: float, rng: Generator) -> PairedScores:
    """Two versions with these true areas on the same cases."""
    y, score = _scorer(edition, rng)
    shares = [1 / (1 + np.exp(-score(auc))) for auc in (first, second)]
    one, two = (np.column_stack([1 - share, share]) for share in shares)
    return pair_scores(y, one, two)


def _drawer(edition: Edition, rng: Generator) -> Callable[[float], Area]:
    y, score = _scorer(edition, rng)

    def draw(auc: float) -> Area:
        share = 1 / (1 + np.exp(-score(auc)))
        two = np.column_stack([1 - share, share])
        areas = compared_areas("roc_auc", pair_scores(y, two, two))
        assert areas is not None
        return areas[0]

    return draw


def _scorer(edition: Edition, rng: Generator) -> tuple[NDArray[np.int64], Callable[[float], NDArray[np.float64]]]:
    n = edition.positives + edition.negatives
    y, common = (np.arange(n) < edition.positives).astype(np.int64), rng.normal(size=n)

    def score(auc: float) -> NDArray[np.float64]:
        own = np.sqrt(1 - CORRELATED) * rng.normal(size=n)
        return np.asarray(NORMAL.inv_cdf(auc) * np.sqrt(2) * y + np.sqrt(CORRELATED) * common + own)

    return y, score
