"""The most memory that a command and all its processes hold at once; a page that several share counts once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from medloop.bench.memory import family_megabytes

SECONDS_BETWEEN_LOOKS = 0.02


def peak_megabytes(command: Sequence[str], *, cwd: Path) -> float:
    """Run the command to its end, looking often."""
    most = 0.0
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, family_megabytes(process.pid) or 0.0)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return most
