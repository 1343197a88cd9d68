"""A project of noise is refused from the command line, however common the positive class and whatever the threshold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.errors import GateRefusal
from medloop.registry.store import read_verdict
from tests.loop_project import STAGES, edit_recipe, medloop, run_stages, write_table

ROWS, COLUMNS = 600, 6
QUICK: dict[str, Any] = {"split": {"folds": 2}, "evaluate": {"draws": 100}}


def noise_project(root: Path, *, positive: float, threshold: str, seed: int = 0) -> Path:
    """Labels that nothing in the table tells of, under the default rules."""
    rng = np.random.default_rng(seed)
    rows = [
        {**{f"x{column}": round(rng.normal(), 5) for column in range(COLUMNS)}, "y": "yes" if positives else "no"}
        for positives in rng.permutation(np.arange(ROWS) < round(positive * ROWS))
    ]
    table = write_table(root / "noise.csv", rows)
    assert medloop("new", "noise", "--data", str(table), "--label", "y", cwd=root).code == 0
    return edit_recipe(root / "noise", data={"positive": ["yes"]}, export={"threshold": threshold}, **QUICK)


def test_noise_with_nearly_all_positive_is_refused(tmp_path: Path) -> None:
    folder = noise_project(tmp_path, positive=0.97, threshold="probability >= 0.5")
    run_stages(folder, *STAGES)
    ended = subprocess.run(
        [sys.executable, "-m", "medloop", "gate"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3, ended.stderr
    for name in ("test_roc_auc, lower bound", "test_balanced_accuracy, lower bound"):
        assert f"NO  {name}: needed >= " in ended.stderr
    assert not read_verdict(folder / "work" / "verdict.json").passed


THRESHOLDS = ("probability >= 0.5", "sensitivity >= 0.95", "specificity >= 0.9", "youden")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_twenty_projects_of_noise_are_refused(tmp_path: Path, seed: int) -> None:
    folder = noise_project(
        tmp_path, positive=(0.03, 0.09, 0.3, 0.97)[seed % 4], threshold=THRESHOLDS[seed // 4 % 4], seed=seed
    )
    run_stages(folder, *STAGES)
    with pytest.raises(GateRefusal):
        run_stages(folder, "gate")
    refused = {rule.name for rule in read_verdict(folder / "work" / "verdict.json").rules if not rule.passed}
    assert refused & {"test_roc_auc, lower bound", "test_balanced_accuracy, lower bound"}
