"""The files of a table's audit: findings for programs, a page for people."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from medloop.audit.findings import Audit
from medloop.audit.report import accept_findings, findings_json
from medloop.audit.tables.checks import audit_table
from medloop.audit.tables.page import table_audit_page, write_table_audit
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


def test_open_severe_findings_are_listed(audit: Audit) -> None:
    content = findings_json(audit, AuditSection())
    assert content["open_severe"] == ["leaking_column"]
    assert content["accepted"] == []
    assert [len(group) for group in content["groups"]] == [2]


def test_accepted_findings_are_listed_and_not_open(audit: Audit) -> None:
    content = findings_json(audit, AuditSection(accept=("leaking_column", "never_found")))
    assert content["open_severe"] == []
    assert content["accepted"] == ["leaking_column"]


def test_the_page_shows_findings_classes_and_columns_as_text(audit: Audit, cases: pd.DataFrame) -> None:
    html = table_audit_page(audit, cases, AuditSection())
    for text in ("leaking_column", "constant_columns", "benign", "malignant", "50.5%", "area", "stage"):
        assert text in html
    assert "1 severe finding stops the training." in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_the_page_names_no_patient(audit: Audit, cases: pd.DataFrame) -> None:
    html = table_audit_page(audit, cases, AuditSection())
    assert not any(patient in html for patient in cases["patient_id"])


def test_both_files_are_written(audit: Audit, cases: pd.DataFrame, tmp_path: Path) -> None:
    write_table_audit(audit, cases, AuditSection(), tmp_path / "audit")
    assert sorted(path.name for path in (tmp_path / "audit").iterdir()) == ["audit.html", "findings.json"]
    stored = json.loads((tmp_path / "audit" / "findings.json").read_text())
    assert {one["name"] for one in stored["findings"]} >= {"leaking_column", "constant_columns", "duplicate_rows"}


def test_a_clean_table_has_no_finding_that_stops_the_training(tmp_path: Path) -> None:
    cases = cases_of(clinic(100), tmp_path)
    audit = audit_table(cases, AuditSection())
    html = table_audit_page(audit, cases, AuditSection())
    assert "No finding stops the training." in html


def test_accepting_a_finding_changes_the_page_as_another_audit_would(
    audit: Audit, cases: pd.DataFrame, tmp_path: Path
) -> None:
    accepting = AuditSection(accept=("leaking_column",))
    write_table_audit(audit, cases, AuditSection(), tmp_path / "audit")
    write_table_audit(audit, cases, accepting, tmp_path / "again")
    accepted = accept_findings(tmp_path / "audit", accepting)
    assert accepted is not None
    assert accepted.open_severe(accepting) == []
    for name in ("audit.html", "findings.json"):
        assert (tmp_path / "audit" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_page_of_another_layout_is_left_for_a_new_audit(audit: Audit, cases: pd.DataFrame, tmp_path: Path) -> None:
    write_table_audit(audit, cases, AuditSection(), tmp_path / "audit")
    (tmp_path / "audit" / "audit.html").write_text("<html></html>", "utf-8")
    assert accept_findings(tmp_path / "audit", AuditSection(accept=("leaking_column",))) is None
