"""Invented test cases with predictions, for the figures of a report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medloop.bundle.decide import Answers, Decider, Outliers
from medloop.case import Case
from medloop.evaluate.figures.scores import Measured
from medloop.metrics.view import one_hot, positive_view

TWO = ("no", "yes")
NEAR = Outliers(mean=np.zeros(1), precision=np.eye(1), limit=3.0)


def decider(*, classes: Sequence[str] = TWO, positive: Sequence[str] = ("yes",), **values: Any) -> Decider:
    """Return a decider with threshold 0.5 whose conformal sets contain classes with a probability of at least 0.5."""
    settled: dict[str, Any] = {"threshold": 0.5 if positive else None, "temperature": 1.0, "conformal_alpha": 0.1}
    settled |= {"conformal": (0.5,) * len(classes), "outliers": NEAR}
    return Decider(classes=tuple(classes), positive=tuple(positive), **{**settled, **values})


def measured(y: Any, shares: Any, *, judge: Decider | None = None, groups: Sequence[str] | None = None) -> Measured:
    """Return what measure_bundle returns; shares are of the positive class of two, or one column for each class."""
    table = np.asarray(shares, dtype=np.float64)
    table = np.column_stack([1 - table, table]) if table.ndim == 1 else table
    judge, y = judge or decider(), np.asarray(y)
    n = len(y)
    answers: Answers = judge.answers(table, np.zeros((n, 1)), [None] * n, list(range(n)))
    truth, view = positive_view(y, table, judge.classes, judge.positive)
    _, decisions = positive_view(y, one_hot(answers.choices, len(judge.classes)), judge.classes, judge.positive)
    cases = [Case(case_id=f"c{k:04}", label=judge.classes[label], source="made up") for k, label in enumerate(y)]
    return Measured(
        cases=cases,
        groups=list(groups or [case.case_id for case in cases]),
        y=y,
        answers=answers,
        truth=truth,
        shares=view,
        decisions=decisions,
        names=tuple(judge.classes) if not judge.positive or len(judge.classes) == 2 else ("rest", "positive"),
    )


def drawn(n: int = 200, *, seed: int = 0, prevalence: float = 0.4) -> tuple[Any, Any]:
    """Return true classes and calibrated probabilities of the positive class."""
    rng = np.random.default_rng(seed)
    share = rng.beta(2 * prevalence, 2 * (1 - prevalence), n)
    return (rng.random(n) < share).astype(np.int64), share
