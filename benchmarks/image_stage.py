"""A stage over image files: its rate against that of a bare loop, its memory, and ten times the files."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.bare_loop import on_two_cores
from benchmarks.image_sets import SHARE, SMALL_FILES, SMALL_SIZE, files_of, image_project, scans, small_jpegs
from benchmarks.memory import peak_megabytes
from benchmarks.row import Row, interleaved
from medloop.steps.kinds.pictures import CACHE
from medloop.steps.project import Project
from medloop.steps.stages import function_of, ingest

ROUNDS = 7 if SHARE == 1 else 1
SUFFICES = 0.8
MEGABYTES = 500
SCAN_SIZE = 224
RATED = ("scans", "small JPEGs")

Loop = Callable[[Sequence[str]], object]


def measure_stage(name: str, loop_of: Callable[[int], Loop]) -> list[Row]:
    """The lines of one stage; `loop_of` gives the bare loop for the size that images are prepared at."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sets = {
            "scans": (scans(folder / "scans"), SCAN_SIZE),
            "tenth": (small_jpegs(folder / "tenth", SMALL_FILES // 10), SMALL_SIZE),
            "small JPEGs": (small_jpegs(folder / "small", SMALL_FILES), SMALL_SIZE),
        }
        projects = {
            key: image_project(folder / f"project {key}", files, size=size) for key, (files, size) in sets.items()
        }
        for project in projects.values():
            ingest.run(project)
        # Else the system would write the files to the disk while they are read for the clock.
        os.sync()
        return [
            *(_rate(name, key, projects[key], files_of(sets[key][0]), loop_of(sets[key][1])) for key in RATED),
            _growth(name, projects["tenth"], projects["small JPEGs"]),
            _memory(name, projects["small JPEGs"]),
        ]


def _rate(name: str, which: str, project: Project, paths: Sequence[str], loop: Loop) -> Row:
    stage = partial(function_of(name), project)
    with on_two_cores(loop, paths) as loops:
        seconds = interleaved({"medloop": stage, **loops}, before=partial(_forget, project), rounds=ROUNDS)
    bare = min(seconds["threads"], seconds["processes"])
    ours, best = len(paths) / seconds["medloop"], len(paths) / bare
    return Row(
        what=f"{name}: {len(paths):,} {which}, {ours:,.0f} files a second of the bare loop's {best:,.0f}",
        found=f"{ours / best:.2f}",
        wanted=f">= {SUFFICES}",
        holds=ours >= SUFFICES * best,
    )


def _growth(name: str, few: Project, many: Project) -> Row:
    works = {str(project.root): partial(function_of(name), project) for project in (few, many)}

    def forget() -> None:
        _forget(few)
        _forget(many)

    short, long = interleaved(works, before=forget, rounds=ROUNDS).values()
    return Row(
        what=f"{name}: time for ten times the files",
        found=f"{long / short:.1f} x",
        wanted="<= 11 x",
        holds=long <= 11 * short,
    )


def _memory(name: str, project: Project) -> Row:
    _forget(project)
    peak = peak_megabytes([sys.executable, "-m", "medloop", name], cwd=project.root)
    return Row(
        what=f"{name}: most memory of all processes for {SMALL_FILES:,} files",
        found=f"{peak:.0f} MB",
        wanted=f"< {MEGABYTES} MB",
        holds=peak < MEGABYTES,
    )


def _forget(project: Project) -> None:
    shutil.rmtree(project.work / "prepared", ignore_errors=True)
    shutil.rmtree(project.work / CACHE, ignore_errors=True)
