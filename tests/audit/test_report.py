"""The audit's files: findings for programs, a page for people."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from medloop.audit.report import audit_page, findings_json, write_audit
from medloop.audit.table import Audit, audit_table
from medloop.recipe import AuditSection
from tests.tables import LABEL, cases_of, clinic

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def cases(tmp_path: Path) -> pd.DataFrame:
    table = clinic(100, missing=0.1).assign(site=HOSTILE, code=lambda t: (t[LABEL] == "malignant") * 1.5)
    return cases_of(pd.concat([table, table.iloc[[0]]]), tmp_path)


@pytest.fixture
def audit(cases: pd.DataFrame) -> Audit:
    return audit_table(cases, AuditSection())


def test_findings_say_what_stops_the_training(audit: Audit) -> None:
    content = findings_json(audit, AuditSection())
    assert content["open_severe"] == ["leaking_column"]
    assert content["accepted"] == []
    assert [len(group) for group in content["groups"]] == [2]


def test_accepted_findings_stop_nothing_and_are_told(audit: Audit) -> None:
    content = findings_json(audit, AuditSection(accept=("leaking_column", "never_found")))
    assert content["open_severe"] == []
    assert content["accepted"] == ["leaking_column"]


def test_the_page_shows_findings_classes_and_columns_as_text(audit: Audit, cases: pd.DataFrame) -> None:
    html = audit_page(audit, cases, AuditSection())
    for text in ("leaking_column", "constant_columns", "benign", "malignant", "50.5%", "area", "stage"):
        assert text in html
    assert "1 severe findings stop the training" in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_the_page_names_no_patient(audit: Audit, cases: pd.DataFrame) -> None:
    html = audit_page(audit, cases, AuditSection())
    assert not any(patient in html for patient in cases["patient_id"])


def test_both_files_are_written(audit: Audit, cases: pd.DataFrame, tmp_path: Path) -> None:
    write_audit(audit, cases, AuditSection(), tmp_path / "audit")
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == ["audit.html", "findings.json"]
    stored = json.loads((tmp_path / "audit" / "findings.json").read_text())
    assert {one["name"] for one in stored["findings"]} >= {"leaking_column", "constant_columns", "duplicate_rows"}


def test_a_clean_table_says_so(tmp_path: Path) -> None:
    cases = cases_of(clinic(100), tmp_path)
    audit = audit_table(cases, AuditSection())
    html = audit_page(audit, cases, AuditSection())
    assert "Nothing found stops the training" in html
