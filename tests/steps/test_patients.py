"""A project that decides per patient, on series of many frames: report, predict, HTTP and replay say the same."""

from __future__ import annotations

import csv
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from medloop.client import Client
from medloop.feedback import open_feedback
from medloop.phantoms import PhantomSpec
from medloop.registry.store import ModelStore
from medloop.settings import load_settings
from medloop.steps.project import Project, load_project
from medloop.steps.replay import replay
from medloop.storage import read_json
from tests.dicom_series import write_series
from tests.loop_project import STAGES, copied, medloop, run_stages
from tests.serve.processes import serving

SPEC = PhantomSpec(patients=24, slices=(2, 5), size=48, classes=("normal", "large_cell"), difficulty=0.0, seed=3)
RECIPE = {
    "name": "series",
    "data": {"source": "dicom", "path": "scans", "classes": ["normal", "large_cell"], "positive": ["large_cell"]},
    "audit": {"accept": ["any"]},
    "split": {"test": 0.25, "val": 0.25, "folds": 2},
    "prepare": {"size": 32, "frame": "all"},
    "model": {"name": "backbone", "backbone": "test_resnet"},
    "train": {"mode": "head"},
    "export": {"per": "patient", "combine": "noisy-or", "threshold": "youden", "precision": "fp32"},
    "evaluate": {"draws": 100},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("series")
    (folder / "params.yaml").write_text(yaml.safe_dump(RECIPE), "utf-8")
    write_series(folder / "scans", SPEC, grouped=True)
    run_stages(folder, *STAGES)
    return load_project(folder)


@pytest.fixture(scope="module")
def reported(project: Project) -> dict[str, dict[str, Any]]:
    """What the report says of each patient of the test set, by the files of the patient."""
    scores = pd.read_parquet(project.work / "report" / "cases.parquet")
    cases = project.cases().set_index("case_id")
    files = cases.groupby("patient_id")["path"].agg(lambda paths: sorted({name_of(path) for path in paths}))
    patients = cases.loc[scores["case_id"], "patient_id"]
    return {
        " ".join(files[patient]): {"label": None if row["abstained"] else row["decided"], "p": row["p_1"]}
        for patient, (_, row) in zip(patients, scores.iterrows(), strict=True)
    }


def name_of(path: str) -> str:
    """The series that a frame was written out from."""
    return next(part for part in Path(path).parts if part.endswith(".dcm"))


@pytest.fixture(scope="module")
def tested(project: Project, reported: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series of the test set in one folder."""
    folder = tmp_path_factory.mktemp("tested")
    wanted = {name for names in reported for name in names.split()}
    for path in (project.root / "scans").rglob("*.dcm"):
        if path.name in wanted:
            (folder / path.name).write_bytes(path.read_bytes())
    assert len(list(folder.iterdir())) == len(wanted)
    return folder


@pytest.fixture(scope="module")
def served(project: Project, tested: Path) -> dict[str, Any]:
    """What the service says, by the files of the patient, and the id of each answer."""
    files = {path.name: path.read_bytes() for path in sorted(tested.iterdir())}
    words = ("--bundle", project.work / "bundle")
    with serving(*words, cwd=project.root) as service, Client(service.address, key=service.key) as client:
        answers = client.predict_files(files)
    assert answers.rejected == ()
    found: dict[str, Any] = {}
    for name, prediction in answers.predictions:
        found.setdefault(prediction.id, (prediction, []))[1].append(name)
    return {" ".join(sorted(names)): prediction for prediction, names in found.values()}


def test_every_frame_is_a_slice_of_its_patient(project: Project) -> None:
    cases = project.cases()
    assert cases["quarantined"].isna().all()
    assert cases["patient_id"].nunique() == SPEC.patients < cases["path"].map(name_of).nunique() < len(cases)
    assert len(read_json(project.work / "bundle" / "bundle.json")["classes"]) == 2
    # The frames that medloop wrote are no files that somebody named wrongly.
    found = {one["name"] for one in read_json(project.work / "audit" / "findings.json")["findings"]}
    assert "wrong_extension" not in found


def test_the_service_says_what_the_report_says(reported: dict[str, Any], served: dict[str, Any]) -> None:
    assert set(served) == set(reported)
    for names, said in reported.items():
        assert served[names].label == said["label"]
        assert served[names].probabilities["large_cell"] == pytest.approx(said["p"], abs=1e-6)


def test_predict_says_what_the_report_says(project: Project, reported: dict[str, Any], tested: Path) -> None:
    words = ("--bundle", "work/bundle", "--out", str(tested.parent / "answers.csv"), "--names")
    done = medloop("predict", str(tested), *words, cwd=project.root)
    assert done.code == 0, done.err
    assert f"{len(reported)} patients predicted, 0 rejected" in done.out
    with (tested.parent / "answers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Its own key hides them as it did in ingest.
    assert {row["patient"] for row in rows} <= set(project.cases()["patient_id"])
    found = {" ".join(sorted(Path(one).name for one in row["file"].split(" | "))): row for row in rows}
    assert set(found) == set(reported)
    for names, said in reported.items():
        assert (found[names]["label"] or None) == said["label"]
        assert float(found[names]["p_large_cell"]) == pytest.approx(said["p"], abs=1e-6)


def test_replay_computes_each_answer_again_from_all_slices(
    project: Project, reported: dict[str, Any], served: dict[str, Any]
) -> None:
    settings, bundle = load_settings(project.root), project.work / "bundle"
    ids = set(project.cases()["patient_id"])
    with closing(open_feedback(settings.feedback, root=project.root)) as feedback:
        for names, said in reported.items():
            found = replay(feedback, served[names].id, models=ModelStore(project.models), bundle=bundle)
            assert found.difference <= 1e-6
            assert found.again.probabilities["large_cell"] == pytest.approx(said["p"], abs=1e-6)
            assert found.stored.patient in ids
            assert len(found.stored.slices) >= len(names.split())
        assert feedback.journal.verify() == []
    name = next(iter(served.values())).id
    done = medloop("journal", "replay", name, "--bundle", "work/bundle", cwd=project.root)
    assert done.code == 0, done.err


def test_no_patient_is_named_in_what_the_service_keeps(project: Project, served: dict[str, Any]) -> None:
    assert served
    kept = b"".join(path.read_bytes() for path in project.root.glob("feedback.db*"))
    assert b"S3P000" not in kept
    assert b"PHANTOM" not in kept


@pytest.mark.parametrize("command", ["audit", "evaluate"])
def test_frames_that_were_lost_are_asked_for_in_one_sentence(project: Project, tmp_path: Path, command: str) -> None:
    folder = copied(project.root, tmp_path / "copy")
    shutil.rmtree(folder / "work" / "frames")
    done = medloop(command, cwd=folder)
    assert done.code == 2
    assert "cannot be read" in done.err
    assert "run `medloop ingest` again" in done.err
    # A stage that is typed by name runs, whether or not anything changed.
    assert medloop("ingest", cwd=folder).code == 0
    assert medloop(command, cwd=folder).code == 0
