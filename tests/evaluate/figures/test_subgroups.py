"""Every band of every named column has its own figures."""

from __future__ import annotations

import numpy as np
import pytest

from medloop.evaluate.figures.subgroups import subgroup_figures
from medloop.recipe import EvaluateSection
from tests.evaluate.made_up import decider, drawn, measured

SECTION = EvaluateSection(draws=100)


def test_a_band_has_the_figures_of_its_cases() -> None:
    y, shares = drawn(400)
    sex = np.where(np.arange(400) % 3 > 0, "f", "m")
    found = subgroup_figures(measured(y, shares), {"sex": sex.tolist()}, SECTION)["sex"]
    inside = sex == "f"
    assert list(found) == ["f", "m"]
    assert found["f"]["n"] == inside.sum()
    assert found["f"]["counts"] == {"no": int((y[inside] == 0).sum()), "yes": int(y[inside].sum())}
    accuracy = ((shares[inside] >= 0.5) == y[inside]).mean()
    assert found["f"]["figures"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert found["f"]["figures"]["roc_auc"]["lower"] < found["f"]["figures"]["roc_auc"]["upper"]


def test_a_band_of_one_class_has_no_auc_and_unknown_values_form_a_band() -> None:
    found = subgroup_figures(measured([1, 1, 0], [0.9, 0.2, 0.1]), {"site": ["a", "a", None]}, SECTION)["site"]
    assert np.isnan(found["a"]["figures"]["roc_auc"]["value"])
    assert found["unknown"]["n"] == 1


def test_many_classes_have_figures_over_all_of_them() -> None:
    judge = decider(classes=("a", "b", "c"), positive=())
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 60)
    found = subgroup_figures(measured(np.arange(60) % 3, shares, judge=judge), {"site": ["x"] * 60}, SECTION)
    assert set(found["site"]["x"]["figures"]) == {"accuracy", "balanced_accuracy", "roc_auc", "brier"}
