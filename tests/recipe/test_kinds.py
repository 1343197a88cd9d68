"""What only images or only tables can use is refused for the others, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medloop.recipe import Recipe, load_recipe
from medloop.recipe.kinds import FIELDS_OF_KIND, Kind
from medloop.steps.project import load_project
from tests.loop_project import medloop

TABLE = {"source": "csv", "path": "t.csv", "label": "y"}
IMAGES = {"source": "folder", "path": "scans"}

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a size": ({"data": TABLE, "prepare": {"size": 64}}, ["prepare.size", "only images", "csv"]),
    "epochs and a rate": (
        {"data": TABLE, "train": {"epochs": 5, "learning_rate": 0.1, "seed": 1}},
        ["train.epochs, train.learning_rate, which only images"],
    ),
    "a precision": ({"data": TABLE, "export": {"precision": "int8"}}, ["export.precision"]),
    "an augmentation": ({"data": TABLE, "train": {"augment": {"rotate": 3}}}, ["train.augment"]),
    "a pattern": ({"data": {**TABLE, "patient_pattern": "p(.)"}}, ["data.patient_pattern"]),
    "a backbone": (
        {"data": TABLE, "model": {"name": "backbone"}},
        ["model.name: backbone cannot learn from a table", "logistic_regression"],
    ),
    "a hyperparameter of images": ({"data": TABLE, "model": {"backbone": "resnet18"}}, ["'backbone' in model (logis"]),
    "columns to drop": ({"data": {**IMAGES, "drop": ["a"]}}, ["data.drop, which only a table", "folder"]),
    "categories": ({"data": IMAGES, "prepare": {"max_categories": 3}}, ["prepare.max_categories"]),
    "a table's model": ({"data": IMAGES, "model": {"name": "svc"}}, ["svc cannot learn from images", "backbone"]),
}


def write(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("content", "told"), REFUSED.values(), ids=REFUSED)
def test_what_would_have_no_effect_is_refused_before_anything_runs(
    tmp_path: Path, content: dict[str, Any], told: list[str]
) -> None:
    said = medloop("ingest", cwd=write(tmp_path, content))
    assert said.code == 2
    assert [words for words in told if words not in said.err] == []
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("data", [TABLE, IMAGES], ids=["table", "images"])
def test_a_recipe_that_writes_out_every_default_is_accepted(tmp_path: Path, data: dict[str, Any]) -> None:
    content = {**Recipe().model_dump(mode="json"), "data": data}
    if data is IMAGES:
        content["model"] = {"name": "backbone"}
    project = load_project(write(tmp_path, content))
    assert project.recipe == load_recipe(tmp_path)


@pytest.mark.parametrize("kind", FIELDS_OF_KIND)
def test_the_fields_are_those_of_the_sections(kind: Kind) -> None:
    for section, names in FIELDS_OF_KIND[kind].items():
        assert set(names) <= set(type(getattr(Recipe(), section)).model_fields), section


@pytest.mark.parametrize("options", [{"smoke": True}, {"k_folds": 7}], ids=["smoke", "k_folds"])
def test_an_option_of_the_command_changes_the_folds_and_nothing_else(tmp_path: Path, options: dict[str, Any]) -> None:
    plain = load_project(write(tmp_path, {"data": IMAGES, "split": {"val": 0.1}})).recipe
    changed = load_project(tmp_path, **options).recipe
    assert changed.split.folds != plain.split.folds
    assert changed.model_copy(update={"split": plain.split}) == plain
    assert changed.export.model_fields_set == plain.export.model_fields_set == set()
