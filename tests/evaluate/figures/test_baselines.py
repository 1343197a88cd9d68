"""Baselines are measured on exactly the cases of the bundle."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.errors import UserError
from medloop.evaluate.figures.baselines import BaselineModel, compare_with_baseline
from medloop.recipe import EvaluateSection
from tests.evaluate.made_up import decider, drawn, measured

SECTION = EvaluateSection(draws=200)


def test_a_coin_is_chance_and_the_model_gains_over_it() -> None:
    y, shares = drawn(500)
    coin = np.random.default_rng(1).random(500)
    baseline = BaselineModel(name="coin", description="A coin.", probabilities=np.column_stack([1 - coin, coin]))
    found = compare_with_baseline(baseline, measured(y, shares), decider(), SECTION)
    area, gain = found["figures"]["roc_auc"], found["gain"]["roc_auc"]
    assert area["lower"] < 0.5 < area["upper"]
    assert gain["lower"] > 0


def test_the_model_gains_nothing_over_itself() -> None:
    y, shares = drawn(200)
    twin = BaselineModel(name="twin", description="The same.", probabilities=np.column_stack([1 - shares, shares]))
    gain = compare_with_baseline(twin, measured(y, shares), decider(), SECTION)["gain"]["roc_auc"]
    assert (gain["difference"], gain["lower"], gain["upper"]) == (0, 0, 0)


def test_other_cases_are_refused() -> None:
    y, shares = drawn(20)
    short = BaselineModel(name="coin", description="A coin.", probabilities=np.full((19, 2), 0.5))
    with pytest.raises(UserError, match=r"The coin has probabilities of shape \(19, 2\) for 20 test cases"):
        compare_with_baseline(short, measured(y, shares), decider(), SECTION)
