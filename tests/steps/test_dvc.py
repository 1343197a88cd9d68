"""DVC runs the same stages, and only those that something changed for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from medloop.steps.dvc import LOCK, LOCK_STAGE, lock_yaml, pipeline_yaml, write_lock
from medloop.steps.project import load_project
from medloop.steps.stages import STAGES
from tests.loop_project import edit_recipe, installed, new_table, run_stages, small_rows

Dvc = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages were run, and are known to DVC."""
    folder = new_table(tmp_path_factory.mktemp("dvc") / "project", small_rows(150))
    run_stages(folder, *STAGES)
    return folder


def dvc_in(folder: Path) -> Dvc:
    """The command `dvc` in a project; it gives what was printed."""
    scripts = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "DVC_SITE_CACHE_DIR": str(folder.parent)}

    def command(*words: str) -> str:
        line = [sys.executable, "-m", "dvc", *words]
        done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


@pytest.fixture(scope="module")
def dvc(project: Path) -> Dvc:
    dvc = dvc_in(project)
    dvc("commit", "--force", "--quiet")
    return dvc


def ran(output: str) -> list[str]:
    """The stages that ran, but for the lock, which is looked at each time."""
    return [name for name in re.findall(r"Running stage '(\w+)'", output) if name != "lock"]


def changed(dvc: Dvc) -> set[str]:
    """The stages that would run."""
    return set(yaml.safe_load(dvc("status", "--json"))) - {"lock"}


def test_dvc_runs_what_changed_and_no_more(project: Path, dvc: Dvc) -> None:
    edit_recipe(project, export={"threshold": "probability >= 0.4"})
    assert ran(dvc("repro")) == ["export", "evaluate"]
    assert changed(dvc) == set()


@pytest.mark.soak
def test_dvc_runs_every_stage_of_a_new_project(tmp_path: Path) -> None:
    folder = new_table(tmp_path / "project", small_rows(150))
    assert ran(dvc_in(folder)("repro")) == list(STAGES)
    assert ran(dvc_in(folder)("repro")) == []


def test_a_hyperparameter_would_train_again_and_nothing_before_it(project: Path, dvc: Dvc) -> None:
    before = (project / "params.yaml").read_bytes()
    edit_recipe(project, model={"C": 0.25})
    found = changed(dvc)
    (project / "params.yaml").write_bytes(before)
    assert {"tune", "train"} <= found <= {"tune", "train", "export", "evaluate"}


def test_the_edition_outlasts_its_stage(project: Path, dvc: Dvc) -> None:
    edition, params = project / "work" / "edition.json", (project / "params.yaml").read_bytes()
    before = edition.read_bytes()
    edit_recipe(project, split={"folds": 4})
    output = dvc("repro", "--single-item", "split")
    (project / "params.yaml").write_bytes(params)
    assert ran(output) == ["split"]
    assert "(kept)" in output
    assert edition.read_bytes() == before


def test_dvc_draws_the_stages_and_shows_the_scores(dvc: Dvc) -> None:
    drawing = dvc("dag")
    assert all(f"| {name} |" in drawing for name in STAGES)
    assert "test_roc_auc" in dvc("metrics", "show", "--md")


def test_the_pipeline_is_made_from_the_stages() -> None:
    content = yaml.safe_load(pipeline_yaml(source="/data/table.csv"))
    assert list(content["stages"]) == ["lock", *STAGES]
    assert content["stages"]["lock"] == LOCK_STAGE
    for name, stage in STAGES.items():
        entry = content["stages"][name]
        assert entry["cmd"] == f"medloop {name}"
        sections = dict.fromkeys(section.partition(".")[0] for section in stage.sections)
        assert entry["params"] == [*sections, {LOCK: [f"stages.{name}"]}]
    assert content["stages"]["ingest"]["deps"] == ["/data/table.csv"]
    assert {"work/edition.json": {"persist": True}} in content["stages"]["split"]["outs"]


def test_every_file_that_a_stage_reads_is_written_by_one_before_it() -> None:
    written: set[str] = set()
    for name, stage in STAGES.items():
        assert set(stage.reads) <= written, name
        written |= {*stage.writes, *stage.lasting}


def test_the_lock_follows_what_it_is_made_of(project: Path) -> None:
    path = project / LOCK
    path.write_text("stages: {}\n", encoding="utf-8")
    assert write_lock(load_project(project))
    assert path.read_text("utf-8") == lock_yaml(load_project(project))
    assert not write_lock(load_project(project))


def test_a_library_of_another_release_would_run_the_stages_that_compute_with_it(
    project: Path, dvc: Dvc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = changed(dvc)
    monkeypatch.syspath_prepend(installed(tmp_path, "matplotlib", "99.0"))
    assert write_lock(load_project(project))
    assert changed(dvc) == before | {"evaluate"}
    monkeypatch.undo()
    assert write_lock(load_project(project))
    assert changed(dvc) == before


@pytest.mark.soak
def test_a_library_of_another_release_runs_them_and_the_one_of_before_brings_back_what_they_made(
    project: Path, dvc: Dvc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc("repro")
    monkeypatch.setenv("PYTHONPATH", str(installed(tmp_path, "matplotlib", "99.0")))
    output = dvc_in(project)("repro")
    assert ran(output) == ["evaluate"]
    assert re.search(r"changed: matplotlib \([0-9.]+ -> 99\.0\)", output)
    monkeypatch.undo()
    # DVC remembers what the stage made with the release of before, and brings it back.
    output = dvc_in(project)("repro")
    assert "Stage 'evaluate' is cached" in output
