"""What the service loses by a challenger that works, hangs or crashes beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import onnx
from onnx import TensorProto, helper

from benchmarks.learning_sets import learn, learning_project
from benchmarks.model_call import BACKBONE, ORIGIN
from benchmarks.row import Row
from medloop.bench.load import Load, Target, form_of, load, request_of
from medloop.bundle import files
from medloop.bundle.export.image import export_images
from medloop.bundle.inputs import model_input
from medloop.bundle.predictor import Predictor
from medloop.case import RuleOutcome, Verdict
from medloop.recipe import ExportSection
from medloop.registry.store import ModelStore
from medloop.steps.stages import prepare
from medloop.storage import write_json, write_text

COUNT = 150
ROUNDS, SECONDS, AT_ONCE = 30, 1.5, 8
MOST_LOSS = 0.05
STATES = ("works", "hangs", "crashes")


def measure() -> list[Row]:
    """In turns with the challenger's process at work and with it held still, since others use the machine, too."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        project = learning_project(root / "project", COUNT)
        prepare.run(project)
        learn(project, BACKBONE, mode="finetune", epochs=1, patience=0)
        work = project.work
        export_images(
            *(work / "trained", work / "prepared", work / "splits.parquet", ExportSection(precision="int8")),
            origin=ORIGIN,
            folder=work / "bundle",
        )
        picture = next(Path(os.environ.get("BENCH_IMAGES") or root).rglob("*.png")).read_bytes()
        return [compare(root / state, state, work / "bundle", picture) for state in STATES]


def compare(place: Path, state: str, bundle: Path, picture: bytes) -> Row:
    """Short rounds of both in turn, the medians of each."""
    _make_place(place, state, bundle, picture)
    held: list[Load] = []
    free: list[Load] = []
    with _service(place) as (target, service):
        load(target, at_once=1, seconds=1.0)
        _wait_until_at_work(place, state, service)
        for _ in range(ROUNDS):
            with _treated(service, signal.SIGSTOP):
                held.append(load(target, at_once=AT_ONCE, seconds=SECONDS))
            with _treated(service, signal.SIGSEGV if state == "crashes" else signal.SIGCONT):
                free.append(load(target, at_once=AT_ONCE, seconds=SECONDS))
    return _row(state, held=held, free=free)


@contextmanager
def _service(place: Path) -> Iterator[tuple[Target, int]]:
    """The service, and the number of its process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-m", "medloop", "serve", "--port", "0"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            port, key = re.findall(r":(\d+) ", _line(process))[0], re.findall(r"ml_\S+", _line(process))[0]
            body, kind = form_of((place / "picture.png").read_bytes())
            request = request_of("/predict", body, content_type=kind, key=key)
            yield Target(port=int(port), request=request), process.pid
        finally:
            process.terminate()


def _wait_until_at_work(place: Path, state: str, service: int) -> None:
    """Until the challenger has answered or, where it hangs, has had the time to begin."""
    file, until = place / "work" / "shadow" / "shadow.json", time.monotonic() + 60
    while not (
        _shadows_of(service) if state == "hangs" else file.is_file() and json.loads(file.read_bytes())["scored"]
    ):
        if time.monotonic() > until:
            raise RuntimeError(f"no challenger {state}")
        time.sleep(0.1)
    if state == "hangs":
        time.sleep(5)


@contextmanager
def _treated(service: int, how: signal.Signals) -> Iterator[None]:
    """Sends every shadow this signal, those too that begin meanwhile."""
    ended = threading.Event()

    def treat() -> None:
        while not ended.wait(0.3):
            # One may have ended in between.
            with suppress(OSError):
                for process in _shadows_of(service):
                    os.kill(process, how)
                    os.kill(process, signal.SIGCONT if how != signal.SIGSTOP else how)

    thread = threading.Thread(target=treat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _shadows_of(service: int) -> list[int]:
    """The shadow's process, while there is one."""
    # Any of its threads may have started it.
    lists = [task / "children" for task in Path(f"/proc/{service}/task").iterdir()]
    children = [child for one in lists for child in one.read_text("ascii").split()]
    return [
        int(one) for one in children if b"medloop.serve.shadow.process" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]


def _make_place(place: Path, state: str, bundle: Path, picture: bytes) -> None:
    """A project's folder with a champion and a challenger of this kind."""
    store = ModelStore(place / "models")
    for name in ("champion", "challenger"):
        copied = place / "made" / name
        shutil.copytree(bundle, copied)
        if (name, state) == ("challenger", "hangs"):
            _let_hang(copied, picture)
        meta = json.loads((copied / files.META).read_text("utf-8"))
        write_json(copied / files.META, {**meta, "name": f"{state} {name}", "smoke": False})
        files.seal(copied)
        _register(store, copied)
    store.promote(1, by="bench")
    (place / "picture.png").write_bytes(picture)
    write_json(place / "config.yaml", {"serve": {"rate_limit": 100_000}})


def _register(store: ModelStore, bundle: Path) -> None:
    report = bundle.with_name(f"{bundle.name}-report")
    write_json(report / "report.json", {})
    write_json(report / "run_summary.json", {"bundle": files.verify(bundle)})
    write_text(report / "card.md", "# Measured\n")
    rule = RuleOutcome(name="none", needed="", found="", passed=True, n=1)
    edition = files.read_meta(bundle)["edition"]
    verdict = Verdict(passed=True, rules=(rule,), bundle=files.verify(bundle), edition=edition, created="2026-01-01")
    store.register(bundle, report, verdict)


def _let_hang(bundle: Path, picture: bytes) -> None:
    """At this picture, but not at the one that it is tried with, the model counts for ever."""
    predictor = Predictor.load(bundle)
    seen, tried = (
        float(model_input(predictor.evidence(one)[0][None])["image"].mean()) for one in (picture, predictor.example())
    )
    model = onnx.load(str(bundle / files.MODEL))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["quick" if name == "logits" else name for name in node.output]
    values = [helper.make_tensor_value_info("number", TensorProto.INT64, [])]
    values += [helper.make_tensor_value_info("go", TensorProto.BOOL, [])]
    values += [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)]
    results = [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [])]
    results += [helper.make_tensor_value_info("next", TensorProto.FLOAT, None)]
    steps = [helper.make_node("Identity", ["go"], ["goes_on"]), helper.make_node("Add", ["sum", "nothing"], ["next"])]
    body = helper.make_graph(steps, "count", values, results)
    graph.initializer.extend(
        [
            helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("always", TensorProto.BOOL, [], [True]),
            helper.make_tensor("between", TensorProto.FLOAT, [], [(seen + tried) / 2]),
            helper.make_tensor("ever", TensorProto.INT64, [], [2**60]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
            helper.make_node("Greater" if seen > tried else "Less", ["mean", "between"], ["hangs"]),
            helper.make_node("Cast", ["hangs"], ["once"], to=TensorProto.INT64),
            helper.make_node("Mul", ["once", "ever"], ["times"]),
            helper.make_node("Loop", ["times", "always", "quick"], ["logits"], body=body),
        ]
    )
    onnx.save(model, str(bundle / files.MODEL))
    files.seal(bundle)


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _row(state: str, *, held: list[Load], free: list[Load]) -> Row:
    with_it, without = (median(one.rate for one in loads) for loads in (free, held))
    delay_with, delay_without = (median(one.p50 for one in loads) for loads in (free, held))
    lost, later = 1 - with_it / without, delay_with / delay_without - 1
    return Row(
        what=f"{BACKBONE}, {AT_ONCE} at once, a challenger that {state}: {with_it:.0f}/s, p50 {delay_with:.1f} ms; "
        f"held still: {without:.0f}/s, p50 {delay_without:.1f} ms",
        found=f"{lost:+.1%} fewer, {later:+.1%} later",
        wanted=f"<= {MOST_LOSS:.0%} each",
        holds=lost <= MOST_LOSS and later <= MOST_LOSS,
    )
