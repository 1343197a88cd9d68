"""How often the gate is wrong: bundles simulated from a known truth, held against the real rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks import gate_budget, gate_needed, gate_noise
from benchmarks.gate_models import Edition, Generator, Model, drawn
from benchmarks.row import Row
from medloop.gate.against_champion import Opponent, outcome_against
from medloop.progress import track
from medloop.recipe import GateRule, GateSection

TRIALS = 2000
MOST_WRONG = 0.05
SECTION = GateSection()

SMALL = Edition(name="43 + 71 patients", positives=43, negatives=71)
LARGE = Edition(name="400 + 1,600 patients", positives=400, negatives=1600)
SLICES = Edition(name="100 + 200 patients of 4 slices", positives=100, negatives=200, slices=4)
CHAMPION = Model()


@dataclass(frozen=True, kw_only=True)
class Question:
    """Rules, a challenger, and how often it may or should pass."""

    what: str
    rules: tuple[GateRule, ...]
    challenger: Model
    edition: Edition
    is_error: bool


def better(*metrics: str) -> tuple[GateRule, ...]:
    """Superiority in each metric."""
    return tuple(GateRule(metric=f"test_{name}", better_by=0.0) for name in metrics)


def not_worse(metric: str, margin: float) -> tuple[GateRule, ...]:
    """Non-inferiority in one metric."""
    return (GateRule(metric=f"test_{metric}", not_worse_by=margin),)


ITSELF, WORSE = "an equal bundle, must be better in", "worse by the margin in"
QUESTIONS = (
    *(
        Question(what=f"{ITSELF} {name}", rules=better(name), challenger=CHAMPION, edition=edition, is_error=True)
        for edition, names in (
            (SMALL, ("recall", "roc_auc", "accuracy", "f1", "brier")),
            (LARGE, ("recall", "roc_auc", "accuracy")),
            (SLICES, ("recall", "roc_auc", "f1", "brier")),
        )
        for name in names
    ),
    *(
        question
        for edition, margin in ((SMALL, 0.10), (LARGE, 0.03), (SLICES, 0.05))
        for question in (
            Question(
                what=f"{WORSE} recall ({margin:g})",
                rules=not_worse("recall", margin),
                challenger=Model(recall=CHAMPION.recall - margin),
                edition=edition,
                is_error=True,
            ),
            Question(
                what=f"{WORSE} roc_auc ({margin / 2:g})",
                rules=not_worse("roc_auc", margin / 2),
                challenger=Model(auc=CHAMPION.auc - margin / 2),
                edition=edition,
                is_error=True,
            ),
            Question(
                what=f"power: equal, not worse in recall by {margin:g}",
                rules=not_worse("recall", margin),
                challenger=CHAMPION,
                edition=edition,
                is_error=False,
            ),
            Question(
                what="power: recall truly +0.05, must be better",
                rules=better("recall"),
                challenger=Model(recall=CHAMPION.recall + 0.05),
                edition=edition,
                is_error=False,
            ),
            Question(
                what="power: AUC truly +0.02, must be better",
                rules=better("roc_auc"),
                challenger=Model(auc=CHAMPION.auc + 0.02),
                edition=edition,
                is_error=False,
            ),
        )
    ),
)


def measure() -> list[Row]:
    """How often each challenger passes, noise, long sequences, the numbers stated; then a gate on points."""
    rows = [row_of(question, trials=TRIALS, seed=number) for number, question in enumerate(QUESTIONS)]
    return [*rows, *gate_noise.rows(), *gate_budget.rows(), *gate_needed.rows(), *points_gate(trials=TRIALS, seed=0)]


def row_of(question: Question, *, trials: int, seed: int) -> Row:
    """One line of the table."""
    share = share_passed(question, trials=trials, seed=seed)
    return Row(
        what=f"{question.what}; {question.edition.name}",
        found=f"promoted {share:.1%}",
        wanted=f"<= {MOST_WRONG:.0%}" if question.is_error else "printed",
        holds=not question.is_error or share <= MOST_WRONG,
    )


def share_passed(question: Question, *, trials: int, seed: int) -> float:
    """How often all rules hold."""
    rng = np.random.default_rng(seed)
    passed = 0
    for _ in track(range(trials), total=trials, what=question.what):
        challenger, champion = drawn(question.edition, question.challenger, CHAMPION, rng)
        opponent = Opponent(version=1, bundle="b", predictions=champion)
        passed += all(outcome_against(rule, SECTION, challenger, opponent).passed for rule in question.rules)
    return passed / trials


def points_gate(*, trials: int, seed: int) -> list[Row]:
    """A gate on points, as tutorials have it: recall >= 0.95 on 43 positives, deviation over ten folds <= 0.05."""
    rng = np.random.default_rng(seed)
    return [
        Row(
            what=f"recall >= 0.95 on 43 positives and deviation <= 0.05 over folds; a model of true recall {recall:g}",
            found=f"promoted {passes(recall, trials, rng, folds=True):.1%}, by the first rule alone "
            f"{passes(recall, trials, rng, folds=False):.1%}",
            wanted="printed",
            holds=True,
        )
        for recall in (0.85, 0.90, 0.93, 0.95, 0.97, 0.99)
    ]


def passes(recall: float, trials: int, rng: Generator, *, folds: bool) -> float:
    """How often a model of this true recall passes the rules on points; ten folds of 17 positives each."""
    tested = rng.binomial(43, recall, size=trials) / 43 >= 0.95
    spread = (rng.binomial(17, recall, size=(trials, 10)) / 17).std(axis=1, ddof=1) <= 0.05
    return float((tested & spread if folds else tested).mean())
