"""Traces: one span per request, sent to an OpenTelemetry collector if configured; none contains patient data."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from medloop import __version__
from medloop.errors import UserError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Tracer

log = logging.getLogger("medloop.serve")

# The seconds of each step of the current request, added up over its files; None without tracing.
STEPS: ContextVar[dict[str, float] | None] = ContextVar("steps", default=None)
SEND_SECONDS = 5.0
END_SECONDS = 2.0
SAMPLED = 1


class Tracing:
    """Sends spans from a thread with a bounded queue; spans that do not fit are dropped."""

    def __init__(self, collector: str) -> None:
        _check_installed()
        self._collector = collector
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._ids: Any = None

    def __enter__(self) -> Self:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # It logs every failed attempt; one line at the beginning of an outage and one at its end are enough.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(f"{self._collector.rstrip('/')}/v1/traces", timeout=SEND_SECONDS)
        self._ids = _id_generator()
        resource = Resource.create({"service.name": "medloop", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_log_outages(exporter)))
        self._tracer = self._provider.get_tracer("medloop.serve", __version__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracer = None
        if self._provider is not None:
            # An unreachable collector may not delay the shutdown.
            ending = threading.Thread(target=self._provider.shutdown, name="medloop-traces-end", daemon=True)
            ending.start()
            ending.join(END_SECONDS)

    def flush(self) -> None:
        """Send the spans in the queue now."""
        if self._provider is not None:
            self._provider.force_flush()

    def record(
        self, trace: str, caller: tuple[str, str] | None, *, method: str, route: str, status: int, seconds: float
    ) -> None:
        """Record the span of a finished request as a child of the caller's span, with the caller's sampling flag."""
        if self._tracer is None:
            return
        from opentelemetry.trace import (
            NonRecordingSpan,
            SpanContext,
            SpanKind,
            StatusCode,
            TraceFlags,
            set_span_in_context,
        )

        parent = None
        if caller is not None:
            span_id, flags = (int(text, 16) for text in caller)
            remote = SpanContext(int(trace, 16), span_id, is_remote=True, trace_flags=TraceFlags(flags & SAMPLED))
            parent = set_span_in_context(NonRecordingSpan(remote))
        ended = time.time_ns()
        self._ids.trace = int(trace, 16)
        span = self._tracer.start_span(
            f"{method} {route}".strip(),
            context=parent,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": method or "_OTHER",
                "http.route": route,
                "http.response.status_code": status,
                **{f"medloop.{step}_seconds": round(took, 6) for step, took in (STEPS.get() or {}).items()},
            },
            start_time=ended - int(seconds * 1e9),
        )
        if status >= 500 or not status:
            span.set_status(StatusCode.ERROR)
        span.end(ended)


def open_tracing(collector: str | None) -> Tracing | None:
    """Return the tracing to this collector, if there is one."""
    return Tracing(collector) if collector else None


def _id_generator() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class TraceIdGenerator(RandomIdGenerator):
        """Uses the trace id of the logs and errors for a request without a caller's span."""

        trace = 0

        def generate_trace_id(self) -> int:
            """Return the id that was set for the next span."""
            return self.trace

    return TraceIdGenerator()


def _log_outages(exporter: SpanExporter) -> SpanExporter:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class OutageLogger(SpanExporter):
        """Logs once that the collector is unreachable, and once that it is reachable again."""

        is_away = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            """Send spans."""
            result = exporter.export(spans)
            is_away = result is not SpanExportResult.SUCCESS
            if is_away != self.is_away:
                log.warning(
                    "the trace collector is unreachable" if is_away else "the trace collector is reachable again"
                )
            self.is_away = is_away
            return result

        def shutdown(self) -> None:
            """Shut the exporter down."""
            exporter.shutdown()

    return OutageLogger()


def _check_installed() -> None:
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401 - tests whether they are installed
    except ImportError as error:
        raise UserError(
            "serve.otlp needs OpenTelemetry, which is not installed.",
            'Run `pip install "medloop[otel]"`, or remove serve.otlp from config.yaml.',
        ) from error
