"""`medloop doctor` looks at the machine and the project, and says what is wrong with both."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.steps import doctor
from medloop.steps.doctor import examine
from tests.loop_project import edit_recipe


def seen(root: Path) -> dict[str, tuple[str, bool | None]]:
    return {one.what: (one.found, one.ok) for one in examine(root)}


def test_a_sound_project_is_all_right(table: Path) -> None:
    checks = seen(table)
    assert not any(ok is False for _, ok in checks.values())
    assert checks["recipe"] == ("small: logistic_regression on csv", True)
    assert checks["model store"] == ("0 versions, none is served", True)
    assert checks["extra train"][0] == "installed"


def test_the_champion_is_shown(finished: Path) -> None:
    assert seen(finished)["model store"] == ("1 versions, version 1 is served", True)


def test_no_project_is_no_fault(tmp_path: Path) -> None:
    assert seen(tmp_path)["project"] == ("none in this folder", None)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"model": {"name": "logistic_regression", "c": 1}}, "Did you mean 'C'"),
        ({"trane": {}}, "Did you mean 'train'"),
        ({"export": {"threshold": "high"}}, "export.threshold 'high' is not one of"),
    ],
)
def test_a_recipe_that_cannot_work_is_reported(table: Path, section: dict[str, object], told: str) -> None:
    found, ok = seen(edit_recipe(table, **section))["recipe"]
    assert ok is False
    assert told in found


def test_wrong_settings_are_reported(table: Path) -> None:
    (table / "config.yaml").write_text("serve: {prot: 1}\n", encoding="utf-8")
    found, ok = seen(table)["settings"]
    assert ok is False
    assert "Did you mean 'port'" in found


def test_changed_code_is_reported_and_the_lock_updated(table: Path) -> None:
    (table / "medloop-lock.yaml").write_text("stages: {}\n", encoding="utf-8")
    assert "will run the affected stages again" in seen(table)["code and libraries of the stages"][0]
    assert seen(table)["code and libraries of the stages"][0] == "as locked"


def test_a_missing_extra_is_told_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "train", ("scikit-learn", "no-such-package"))
    assert seen(tmp_path)["extra train"] == ("not installed: no-such-package; `pip install medloop[train]`", None)
