"""What a split records of itself is what can be counted in its parts, and the same whenever it is made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from medloop.case import case_id
from medloop.data import manifest
from medloop.data.split import split_cases
from medloop.data.split_facts import split_facts
from medloop.recipe import SplitSection
from tests.loop_project import copied, run_stages


def cases_of(count: int, **columns: Any) -> pd.DataFrame:
    """Cases of two classes in turn."""
    names = [case_id("test", str(number)) for number in range(count)]
    labels = ["ab"[number % 2] for number in range(count)]
    table = pd.DataFrame({"case_id": names, "label": labels, **columns}, dtype=object)
    return manifest.complete_manifest(table.assign(source="test", file_sha256=names))


def facts_of(cases: pd.DataFrame, *, smoke: bool = False, **section: Any) -> dict[str, Any]:
    asked = SplitSection(folds=2, **section)
    return split_facts(cases, split_cases(cases, asked, smoke=smoke), asked, copies=0, smoke=smoke)


def test_what_is_drawn_is_counted_with_its_share() -> None:
    found = facts_of(cases_of(100), test=0.2, val=0.1, seed=4)
    assert (found["official"], found["drawn"], found["seed"]) == ({}, {"val": 0.1, "test": 0.2}, 4)
    assert {name: part["cases"] for name, part in found["parts"].items()} == {"train": 70, "val": 10, "test": 20}
    assert found["parts"]["test"]["labels"] == {"a": 10, "b": 10}
    assert (found["folds"], found["cases"], found["cases_with_patient"]) == (2, 100, 0)


def test_what_the_source_gave_is_named_as_the_source_names_it() -> None:
    given = ["train"] * 30 + ["val"] * 10
    assert facts_of(cases_of(40, given=given))["official"] == {"test": ["val"]}
    assert facts_of(cases_of(40, given=given))["drawn"] == {}
    three = ["train"] * 40 + ["test"] * 10
    found = facts_of(cases_of(50, given=three), val=0.2)
    assert (found["official"], found["drawn"]) == ({"test": ["test"]}, {"val": 0.2})
    assert facts_of(cases_of(50, given=three), official=False)["drawn"] == {"test": 0.2}


def test_patients_and_studies_are_counted_where_they_are_named() -> None:
    patients = [f"p{number // 2}" if number < 20 else None for number in range(40)]
    studies = [patient or f"s{number // 2}" for number, patient in enumerate(patients)]
    found = facts_of(cases_of(40, patient_id=patients, group_id=studies))
    assert (found["cases_with_patient"], found["cases_with_study"], found["patients"]) == (20, 20, 10)
    assert (found["groups"], found["patients_in_several_parts"]) == (20, 0)


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    patients = [f"p{number}" for number in range(40)]
    patients[39] = patients[0]
    found = facts_of(cases_of(40, given=["train"] * 30 + ["test"] * 10, patient_id=patients))
    assert found["left_out"] == {"shares a patient or picture with a fixed part": 1}
    assert found["cases"] == 39
    assert facts_of(cases_of(200), smoke=True)["smoke"] is True


def test_a_split_that_is_made_again_after_the_lock_records_the_same(small: Path, tmp_path: Path) -> None:
    project = copied(small, tmp_path / "again")
    before = (project / "work" / "split.json").read_bytes()
    run_stages(project, "split")
    assert (project / "work" / "split.json").read_bytes() == before
