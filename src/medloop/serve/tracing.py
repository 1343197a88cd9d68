"""A span for each request, sent to an OpenTelemetry collector where the settings name one; none holds patient data."""

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

# The seconds of each step of the request that is worked on, added up over its files; None where nobody wants them.
STEPS: ContextVar[dict[str, float] | None] = ContextVar("steps", default=None)
SEND_SECONDS = 5.0
END_SECONDS = 2.0
SAMPLED = 1


class Tracing:
    """Spans wait in a queue of fixed length, and a thread sends them; what finds no room is left out."""

    def __init__(self, collector: str) -> None:
        _refuse_absent_library()
        self._collector = collector
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._ids: Any = None

    def __enter__(self) -> Self:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # It says the same with each attempt; one line when it begins and one when it ends will do.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        exporter = OTLPSpanExporter(f"{self._collector.rstrip('/')}/v1/traces", timeout=SEND_SECONDS)
        self._ids = _ids()
        resource = Resource.create({"service.name": "medloop", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_told(exporter)))
        self._tracer = self._provider.get_tracer("medloop.serve", __version__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracer = None
        if self._provider is not None:
            # A collector that is away must not hold up the end.
            ending = threading.Thread(target=self._provider.shutdown, name="medloop-traces-end", daemon=True)
            ending.start()
            ending.join(END_SECONDS)

    def flush(self) -> None:
        """Send what waits, now."""
        if self._provider is not None:
            self._provider.force_flush()

    def record(
        self, trace: str, caller: tuple[str, str] | None, *, method: str, route: str, status: int, seconds: float
    ) -> None:
        """Hand over the span of a request that has ended; the caller's span and its wish to be sampled are honoured."""
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
            above = SpanContext(int(trace, 16), span_id, is_remote=True, trace_flags=TraceFlags(flags & SAMPLED))
            parent = set_span_in_context(NonRecordingSpan(above))
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
    """The way to the collector, if there is one."""
    return Tracing(collector) if collector else None


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Gives a request without a caller's span the trace id that its logs and errors carry."""

        trace = 0

        def generate_trace_id(self) -> int:
            """The id that was set for the span that is being made."""
            return self.trace

    return Ids()


def _told(exporter: SpanExporter) -> SpanExporter:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Told(SpanExporter):
        """Says once that the collector is away, and once that it is back."""

        is_away = False

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            """Send some spans."""
            result = exporter.export(spans)
            is_away = result is not SpanExportResult.SUCCESS
            if is_away != self.is_away:
                log.warning("the collector of traces is away" if is_away else "the collector of traces answers again")
            self.is_away = is_away
            return result

        def shutdown(self) -> None:
            """Give up what is under way."""
            exporter.shutdown()

    return Told()


def _refuse_absent_library() -> None:
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401 - whether they are there
    except ImportError as error:
        raise UserError(
            "serve.otlp needs OpenTelemetry",
            found="not installed",
            hint='pip install "medloop[otel]", or leave serve.otlp out of config.yaml',
        ) from error
