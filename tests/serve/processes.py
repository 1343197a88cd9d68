"""A real service: the command, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

# The command as it is, telling at its end which of the training's libraries it had loaded.
SERVICE = """
import atexit, sys
heavy = {"torch", "torchvision", "sklearn", "scipy", "pandas", "pyarrow", "mlflow", "matplotlib", "onnx", "optuna"}
atexit.register(lambda: print("loaded:", sorted(heavy & set(sys.modules))))
from medloop.__main__ import main
main()
"""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A service that answers."""

    process: subprocess.Popen[str]
    address: str
    key: str
    said: list[str]
    listener: threading.Thread

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def client(self, key: str | None = None) -> httpx.Client:
        secret = self.key if key is None else key
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return httpx.Client(base_url=self.address, headers=headers, trust_env=False, timeout=120)

    def rest(self) -> str:
        """What it said after its start, once it has ended."""
        self.process.wait(timeout=120)
        self.listener.join()
        return "".join(self.said)


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Return once it holds; far longer than it takes on a busy machine is a failure."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def serving(
    *words: object, cwd: Path, is_first: bool | None = None, descriptors: int | None = None
) -> Iterator[Running]:
    """A service on a port of its own; its first key, where it makes one, is taken from what it prints."""
    if is_first is None:
        is_first = "--no-auth" not in words and not (cwd / "feedback.db").exists()
    port = [] if "--port" in words else ["--port", "0"]
    command = [sys.executable, "-c", SERVICE, "serve", *port, *map(str, words)]
    if descriptors is not None:
        command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        listener = None
        try:
            assert process.stdout is not None
            said = line = process.stdout.readline()
            # A warning may come before the address.
            while line and "http://" not in line:
                said += (line := process.stdout.readline())
            address = re.search(r"http://\S+", said)
            assert address, said
            key = re.search("ml_[0-9a-z]+_[-_0-9A-Za-z]+", process.stdout.readline() if is_first else "")
            said_later: list[str] = []
            # What nobody reads would stop it in the end.
            listener = threading.Thread(target=said_later.extend, args=(process.stdout,))
            listener.start()
            yield Running(
                process=process, address=address[0], key=key[0] if key else "", said=said_later, listener=listener
            )
        finally:
            process.kill()
            if listener:
                listener.join()
