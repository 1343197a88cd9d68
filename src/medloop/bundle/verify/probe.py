"""Tries a bundle in a child process with limits, so that one that hangs or exhausts the memory does no harm."""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from medloop.bundle import files
from medloop.decode.pool import child_command
from medloop.errors import BrokenBundle

# Of CPU time, so that a busy machine does not reject a bundle that works.
MAX_CPU_SECONDS = 5
# For a bundle that waits without computing.
MAX_WALL_SECONDS = 60.0
BASE_MEMORY_BYTES = 4 << 30
# ONNX Runtime holds several copies of the weights while it creates a session.
MEMORY_PER_BYTE = 8
REFUSED = 3

_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from medloop.bundle.verify.probe import main; main(sys.argv[1])"

# Bundles that worked in this process work again, since the hash covers every byte.
_worked: set[str] = set()


def check_works(bundle: Path) -> str:
    """Load the bundle and score a made-up case in a child process, and return its hash; raise if that fails."""
    digest = files.verify(bundle)
    if digest not in _worked:
        started = time.monotonic()
        with start_probe(bundle) as process:
            _judge(process, until=started + MAX_WALL_SECONDS)
        _worked.add(digest)
    return digest


def start_probe(bundle: Path) -> subprocess.Popen[bytes]:
    """Start the process that tries the bundle."""
    command, environment = child_command(_PROGRAM, str(bundle.absolute()))
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def _judge(process: subprocess.Popen[bytes], *, until: float) -> None:
    try:
        output, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        raise _slow(f"no result after {MAX_WALL_SECONDS:g} seconds") from None
    if process.returncode == -signal.SIGXCPU:
        raise _slow(f"more than {MAX_CPU_SECONDS} seconds of CPU time")
    if process.returncode == REFUSED:
        raise BrokenBundle(*json.loads(output))
    if process.returncode != 0:
        raise BrokenBundle(
            f"The process that tried the bundle crashed (exit code {process.returncode}).", files.EXPORT_AGAIN
        )


def _slow(reason: str) -> BrokenBundle:
    return BrokenBundle(f"The bundle is too slow to load and to score one case ({reason}).", files.EXPORT_AGAIN)


def main(bundle: str) -> None:
    """Load the bundle within the limits, and write what is wrong with it."""
    # Imported before the limits are set, so that the imports do not count.
    from medloop.bundle.predictor import Predictor
    from medloop.bundle.verify.graph import refuse_nan_weights

    folder = Path(bundle)
    _confine(sum(path.stat().st_size for path in folder.iterdir()))
    try:
        Predictor.load(folder)
        refuse_nan_weights((folder / files.MODEL).read_bytes())
    except MemoryError:
        _refuse("The bundle needs too much memory.", files.EXPORT_AGAIN)
    except BrokenBundle as error:
        _refuse(error.problem, error.hint)


def _refuse(*texts: str) -> None:
    sys.stdout.write(json.dumps(texts))
    sys.exit(REFUSED)


def _confine(size: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime) + MAX_CPU_SECONDS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        room = BASE_MEMORY_BYTES + MEMORY_PER_BYTE * size
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + room)


def _limit(kind: int, value: int) -> None:
    """Lower the soft limit; the hard one, which may be lower already, stays."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
