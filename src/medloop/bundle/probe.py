"""Tries a bundle in a process of its own with limits, so that one that hangs or eats the memory harms nobody else."""

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
from medloop.errors import BrokenBundle
from medloop.prepare.sandbox import child_command

# Of the processor, so that a busy machine refuses nothing that works; a loop without end is over after as many seconds.
SECONDS = 5
# For what waits without working.
WALL_SECONDS = 60.0
MEMORY_BYTES = 4 << 30
# A session holds the weights several times while it is made.
MEMORY_FOR_EACH_BYTE = 8
REFUSED = 3

_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from medloop.bundle.probe import main; main(sys.argv[1])"

# What worked once in this process works again: the hash stands for every byte.
_worked: set[str] = set()


def check_works(bundle: Path) -> str:
    """The hash of the bundle, after it has loaded and answered a made-up case within the limits; else BrokenBundle."""
    digest = files.verify(bundle)
    if digest not in _worked:
        started = time.monotonic()
        with start_probe(bundle) as process:
            _judge(process, until=started + WALL_SECONDS)
        _worked.add(digest)
    return digest


def start_probe(bundle: Path) -> subprocess.Popen[bytes]:
    """The process that tries it."""
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
        said, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        raise _slow(f"no answer after {WALL_SECONDS:g} seconds") from None
    if process.returncode == -signal.SIGXCPU:
        raise _slow(f"{SECONDS} seconds of computing")
    if process.returncode == REFUSED:
        problem, found, hint = json.loads(said)
        raise BrokenBundle(problem, found=found, hint=hint)
    if process.returncode != 0:
        raise BrokenBundle(
            "The process that tried the bundle ended before the bundle answered.",
            found=f"exit code {process.returncode}",
            hint=files.EXPORT_AGAIN,
        )


def _slow(found: str) -> BrokenBundle:
    return BrokenBundle(
        f"The bundle takes longer than {SECONDS} seconds to load and to answer one case.",
        found=found,
        hint=files.EXPORT_AGAIN,
    )


def main(bundle: str) -> None:
    """Load the bundle within the limits, and say what is wrong with it."""
    # What it takes to import counts towards no limit.
    from medloop.bundle.graph import refuse_nan_weights
    from medloop.bundle.predictor import Predictor

    folder = Path(bundle)
    _confine(sum(path.stat().st_size for path in folder.iterdir()))
    try:
        Predictor.load(folder)
        refuse_nan_weights((folder / files.MODEL).read_bytes())
    except MemoryError:
        _refuse("The bundle takes too much memory.", "no room left", files.EXPORT_AGAIN)
    except BrokenBundle as error:
        _refuse(error.must, error.found, error.hint)


def _refuse(*words: str) -> None:
    sys.stdout.write(json.dumps(words))
    sys.exit(REFUSED)


def _confine(size: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, math.ceil(usage.ru_utime + usage.ru_stime) + SECONDS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        room = MEMORY_BYTES + MEMORY_FOR_EACH_BYTE * size
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + room)


def _limit(kind: int, most: int) -> None:
    """Lower the limit that counts; the hard one, which may be lower already, stays."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
