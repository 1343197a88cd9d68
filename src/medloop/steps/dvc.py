"""The same stages for DVC: `dvc.yaml`, and a lock file with their other dependencies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medloop import __version__
from medloop.steps.inputs import outside_of
from medloop.steps.project import Project
from medloop.steps.stages import STAGES, Stage
from medloop.storage import write_text

LOCK = "medloop-lock.yaml"
HEAD = "# Made by `medloop new` from the stages of medloop.\n"
LOCK_HEAD = "# Written by `medloop lock`: DVC runs a stage again when something here has changed.\n"
# DVC tracks neither the code of medloop nor its libraries, and weights may be anywhere: so this runs every time.
LOCK_STAGE = {"cmd": "medloop lock", "always_changed": True, "outs": [{LOCK: {"cache": False}}]}


def pipeline_yaml(*, source: str | None = None, work: str = "work") -> str:
    """Return the content of dvc.yaml; `source` is a local file that ingest reads."""
    content: dict[str, Any] = {
        "stages": {"lock": LOCK_STAGE, **{name: _stage(name, stage, source, work) for name, stage in STAGES.items()}},
        "metrics": [f"{work}/report/scores.json"],
        "plots": [
            {f"{work}/report/plots/roc.csv": {"x": "fpr", "y": "tpr", "title": "ROC"}},
            {
                f"{work}/report/plots/precision_recall.csv": {
                    "x": "recall",
                    "y": "precision",
                    "title": "Precision and recall",
                }
            },
            {f"{work}/report/plots/reliability.csv": {"x": "predicted", "y": "observed", "title": "Reliability"}},
            {f"{work}/report/plots/confusion.csv": {"template": "confusion", "x": "actual", "y": "predicted"}},
        ],
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False)


def _stage(name: str, stage: Stage, source: str | None, work: str) -> dict[str, Any]:
    reads = [f"{work}/{path}" for path in stage.reads]
    if name == "ingest" and source is not None:
        reads = [source]
    outs: list[Any] = [f"{work}/{path}" for path in stage.writes]
    outs += [{f"{work}/{path}": {"persist": True}} for path in stage.lasting]
    deps = {"deps": reads} if reads else {}
    return {
        "cmd": f"medloop {name}",
        **deps,
        # Whole sections, since DVC requires every key that it tracks to be in the file.
        "params": [*dict.fromkeys(section.partition(".")[0] for section in stage.sections), {LOCK: [f"stages.{name}"]}],
        "outs": outs,
    }


def lock_yaml(project: Project) -> str:
    """Return what each stage depends on besides the recipe and earlier stages: code, libraries, other files."""
    outside = {name: outside_of(project, name, stage) for name, stage in STAGES.items()}
    stages = {name: {**inputs.hashes, **inputs.values} for name, inputs in outside.items()}
    return LOCK_HEAD + yaml.safe_dump({"medloop": __version__, "stages": stages}, allow_unicode=True)


def write_lock(project: Project) -> bool:
    """Update a project's lock; return whether anything changed."""
    path, text = project.root / LOCK, lock_yaml(project)
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    write_text(path, text)
    return True


def generated_files(data: str | None) -> dict[str, str]:
    """Return the files of a new project that follow from the stages; `data` is its data source."""
    local = str(Path(data).resolve()) if data is not None and "://" not in data else None
    return {"dvc.yaml": pipeline_yaml(source=local)}
