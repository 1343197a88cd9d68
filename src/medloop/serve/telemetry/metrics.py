"""Prometheus metrics of the service; no label names a person, a file or a key."""

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

from medloop.case import Prediction
from medloop.feedback import Status
from medloop.serve.telemetry.tracing import STEPS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# Label values by the beginning of the reason for an abstention.
REASONS = {
    "blank": "blank",
    "colour": "not this modality",
    "far": "out of distribution",
    "too close": "too close to call",
}
# prometheus_client keeps the metrics of several processes here, if this is set before it is imported.
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SHADOW = {
    "scored": "Predictions of the champion that the challenger has repeated.",
    "agreement": "Share of them in which both agree.",
    "behind": "Predictions that wait for the challenger.",
}


class Metrics:
    """The metrics of one service in a registry of its own, so that two services in one process stay apart."""

    def __init__(self) -> None:
        self.folder = os.environ.get(SHARED_FOLDER)
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "medloop_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "medloop_step_seconds", "Duration of each step.", ("step",), buckets=SECONDS, registry=self.registry
        )
        self._predictions = Counter(
            "medloop_predictions",
            "Predictions by class; empty for abstentions.",
            ("label",),
            registry=self.registry,
        )
        self._abstained = Counter("medloop_abstentions", "Abstentions by reason.", ("reason",), registry=self.registry)
        self._confidence = Histogram(
            "medloop_confidence", "Highest probability of each prediction.", buckets=CONFIDENCES, registry=self.registry
        )
        self._rejected = Counter("medloop_rejected_inputs", "Inputs that were rejected.", registry=self.registry)
        self.swaps = Counter(
            "medloop_model_swaps",
            "Switches to another version, and versions that could not be loaded.",
            ("outcome",),
            registry=self.registry,
        )
        self._model = self._max("medloop_model", "The active version.", ("name", "version", "bundle"))
        self._away = self._max("medloop_database_away", "1 while the database cannot be reached.")
        self._in_flight = self._sum("medloop_requests_in_flight", "Requests waiting or being processed.")
        self._unwritten = self._sum("medloop_answers_unwritten", "Predictions that are not stored yet.")
        self._spooled = self._sum("medloop_spooled_bytes", "Size of the predictions that wait for the database.")
        self._active: tuple[str, ...] = ()
        self._shadow = ShadowCollector()
        self.registry.register(self._shadow)

    def _max(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        """Return a gauge whose value is the largest of all processes."""
        return Gauge(name, text, labels, registry=self.registry, multiprocess_mode="livemax")

    def _sum(self, name: str, text: str) -> Gauge:
        """Return a gauge whose value is the sum over all processes."""
        return Gauge(name, text, registry=self.registry, multiprocess_mode="livesum")

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels("request").observe(seconds)

    def count_prediction(self, prediction: Prediction, steps: Mapping[str, float]) -> None:
        """Count one prediction, and the seconds that each of its steps took."""
        self._predictions.labels(prediction.label or "").inc()
        self._confidence.observe(max(prediction.probabilities.values()))
        if prediction.reason:
            self._abstained.labels(reason_label(prediction.reason)).inc()
        for step, seconds in steps.items():
            self._seconds.labels(step).observe(seconds)
        if (totals := STEPS.get()) is not None:
            for step, seconds in steps.items():
                totals[step] = totals.get(step, 0.0) + seconds

    def count_rejected(self) -> None:
        """Count one input that was rejected."""
        self._rejected.inc()

    def set_model_info(self, *, name: str, version: str, bundle: str) -> None:
        """Set the active version."""
        if self._active:
            # Samples that several processes share cannot be removed.
            self._model.labels(*self._active).set(0)
        self._model.clear()
        self._active = (name, version, bundle[:12])
        self._model.labels(*self._active).set(1)

    def set_shadow(self, values: Mapping[str, Any]) -> None:
        """Set the results of the challenger in shadow; empty where there is none."""
        self._shadow.values = values

    def set_gauges(self, *, in_flight: int, feedback: Status) -> None:
        """Set the gauges to the current state."""
        self._in_flight.set(in_flight)
        self._unwritten.set(feedback.queued)
        self._spooled.set(feedback.spooled_bytes)
        self._away.set(feedback.away)

    def text(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        if self.folder is None:
            return generate_latest(self.registry)
        remove_ended_processes(Path(self.folder))
        combined = CollectorRegistry()
        MultiProcessCollector(combined, path=self.folder)  # type: ignore[no-untyped-call]
        combined.register(self._shadow)
        return generate_latest(combined)


class ShadowCollector:
    """Metrics that every process reads from the same file, so that they are never added up."""

    def __init__(self) -> None:
        self.values: Mapping[str, Any] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics, as prometheus_client expects."""
        for name, text in SHADOW.items():
            family = GaugeMetricFamily(f"medloop_shadow_{name}", text, labels=("champion", "challenger"))
            if self.values:
                family.add_metric((self.values["champion"], self.values["challenger"]), self.values[name])
            yield family


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Let processes that are started within the block add up their metrics in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="medloop-metrics-") as folder:
        os.environ[SHARED_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[SHARED_FOLDER]


def remove_ended_processes(folder: Path) -> None:
    """Drop the gauges of processes that have ended; their counters stay."""
    for process in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            # Another process may do the same at this moment.
            with suppress(FileNotFoundError):
                mark_process_dead(int(process), path=str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            # It is running as another user.
            continue


def reason_label(reason: str) -> str:
    """Return the label value for the reason of an abstention."""
    return next((label for start, label in REASONS.items() if reason.startswith(start)), "other")
