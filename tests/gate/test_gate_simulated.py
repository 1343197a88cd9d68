"""How often the gate is wrong, on bundles whose truth is known; the full measurement is `python -m benchmarks gate`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gate_budget, gate_needed, gate_noise
from benchmarks.gate import (
    CHAMPION,
    LARGE,
    MOST_WRONG,
    QUESTIONS,
    SMALL,
    TRIALS,
    Question,
    better,
    not_worse,
    passes,
)
from benchmarks.gate import share_passed as share
from benchmarks.gate_models import Model
from medloop.gate.against_champion import Opponent, outcome_against
from medloop.gate.predictions import Predictions
from medloop.metrics.intervals.gain import compared_areas
from medloop.metrics.intervals.proportions import wilson

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
def test_a_model_that_is_no_better_or_worse_by_the_margin_is_rarely_promoted(question: Question) -> None:
    assert share(question, trials=TRIALS_HERE, seed=0) <= MOST_WRONG + SLACK


@pytest.mark.soak
@pytest.mark.parametrize("question", ERRORS, ids=lambda one: f"{one.what}, {one.edition.name}")
def test_at_most_one_in_twenty_is_promoted_wrongly(question: Question) -> None:
    assert share(question, trials=TRIALS, seed=1) <= MOST_WRONG


def test_more_rules_never_promote_more_often() -> None:
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


def test_a_gate_on_point_estimates_passes_worse_models_and_refuses_good_ones() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    assert passes(0.90, 20_000, rng, folds=False) == pytest.approx(0.18, abs=0.02)
    assert passes(0.95, 20_000, rng, folds=False) < 0.67


@pytest.mark.parametrize("edition", gate_noise.NOISE[:3], ids=lambda one: one.name)
def test_noise_rarely_passes_the_default_rules(edition: gate_noise.Edition) -> None:
    passed = gate_noise.noise_passed(edition, trials=300, seed=0)
    assert wilson(passed, 300).lower <= gate_noise.MOST_NOISE


@pytest.mark.soak
@pytest.mark.parametrize("edition", gate_noise.NOISE, ids=lambda one: one.name)
def test_of_two_thousand_sets_of_noise_at_most_one_in_forty_passes(edition: gate_noise.Edition) -> None:
    passed = gate_noise.noise_passed(edition, trials=gate_noise.TRIALS, seed=1)
    assert wilson(passed, gate_noise.TRIALS).lower <= gate_noise.MOST_NOISE


@pytest.mark.parametrize("edition", gate_noise.GOOD[:2], ids=lambda one: one.name)
def test_a_good_model_passes_the_default_rules_with_nine_percent_positives(edition: gate_noise.Edition) -> None:
    assert gate_noise.good_passed(edition, trials=25, seed=0) >= 21


SCENARIOS = list(gate_budget.SCENARIOS.values())


def test_small_steps_down_pass_a_champion_and_not_the_reference() -> None:
    ended = {
        guard: gate_budget.drifted(gate_budget.LARGE, SCENARIOS[0], guard, sequences=4, seed=0)
        for guard in (gate_budget.BEFORE, gate_budget.NOW)
    }
    assert ended == {gate_budget.BEFORE: 1.0, gate_budget.NOW: 0.0}


def test_the_error_budget_covers_all_looks() -> None:
    barely_worse = SCENARIOS[2]
    unspent, spent = (
        gate_budget.drifted(gate_budget.SMALL, barely_worse, gate_budget.Guard(spends=spends), sequences=60, seed=0)
        for spends in (False, True)
    )
    assert unspent > 0.1
    assert wilson(round(60 * spent), 60).lower <= gate_budget.MOST_DRIFTED


@pytest.mark.parametrize(("better", "number", "least"), [(0.0, 1, 0.9), (0.0, 30, 0.9), (0.02, 30, 0.95)])
def test_a_good_challenger_is_promoted_at_every_look_where_cases_are_enough(
    better: float, number: int, least: float
) -> None:
    assert gate_budget.promoted(gate_budget.LARGE, better, number, trials=40, seed=0) >= least


@pytest.mark.soak
@pytest.mark.parametrize("edition", [gate_budget.SMALL, gate_budget.LARGE], ids=lambda one: one.name)
@pytest.mark.parametrize("scenario", gate_budget.SCENARIOS)
def test_of_a_thousand_sequences_one_in_twenty_ends_below_the_margin(
    edition: gate_budget.Edition, scenario: str
) -> None:
    ended = gate_budget.drifted(
        edition, gate_budget.SCENARIOS[scenario], gate_budget.NOW, sequences=gate_budget.SEQUENCES, seed=3
    )
    assert ended <= gate_budget.MOST_DRIFTED


def test_the_sequences_are_judged_as_the_gate_judges() -> None:
    rng, rule = np.random.default_rng(0), not_worse("roc_auc", gate_budget.MARGIN)[0]
    agreed = []
    for error in (0.025, 0.0125, 0.001) * 4:
        both = gate_budget.both_drawn(gate_budget.SMALL, 0.95, 0.945, rng)
        areas = compared_areas("roc_auc", both)
        assert areas is not None
        one, two = (
            Predictions(
                case_ids=tuple(map(str, both.numbers)), groups=both.numbers, truth=both.y, shares=p, decisions=p.round()
            )
            for p in (both.a, both.b)
        )
        opponent = Opponent(version=1, bundle="b", predictions=two)
        outcome = outcome_against(rule, gate_noise.DEFAULTS, one, opponent, error=error)
        agreed.append((outcome.passed, gate_budget.is_above(*areas, rule.limit, error)))
    assert {passed for passed, _ in agreed} == {True, False}
    assert all(passed == above for passed, above in agreed)


@pytest.mark.parametrize(
    "question", [one for one in gate_needed.QUESTIONS if one.metric != "roc_auc"][:3], ids=lambda one: one.what
)
def test_the_number_of_cases_that_is_stated_has_the_power(question: gate_needed.Question) -> None:
    _, power = gate_needed.stated_and_found(question, plans=25, trials=150, seed=0)
    assert power == pytest.approx(gate_needed.POWER, abs=0.13)


@pytest.mark.soak
@pytest.mark.parametrize("question", gate_needed.QUESTIONS, ids=lambda one: one.what)
def test_each_stated_number_has_the_stated_power(question: gate_needed.Question) -> None:
    _, power = gate_needed.stated_and_found(question, plans=gate_needed.PLANS, trials=gate_needed.TRIALS, seed=1)
    assert power == pytest.approx(gate_needed.POWER, abs=gate_needed.NEAR)
