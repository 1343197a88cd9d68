"""The figures of the folds are those of the model as it will serve, and a new threshold trains nothing again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medloop.bundle import files
from medloop.storage import read_json, write_json
from tests.loop_project import edit_recipe, medloop


def exported(project: Path, threshold: str) -> tuple[dict[str, Any], dict[str, float]]:
    """The bundle and the scores after export and evaluate with another threshold."""
    edit_recipe(project, export={"threshold": threshold})
    for stage in ("export", "evaluate"):
        ended = medloop(stage, cwd=project)
        assert ended.code == 0, ended.err
    work = project / "work"
    return read_json(work / "bundle" / files.META), read_json(work / "report" / "scores.json")


def test_a_threshold_that_hardly_any_case_reaches_shows_in_the_recall_of_the_folds(project: Path) -> None:
    trained = {path: path.stat().st_mtime_ns for path in (project / "work" / "trained").iterdir()}
    _, plain = exported(project, "probability >= 0.5")
    meta, strict = exported(project, "probability >= 0.999")
    assert plain["cv_recall_mean"] > 0.9
    assert strict["cv_recall_mean"] == pytest.approx(strict["test_recall"], abs=0.12)
    assert strict["cv_recall_mean"] < 0.75
    assert strict["cv_specificity_mean"] == 1
    assert strict["cv_roc_auc_mean"] == plain["cv_roc_auc_mean"]
    assert meta["threshold"]["sensitivity"]["value"] == pytest.approx(strict["cv_recall_mean"], abs=0.12)
    assert {path: path.stat().st_mtime_ns for path in (project / "work" / "trained").iterdir()} == trained


def test_the_training_does_not_claim_figures_of_decisions_that_it_does_not_make(project: Path) -> None:
    said = medloop("train", cwd=project).out
    assert "recall" not in said
    assert "before the export sets the threshold" in said


def test_the_bundle_of_a_table_says_what_its_decisions_were_fitted_on(project: Path) -> None:
    meta, _ = exported(project, "sensitivity >= 0.97 with 90% confidence")
    found, threshold = meta["calibration"], meta["threshold"]
    counts = {name: found["by_class"][name]["cases"] for name in meta["classes"]}
    assert (found["method"], found["folds"], sum(counts.values())) == ("out_of_fold", 3, 456)
    assert threshold["positives"]["cases"] == counts["malignant"]
    assert threshold["sensitivity"]["lower"] < threshold["sensitivity"]["value"]
    assert threshold["confidence_reached"] >= 0.9 == threshold["confidence"]
    assert meta["conformal"]["pooled"] == []


def test_a_split_that_the_training_did_not_know_is_told(project: Path) -> None:
    path = project / "work" / "splits.parquet"
    splits = pd.read_parquet(path)
    splits.loc[splits.index[splits["part"] == "train"][:3], "part"] = "test"
    splits.to_parquet(path, index=False)
    ended = medloop("export", cwd=project)
    assert ended.code == 2
    assert "The split has changed since the model was trained" in ended.err


def test_a_bundle_without_the_new_facts_decides_as_before(project: Path) -> None:
    bundle, scores = project / "work" / "bundle", project / "work" / "report" / "scores.json"
    meta, before = read_json(bundle / files.META), read_json(scores)
    kept = {
        "calibration": ("temperature", "fitted_on", "n"),
        "threshold": ("value", "rule"),
        "conformal": ("alpha", "quantiles"),
    }
    old = {**meta, **{name: {key: meta[name][key] for key in keys} for name, keys in kept.items()}}
    del old["cross_validation_rule"]
    write_json(bundle / files.META, old)
    files.seal(bundle)
    ended = medloop("evaluate", cwd=project)
    assert ended.code == 0, ended.err
    assert read_json(scores) == before
