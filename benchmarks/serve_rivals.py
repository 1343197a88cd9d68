"""The service against LitServe, BentoML and `mlflow models serve`, all with the same graph in 32 bits."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from benchmarks.model_call import BACKBONE
from benchmarks.row import Row
from benchmarks.serve import in_turns, medloop, told
from benchmarks.served_bundles import image_bundle, picture
from medloop.bench.load import Target, form_of, load, request_of
from medloop.bundle import files
from medloop.cores import cores
from medloop.errors import UserError

SIZE = 224
ROUNDS, SECONDS = 3, 3.0
AT_ONCE = (8, 32)
START_SECONDS, END_SECONDS = 120.0, 15.0
CODE = Path(__file__).parent / "rivals"

# What prepares it, if anything, and what serves.
Commands = Callable[[Path, Path, int], list[list[str]]]


def measure() -> list[Row]:
    """Each in an environment of its own below BENCH_RIVALS, or a temporary folder; keys and journal here alone."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root = Path(temporary)
        bundle, data = image_bundle(root, SIZE, channels=3, precision="fp32"), picture(root)
        home = root / "service"
        home.mkdir()
        targets = {"service": stack.enter_context(medloop(bundle, data, home)).target}
        environments = Path(os.environ.get("BENCH_RIVALS") or root)
        for name in RIVALS:
            binaries = installed(name, environments.resolve())
            targets[name] = stack.enter_context(rival(name, binaries, bundle / files.MODEL, data, root))
        return [row for at_once in AT_ONCE for row in compare(targets, at_once)]


def compare(targets: Mapping[str, Target], at_once: int) -> list[Row]:
    """Each beside the service."""
    middle = in_turns(targets, at_once=at_once, rounds=ROUNDS, seconds=SECONDS)
    mine = middle.pop("service")
    what = f"{BACKBONE} in 32 bits, {SIZE} pixels, {at_once} at once: service {told(mine)}"
    return [
        Row(
            what=f"{what}; {name} {told(other)}",
            found=f"{mine.rate / other.rate:.1f} x",
            wanted="> 1 x",
            holds=mine.rate > other.rate,
        )
        for name, other in middle.items()
    ]


def installed(name: str, folder: Path) -> Path:
    """The programs of the rival's environment, which is made where it is not there."""
    place = folder / name
    if not (place / "done").exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], check=True)
        wanted = ["--python", str(place), "--requirements", str(CODE / f"{name}.txt")]
        subprocess.run([uv, "pip", "install", "--quiet", *wanted], check=True)
        (place / "done").touch()
    return place / "bin"


@contextmanager
def rival(name: str, binaries: Path, graph: Path, data: bytes, root: Path) -> Iterator[Target]:
    """The rival, once it answers."""
    port = _free_port()
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(CODE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RIVAL_GRAPH": str(graph),
        "RIVAL_SIZE": str(SIZE),
    }
    said = root / f"{name}.log"
    with said.open("wb") as log:
        *before, serves = RIVALS[name](binaries, root, port)
        for command in before:
            subprocess.run(command, check=True, env=environment, cwd=root, stdout=log, stderr=log)
        # A group of its own, since all of them start workers.
        process = subprocess.Popen(serves, env=environment, cwd=root, stdout=log, stderr=log, start_new_session=True)
        try:
            target = Target(port=port, request=_request(name, data))
            _wait(target, said)
            yield target
        finally:
            # Asked first: BentoML's workers are in groups of their own, and only it ends them.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=END_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    """Below those that connections get, for else asking a port where nobody listens yet could answer itself."""
    for port in range(20_000, 30_000):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port is free")


def _wait(target: Target, said: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            load(target, at_once=1, seconds=0.1)
        except (OSError, UserError):
            if time.monotonic() > until:
                raise RuntimeError(f"it does not answer:\n{said.read_text('utf-8')[-2000:]}") from None
            time.sleep(0.5)
        else:
            return


def _request(name: str, data: bytes) -> bytes:
    if name != "mlflow":
        body, kind = form_of(data, content_type="image/png")
        return request_of("/predict", body, content_type=kind)
    table = {"columns": ["image"], "data": [[base64.b64encode(data).decode()]]}
    body = json.dumps({"dataframe_split": table}).encode()
    return request_of("/invocations", body, content_type="application/json")


def _litserve(binaries: Path, _root: Path, port: int) -> list[list[str]]:
    return [[str(binaries / "python"), str(CODE / "litserve_service.py"), str(port)]]


def _bentoml(binaries: Path, _root: Path, port: int) -> list[list[str]]:
    where = ["--working-dir", str(CODE), "--host", "127.0.0.1", "--port", str(port)]
    return [[str(binaries / "bentoml"), "serve", "bentoml_service:Pictures", *where]]


def _mlflow(binaries: Path, root: Path, port: int) -> list[list[str]]:
    model, workers = str(root / "mlflow_model"), str(cores())
    where = ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port), "-w", workers]
    saves = [str(binaries / "python"), str(CODE / "mlflow_model.py"), model]
    return [saves, [str(binaries / "mlflow"), "models", "serve", "-m", model, *where]]


RIVALS: dict[str, Commands] = {"litserve": _litserve, "bentoml": _bentoml, "mlflow": _mlflow}
