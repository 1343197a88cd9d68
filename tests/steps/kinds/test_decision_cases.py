"""Before anything is trained one is told what the cases that decide are too few for, or what else they must do."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from medloop.storage import write_json
from tests.image_files import image_project, write_classes
from tests.loop_project import edit_recipe, medloop, new_table, run_stages, small_rows

FINETUNE = {"mode": "finetune"}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A project of 40 pictures of each of two classes, ingested and examined."""
    write_classes(tmp_path / "scans", each=40)
    recipe = {
        "data": {"source": "folder", "path": "scans", "classes": ["normal", "tumour"], "positive": ["tumour"]},
        "split": {"test": 0.2, "folds": 4},
        "prepare": {"size": 16},
    }
    project = image_project(tmp_path, **recipe)
    assert medloop("ingest", cwd=tmp_path).code == 0
    write_json(project.work / "audit" / "findings.json", {"groups": [], "open_severe": [], "accepted": []})
    return tmp_path


def warnings_of(folder: Path, **sections: Any) -> list[str]:
    """What the split warns of with this recipe."""
    ended = medloop("split", cwd=edit_recipe(folder, **sections))
    assert ended.code == 0, ended.err
    return [line for line in ended.err.splitlines() if line.startswith("warning: ")]


def test_cases_that_choose_the_epoch_and_all_that_decides_are_named_before_training(scans: Path) -> None:
    told = warnings_of(scans, train=FINETUNE, split={"val": 0.3})
    assert any("24 validation cases choose the epoch, the temperature, the threshold" in line for line in told)
    assert any("Set `split.calib: 0.1`" in line for line in told)
    told = warnings_of(scans, split={"val": 0.0})
    assert any("16 cases of the first fold choose the epoch" in line for line in told)


@pytest.mark.parametrize(
    ("train", "split"),
    [
        (FINETUNE, {"val": 0.1, "calib": 0.3}),
        ({**FINETUNE, "cross_validate": True}, {"val": 0.1}),
        ({"mode": "head"}, {"val": 0.1}),
    ],
    ids=["a calib part", "folds", "a head"],
)
def test_cases_of_their_own_are_no_reason_to_warn(scans: Path, train: dict[str, Any], split: dict[str, float]) -> None:
    assert warnings_of(scans, train=train, split=split) == []


def test_a_class_of_too_few_calibration_cases_is_named_with_their_number(scans: Path) -> None:
    told = warnings_of(scans, train=FINETUNE, split={"val": 0.1, "calib": 0.15})
    assert told == [
        f"warning: class {name} has only 6 cases among the calib cases; a conformal quantile of its own takes 9 "
        "(export.conformal_alpha 0.1). It will share that of all classes, with a coverage guaranteed to 86% only. "
        f"Add cases of {name}."
        for name in ("normal", "tumour")
    ]
    assert warnings_of(scans, export={"conformal_alpha": 0.2}) == []


def test_too_few_calibration_cases_of_all_classes_together_are_said_to_silence_the_service(scans: Path) -> None:
    (told,) = warnings_of(scans, train=FINETUNE, split={"val": 0.1, "calib": 0.1})
    assert told == (
        "warning: there are only 8 cases among the calib cases, and with fewer than 9 no class can ever be ruled out "
        "(export.conformal_alpha 0.1): the service will give no class. Add cases, or raise export.conformal_alpha."
    )


def test_a_threshold_by_too_few_positive_cases_is_told_with_its_chance(scans: Path) -> None:
    rule = {"threshold": "sensitivity >= 0.95", "conformal_alpha": 0.2}
    (told,) = warnings_of(scans, train=FINETUNE, split={"val": 0.1, "calib": 0.3}, export=rule)
    assert "`sensitivity >= 0.95` will be chosen on 12 cases of the positive classes" in told
    assert "ends below 0.90 in 28% of trainings" in told
    assert "`sensitivity >= 0.95 with 90% confidence`" in told
    (told,) = warnings_of(scans, export={"threshold": "sensitivity >= 0.95 with 90% confidence"})
    assert "takes 45 positive cases to choose on and there are 12 cases" in told
    assert "46% sure" in told


def test_training_warns_again_and_a_table_with_a_rare_class_as_well(tmp_path: Path) -> None:
    draw = random.Random(0)  # noqa: S311 - made-up cases, not secrets
    rows = [row for row in small_rows(160) if row["diagnosis"] == "benign" or draw.random() < 0.1]
    project = edit_recipe(new_table(tmp_path / "rare", rows), export={"threshold": "sensitivity >= 0.95"})
    run_stages(project, "ingest", "audit", "split", "prepare", "tune")
    told = medloop("train", cwd=project).err
    assert "warning: class malignant has only " in told
    assert "among the out-of-fold training cases" in told
    assert "will be chosen on" in told
