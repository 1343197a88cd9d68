"""How often the gate is wrong, on bundles whose truth is known; the full measurement is `python -m benchmarks gate`."""

from __future__ import annotations

import pytest

from benchmarks.gate import (
    CHAMPION,
    LARGE,
    MOST_WRONG,
    QUESTIONS,
    SMALL,
    TRIALS,
    Model,
    Question,
    better,
    not_worse,
    passes,
)
from benchmarks.gate import share_passed as share

# Three standard errors of 300 trials, so that chance alone fails no test.
TRIALS_HERE, SLACK = 300, 0.04
QUICK = {"recall", "roc_auc", "accuracy"}


def is_quick(question: Question) -> bool:
    names = {rule.metric.removeprefix("test_") for rule in question.rules}
    return names <= QUICK and (question.edition.slices == 1 or "roc_auc" not in names)


ERRORS = [question for question in QUESTIONS if question.is_error]


@pytest.mark.parametrize(
    "question", [one for one in ERRORS if is_quick(one)], ids=lambda one: f"{one.what}, {one.edition.name}"
)
def test_what_is_no_better_or_worse_by_the_margin_is_hardly_ever_promoted(question: Question) -> None:
    assert share(question, trials=TRIALS_HERE, seed=0) <= MOST_WRONG + SLACK


@pytest.mark.soak
@pytest.mark.parametrize("question", ERRORS, ids=lambda one: f"{one.what}, {one.edition.name}")
def test_at_most_one_in_twenty_is_promoted_wrongly(question: Question) -> None:
    assert share(question, trials=TRIALS, seed=1) <= MOST_WRONG


def test_more_rules_promote_no_oftener_than_one() -> None:
    both = Question(
        what="both",
        rules=(*better("roc_auc"), *not_worse("recall", 0.05)),
        challenger=CHAMPION,
        edition=SMALL,
        is_error=True,
    )
    one = Question(what="one", rules=better("roc_auc"), challenger=CHAMPION, edition=SMALL, is_error=True)
    assert share(both, trials=TRIALS_HERE, seed=2) <= share(one, trials=TRIALS_HERE, seed=2)


def test_a_true_improvement_on_enough_cases_is_promoted() -> None:
    truly = Question(what="true", rules=better("recall"), challenger=Model(recall=0.95), edition=LARGE, is_error=False)
    assert share(truly, trials=100, seed=3) > 0.85


def test_a_gate_on_points_lets_the_worse_pass_and_refuses_the_good() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    assert passes(0.90, 20_000, rng, folds=False) == pytest.approx(0.18, abs=0.02)
    assert passes(0.95, 20_000, rng, folds=False) < 0.67
