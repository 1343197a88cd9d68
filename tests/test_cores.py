"""The cores that count: those of the affinity and of the container's quota, whichever are fewer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from medloop.cores import cores

BOUND = len(os.sched_getaffinity(0))
V2 = "0::/kube/pod\n"
V1 = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n"

# What the kernel shows: the cgroup, the files of quotas, and the cores that follow where there are plenty.
SYSTEMS: dict[str, tuple[str, Mapping[str, str], float]] = {
    "none": ("", {}, BOUND),
    "no quota": (V2, {"kube/pod/cpu.max": "max 100000\n"}, BOUND),
    "half a core": (V2, {"kube/pod/cpu.max": "50000 100000\n"}, 1),
    "one and a half": (V2, {"kube/pod/cpu.max": "150000 100000\n"}, 2),
    "the parent's": (V2, {"kube/pod/cpu.max": "max 100000\n", "kube/cpu.max": "20000 100000\n"}, 1),
    "the smallest": (V2, {"kube/pod/cpu.max": "90000 100000\n", "kube/cpu.max": "800000 100000\n"}, 1),
    "seen from inside": (V2, {"cpu.max": "100000 100000\n"}, 1),
    "beside version 1": (V2, {"unified/kube/pod/cpu.max": "100000 100000\n"}, 1),
    "damaged": (V2, {"kube/pod/cpu.max": "many\n"}, BOUND),
    "zero": (V2, {"kube/pod/cpu.max": "0 0\n"}, BOUND),
    "version 1": (
        V1,
        {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "40000\n", "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "version 1 from inside": (V1, {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    "version 1 without": (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, BOUND),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_quota_of_the_container_counts(system: str, tmp_path: Path) -> None:
    group, files, expected = SYSTEMS[system]
    for name, text in {"proc/self/cgroup": group, **{f"sys/fs/cgroup/{name}": files[name] for name in files}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "ascii")
    assert cores(tmp_path) == min(BOUND, expected)


def test_the_command_bounds_the_threads_of_libraries_by_the_affinity() -> None:
    code = (
        "import os, sys\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nos.environ.pop('OMP_NUM_THREADS', 0)\n"
        "sys.argv = ['medloop', '--help']\nfrom medloop.__main__ import main\n"
        "try: main()\nexcept SystemExit: print(os.environ.get('OMP_NUM_THREADS'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ("1" if (os.cpu_count() or 1) > 1 else "None")
