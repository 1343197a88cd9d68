"""Whether the number of cases that a refusal states has the power that it states."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.gate_models import Edition, Generator, Model, drawn
from benchmarks.row import Row
from medloop.gate.against_champion import ERROR, VersionPair
from medloop.gate.ledger import error_allowed
from medloop.gate.predictions import Predictions
from medloop.gate.sample_size import cases_needed_for_bound
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.estimate import Interval
from medloop.metrics.intervals.power import Plan
from medloop.progress import track
from medloop.recipe import GateRule, GateSection

POWER = GateSection().power
# How far the simulated power may lie from the stated one.
NEAR = 0.08
PLANS, TRIALS = 60, 400
FIRST_LOOK = error_allowed(1, planned=GateSection().looks)
MODEL = Model()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A metric, what it must show of which models, and the cases at hand."""

    what: str
    metric: str
    edition: Edition
    limit: float
    error: float = FIRST_LOOK
    compares: bool = True

    @property
    def unit(self) -> str:
        """What the number counts."""
        return "positives" if self.metric == "recall" else "cases"


FEW = Edition(name="43 + 71", positives=43, negatives=71)
MORE = Edition(name="100 + 300", positives=100, negatives=300)
QUESTIONS = (
    Question(what="equal, not worse in recall by 0.1", metric="recall", edition=FEW, limit=-0.1),
    Question(what="equal, not worse in recall by 0.05", metric="recall", edition=MORE, limit=-0.05),
    Question(what="equal, not worse in accuracy by 0.05", metric="accuracy", edition=FEW, limit=-0.05),
    Question(what="equal, not worse in accuracy by 0.03", metric="accuracy", edition=MORE, limit=-0.03, error=ERROR),
    Question(what="equal, not worse in AUC by 0.03", metric="roc_auc", edition=FEW, limit=-0.03),
    Question(what="equal, not worse in AUC by 0.02", metric="roc_auc", edition=MORE, limit=-0.02, error=ERROR),
    Question(what="recall 0.90, lower bound >= 0.8", metric="recall", edition=FEW, limit=0.8, compares=False),
    Question(what="accuracy, lower bound >= 0.85", metric="accuracy", edition=MORE, limit=0.85, compares=False),
    Question(what="AUC 0.95, lower bound >= 0.9", metric="roc_auc", edition=FEW, limit=0.9, compares=False),
    Question(what="AUC 0.95, lower bound >= 0.92", metric="roc_auc", edition=MORE, limit=0.92, compares=False),
)


def rows() -> list[Row]:
    """The median of the stated numbers, and how often the test comes out on so many cases."""
    return [row_of(question, plans=PLANS, trials=TRIALS, seed=number) for number, question in enumerate(QUESTIONS)]


def row_of(question: Question, *, plans: int, trials: int, seed: int) -> Row:
    """One line of the table."""
    n, power = stated_and_found(question, plans=plans, trials=trials, seed=seed)
    return Row(
        what=f"stated number of cases; {question.what}; seen on {question.edition.name}",
        found=f"n >= {n:,} {question.unit}: power {power:.1%}",
        wanted=f"{POWER:.0%} +- {NEAR:.0%}",
        holds=abs(power - POWER) <= NEAR,
    )


def stated_and_found(question: Question, *, plans: int, trials: int, seed: int) -> tuple[int, float]:
    """The number stated, the median where it varies with the cases seen, and the power that it has."""
    rng = np.random.default_rng(seed)
    n = int(np.median([_stated(question, rng) for _ in range(plans)])) if question.compares else _stated_bound(question)
    edition = _grown(question, n)
    turns = track(range(trials), total=trials, what=question.what)
    return n, sum(_holds(question, edition, rng) for _ in turns) / trials


def _stated(question: Question, rng: Generator) -> int:
    compared = _compared(question, question.edition, rng)
    plan = Plan(limit=question.limit, error=question.error, power=POWER, equal=True)
    return compared.needed(compared.gain(error=question.error), plan)


def _stated_bound(question: Question) -> int:
    """The number is stated for the value that was found as the truth: on very many cases it is."""
    many = 100_000 / (question.edition.positives + question.edition.negatives)
    decided = _compared(question, _times(question.edition, many), np.random.default_rng(0)).challenger
    rule = GateRule(metric=f"test_{question.metric}", at_least=question.limit, bound="lower")
    return cases_needed_for_bound(rule, asdict(_interval(question, decided)), predictions=decided, power=POWER)


def _compared(question: Question, edition: Edition, rng: Generator) -> VersionPair:
    challenger, champion = drawn(edition, MODEL, MODEL, rng)
    return VersionPair(metric=question.metric, challenger=challenger, champion=champion)


def _interval(question: Question, decided: Predictions) -> Interval:
    return interval_for(question.metric, decided.truth, decided.input_of(question.metric))


def _holds(question: Question, edition: Edition, rng: Generator) -> bool:
    compared = _compared(question, edition, rng)
    if question.compares:
        return compared.gain(error=question.error).lower > question.limit
    return _interval(question, compared.challenger).lower >= question.limit


def _grown(question: Question, n: int) -> Edition:
    """Cases as seen, but so many of the kind that the metric counts."""
    seen = question.edition
    return _times(seen, n / (seen.positives if question.metric == "recall" else seen.positives + seen.negatives))


def _times(edition: Edition, factor: float) -> Edition:
    positives, negatives = (round(factor * count) for count in (edition.positives, edition.negatives))
    return Edition(name=edition.name, positives=positives, negatives=negatives)
