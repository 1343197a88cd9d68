"""How sure a threshold is to keep what its rule asks for, and choosing it so that it is sure."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.bundle.operating_point import cases_to_be_sure, choose_threshold, confidence_in, threshold_facts
from medloop.errors import UserError


def scores(positives: int, negatives: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Uniform scores of positive cases, so that a threshold's true sensitivity is one less the threshold."""
    draw = np.random.default_rng(seed)
    truth = np.repeat([True, False], [positives, negatives])
    return truth, np.concatenate([draw.uniform(size=positives), draw.uniform(0, 0.3, negatives)])


def facts(rule: str, positives: int, *, groups: list[str] | None = None, seed: int = 0) -> dict[str, object]:
    truth, share = scores(positives, 60, seed=seed)
    names = groups or [str(number) for number in range(len(truth))]
    return threshold_facts(rule, choose_threshold(rule, truth, share, names), truth, share, names)


def test_twelve_positives_end_below_the_rule_in_28_percent() -> None:
    found = facts("sensitivity >= 0.95", 12)
    assert found["chance_below"] == {"limit": 0.9, "chance": pytest.approx(0.9**12)}
    assert found["positives"] == {"cases": 12, "patients": 12}
    assert found["confidence_reached"] == pytest.approx(1 - 0.95**12)
    interval = found["sensitivity"]
    assert isinstance(interval, dict)
    assert interval["lower"] < 0.78 < interval["value"] == interval["upper"] == 1


@pytest.mark.parametrize("positives", [12, 60, 170])
def test_the_reported_chance_agrees_with_a_simulation(positives: int) -> None:
    rng, below, reported = np.random.default_rng(positives), [], []
    for _ in range(400):
        truth = np.ones(positives, bool)
        share = rng.uniform(size=positives)
        names = [str(number) for number in range(positives)]
        threshold = choose_threshold("sensitivity >= 0.95", truth, share, names)
        below.append(1 - threshold < 0.9)
        chance = threshold_facts("sensitivity >= 0.95", threshold, truth, share, names)["chance_below"]["chance"]
        reported.append(chance)
    # Halfway to the next lower case is a little safer than at the case, which is what the beta distribution speaks of.
    assert np.mean(below) <= np.mean(reported) + 0.04
    assert np.mean(below) >= np.mean(reported) / 2 - 0.04


def test_with_a_confidence_the_lower_bound_reaches_the_figure() -> None:
    truth, share = scores(170, 200)
    plain = choose_threshold("sensitivity >= 0.95", truth, share)
    sure = choose_threshold("sensitivity >= 0.95 with 90% confidence", truth, share)
    assert sure < plain
    reached = float(np.mean(share[truth] >= sure))
    assert confidence_in(reached, 170, 0.95) >= 0.9
    next_higher = float(np.mean(share[truth] >= np.min(share[share >= sure]) + 1e-12))
    assert confidence_in(next_higher, 170, 0.95) < 0.9


def test_a_specificity_can_be_sure_too() -> None:
    truth, share = scores(80, 300)
    plain = choose_threshold("specificity >= 0.9", truth, share)
    sure = choose_threshold("specificity >= 0.9 with 95% confidence", truth, share)
    assert sure > plain
    assert confidence_in(float(np.mean(share[~truth] < sure)), 300, 0.9) >= 0.95


def test_of_too_few_positives_none_may_be_missed_and_the_facts_say_how_sure_that_is() -> None:
    truth, share = scores(12, 60)
    rule = "sensitivity >= 0.95 with 90% confidence"
    threshold = choose_threshold(rule, truth, share)
    assert (share[truth] >= threshold).all()
    found = threshold_facts(rule, threshold, truth, share, list(range(72)))
    assert (found["confidence"], found["asked"]) == (0.9, 0.95)
    assert found["confidence_reached"] == pytest.approx(1 - 0.95**12)
    assert cases_to_be_sure(0.95, 0.9) == 45
    assert confidence_in(1.0, 45, 0.95) >= 0.9 > confidence_in(1.0, 44, 0.95)


def test_slices_of_a_patient_make_nobody_surer() -> None:
    truth, share = scores(400, 60)
    rule = "sensitivity >= 0.95 with 90% confidence"
    alone = [str(number) for number in range(460)]
    four_each = [f"p{number // 4}" for number in range(460)]
    assert choose_threshold(rule, truth, share, four_each) < choose_threshold(rule, truth, share, alone)
    found = threshold_facts(rule, 0.0, truth, share, four_each)
    assert found["positives"] == {"cases": 400, "patients": 100}
    assert found["chance_below"]["chance"] == pytest.approx(0.9**100)


@pytest.mark.parametrize("rule", ["youden", "probability >= 0.4"])
def test_a_rule_without_a_figure_still_records_both_figures(rule: str) -> None:
    found = facts(rule, 40)
    assert (found["confidence_reached"], found["chance_below"]) == (None, None)
    for name in ("sensitivity", "specificity"):
        interval = found[name]
        assert isinstance(interval, dict)
        assert interval["lower"] <= interval["value"] <= interval["upper"]


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match=r"export\.threshold .* is not a rule"):
        choose_threshold("as you like", np.array([0, 1]), np.array([0.1, 0.9]))
