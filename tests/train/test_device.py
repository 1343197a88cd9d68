"""What a process says that it holds."""

from __future__ import annotations

import subprocess
import sys

GIBIBYTE = 2**30
PROGRAM = """
from types import SimpleNamespace
from medloop.train.device import peak_memory
print(peak_memory(SimpleNamespace(device=SimpleNamespace(type="cpu"))))
"""


def test_the_peak_of_a_process_is_its_own_and_not_that_of_its_parent() -> None:
    held = b"x" * (2 * GIBIBYTE)
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert len(held) == 2 * GIBIBYTE
    assert 2**26 < int(done.stdout) < GIBIBYTE
