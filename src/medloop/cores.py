"""The number of processor cores that this process may use, including the quota of a container."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NO_QUOTA = math.inf


def cores(root: Path = Path("/")) -> int:
    """Return the smaller of the cores that the process is bound to and its cgroup's quota, rounded up, at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(root), default=NO_QUOTA)
    return max(1, bound if quota == NO_QUOTA else min(bound, math.ceil(quota)))


def limit_library_threads() -> None:
    """Limit the threads of libraries that count the machine's cores, unless the user has set a limit."""
    if (usable := cores()) < (os.cpu_count() or 1):
        for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            os.environ.setdefault(name, str(usable))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of each cgroup that the process is in, in cores, from its own up to the top."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"] if controllers == "" else []
        if "cpu" in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in dict.fromkeys((controllers, "cpu"))]
        # Inside a container the path is often that of the host, and only the container's top level exists.
        group = PurePosixPath(path.lstrip("/"))
        for mount in mounts:
            for above in (group, *group.parents):
                yield _quota(mount / above)


def _quota(group: Path) -> float:
    """Return the quota of one cgroup in cores, of version 2 or 1."""
    limit, _, period = _read(group / "cpu.max").strip().partition(" ")
    if not limit:
        limit, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    try:
        # "max", -1 and 0 mean no limit.
        return int(limit) / int(period) if int(limit) > 0 and int(period) > 0 else NO_QUOTA
    except ValueError:
        return NO_QUOTA


def _read(file: Path) -> str:
    """Return the text of a kernel file, or an empty one if it does not exist."""
    try:
        return file.read_text("ascii", errors="replace")
    except OSError:
        return ""
