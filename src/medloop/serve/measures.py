"""What Prometheus may read of the service; no label names a person, a file or a key."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from medloop.feedback import Status
from medloop.serve.answers import Answer
from medloop.serve.tracing import STEPS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# A reason is a sentence; its start says which it is.
REASONS = {
    "blank": "blank",
    "colour": "not this modality",
    "far": "out of distribution",
    "too close": "too close to call",
}
# Where prometheus_client, if this is set before it is imported, keeps the figures of several processes.
SHARED = "PROMETHEUS_MULTIPROC_DIR"
SHADOW = {
    "scored": "Answers of the champion that the challenger was asked for, too.",
    "agreement": "Share of them in which both said the same.",
    "behind": "Answers that wait for the challenger.",
}


class Measures:
    """The service's own registry, so that two services in one process stay apart."""

    def __init__(self) -> None:
        self.folder = os.environ.get(SHARED)
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "medloop_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "medloop_step_seconds", "How long each step took.", ("step",), buckets=SECONDS, registry=self.registry
        )
        self._predictions = Counter(
            "medloop_predictions",
            "Predictions by class; an empty one where none was given.",
            ("label",),
            registry=self.registry,
        )
        self._abstained = Counter(
            "medloop_abstentions", "Predictions without a class, by reason.", ("reason",), registry=self.registry
        )
        self._confidence = Histogram(
            "medloop_confidence", "Highest probability of each prediction.", buckets=SHARES, registry=self.registry
        )
        self._rejected = Counter("medloop_rejected_inputs", "Inputs that could not be used.", registry=self.registry)
        self.swaps = Counter(
            "medloop_model_swaps", "New versions taken, and refused ones.", ("outcome",), registry=self.registry
        )
        self._model = self._most("medloop_model", "What serves.", ("name", "version", "bundle"))
        self._away = self._most("medloop_database_away", "1 while the database does not answer.")
        self._in_flight = self._sum("medloop_requests_in_flight", "Requests waiting or worked on.")
        self._unwritten = self._sum("medloop_answers_unwritten", "Answers on their way to disk.")
        self._spooled = self._sum("medloop_spooled_bytes", "What waits for the database.")
        self._served: tuple[str, ...] = ()
        self._shadow = ShadowFigures()
        self.registry.register(self._shadow)

    def _most(self, name: str, words: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Of several processes the one with the most counts."""
        return Gauge(name, words, labels, registry=self.registry, multiprocess_mode="livemax")

    def _sum(self, name: str, words: str) -> Gauge:
        """Several processes are added up."""
        return Gauge(name, words, registry=self.registry, multiprocess_mode="livesum")

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels("request").observe(seconds)

    def count_answer(self, answer: Answer, *, store_seconds: float) -> None:
        """One answer, and how long its steps took."""
        prediction = answer.prediction
        self._predictions.labels(prediction.label or "").inc()
        self._confidence.observe(max(prediction.probabilities.values()))
        if prediction.reason:
            self._abstained.labels(reason_of(prediction.reason)).inc()
        steps = {"decode": answer.decode_seconds, "infer": answer.infer_seconds, "store": store_seconds}
        for step, seconds in steps.items():
            self._seconds.labels(step).observe(seconds)
        if (told := STEPS.get()) is not None:
            for step, seconds in steps.items():
                told[step] = told.get(step, 0.0) + seconds

    def count_rejected(self) -> None:
        """One input that could not be used."""
        self._rejected.inc()

    def show_model(self, *, name: str, version: str, bundle: str) -> None:
        """What serves from now on."""
        if self._served:
            # What several processes share cannot be taken back.
            self._model.labels(*self._served).set(0)
        self._model.clear()
        self._served = (name, version, bundle[:12])
        self._model.labels(*self._served).set(1)

    def show_shadow(self, figures: Mapping[str, Any]) -> None:
        """What is known of the challenger; nothing where there is none."""
        self._shadow.figures = figures

    def show(self, *, in_flight: int, feedback: Status) -> None:
        """How it stands now."""
        self._in_flight.set(in_flight)
        self._unwritten.set(feedback.queued)
        self._spooled.set(feedback.spooled_bytes)
        self._away.set(feedback.away)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        if self.folder is None:
            return generate_latest(self.registry)
        forget_ended(Path(self.folder))
        together = CollectorRegistry()
        MultiProcessCollector(together, path=self.folder)  # type: ignore[no-untyped-call]
        together.register(self._shadow)
        return generate_latest(together)


class ShadowFigures:
    """Figures that every process of the service reads from the same file, so that they are never added up."""

    def __init__(self) -> None:
        self.figures: Mapping[str, Any] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What Prometheus reads."""
        for name, words in SHADOW.items():
            family = GaugeMetricFamily(f"medloop_shadow_{name}", words, labels=("champion", "challenger"))
            if self.figures:
                family.add_metric((self.figures["champion"], self.figures["challenger"]), self.figures[name])
            yield family


@contextmanager
def sharing() -> Iterator[None]:
    """Processes that are started meanwhile add their figures up in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="medloop-figures-") as folder:
        os.environ[SHARED] = folder
        try:
            yield
        finally:
            del os.environ[SHARED]


def forget_ended(folder: Path) -> None:
    """Drop how it stood with processes that have ended; what they counted stays."""
    for process in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            # Another process may be about it, too.
            with suppress(FileNotFoundError):
                mark_process_dead(int(process), path=str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            # It lives, as another user's.
            continue


def reason_of(sentence: str) -> str:
    """The kind of reason that a sentence gives."""
    return next((kind for start, kind in REASONS.items() if sentence.startswith(start)), "other")
