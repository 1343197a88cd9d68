"""DICOM files of many frames from ingest to prepare: refused, one frame of each, or every frame as a slice."""

from __future__ import annotations

import os
import signal
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.audit.images.messages import quarantined, with_display_names
from medloop.decode.pool import Sandbox
from medloop.decode.raster import decode
from medloop.decode.rule import DecodeRule
from medloop.errors import UserError
from medloop.phantoms import PhantomSpec, generate
from medloop.prepare.prepared_images import read_prepared_images
from medloop.recipe import load_recipe
from medloop.steps.project import Project
from medloop.steps.stages import ingest, prepare
from tests.dicom_series import write_series
from tests.image_files import image_project
from tests.loop_project import edit_recipe, medloop

SPEC = PhantomSpec(patients=6, slices=(2, 4), size=32, classes=("normal", "large_cell"), format="dicom")
PER_PATIENT = {"per": "patient"}


def project_of(folder: Path, *, grouped: bool = False, **prepare: Any) -> Project:
    folder.mkdir()
    write_series(folder / "scans", SPEC, grouped=grouped)
    data = {"source": "dicom", "path": "scans", "positive": ["large_cell"]}
    return image_project(folder, data=data, prepare={"size": 32, **prepare}, export=PER_PATIENT)


def pictures_of(project: Project, pattern: str) -> list[np.ndarray]:
    """The frames of one series, as the prepared array has them."""
    prepare.run(project)
    prepared = read_prepared_images(project.work / "prepared")
    paths = project.cases().set_index("case_id").loc[prepared.case_ids, "path"]
    order = sorted((path, row) for row, path in enumerate(paths) if pattern in path)
    return [prepared.images[row][..., 0] for _, row in order]


def frames_of(patient: int) -> list[np.ndarray]:
    """The slices of a patient as they were drawn."""
    slices = [item for item in generate(SPEC) if item.patient_id.endswith(f"{patient:05d}")]
    return [item.pixels for item in slices]


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "functional groups"])
@pytest.mark.parametrize(("frame", "chosen"), [("first", 0), ("middle", -1)])
def test_one_frame_stands_for_its_file(tmp_path: Path, frame: str, chosen: int, grouped: bool) -> None:
    project = project_of(tmp_path / "p", frame=frame, grouped=grouped)
    ingest.run(project)
    cases = project.cases()
    assert cases["quarantined"].isna().all()
    assert cases["path"].is_unique
    # The first patient of three has two series, the second has one.
    expected = frames_of(1)
    (found,) = pictures_of(project, "scan001_0")
    assert np.abs(found.astype(int) - expected[chosen and len(expected) // 2]).max() <= 1


@pytest.mark.parametrize("grouped", [False, True], ids=["plain", "functional groups"])
def test_every_frame_is_a_slice_of_its_patient(tmp_path: Path, grouped: bool) -> None:
    project = project_of(tmp_path / "p", frame="all", grouped=grouped)
    ingest.run(project)
    cases = project.cases()
    slices = list(generate(SPEC))
    assert cases["quarantined"].isna().all()
    assert len(cases) == len(slices)
    counts = Counter(one.patient_id for one in slices)
    assert sorted(cases.groupby("patient_id").size()) == sorted(counts.values())
    assert cases.groupby("patient_id")["label"].nunique().max() == 1
    for found, expected in zip(pictures_of(project, "scan001_0"), frames_of(1), strict=True):
        assert np.abs(found.astype(int) - expected).max() <= 1
    before = cases["case_id"].tolist()
    ingest.run(project)
    assert project.cases()["case_id"].tolist() == before


def test_a_kill_leaves_the_frames_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = project_of(tmp_path / "p", frame="all")
    ingest.run(project)
    before = project.cases()
    with monkeypatch.context() as patch:
        patch.setattr("medloop.data.images.each_chunk", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        with warnings.catch_warnings():
            # From Python 3.12 on a fork beside other threads is warned of; this child only runs until it is killed.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                ingest.run(project)
            finally:
                os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert all((project.root / path).is_file() for path in before["path"])
    ingest.run(project)
    assert project.cases().equals(before)
    assert [path.name for path in project.work.iterdir() if path.name.startswith(".")] == []


def test_what_is_refused_says_what_may_be_set(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p")
    said = ingest.run(project)
    aside = project.cases()["quarantined"].dropna()
    assert set(aside) >= {"The DICOM file has 2 frames, and `prepare.frame` chooses none of them"}
    assert f"; {len(aside)} set aside, see the audit)" in said
    (finding,) = quarantined(with_display_names(project.cases(), names=False))
    assert "prepare.frame" in finding.todo


@pytest.mark.parametrize("command", ["ingest", "prepare", "run"])
def test_frames_are_slices_only_where_patients_are_decided(tmp_path: Path, command: str) -> None:
    project = project_of(tmp_path / "p", frame="all")
    ingest.run(project)
    # No stage before the export depends on this setting, so none of them runs again to refuse it.
    edit_recipe(project.root, export={"per": "case"})
    done = medloop(command, cwd=project.root)
    assert done.code == 2
    assert "export.per: patient" in done.err
    assert load_recipe(project.root).prepare.frame == "all"


def test_long_files_are_decoded_some_frames_at_a_time(tmp_path: Path) -> None:
    from tests.decode.dicom_files import dicom

    grey = np.arange(40 * 16 * 20, dtype=np.uint8).reshape(40 * 16, 20)
    data = dicom(grey, Rows=16, NumberOfFrames="40", Modality="OT", PatientID="P")
    rule = DecodeRule(frame="all")
    with Sandbox() as sandbox:
        first = sandbox.frames(data, rule=rule, patient_key=b"k")
        every = list(sandbox.each_frame(data, rule=rule, patient_key=b"k"))
    assert (len(first.pictures), first.total, len(every)) == (16, 40, 40)
    np.testing.assert_array_equal(np.concatenate([one.pixels for one in every]), grey)
    assert len({one.patient for one in every}) == 1
    with pytest.raises(UserError, match="only one picture"):
        decode(data, rule=rule)
