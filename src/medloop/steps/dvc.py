"""The same stages for DVC: `dvc.yaml`, and the lock that tells DVC which code they ran with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from medloop import __version__
from medloop.steps.pipeline import STAGES, Stage, code_hash
from medloop.storage import write_text

LOCK = "medloop-lock.yaml"
HEAD = "# Made by `medloop new` from the stages of medloop; `medloop doctor` says when it is out of date.\n"


def pipeline_yaml(*, source: str | None = None, work: str = "work") -> str:
    """The content of dvc.yaml; `source` is a local file that ingest reads."""
    content: dict[str, Any] = {
        "stages": {name: _stage(name, stage, source, work) for name, stage in STAGES.items()},
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
        # By whole sections: DVC wants every key that it is told of to be in the file.
        "params": [*dict.fromkeys(section.partition(".")[0] for section in stage.sections), {LOCK: [f"stages.{name}"]}],
        "outs": outs,
    }


def lock_yaml() -> str:
    """The hash of each stage's code, as this medloop has it."""
    content = {"medloop": __version__, "stages": {name: code_hash(name) for name in STAGES}}
    return "# Written by medloop: DVC runs a stage again when its code here has changed.\n" + yaml.safe_dump(content)


def refresh_lock(root: Path) -> bool:
    """Bring a project's lock up to date; whether it had to be."""
    path = root / LOCK
    if not path.is_file() or path.read_text("utf-8") == lock_yaml():
        return False
    write_text(path, lock_yaml())
    return True


def generated_files(data: str | None) -> dict[str, str]:
    """The files of a new project that follow from the stages; `data` is what it learns from."""
    local = str(Path(data).resolve()) if data is not None and "://" not in data else None
    return {"dvc.yaml": pipeline_yaml(source=local), LOCK: lock_yaml()}
