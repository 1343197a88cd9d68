"""A field that the recipe did not have when its values were recorded counts as its default."""

from __future__ import annotations

from typing import Any

import pytest

from medloop.recipe import GateRule, GateSection, Recipe, SearchRange, TuneSection
from medloop.recipe.new_fields import fill_new_fields


def flat(value: Any, name: str = "") -> dict[str, Any]:
    if not (isinstance(value, dict) and value):
        return {name: value}
    return {one: leaf for key, inner in value.items() for one, leaf in flat(inner, f"{name}.{key}".strip(".")).items()}


def recorded(recipe: Recipe) -> dict[str, Any]:
    return flat(recipe.model_dump(mode="json"))


RECIPE = Recipe(
    tune=TuneSection(trials=3, space={"C": SearchRange(low=0.1, high=1)}),
    gate=GateSection(rules=(GateRule(metric="test_accuracy", at_least=0.9),)),
)


@pytest.mark.parametrize("name", ["train.clip", "train.augment.noise", "data.rename", "tune.space.C.whole", "name"])
def test_a_new_field_with_its_default_is_no_change(name: str) -> None:
    now = recorded(RECIPE)
    before = {one: value for one, value in now.items() if one != name}
    assert before != now
    assert fill_new_fields(before, now, RECIPE) == now


def test_a_new_field_of_a_rule_is_no_change() -> None:
    now = recorded(RECIPE)
    rules = [{name: value for name, value in rule.items() if name != "each"} for rule in now["gate.rules"]]
    assert fill_new_fields({**now, "gate.rules": rules}, now, RECIPE) == now


def test_a_new_field_with_another_value_is_a_change() -> None:
    recipe = RECIPE.with_values("train", clip=2.0)
    before = recorded(RECIPE)
    del before["train.clip"]
    assert "train.clip" not in fill_new_fields(before, recorded(recipe), recipe)


def test_a_value_that_was_recorded_stays_also_where_it_is_the_default_now() -> None:
    before = recorded(RECIPE.with_values("data", rename={"M": "malignant"}))
    assert fill_new_fields(before, recorded(RECIPE), RECIPE) == before


def test_only_what_the_stage_reads_is_filled_in() -> None:
    now = {name: value for name, value in recorded(RECIPE).items() if name.startswith("split.")}
    before = {name: value for name, value in now.items() if name != "split.seed"}
    assert fill_new_fields({**before, "numpy": "2.0"}, now, RECIPE) == {**now, "numpy": "2.0"}
