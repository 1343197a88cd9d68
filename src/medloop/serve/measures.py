"""What Prometheus may read of the service; no label names a person, a file or a key."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from medloop.feedback import Status
from medloop.serve.answers import Answer

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# A reason is a sentence; its start says which it is.
REASONS = {
    "blank": "blank",
    "colour": "not this modality",
    "far": "out of distribution",
    "too close": "too close to call",
}


class Measures:
    """The service's own registry, so that two services in one process stay apart."""

    def __init__(self) -> None:
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
        self._model = Gauge("medloop_model", "What serves.", ("name", "version", "bundle"), registry=self.registry)
        self._in_flight = Gauge("medloop_requests_in_flight", "Requests waiting or worked on.", registry=self.registry)
        self._unwritten = Gauge("medloop_answers_unwritten", "Answers on their way to disk.", registry=self.registry)
        self._spooled = Gauge("medloop_spooled_bytes", "What waits for the database.", registry=self.registry)
        self._away = Gauge("medloop_database_away", "1 while the database does not answer.", registry=self.registry)

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

    def count_rejected(self) -> None:
        """One input that could not be used."""
        self._rejected.inc()

    def show_model(self, *, name: str, version: str, bundle: str) -> None:
        """What serves from now on."""
        self._model.clear()
        self._model.labels(name, version, bundle[:12]).set(1)

    def text(self, *, in_flight: int, feedback: Status) -> bytes:
        """All of it, as Prometheus reads it."""
        self._in_flight.set(in_flight)
        self._unwritten.set(feedback.queued)
        self._spooled.set(feedback.spooled_bytes)
        self._away.set(feedback.away)
        return generate_latest(self.registry)


def reason_of(sentence: str) -> str:
    """The kind of reason that a sentence gives."""
    return next((kind for start, kind in REASONS.items() if sentence.startswith(start)), "other")
