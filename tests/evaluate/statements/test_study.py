"""What is told of the data: counts and names of columns, and nobody in particular."""

from __future__ import annotations

import json

import pandas as pd

from medloop.evaluate.statements.study import study_facts

CASES = pd.DataFrame(
    {
        "case_id": ["a", "b", "c", "d"],
        "patient_id": ["Miller", "Miller", "Jones", None],
        "path": [None] * 4,
        "label": ["no", "yes", "yes", "no"],
        "source": ["csv"] * 4,
        "quarantined": [None, None, None, "no label: row 7"],
        "mode": [None] * 4,
        "width": [None] * 4,
        "height": [None] * 4,
        "row.age": [30.0, 30.0, None, 50.0],
        "row.sex": ["f", "f", "m", "m"],
    }
)
SPLITS = pd.DataFrame(
    {"case_id": ["a", "b", "c"], "part": ["train", "train", "test"], "group": ["1", "1", "2"], "why": ["", "", "near"]}
)
FINDINGS = {
    "groups": [["a", "b"]],
    "findings": [{"name": "x", "severity": "note", "count": 1, "what": "w", "todo": "t"}],
}


def test_parts_labels_and_bands_are_counted() -> None:
    found = study_facts(CASES, SPLITS, FINDINGS, subgroups=["sex"])
    assert (found["cases"], found["patients"], found["sources"]) == (4, 2, {"csv": 4})
    assert found["set_aside"] == {"no label": 1}
    assert found["left_out"] == {"near": 1}
    assert found["parts"]["train"] == {
        "cases": 2,
        "groups": 1,
        "patients": 1,
        "labels": {"no": 1, "yes": 1},
        "subgroups": {"sex": {"f": 2}},
    }
    assert (found["duplicate_groups"], found["patients_in_several_parts"]) == (1, 0)
    assert found["missing"] == {"age": 0.25}
    assert found["images"] is None


def test_a_patient_in_two_parts_is_counted() -> None:
    torn = SPLITS.assign(part=["train", "test", "test"])
    assert study_facts(CASES, torn, FINDINGS)["patients_in_several_parts"] == 1


def test_no_patient_is_named() -> None:
    assert "Miller" not in json.dumps(study_facts(CASES, SPLITS, FINDINGS, subgroups=["sex", "age"]))


def test_images_have_formats_and_sizes() -> None:
    table = CASES.assign(path="x.png", format="png", mode="L", width=64, height=[32, 32, 64, 64])
    assert study_facts(table, SPLITS, FINDINGS)["images"] == {
        "formats": {"png": 4},
        "modes": {"L": 4},
        "size": "64 x 32 to 64 x 64",
    }
