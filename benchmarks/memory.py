"""The most memory that a command and all its processes hold at once; a page that several share counts once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.02


def peak_megabytes(command: Sequence[str], *, cwd: Path) -> float:
    """Run the command to its end, looking often."""
    most = 0.0
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, family_megabytes(process.pid))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return most


def family_megabytes(pid: int) -> float:
    """What a process and all that descend from it hold now."""
    return sum(map(_kilobytes, _family(pid))) / 1024


def _family(pid: int) -> list[int]:
    """A process with all that descend from it."""
    family, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        family.append(parent)
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            waiting += map(int, _text(task).split())
    return family


def _kilobytes(pid: int) -> int:
    lines = _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        # It has ended since it was listed.
        return ""
