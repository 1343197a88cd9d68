"""What sets and thresholds keep of their promise on new cases; the full tables are `python -m benchmarks decisions`."""

from __future__ import annotations

import pytest

from benchmarks.decisions import (
    ASKED,
    ORDINARY,
    RUNS,
    SMALL,
    Class,
    Row,
    coverage,
    measure,
    sensitivities,
    shared_or_own,
)

# Three standard errors of the mean of 300 runs, so that chance alone fails no test.
RUNS_HERE, SLACK = 300, 0.02


@pytest.mark.parametrize("what", SMALL)
def test_a_small_class_is_covered_as_often_as_so_few_cases_can_promise(what: str) -> None:
    small = SMALL[what]
    found = coverage([ORDINARY, ORDINARY, small], runs=RUNS_HERE, seed=1)
    assert found.mean >= min(small.patients / (small.patients + 1), 0.9) - SLACK
    # A class that can never be ruled out is covered always, and nothing can then be decided against it.
    assert found.mean < 0.995


def test_slices_are_covered_as_promised_where_patients_are_counted() -> None:
    ten = Class(patients=10, slices=4)
    by_patient = coverage([ten], runs=RUNS_HERE, seed=2)
    by_slice = coverage([ten], runs=RUNS_HERE, seed=2, by_patient=False)
    assert by_patient.mean >= 0.9
    assert by_patient.badly < 0.03 < by_slice.badly


def test_cases_that_chose_the_epoch_too_promise_more_than_they_keep() -> None:
    same, own = (shared_or_own(cases=40, own=own, runs=200, seed=3) for own in (False, True))
    assert own[0] >= 0.9 - SLACK
    assert same[0] < own[0] - 0.02
    assert same[1] < own[1] - 0.02


def test_a_threshold_by_its_bound_keeps_the_sensitivity_that_it_was_asked_for() -> None:
    by_point, _ = sensitivities(f"sensitivity >= {ASKED}", 170, runs=RUNS_HERE, seed=4)
    by_bound, _ = sensitivities(f"sensitivity >= {ASKED} with 90% confidence", 170, runs=RUNS_HERE, seed=4)
    assert (by_point < ASKED).mean() > 0.4
    assert (by_bound < ASKED).mean() <= 0.1 + 0.05


@pytest.mark.soak
def test_every_promise_holds_over_many_runs() -> None:
    rows: list[Row] = measure()
    assert len(rows) > 20
    assert RUNS >= 4000
    assert [row.what for row in rows if not row.holds] == []
