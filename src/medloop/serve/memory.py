"""What a process and all that descend from it hold; a page that several share counts once."""

from __future__ import annotations

from pathlib import Path

_PROCESSES = Path("/proc")


def family_megabytes(pid: int) -> float | None:
    """What they hold now; None where the system does not tell."""
    return sum(map(_kilobytes, family_of(pid))) / 1024 if _PROCESSES.is_dir() else None


def family_of(pid: int) -> set[int]:
    """A process with all that descend from it."""
    family, waiting = set[int](), [pid]
    while waiting:
        parent = waiting.pop()
        family.add(parent)
        for task in (_PROCESSES / f"{parent}/task").glob("*/children"):
            waiting += map(int, _text(task).split())
    return family


def _kilobytes(pid: int) -> int:
    lines = _text(_PROCESSES / f"{pid}/smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        # It has ended since it was listed.
        return ""
