"""Copies with noise in a table without signal give no model a good figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.loop_project import STAGES, edit_recipe, new_table, run_stages

ROWS, COLUMNS = 200, 6


def test_extra_trees_learn_nothing_from_noise_that_was_copied_with_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, COLUMNS))
    labels = rng.permutation(["benign", "malignant"] * (ROWS // 2))
    copies = [values + rng.normal(0, 1e-4, values.shape) for _ in range(3)]
    rows = [
        {**{f"value {place}": repr(float(one)) for place, one in enumerate(row)}, "diagnosis": label}
        for part in (values, *copies)
        for row, label in zip(part, labels, strict=True)
    ]
    folder = new_table(tmp_path / "project", rows)
    edit_recipe(folder, model={"name": "extra_trees", "n_estimators": 40}, split={"folds": 3, "test": 0.3})
    run_stages(folder, *STAGES)
    findings = json.loads((folder / "work" / "audit" / "findings.json").read_text("utf-8"))
    assert "near_duplicate_rows" in {one["name"] for one in findings["findings"]}
    assert [len(group) for group in findings["groups"]] == [4] * ROWS
    area = json.loads((folder / "work" / "report" / "report.json").read_text("utf-8"))["test"]["roc_auc"]
    assert area["lower"] < 0.5 < area["upper"]
