"""The audit of images finds every planted fault, in the findings and on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from medloop.audit.findings import Audit
from medloop.audit.images.checks import ImageAudit, audit_images
from medloop.audit.images.page import write_image_audit
from medloop.case import Finding
from medloop.errors import RejectedInput, UserError
from medloop.recipe import AuditSection
from tests.audit.images.image_sets import ImageSet, phantoms
from tests.phantoms.fault_folder import Fault

MESS = (
    "patient_across_splits", "watermark", "exact_duplicate", "duplicate_across_splits", "two_labels",
    "near_duplicate_jpeg", "wrong_extension", "corrupt",
)  # fmt: skip


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    faults = (*(Fault(name=name, share=0.03) for name in MESS), Fault(name="marker"))
    return phantoms(tmp_path_factory.mktemp("messy") / "set", *faults, patients=80, seed=3, test_share=0.25)


@pytest.fixture(scope="module")
def audit(messy: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> ImageAudit:
    return audit_images(messy.cases, messy.read, AuditSection(), scratch=tmp_path_factory.mktemp("scratch"))


def finding(audit: Audit, name: str) -> Finding:
    found = [one for one in audit.findings if one.name == name]
    assert len(found) == 1, (name, [one.name for one in audit.findings])
    return found[0]


@pytest.mark.parametrize(
    ("name", "fault", "severity"),
    [
        ("quarantined", "corrupt", "warning"),
        ("two_labels", "two_labels", "severe"),
        ("duplicates_across_splits", "duplicate_across_splits", "severe"),
        ("patients_across_splits", "patient_across_splits", "severe"),
        ("wrong_extension", "wrong_extension", "warning"),
        ("colour_outliers", "watermark", "warning"),
    ],
)
def test_every_planted_fault_is_found_with_its_cases(
    audit: ImageAudit, messy: ImageSet, name: str, fault: str, severity: str
) -> None:
    found = finding(audit, name)
    assert found.severity == severity
    assert found.count >= len(messy.planted[fault]["paths"])
    assert messy.ids(messy.planted[fault]["paths"]) <= set(found.where)
    assert found.what
    assert found.todo


def test_exact_duplicates_are_counted_with_redundant_files(audit: ImageAudit, messy: ImageSet) -> None:
    hashes = messy.cases["pixel_sha256"].dropna()
    repeated = hashes.value_counts()
    found = finding(audit, "exact_duplicates")
    assert found.count == (repeated > 1).sum()
    assert f"{len(hashes) - len(repeated)} of them redundant" in found.what


def test_a_marker_in_one_class_is_a_severe_shortcut(audit: ImageAudit) -> None:
    found = finding(audit, "border_shortcut")
    assert found.severity == "severe"
    assert found.where[0] == "normal"
    assert "file_name_shortcut" not in {one.name for one in audit.findings}


def test_baselines_are_notes_with_intervals(audit: ImageAudit) -> None:
    for name in ("baseline_histogram", "baseline_untrained"):
        found = finding(audit, name)
        assert found.severity == "note"
        assert re.search(r"normal \d\.\d\d \[\d\.\d\d, \d\.\d\d\]", found.what)


def test_severe_findings_come_first_and_accepted_ones_are_not_open(audit: ImageAudit) -> None:
    ranks = [("severe", "warning", "note").index(one.severity) for one in audit.findings]
    assert ranks == sorted(ranks)
    severe = tuple(one.name for one in audit.findings if one.severity == "severe")
    assert [one.name for one in audit.open_severe(AuditSection())] == list(severe)
    assert audit.open_severe(AuditSection(accept=severe)) == []


def test_groups_hold_case_ids_of_copies(audit: ImageAudit, messy: ImageSet) -> None:
    ids = dict(zip(messy.cases["path"], messy.cases["case_id"], strict=True))
    of = {name: number for number, group in enumerate(audit.groups) for name in group}
    for fault in ("exact_duplicate", "two_labels", "near_duplicate_jpeg"):
        record = messy.planted[fault]
        together = [of[ids[a]] == of[ids[b]] for a, b in zip(record["paths"], record["sources"], strict=True)]
        assert np.mean(together) >= 0.95


def test_the_page_is_a_small_single_file_with_images(audit: ImageAudit, messy: ImageSet, tmp_path: Path) -> None:
    section = AuditSection(accept=("two_labels",))
    write_image_audit(audit, messy.cases, section, tmp_path / "audit")
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert len(page) < 5_000_000
    assert not re.search(r'(src|href)="(?!data:)', page)
    for words in ("Identical images", "Copies of an image in another form", "Examples of each class", "Shortcuts"):
        assert words in page
    stored = json.loads((tmp_path / "audit" / "findings.json").read_text())
    assert stored["accepted"] == ["two_labels"]
    assert "border_shortcut" in stored["open_severe"]
    assert [len(group) for group in stored["groups"]] == [len(group) for group in audit.groups]
    border = next(one for one in stored["probes"] if one["name"] == "border")
    assert border["fires"]
    assert border["by_class"]["normal"]["lower"] > 0.6


def test_images_without_patients_have_a_note(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", patients=4, slices=(1, 1))
    found = audit_images(
        images.cases.assign(patient_id=None), images.read, AuditSection(), scratch=tmp_path / "scratch"
    )
    assert "no claim can be made about new patients" in finding(found, "no_patients").what
    assert finding(found, "no_probes").severity == "note"


def test_an_image_that_broke_since_ingest_is_a_finding(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", patients=8, slices=(1, 1))
    bad = images.cases["path"].iloc[3]

    def read(path: str) -> NDArray[np.uint8]:
        if path == bad:
            raise RejectedInput("The PNG is cut off.", "Replace the file.")
        return images.read(path)

    found = finding(audit_images(images.cases, read, AuditSection(), scratch=tmp_path / "scratch"), "unreadable")
    assert found.where == tuple(images.ids([bad]))
    assert "cut off" in found.what


def test_each_image_is_decoded_once_before_the_page_is_drawn(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", patients=16, slices=(1, 1))
    seen: list[str] = []

    def read(path: str) -> NDArray[np.uint8]:
        seen.append(path)
        return images.read(path)

    audit_images(images.cases, read, AuditSection(), scratch=tmp_path / "scratch")
    assert sorted(seen[:16]) == sorted(images.cases["path"])
    assert len(seen) == 2 * 16


def test_a_set_without_readable_images_is_an_error(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", patients=4, slices=(1, 1))
    with pytest.raises(UserError, match=r"None of the 4 images can be read \(cut off: 4\)\."):
        audit_images(images.cases.assign(quarantined="cut off"), images.read, AuditSection(), scratch=tmp_path)


@pytest.mark.soak
def test_flipped_labels_of_body_parts_rank_high(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", Fault(name="flipped_labels"), kind="six_kinds", patients=120, seed=4)
    wrong = set(images.planted["flipped_labels"]["paths"])
    audit = audit_images(images.cases, images.read, AuditSection(), scratch=tmp_path / "scratch", names=True)
    doubted = {path for path, *_ in audit.doubts}
    assert len(doubted & wrong) >= 0.7 * len(wrong)
    assert len(doubted & wrong) >= 0.9 * len(doubted)


def test_manifests_of_older_projects_are_audited(tmp_path: Path) -> None:
    images = phantoms(tmp_path / "set", patients=24, slices=(1, 1))
    cases: pd.DataFrame = images.cases.drop(columns=["given", "format", "bits"])
    names = {one.name for one in audit_images(cases, images.read, AuditSection(), scratch=tmp_path / "s").findings}
    assert "baseline_untrained" in names
    assert not names & {"wrong_extension", "duplicates_across_splits"}
