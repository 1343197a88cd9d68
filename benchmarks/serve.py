"""The service against a bare loop on the same cores, and against the service that tutorials write, on one picture."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.learning_sets import SIZE, learn, learning_project
from benchmarks.memory import family_megabytes
from benchmarks.model_call import BACKBONE, ORIGIN
from benchmarks.row import Row
from medloop.bundle import files
from medloop.bundle.export_image import export_images
from medloop.bundle.inputs import model_input
from medloop.bundle.session import open_session
from medloop.recipe import ExportSection
from medloop.serve.engine import cores
from medloop.steps import stages

COUNT = 150
ROUNDS, SECONDS = 3, 4.0
TIMES = {8: 4.0, 32: 6.0}
OF_BARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service that runs, and how it is asked for the picture."""

    pid: int
    port: int
    request: bytes


@dataclass(frozen=True, kw_only=True)
class Load:
    """Requests a second, and how many milliseconds they took."""

    rate: float
    p50: float
    p95: float
    p99: float


def measure() -> list[Row]:
    """Access control and journal on, against both, in turns."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        project = learning_project(root / "project", COUNT)
        stages.prepare(project)
        learn(project, BACKBONE, mode="finetune", epochs=1, patience=0)
        work = project.work
        section = ExportSection(precision="int8")
        export_images(
            *(work / "trained", work / "prepared", work / "splits.parquet", section),
            origin=ORIGIN,
            folder=work / "bundle",
        )
        picture = next(Path(os.environ.get("BENCH_IMAGES") or root).rglob("*.png")).read_bytes()
        with medloop(work / "bundle", root, picture) as ours, tutorial(root, picture) as theirs:
            return compare(work / "bundle", picture, ours, theirs)


def compare(bundle: Path, picture: bytes, ours: Served, theirs: Served) -> list[Row]:
    """Rounds of all three, the middle one of each."""
    rows = []
    for at_once, times in TIMES.items():
        found: dict[str, list[Load]] = {"ours": [], "theirs": []}
        limits = []
        for _ in range(ROUNDS):
            limits.append(bare(bundle, picture))
            found["ours"].append(load(ours, at_once))
            found["theirs"].append(load(theirs, at_once))
        mine, other = (sorted(loads, key=lambda one: one.rate)[ROUNDS // 2] for loads in found.values())
        limit = sorted(limits)[ROUNDS // 2]
        rows += [_against_them(at_once, mine, other, times), _against_bare(at_once, mine, limit)]
    return [*rows, _memory(family_megabytes(ours.pid), family_megabytes(theirs.pid))]


@contextmanager
def medloop(bundle: Path, folder: Path, picture: bytes) -> Iterator[Served]:
    """`medloop serve` as it comes."""
    command = [sys.executable, "-m", "medloop", "serve", "--bundle", str(bundle), "--port", "0"]
    with _started(command, folder) as process:
        port = int(re.findall(r":(\d+) ", _line(process))[0])
        key = re.findall(r"ml_\S+", _line(process))[0]
        yield Served(pid=process.pid, port=port, request=_request(picture, key))


@contextmanager
def tutorial(folder: Path, picture: bytes) -> Iterator[Served]:
    """The network in torch behind FastAPI: no keys, no journal, no word on what it does not know."""
    with _started([sys.executable, "-m", "benchmarks.tutorial_service", str(SIZE)], folder) as process:
        yield Served(pid=process.pid, port=int(_line(process)), request=_request(picture, "none"))


def load(served: Served, at_once: int) -> Load:
    """Some seconds of so many clients, each of which asks again once it is answered."""
    took: list[float] = []
    started = time.perf_counter()
    asyncio.run(_clients(served, at_once, started + SECONDS, took))
    p50, p95, p99 = (1000 * float(value) for value in np.percentile(took, [50, 95, 99]))
    return Load(rate=len(took) / (time.perf_counter() - started), p50=p50, p95=p95, p99=p99)


def bare(bundle: Path, picture: bytes) -> float:
    """Pictures a second of threads that decode and run their session, and nothing else."""
    cv2.setNumThreads(1)
    graph, counts = (bundle / files.MODEL).read_bytes(), [0] * cores()
    sessions = [open_session(graph, threads=1) for _ in counts]
    until = time.perf_counter() + SECONDS

    def run(place: int) -> None:
        while time.perf_counter() < until:
            pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR_RGB)
            small = cv2.resize(np.asarray(pixels), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            sessions[place].run(["logits", "embedding"], model_input(np.asarray(small)[None]))
            counts[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS


async def _clients(served: Served, at_once: int, until: float, took: list[float]) -> None:
    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        while (started := time.perf_counter()) < until:
            writer.write(served.request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
            if b" 200 " not in head[:20]:
                raise RuntimeError(head.decode())
            took.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(at_once)))


def _request(picture: bytes, key: str) -> bytes:
    head = 'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'
    body = f"--XX\r\n{head}\r\n\r\n".encode() + picture + b"\r\n--XX--\r\n"
    kind = "Content-Type: multipart/form-data; boundary=XX"
    lines = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{kind}"
    return f"{lines}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def _started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "config.yaml").write_text("serve: {rate_limit: 100000}\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=quiet, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _against_them(at_once: int, mine: Load, other: Load, times: float) -> Row:
    told = [f"{one.rate:.0f}/s, p50 {one.p50:.0f} p95 {one.p95:.0f} p99 {one.p99:.0f} ms" for one in (mine, other)]
    return Row(
        what=f"{BACKBONE}, {SIZE} pixels, {at_once} at once: service {told[0]}; FastAPI and torch {told[1]}",
        found=f"{mine.rate / other.rate:.1f} x",
        wanted=f">= {times:g} x, p99 lower",
        holds=mine.rate >= times * other.rate and mine.p99 < other.p99,
    )


def _against_bare(at_once: int, mine: Load, limit: float) -> Row:
    return Row(
        what=f"{BACKBONE}, {SIZE} pixels, {at_once} at once: service {mine.rate:.0f}/s, bare loop {limit:.0f}/s",
        found=f"{mine.rate / limit:.0%}",
        wanted=f">= {OF_BARE:.0%}",
        holds=mine.rate >= OF_BARE * limit,
    )


def _memory(mine: float, other: float) -> Row:
    return Row(
        what=f"memory after the load: service {mine:.0f} MB, FastAPI and torch {other:.0f} MB",
        found=f"{mine:.0f} MB",
        wanted="<= 250 MB",
        holds=mine <= 250,
    )
