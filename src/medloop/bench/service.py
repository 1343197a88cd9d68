"""The throughput of the service on this machine, compared with decoding and inference alone, in turns."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from medloop.bench.load import Load, Target, form_of, load, request_of
from medloop.bench.memory import family_megabytes
from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.cores import cores
from medloop.errors import UserError
from medloop.registry.follow import require_champion
from medloop.registry.mirror import open_store
from medloop.settings import PREFIX, Settings

AT_ONCE = (1, 8, 32)
ROUNDS = 3
HEADER = ("clients", "requests/s", "p50 ms", "p95 ms", "p99 ms", "of bare model")
# All requests have the same key.
NO_LIMIT = 1e9


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians of several rounds: `loads` by the number of clients, and the predictions per second of the bare model."""

    loads: Mapping[int, Load]
    bare: float
    megabytes: float | None


@dataclass(frozen=True, kw_only=True)
class Started:
    """A running service."""

    pid: int
    port: int
    key: str


def bench(
    folder: Path,
    settings: Settings,
    *,
    case: Any = None,
    seconds: float = 2.0,
    rounds: int = ROUNDS,
    at_once: Sequence[int] = AT_ONCE,
    say: Callable[[str], None] = lambda _: None,
) -> Figures:
    """Measure the bundle over HTTP with keys and journal, and bare; the database of the project is not touched."""
    predictor = Predictor.load(folder)
    case = predictor.example() if case is None else case
    rates: list[float] = []
    loads: dict[int, list[Load]] = {number: [] for number in at_once}
    with tempfile.TemporaryDirectory() as temporary, service(folder, settings, root=Path(temporary)) as started:
        target = Target(port=started.port, request=predict_request(predictor, case, key=started.key))
        for turn in range(rounds):
            say(f"Round {turn + 1} of {rounds}")
            rates.append(bare(predictor, folder, case, seconds=seconds))
            for number, found in loads.items():
                found.append(load(target, at_once=number, seconds=seconds))
        megabytes = family_megabytes(started.pid)
    return Figures(
        loads={number: median_load(found) for number, found in loads.items()}, bare=median(rates), megabytes=megabytes
    )


def lines_of(found: Figures) -> list[list[str]]:
    """Return the rows of the table under HEADER."""
    lines = []
    for number, one in found.loads.items():
        times = [f"{value:.1f}" for value in (one.p50, one.p95, one.p99)]
        lines.append([str(number), f"{one.rate:.0f}", *times, f"{one.rate / found.bare:.0%}"])
    return lines


def remarks_of(found: Figures) -> list[str]:
    """Return the lines below the table."""
    memory = "unknown" if found.megabytes is None else f"{found.megabytes:.0f} MB"
    return [
        f"Bare model on {cores()} cores, without HTTP and journal: {found.bare:.0f} predictions per second.",
        f"Memory of the service afterwards: {memory}.",
    ]


def champion_folder(root: Path, settings: Settings) -> Path:
    """Return the bundle of the champion."""
    store = open_store(settings, root)
    return store.fetch_bundle(require_champion(store.pointer()))


def case_of(folder: Path, file: Path) -> Any:
    """Return the content of a file: the bytes of an image, or a row from a JSON object."""
    data = file.read_bytes()
    if files.read_meta(folder)["preparer"].get("kind") == "image":
        return data
    try:
        row = json.loads(data)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UserError(
            "The input for this model is not a JSON object.", 'Write one row, for instance {"age": 63, "sex": "f"}.'
        )
    return row


def median_load(loads: Sequence[Load]) -> Load:
    """Return the load with the median rate."""
    return sorted(loads, key=lambda one: one.rate)[len(loads) // 2]


def predict_request(predictor: Predictor, case: Any, *, key: str) -> bytes:
    """Return the request for a case in the short form."""
    if predictor.is_image:
        body, kind = form_of(case, patient="bench" if predictor.needs_patients else None)
        return request_of("/predict", body, content_type=kind, key=key)
    features = [case.get(name) for name in predictor.preparer.names]
    return request_of("/predict", json.dumps({"features": features}).encode(), content_type="application/json", key=key)


def bare(predictor: Predictor, folder: Path, case: Any, *, seconds: float) -> float:
    """Return the predictions per second of one thread per core that only prepares the case and runs the model."""
    from medloop.bundle.session import open_session

    read = _picture_reader(predictor, case) if predictor.is_image else lambda: predictor.preparer.prepare([case])
    model, counts = (folder / files.MODEL).read_bytes(), [0] * cores()
    sessions = [open_session(model, threads=1) for _ in counts]
    until = time.perf_counter() + seconds

    def run(place: int) -> None:
        while time.perf_counter() < until:
            sessions[place].run(["logits", "embedding"], read())
            counts[place] += 1

    started = time.perf_counter()
    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def _picture_reader(predictor: Predictor, data: bytes) -> Callable[[], dict[str, Any]]:
    """Return a function that decodes with OpenCV without any check; files that OpenCV cannot read go the usual way."""
    import cv2
    import numpy as np

    from medloop.bundle.inputs import model_input

    cv2.setNumThreads(1)
    height, width, channels = predictor.preparer.shape
    flags = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB

    def read() -> dict[str, Any]:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        pixels = predictor.decode(data).pixels if found is None else np.asarray(found, np.uint8)
        small = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        shown = small.reshape(height, width, -1)[..., :channels]
        return model_input(np.broadcast_to(shown, (1, height, width, channels)))

    return read


@contextmanager
def service(folder: Path, settings: Settings, *, root: Path) -> Iterator[Started]:
    """Run `medloop serve` with these settings, but with database, keys and inputs in another folder."""
    local = {"host": "127.0.0.1", "port": 0, "rate_limit": NO_LIMIT}
    sections = {
        "serve": {**settings.serve.model_dump(mode="json", exclude={"oidc"}), **local},
        "feedback": settings.feedback.model_dump(include={"keep_inputs", "keep_days", "journal", "spool_mib"}),
    }
    # JSON is YAML.
    (root / "config.yaml").write_text(json.dumps(sections), encoding="utf-8")
    command = [sys.executable, "-m", "medloop", "serve", "--auth", "--bundle", str(folder.resolve())]
    with child(command, root) as process:
        port = re.search(r":(\d+) ", read_line(process))
        key = re.search(r"ml_\S+", read_line(process))
        if port is None or key is None:
            raise UserError("The service ended while starting.", "Run `medloop serve` to see the error.")
        yield Started(pid=process.pid, port=int(port[1]), key=key[0])


@contextmanager
def child(command: Sequence[str], root: Path, *, path: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a process without the settings of this one until the block ends; `path` is its PYTHONPATH."""
    from medloop.feedback.db.database import STATELESS_VARIABLES

    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) and name not in STATELESS_VARIABLES
    }
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=quiet, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line of the process's output."""
    return process.stdout.readline() if process.stdout else ""
