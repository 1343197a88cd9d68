"""DVC on a project of images: what changed is run again, and what was made comes back from a remote."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medloop.steps.stages import STAGES
from tests.loop_project import PICTURES, edit_recipe, medloop, run_stages
from tests.steps.test_dvc import Dvc, changed, dvc_in, ran
from tests.storage.conftest import bucket, object_store  # noqa: F401 - fixtures

MADE = ("cases.parquet", "prepared/images.npy", "bundle/model.onnx", "report/report.html")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of phantoms with its stages run and committed to DVC."""
    folder = tmp_path_factory.mktemp("dvc-images") / "project"
    assert medloop("new", folder.name, "--like", "chest-ct", cwd=folder.parent).code == 0
    edit_recipe(folder, **{name: PICTURES[name] for name in ("data", "split", "prepare", "export", "evaluate")})
    edit_recipe(folder, model={"backbone": "resnet10t"}, train={"mode": "finetune", "epochs": 1})
    run_stages(folder, *STAGES)
    dvc_in(folder)("commit", "--force", "--quiet")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project", symlinks=True))


def digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / "work" / name).read_bytes()).hexdigest() for name in MADE}


def push_lose_and_pull(project: Path, remote: str, *settings: str) -> None:
    dvc = dvc_in(project)
    dvc("remote", "add", "--default", "store", remote)
    for words in settings:
        dvc("remote", "modify", "store", *words.split("="))
    dvc("push")
    for name in ("work", ".dvc/cache"):
        shutil.rmtree(project / name)
    dvc("pull")


def test_a_learning_rate_would_train_again_and_nothing_before_it(project: Path) -> None:
    edit_recipe(project, train={"learning_rate": 0.0007})
    assert changed(dvc_in(project)) == {"tune", "train"}


def test_everything_comes_back_from_a_folder(project: Path, tmp_path: Path) -> None:
    before = digests(project)
    push_lose_and_pull(project, str(tmp_path / "remote"))
    assert digests(project) == before
    assert ran(dvc_in(project)("repro")) == []


def test_everything_comes_back_from_an_object_store(
    project: Path,
    bucket: Callable[[str, bytes], None],  # noqa: F811 - the fixture
    object_store: str,  # noqa: F811 - the fixture
) -> None:
    before = digests(project)
    push_lose_and_pull(project, "s3://scans/dvc", f"endpointurl={object_store}")
    assert digests(project) == before


def test_the_curves_are_shown(project: Path) -> None:
    page = project / "dvc_plots" / "index.html"
    dvc_in(project)("plots", "show")
    text = page.read_text("utf-8")
    assert all(title in text for title in ("ROC", "Precision and recall", "Reliability"))


@pytest.mark.soak
def test_dvc_trains_again_and_nothing_before_it(project: Path) -> None:
    dvc: Dvc = dvc_in(project)
    edit_recipe(project, train={"learning_rate": 0.0007})
    assert ran(dvc("repro")) == ["tune", "train", "export", "evaluate"]
    assert ran(dvc("repro")) == []
