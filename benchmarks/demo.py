"""`medloop demo` on a machine that has medloop: how long it takes, and what its scans' model is worth."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.row import Row
from medloop.steps.demo import count_hits
from medloop.steps.project import load_project
from medloop.storage import read_json

SECONDS = 180
AUC = 0.97
SHARE = 0.8


def measure() -> list[Row]:
    """The scans of the demo: the time of all stages, the AUC of locked patients, and where the heatmaps peak."""
    with tempfile.TemporaryDirectory() as temporary:
        started = time.perf_counter()
        words = [sys.executable, "-m", "medloop", "demo", "--no-serve", "--only", "chest-ct"]
        subprocess.run(words, cwd=temporary, check=True, capture_output=True)
        seconds = time.perf_counter() - started
        project = load_project(Path(temporary) / "medloop-demo" / "chest-ct")
        auc = read_json(project.work / "report" / "report.json")["test"]["roc_auc"]
        hits, rightly = count_hits(project)
    return [
        Row(what="demo: scans, all stages", found=f"{seconds:.0f} s", wanted=f"< {SECONDS} s", holds=seconds < SECONDS),
        Row(
            what=f"demo: AUC of locked patients [{auc['lower']:.3f} - {auc['upper']:.3f}]",
            found=f"{auc['value']:.3f}",
            wanted=f">= {AUC}",
            holds=auc["value"] >= AUC,
        ),
        Row(
            what=f"demo: heatmaps with their peak in the nodule, of {rightly} true positives",
            found=f"{hits / rightly:.0%}",
            wanted=f">= {SHARE:.0%}",
            holds=hits >= SHARE * rightly,
        ),
    ]
