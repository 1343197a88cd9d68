"""Writes the projects of an earlier commit, which the code of today must still open, serve and replay.

Run with the code of that commit: `git worktree add ../old 9707160`, then in `../old`, with this file copied into its
`tests/upgrade/`: `python -m tests.upgrade.make_projects /path/to/projects_9707160.tar.xz`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx
import yaml

from medloop.storage import write_json
from tests.loop_project import edit_recipe, new_table, small_rows, write_table
from tests.serve.processes import serving

AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MEDLOOP_USER": "ann"}
LEFT_OUT = {
    "logs",
    "prepared",
    "trained",
    "features",
    "checkpoints",
    "mlflow.db",
    "mlruns",
    ".audit.scratch",
}
SCANS = {
    "name": "scans",
    "data": {
        "source": "phantoms",
        "classes": ["normal", "large_cell"],
        "positive": ["large_cell"],
        "phantom": {"patients": 30, "slices": 2, "size": 64},
    },
    "split": {"test": 0.2, "val": 0.2, "folds": 2},
    "prepare": {"size": 32, "channels": 1},
    "model": {"name": "backbone", "backbone": "test_resnet"},
    "train": {"mode": "finetune", "epochs": 1},
    "export": {"per": "patient", "combine": "noisy-or"},
    "evaluate": {"draws": 100},
    "gate": {"rules": [{"metric": "test_accuracy", "at_least": 0.0}]},
}


def medloop(*words: str, cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """A command as a process."""
    done = subprocess.run(
        [sys.executable, "-m", "medloop", *words],
        cwd=cwd,
        env={**os.environ, **AWAY},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in codes:
        raise RuntimeError(f"medloop {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def make_table(folder: Path) -> None:
    """A signed store of three versions: one that served, one that serves, one that the gate refused; a journal."""
    rows = small_rows(150, seed=5)
    project = new_table(folder / "table", rows)
    write_table(project / "table.csv", rows)
    edit_recipe(project, data={"path": "table.csv"}, export={"threshold": "sensitivity >= 0.9"})
    subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"], cwd=project, check=True
    )
    subprocess.run(
        ["openssl", "ec", "-in", "key.pem", "-pubout", "-out", "key.pub"], cwd=project, check=True, capture_output=True
    )
    settings = yaml.safe_load((project / "config.yaml").read_text("utf-8"))
    settings["signing"] = {"key": "key.pem", "verify_key": "key.pub"}
    (project / "config.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    medloop("run", cwd=project)
    with serving(cwd=project, is_first=True) as service, service.client() as client:
        said = answered(client, json={"records": records(rows[:4])})
        body = {"prediction_id": said[0]["id"], "label": "malignant", "reason": "seen again"}
        correction = client.post("/v1/corrections", json=body).raise_for_status().json()
    medloop("corrections", "accept", correction["id"], cwd=project)
    edit_recipe(project, model={"C": 0.05})
    medloop("run", cwd=project)
    edit_recipe(project, model={"C": 0.01}, gate={"rules": [{"metric": "test_accuracy", "at_least": 1.0}]})
    medloop("run", cwd=project, codes=(3,))
    write_json(project / "expected.json", {"key": service.key, "predictions": said})


def answered(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    """The answers to one request."""
    response = client.post("/v1/predictions", **body)
    if response.is_error:
        raise RuntimeError(response.text)
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def records(rows: Any) -> list[dict[str, Any]]:
    """The rows without their label, as JSON holds them."""
    return [
        {name: None if value in ("", "?") else value for name, value in row.items() if name != "diagnosis"}
        for row in rows
    ]


def make_scans(folder: Path) -> None:
    """A bundle that decides by patient, and a service that has answered for single slices."""
    project = folder / "scans"
    project.mkdir()
    (project / "params.yaml").write_text(yaml.safe_dump(SCANS), "utf-8")
    medloop("run", cwd=project)
    pictures = sorted(project.glob("work/**/*.png"))[:3]
    with serving(cwd=project, is_first=True) as service, service.client() as client:
        files = [("files", (path.name, path.read_bytes())) for path in pictures]
        said = answered(client, files=files)
    write_json(project / "expected.json", {"key": service.key, "predictions": said})


def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What a project needs to be opened; not what can be made again."""
    parts = set(Path(entry.name).parts)
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return None if parts & LEFT_OUT else entry


def main(target: Path) -> None:
    """Make both projects and pack them."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(AWAY)
        make_table(Path(scratch))
        make_scans(Path(scratch))
        with tarfile.open(target, "w:xz") as archive:
            for name in ("table", "scans"):
                archive.add(Path(scratch) / name, arcname=name, filter=wanted)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
