"""The stage `tune` of a project: what it writes, goes on with, and refuses before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from medloop.errors import UnknownName, UserError
from medloop.steps.project import load_project
from medloop.steps.stages import tune
from tests.loop_project import edit_recipe, medloop

SPACE = {"C": {"low": 0.01, "high": 10.0, "log": True}}


def test_a_table_is_tuned_and_a_second_call_adds_only_what_is_missing(table: Path) -> None:
    edit_recipe(table, tune={"trials": 2, "space": SPACE})
    assert tune.run(load_project(table)).startswith("2 trials, best roc_auc 0.")
    first = pd.read_csv(table / "work" / "tune" / "trials.csv")
    edit_recipe(table, tune={"trials": 3})
    tune.run(load_project(table))
    trials = pd.read_csv(table / "work" / "tune" / "trials.csv")
    assert trials["C"].tolist()[:2] == first["C"].tolist()
    assert len(trials) == 3
    assert set(yaml.safe_load((table / "work" / "tuned.yaml").read_text("utf-8"))) == {"C"}
    assert {path.name for path in (table / "work" / "tune").iterdir()} == {
        *("study.db", "trials.csv", "history.png", "importance.png")
    }


def test_other_cases_or_ranges_begin_another_study(table: Path) -> None:
    tune.run(load_project(edit_recipe(table, tune={"trials": 1, "space": SPACE})))
    edit_recipe(table, prepare={"max_categories": 7})
    tune.run(load_project(table))
    tune.run(load_project(edit_recipe(table, tune={"space": {"max_iter": {"low": 100, "high": 200, "whole": True}}})))
    assert len(pd.read_csv(table / "work" / "tune" / "trials.csv")) == 1


def test_no_trials_keep_the_recipe(table: Path) -> None:
    assert tune.run(load_project(table)) == "no trials (tune.trials: 0)"
    assert not (table / "work" / "tune").exists()


@pytest.mark.parametrize(
    ("section", "error", "told"),
    [
        ({"metric": "auc"}, UnknownName, "Unknown tune.metric"),
        ({"trials": 1, "space": {}}, UserError, "tune.space is empty"),
        ({"space": {"c": {"low": 1, "high": 2}}}, UnknownName, "Did you mean 'C'"),
        ({"space": {"C": {"low": -1, "high": 2}}}, UserError, "greater than 0"),
    ],
    ids=["metric", "no ranges", "name", "range"],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_done(
    table: Path, section: dict[str, Any], error: type[UserError], told: str
) -> None:
    edit_recipe(table, tune=section)
    with pytest.raises(error, match=told):
        load_project(table)
    ended = medloop("run", cwd=table)
    assert (ended.code, ended.out) == (2, "")
