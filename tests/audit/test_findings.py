"""Patient ids that differ only in case or whitespace are reported, and not merged."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pydicom import dcmread

from medloop.audit.images.checks import audit_images
from medloop.audit.tables.checks import audit_table
from medloop.case import Finding
from medloop.phantoms import PhantomSpec
from medloop.recipe import AuditSection
from tests.audit.images.image_sets import phantoms
from tests.dicom_series import write_series
from tests.loop_project import medloop
from tests.tables import cases_of, clinic


def alike(findings: tuple[Finding, ...]) -> list[Finding]:
    return [one for one in findings if one.name == "patient_ids_alike"]


def test_patient_ids_of_a_table_that_differ_in_case_or_spaces_are_found(tmp_path: Path) -> None:
    table = clinic(200)
    table["patient"] = table["patient"].replace({"p0001": "P0000", "p0003": "p 0002", "p0005": "p  0004"})
    cases = cases_of(table, tmp_path)
    [finding] = alike(audit_table(cases, AuditSection()).findings)
    assert (finding.severity, finding.count) == ("warning", 6)
    assert "6 patient ids" in finding.what
    assert "3 patients" in finding.what
    wanted = cases["patient_id"].isin(["p0000", "P0000", "p0002", "p 0002", "p0004", "p  0004"])
    assert set(finding.where) == set(cases.loc[wanted, "case_id"])
    assert "0002" not in finding.what + finding.todo


def test_similar_patient_ids_of_images_are_found(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", patients=12, slices=(2, 2))
    one = images.cases["patient_id"].iloc[0]
    changed = images.cases.index[images.cases["patient_id"] == one][1]
    cases = images.cases.copy()
    cases.loc[changed, "patient_id"] = f"{one.swapcase()} "
    audit = audit_images(cases, images.read, AuditSection(), scratch=tmp_path / "scratch")
    [finding] = alike(audit.findings)
    assert finding.count == 2
    assert cases.loc[changed, "case_id"] in finding.where


def test_similar_patient_ids_of_headers_are_found_without_storing_them(tmp_path: Path) -> None:
    spec = PhantomSpec(patients=8, slices=(4, 5), size=48, classes=("normal", "large_cell"), seed=3)
    scans = write_series(tmp_path / "scans", spec, grouped=True)
    (path,) = scans.rglob("scan000_1.dcm")
    header = dcmread(path)
    header.PatientID = header.PatientID.lower()
    header.save_as(path)
    said = medloop("audit", "scans", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "2 patient ids differ from another only in upper and lower case or in spaces" in said.out
    assert header.PatientID not in said.out.lower()


def test_different_and_missing_patient_ids_are_no_finding(tmp_path: Path) -> None:
    table = clinic(200)
    assert alike(audit_table(cases_of(table, tmp_path), AuditSection()).findings) == []
    lacking: pd.DataFrame = table.assign(patient=table["patient"].where(table.index % 2 == 0))
    assert alike(audit_table(cases_of(lacking, tmp_path), AuditSection()).findings) == []
