"""The memory that a training says it will take, against what it took; each in a process of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.learning_sets import learn, learning_project
from benchmarks.row import Row
from medloop.steps import stages
from medloop.steps.project import load_project

COUNT = 120
MARGIN = 0.2
TRAININGS: dict[str, dict[str, Any]] = {
    "resnet18, head": {"backbone": "resnet18"},
    "vgg16, head": {"backbone": "vgg16"},
    "vgg16, head, 4 views": {"backbone": "vgg16", "views": 4},
    "resnet18, finetune": {"backbone": "resnet18", "mode": "finetune", "epochs": 2},
}
SAID = re.compile(r"peak memory (?:about )?([\d,]+) MiB")


def measure() -> list[Row]:
    """One line a training."""
    with tempfile.TemporaryDirectory() as temporary:
        project = learning_project(Path(temporary), COUNT)
        stages.prepare(project)
        return [_planned_and_taken(project.root, name) for name in TRAININGS]


def _planned_and_taken(root: Path, name: str) -> Row:
    # Features that are there already would not be computed, and take no memory.
    shutil.rmtree(root / "work" / "cache", ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.training_memory", str(root), name]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    planned, taken = (int(number.replace(",", "")) for number in SAID.findall(said.stdout + said.stderr))
    off = planned / taken - 1
    return Row(
        what=f"{name}: {planned:,} MiB said beforehand, {taken:,} MiB taken",
        found=f"{off:+.0%}",
        wanted=f"within {MARGIN:.0%}",
        holds=abs(off) <= MARGIN,
    )


if __name__ == "__main__":
    learn(load_project(Path(sys.argv[1])), **TRAININGS[sys.argv[2]])
