"""The stages over images: ingest, split and prepare of a project, and what each of them does again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from medloop.errors import UserError
from medloop.prepare.prepared_images import read_prepared_images
from medloop.settings import Settings, load_settings
from medloop.steps.project import Project, patient_key
from medloop.steps.stages import ingest, prepare, split
from medloop.storage import write_json
from tests.image_files import image_project, write_classes, write_picture
from tests.loop_project import medloop


def make(folder: Path, **prepare: Any) -> Project:
    """A project on a folder of classes with official parts."""
    scans = folder / "scans"
    if not scans.exists():
        write_classes(scans, each=12, parts=("train", "valid"))
    data = {"source": "folder", "path": "scans", "positive": ["tumour"]}
    folder.mkdir(exist_ok=True)
    return image_project(folder, data=data, split={"folds": 2}, prepare={"size": 16, **prepare})


def no_findings(project: Project) -> None:
    write_json(project.work / "audit" / "findings.json", {"groups": [], "open_severe": [], "accepted": []})


def test_ingest_counts_the_cases_and_keeps_what_cannot_be_read(tmp_path: Path) -> None:
    project = make(tmp_path)
    (tmp_path / "scans" / "train" / "normal" / "broken.png").write_bytes(b"broken")
    said = ingest.run(project)
    assert said.startswith("49 cases (24 ")
    assert "24 normal" in said
    assert "24 tumour" in said
    cases = project.cases()
    assert cases["quarantined"].notna().sum() == 1
    assert set(cases["given"]) == {"train", "val"}


def test_ingest_makes_one_key_for_patients_that_only_the_owner_can_read(tmp_path: Path) -> None:
    project = make(tmp_path)
    ingest.run(project)
    secret = tmp_path / "secrets.yaml"
    before = secret.read_bytes()
    assert secret.stat().st_mode & 0o077 == 0
    # The settings of this project were read when there was no key.
    ingest.run(project)
    ingest.run(make(tmp_path))
    assert secret.read_bytes() == before
    assert before.count(b"patient_key:") == 1


@pytest.mark.parametrize("before", [None, "user: me\n"])
def test_the_key_is_at_no_moment_readable_by_others(
    before: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before:
        (tmp_path / "secrets.yaml").write_text(before, "utf-8")
    rights, fsync = [], os.fsync

    def look(handle: int) -> None:
        rights.extend(path.stat().st_mode & 0o077 for path in tmp_path.iterdir() if b"_key" in path.read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", look)
    umask = os.umask(0)
    try:
        key = patient_key(tmp_path, Settings())
    finally:
        os.umask(umask)
    assert rights
    assert not any(rights)
    assert load_settings(tmp_path).patient_key == SecretStr(key.decode())
    assert load_settings(tmp_path).user == (before and "me")


def test_a_key_that_others_could_read_is_restricted_with_a_warning(tmp_path: Path) -> None:
    make(tmp_path)
    secret = tmp_path / "secrets.yaml"
    secret.write_text("patient_key: known\n", "utf-8")
    secret.chmod(0o644)
    assert medloop("ingest", cwd=tmp_path).code == 0
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text("utf-8") == "patient_key: known\n"
    assert "secrets.yaml was readable by other users" in (tmp_path / "logs" / "ingest.log").read_text("utf-8")


def test_split_keeps_the_official_test_set_and_reports_copies_left_out(tmp_path: Path) -> None:
    project = make(tmp_path)
    ingest.run(project)
    no_findings(project)
    cases = project.cases().set_index("given")["case_id"]
    write_json(
        project.work / "audit" / "findings.json",
        {"groups": [[cases["train"].iloc[0], cases["val"].iloc[0]]], "open_severe": [], "accepted": []},
    )
    said = split.run(project)
    assert "1 left out: shares a patient or picture with a fixed part" in said
    splits = pd.read_parquet(project.work / "splits.parquet").set_index("case_id")
    assert (splits.loc[cases["val"], "part"] == "test").all()
    assert splits["part"].value_counts().to_dict() == {"test": 24, "train": 23, "out": 1}


def test_prepare_writes_the_usable_cases_once(tmp_path: Path) -> None:
    project = make(tmp_path)
    (tmp_path / "scans" / "train" / "normal" / "broken.png").write_bytes(b"broken")
    ingest.run(project)
    assert prepare.run(project) == "48 images, 16 x 16 x 1"
    assert prepare.run(project) == "48 images (48 reused), 16 x 16 x 1"
    prepared = read_prepared_images(project.work / "prepared")
    assert prepared.task == {"task": "images", "classes": ["normal", "tumour"], "positive": ["tumour"]}
    assert prepared.case_ids == project.cases().query("quarantined.isna()")["case_id"].tolist()


def test_another_size_redoes_this_step_alone(tmp_path: Path) -> None:
    project = make(tmp_path)
    ingest.run(project)
    no_findings(project)
    split.run(project)
    prepare.run(project)
    others = ("cases.parquet", "splits.parquet", "edition.json")
    before = [(project.work / name).stat().st_mtime_ns for name in others]
    changed = make(tmp_path, size=[20, 30], channels=3)
    assert prepare.run(changed) == "48 images, 20 x 30 x 3"
    assert [(project.work / name).stat().st_mtime_ns for name in others] == before


def test_a_file_that_vanished_is_told_by_its_case(tmp_path: Path) -> None:
    project = make(tmp_path)
    ingest.run(project)
    gone = project.cases().iloc[7]
    (tmp_path / gone["path"]).unlink()
    with pytest.raises(UserError) as caught:
        prepare.run(project)
    assert gone["case_id"] in caught.value.problem
    assert Path(gone["path"]).name not in str(caught.value)


def test_the_same_pictures_elsewhere_give_the_same_bytes(tmp_path: Path) -> None:
    arrays = []
    for name in ("one", "other"):
        project = make(tmp_path / name)
        ingest.run(project)
        prepare.run(project)
        arrays.append(np.load(project.work / "prepared" / "images.npy"))
    assert np.array_equal(*arrays)


def test_a_changed_file_is_noticed_and_ingesting_again_mends_it(tmp_path: Path) -> None:
    project = make(tmp_path)
    ingest.run(project)
    write_picture(tmp_path / project.cases().iloc[0]["path"], 999)
    with pytest.raises(UserError, match="as they were ingested"):
        prepare.run(project)
    ingest.run(project)
    assert prepare.run(project).startswith("48 images,")
