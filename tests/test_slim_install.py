"""The core alone, as `pip install .` brings it, serves a bundle; the training's libraries stay away."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.golden.make_table_bundle import ANSWERS
from tests.loop_project import small_rows, write_table

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "mlflow", "mlflow-skinny", "pandas", "scikit-learn", "scipy", "matplotlib"}


def run(*words: object, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with medloop's core."""
    folder, uv = tmp_path_factory.mktemp("slim") / "venv", Path(sys.executable).with_name("uv")
    run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    options = ["--constraints", "constraints.txt", "--build-constraints", "constraints.txt"]
    run(uv, "pip", "install", "--quiet", "--python", folder, *options, "--reinstall-package", "medloop", ".")
    return folder / "bin"


def test_the_core_brings_none_of_the_training_libraries(slim: Path) -> None:
    listed = run(Path(sys.executable).with_name("uv"), "pip", "list", "--format", "json", "--python", slim.parent)
    names = {one["name"] for one in json.loads(listed)}
    assert {"medloop", "fastapi", "onnxruntime"} <= names
    assert not HEAVY & names


def test_the_core_serves_a_bundle(slim: Path, golden: Path, tmp_path: Path) -> None:
    known = json.loads(ANSWERS.read_text("utf-8"))[0]
    words = [slim / "medloop", "serve", "--bundle", golden, "--port", "0", "--no-auth"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = next(word for word in process.stdout.readline().split() if word.startswith("http://"))
            answer = httpx.post(f"{address}/v1/predictions", json={"records": [known["record"]]}, trust_env=False)
        finally:
            process.kill()
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["probabilities"] == pytest.approx(known["probabilities"], abs=1e-6)


def test_the_core_scores_a_file_and_says_what_training_needs(slim: Path, golden: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "in.csv", small_rows(1))
    said = run(slim / "medloop", "predict", "in.csv", "--bundle", golden, cwd=tmp_path)
    assert said.startswith("1 cases predicted, 0 rejected")
    assert "medloop[train]" in run(slim / "medloop", "doctor", cwd=tmp_path)
    assert "compare" in run(slim / "medloop", "--help", cwd=tmp_path)


def test_the_core_says_which_extra_a_command_needs(slim: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("data: {path: cases.csv, label: diagnosis}", encoding="utf-8")
    for command in ("run", "compare"):
        done = subprocess.run([slim / "medloop", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "pip install 'medloop[train]'" in done.stderr
        assert "Traceback" not in done.stderr
