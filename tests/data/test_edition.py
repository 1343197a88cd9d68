"""The edition is locked: later cases do not change it, and a changed test row is refused by its id."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from medloop.data import manifest
from medloop.data.edition import Edition, edition_of, locked_cases, read_edition, write_edition
from medloop.data.split import split_cases
from medloop.errors import UserError
from medloop.recipe import SplitSection
from tests.tables import cases_of, clinic

SECTION = SplitSection(folds=2)


@pytest.fixture
def cases(tmp_path: Path) -> pd.DataFrame:
    return cases_of(clinic(60, visits=2), tmp_path)


@pytest.fixture
def edition(cases: pd.DataFrame) -> Edition:
    return edition_of(cases, split_cases(cases, SECTION), SECTION, smoke=False)


def locked(edition: Edition | None, cases: pd.DataFrame, section: SplitSection = SECTION) -> frozenset[str]:
    return locked_cases(edition, cases, section, smoke=False)


def test_the_edition_is_the_test_set(edition: Edition, cases: pd.DataFrame) -> None:
    splits = split_cases(cases, SECTION)
    assert set(edition.cases) == set(splits.loc[splits["part"] == "test", "case_id"])
    assert locked(edition, cases) == frozenset(edition.cases)


def test_its_id_depends_on_the_order_of_nothing(edition: Edition, cases: pd.DataFrame) -> None:
    shuffled = cases.sample(frac=1, random_state=0).reset_index(drop=True)
    assert edition_of(shuffled, split_cases(shuffled, SECTION), SECTION, smoke=False) == edition


@pytest.mark.parametrize("column", ["label", "file_sha256"])
def test_its_id_changes_with_a_label_or_a_value(column: str, edition: Edition, cases: pd.DataFrame) -> None:
    splits = split_cases(cases, SECTION)
    changed = cases.copy()
    changed.loc[changed["case_id"] == min(edition.cases), column] = "changed"
    assert edition_of(changed, splits, SECTION, smoke=False).id != edition.id


def test_later_cases_change_nothing(edition: Edition, cases: pd.DataFrame, tmp_path: Path) -> None:
    late = clinic(20, seed=9).assign(patient=lambda table: "late-" + table["patient"])
    more = cases_of(pd.concat([clinic(60, visits=2), late]), tmp_path)
    assert len(more) == 80
    splits = split_cases(more, SECTION, locked=locked(edition, more))
    assert edition_of(more, splits, SECTION, smoke=False) == edition


@pytest.mark.parametrize("column", ["label", "file_sha256"])
def test_a_changed_test_row_is_refused_by_its_id(column: str, edition: Edition, cases: pd.DataFrame) -> None:
    name = max(edition.cases)
    cases.loc[cases["case_id"] == name, column] = "changed"
    with pytest.raises(UserError, match="have changed or are missing") as caught:
        locked(edition, cases)
    assert caught.value.problem.startswith("1 of the ")
    assert name in caught.value.problem


def test_a_test_row_that_is_gone_is_refused_by_its_id(edition: Edition, cases: pd.DataFrame) -> None:
    name = max(edition.cases)
    with pytest.raises(UserError, match=name):
        locked(edition, cases[cases["case_id"] != name])


def test_a_changed_training_row_is_no_matter_of_the_edition(edition: Edition, cases: pd.DataFrame) -> None:
    other = ~cases["case_id"].isin(list(edition.cases))
    cases.loc[other, "label"] = "changed"
    assert locked(edition, cases) == frozenset(edition.cases)


def test_a_test_row_whose_value_changed_in_the_file_is_refused(
    edition: Edition, cases: pd.DataFrame, tmp_path: Path
) -> None:
    table = clinic(60, visits=2)
    ages = cases.set_index("case_id").loc[max(edition.cases), "row.age"]
    table.loc[table["age"] == ages, "age"] += 1
    with pytest.raises(UserError, match=max(edition.cases)):
        locked(edition, cases_of(table, tmp_path))


@pytest.mark.parametrize("section", [SplitSection(folds=2, seed=1), SplitSection(folds=2, test=0.3)])
def test_another_rule_begins_another_edition(section: SplitSection, edition: Edition, cases: pd.DataFrame) -> None:
    assert locked(edition, cases, section) == frozenset()


@pytest.mark.parametrize("section", [SplitSection(folds=3), SplitSection(folds=2, val=0.1, calib=0.1)])
def test_what_is_done_with_the_rest_does_not(section: SplitSection, edition: Edition, cases: pd.DataFrame) -> None:
    assert locked(edition, cases, section) == frozenset(edition.cases)


def test_a_smoke_run_has_an_edition_of_its_own(edition: Edition, cases: pd.DataFrame) -> None:
    assert locked_cases(edition, cases, SECTION, smoke=True) == frozenset()


def test_nothing_is_locked_at_first(cases: pd.DataFrame, tmp_path: Path) -> None:
    assert read_edition(tmp_path / "edition.json") is None
    assert locked(None, cases) == frozenset()


def test_what_was_locked_is_read_back(edition: Edition, tmp_path: Path) -> None:
    write_edition(edition, tmp_path / "edition.json")
    assert read_edition(tmp_path / "edition.json") == edition


def test_an_edition_that_was_edited_is_refused(edition: Edition, tmp_path: Path) -> None:
    path = tmp_path / "edition.json"
    write_edition(edition, path)
    content = json.loads(path.read_text())
    content["cases"].popitem()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"edition\.json was changed"):
        read_edition(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 1}', '{"id": "x", "rule": {}, "cases": {}}'])
def test_a_broken_edition_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "edition.json").write_text(text)
    with pytest.raises(UserError, match=r"edition.json"):
        read_edition(tmp_path / "edition.json")


def test_it_names_no_patient(edition: Edition, cases: pd.DataFrame, tmp_path: Path) -> None:
    write_edition(edition, tmp_path / "edition.json")
    stored = (tmp_path / "edition.json").read_text()
    assert not any(f'"{patient}"' in stored for patient in cases["patient_id"])
    assert manifest.usable(cases)["patient_id"].notna().all()
