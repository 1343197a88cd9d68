"""The memory of a process and its descendants; a page that several share counts once."""

from __future__ import annotations

from pathlib import Path

_PROCESSES = Path("/proc")


def family_megabytes(pid: int) -> float | None:
    """Return the memory in use now, or None if the system does not report it."""
    return sum(map(_kilobytes, family_of(pid))) / 1024 if _PROCESSES.is_dir() else None


def family_of(pid: int) -> set[int]:
    """Return a process and all its descendants."""
    family, waiting = set[int](), [pid]
    while waiting:
        parent = waiting.pop()
        family.add(parent)
        for task in (_PROCESSES / f"{parent}/task").glob("*/children"):
            waiting += map(int, _read(task).split())
    return family


def _kilobytes(pid: int) -> int:
    lines = _read(_PROCESSES / f"{pid}/smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        # The process has ended since it was listed.
        return ""
