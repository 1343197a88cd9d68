"""The measurements run on a fresh clone, with nothing but what they make themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ingest_is_measured_without_images_of_ones_own() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "BENCH_IMAGES"}
    environment |= {"BENCH_SHARE": "0.002", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "ingest"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for measured in ("scans", "118 small JPEGs", "ten times the files", "most memory"):
        assert measured in done.stdout
