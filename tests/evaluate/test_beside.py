"""Another scorer is measured on exactly the cases of the bundle."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.errors import UserError
from medloop.evaluate.beside import Beside, beside_figures
from medloop.recipe import EvaluateSection
from tests.evaluate.made_up import decider, drawn, measured

SECTION = EvaluateSection(draws=200)


def test_a_coin_is_chance_and_the_model_gains_over_it() -> None:
    y, shares = drawn(500)
    coin = np.random.default_rng(1).random(500)
    beside = Beside(name="coin", says="A coin.", probabilities=np.column_stack([1 - coin, coin]))
    found = beside_figures(beside, measured(y, shares), decider(), SECTION)
    area, gain = found["figures"]["roc_auc"], found["gain"]["roc_auc"]
    assert area["lower"] < 0.5 < area["upper"]
    assert gain["lower"] > 0


def test_the_model_beside_itself_gains_nothing() -> None:
    y, shares = drawn(200)
    twin = Beside(name="twin", says="The same.", probabilities=np.column_stack([1 - shares, shares]))
    gain = beside_figures(twin, measured(y, shares), decider(), SECTION)["gain"]["roc_auc"]
    assert (gain["difference"], gain["lower"], gain["upper"]) == (0, 0, 0)


def test_other_cases_are_refused() -> None:
    y, shares = drawn(20)
    short = Beside(name="coin", says="A coin.", probabilities=np.full((19, 2), 0.5))
    with pytest.raises(UserError, match="measured on the same cases"):
        beside_figures(short, measured(y, shares), decider(), SECTION)
