"""Each section refuses values that cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.errors import UserError
from medloop.recipe import ModelSection, Recipe, validated

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("data", {"sha256": "abc"}, "data.sha256"),
    ("data", {"label": ""}, "data.label"),
    ("data", {"classes": ["a", "b", "a"]}, "lists a class twice"),
    ("data", {"classes": ["a", "b"], "positive": ["c"]}, "not in data.classes"),
    ("data", {"classes": "benign"}, "data.classes"),
    ("audit", {"leak_auc": 1.0}, "audit.leak_auc"),
    ("audit", {"range_sigmas": 0}, "audit.range_sigmas"),
    ("split", {"test": 0}, "split.test"),
    ("split", {"test": 1}, "split.test"),
    ("split", {"test": float("nan")}, "split.test"),
    ("split", {"test": 0.5, "val": 0.3, "calib": 0.1}, "no more than a tenth"),
    ("split", {"folds": 1}, "split.folds"),
    ("split", {"seed": -1}, "split.seed"),
    ("split", {"seed": 1.5}, "split.seed"),
    ("prepare", {"max_categories": 1}, "prepare.max_categories"),
    ("model", {"C": float("inf")}, "model.C"),
    ("model", {"C": {"low": 1}}, "model.C"),
    ("tune", {"space": {"C": {"choices": [1.0, float("nan")]}}}, "tune.space.C.choices"),
    ("tune", {"trials": -1}, "tune.trials"),
    ("tune", {"space": {"C": {}}}, "either"),
    ("tune", {"space": {"C": {"low": 1}}}, "either"),
    ("tune", {"space": {"C": {"low": 1, "high": 2, "choices": [1]}}}, "either"),
    ("tune", {"space": {"C": {"low": 2, "high": 1}}}, "is not below"),
    ("tune", {"space": {"C": {"low": 0, "high": 1, "log": True}}}, "above 0"),
    ("tune", {"space": {"C": {"low": 1, "high": float("inf")}}}, "finite"),
    ("export", {"threshold": "sensitivity > 0.95"}, "export.threshold"),
    ("export", {"threshold": "sensitivity >= 95"}, "export.threshold"),
    ("export", {"threshold": "accuracy >= 0.9"}, "export.threshold"),
    ("export", {"threshold": "probability >= 0.5 with 90% confidence"}, "export.threshold"),
    ("export", {"threshold": "sensitivity >= 0.95 with 100% confidence"}, "export.threshold"),
    ("export", {"threshold": "sensitivity >= 0.95 with 5% confidence"}, "export.threshold"),
    ("export", {"parity": 0.1}, "export.parity"),
    ("evaluate", {"draws": 1}, "evaluate.draws"),
    ("evaluate", {"prevalence": 0}, "evaluate.prevalence"),
    ("gate", {"rules": [{"metric": "x"}]}, "exactly one of"),
    ("gate", {"rules": [{"metric": "x", "at_least": 1, "at_most": 2}]}, "exactly one of"),
    ("gate", {"rules": [{"metric": "x", "at_least": float("nan")}]}, "finite"),
    ("gate", {"rules": [{"metric": "x", "at_least": 1, "bound": "middle"}]}, "gate.rules.0.bound"),
]


@pytest.mark.parametrize(("section", "values", "named"), WRONG)
def test_an_invalid_value_is_named(section: str, values: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        validated(Recipe, {section: values}, where="params.yaml")
    assert named in caught.value.problem


@pytest.mark.parametrize("name", ["", "9lives", "a b", "../up", "a" * 101, "a/b", "ä"])
def test_a_name_is_usable_in_folders_and_addresses(name: str) -> None:
    with pytest.raises(UserError, match="name: "):
        validated(Recipe, {"name": name}, where="params.yaml")


def test_labels_and_columns_that_look_like_numbers_are_texts() -> None:
    content = {"label": 7, "classes": [0, 1], "positive": [1], "rename": {0: "no", 2: 1}, "missing": [-9, "NA"]}
    data = validated(Recipe, {"data": content}, where="params.yaml").data
    assert (data.label, data.classes, data.positive) == ("7", ("0", "1"), ("1",))
    assert data.rename == {"0": "no", "2": "1"}
    assert data.missing == ("-9", "NA")


@pytest.mark.parametrize(
    "rule",
    [
        *("sensitivity >= 0.97", "specificity >= .9", "probability >= 1", "youden"),
        *("sensitivity >= 0.95 with 90% confidence", "specificity >= 0.9 with 97.5% confidence"),
    ],
)
def test_threshold_rules_that_are_meant_are_taken(rule: str) -> None:
    assert validated(Recipe, {"export": {"threshold": rule}}, where="params.yaml").export.threshold == rule


def test_what_the_model_section_holds_besides_the_name_are_hyperparameters() -> None:
    section = ModelSection.model_validate({"name": "svc", "C": 2.0, "kernel": "linear"})
    assert section.params == {"C": 2.0, "kernel": "linear"}
    assert ModelSection().params == {}
