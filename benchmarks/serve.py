"""The service against a bare loop on the same cores, and against the service that tutorials write, on one picture."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.model_call import BACKBONE
from benchmarks.row import Row
from benchmarks.served_bundles import image_bundle, picture
from medloop.bench import service as bench
from medloop.bench.load import Load, Target, form_of, load, request_of
from medloop.bench.memory import family_megabytes
from medloop.bundle.predictor import Predictor
from medloop.settings import Settings

# Size and channels of what the network takes: one channel, as a recipe has it for scans unless it says otherwise, and
# three, as the tutorials have it. At 96 pixels the way to the model is a large share; at 224 pictures are judged.
NETWORKS = ((96, 1), (224, 1), (224, 3))
ROUNDS, SECONDS = 5, 3.0
TIMES = {8: 4.0, 32: 6.0}
OF_BARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Served:
    """A service that runs, and how it is asked for the picture."""

    pid: int
    target: Target


def measure() -> list[Row]:
    """Access control and journal on, against both, in turns, for each network."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        return [row for size, channels in NETWORKS for row in _with(size, channels, root)]


def _with(size: int, channels: int, root: Path) -> list[Row]:
    bundle, data = image_bundle(root, size, channels=channels, precision="int8"), picture(root)
    home = root / f"service{size}x{channels}"
    home.mkdir()
    what = f"{BACKBONE}, {size} pixels, {channels} channel{'s' * (channels > 1)}"
    with medloop(bundle, data, home) as ours, tutorial(size, data, root) as theirs:
        return compare(what, bundle, data, ours, theirs)


def compare(what: str, bundle: Path, data: bytes, ours: Served, theirs: Served) -> list[Row]:
    """Rounds of all three, the middle one of each."""
    predictor, rows = Predictor.load(bundle), []
    for at_once, times in TIMES.items():
        mine, other, limits = [], [], []
        for _ in range(ROUNDS):
            limits.append(bench.bare(predictor, bundle, data, seconds=SECONDS))
            mine.append(load(ours.target, at_once=at_once, seconds=SECONDS))
            other.append(load(theirs.target, at_once=at_once, seconds=SECONDS))
        case = f"{what}, {at_once} at once"
        rows.append(_against_them(case, bench.median_load(mine), bench.median_load(other), times))
        rows.append(_against_bare(case, bench.median_load(mine), median(limits)))
    return [*rows, _memory(family_megabytes(ours.pid) or 0.0, family_megabytes(theirs.pid) or 0.0)]


@contextmanager
def medloop(bundle: Path, data: bytes, root: Path, settings: Settings | None = None) -> Iterator[Served]:
    """`medloop serve` as it comes."""
    with bench.service(bundle, settings or Settings(), root=root) as started:
        body, kind = form_of(data)
        request = request_of("/predict", body, content_type=kind, key=started.key)
        yield Served(pid=started.pid, target=Target(port=started.port, request=request))


@contextmanager
def tutorial(size: int, data: bytes, root: Path) -> Iterator[Served]:
    """The network in torch behind FastAPI: no keys, no journal, no word on what it does not know."""
    command = [sys.executable, "-m", "benchmarks.tutorial_service", str(size)]
    with bench.child(command, root, path=Path(__file__).parent.parent) as process:
        body, kind = form_of(data)
        port = int(bench.read_line(process))
        yield Served(pid=process.pid, target=Target(port=port, request=request_of("/predict", body, content_type=kind)))


def in_turns(targets: Mapping[str, Target], *, at_once: int, rounds: int, seconds: float) -> dict[str, Load]:
    """Rounds of all, the middle one of each."""
    loads: dict[str, list[Load]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, target in targets.items():
            loads[name].append(load(target, at_once=at_once, seconds=seconds))
    return {name: bench.median_load(found) for name, found in loads.items()}


def told(one: Load) -> str:
    """Rate and times, in words."""
    return f"{one.rate:.0f}/s, p50 {one.p50:.0f} p95 {one.p95:.0f} p99 {one.p99:.0f} ms"


def _against_them(what: str, mine: Load, other: Load, times: float) -> Row:
    return Row(
        what=f"{what}: service {told(mine)}; FastAPI and torch {told(other)}",
        found=f"{mine.rate / other.rate:.1f} x",
        wanted=f">= {times:g} x, p99 lower",
        holds=mine.rate >= times * other.rate and mine.p99 < other.p99,
    )


def _against_bare(what: str, mine: Load, limit: float) -> Row:
    return Row(
        what=f"{what}: service {mine.rate:.0f}/s, bare loop {limit:.0f}/s",
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
