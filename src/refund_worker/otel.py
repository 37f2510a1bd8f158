"""Sends traces with OpenTelemetry, over OTLP and HTTP. The variables of OpenTelemetry (OTEL_…) configure it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

from refund_worker.extras import require
from refund_worker.logs import log_fields
from refund_worker.tracing import HEADER, SpanKind

try:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    require("otel")
    raise

KINDS = {"server": trace.SpanKind.SERVER, "consumer": trace.SpanKind.CONSUMER, "client": trace.SpanKind.CLIENT}
SERVICE = "refund-worker"
# A receiver that does not answer must not hold up the end of the process: the library itself would try for 10 s.
CLOSE_SECONDS_MAX = 2.0


class OtelTracer:
    """Sends the spans of this process in the background."""

    def __init__(self, process: str) -> None:
        named = {"service.name": os.environ.get("OTEL_SERVICE_NAME") or f"{SERVICE}-{process}"}
        self._provider = TracerProvider(
            resource=Resource.create(named | {"service.version": version(SERVICE)}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(SERVICE)
        self._w3c = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, kind: SpanKind, traceparent: str | None) -> Iterator[None]:
        """Trace a block. Of an exception only the type is sent: its text may quote a customer."""
        context = None if traceparent is None else self._w3c.extract({HEADER: traceparent})
        with self._tracer.start_as_current_span(
            name, context=context, kind=KINDS[kind], record_exception=False, set_status_on_exception=False
        ) as made:
            trace_id = format(made.get_span_context().trace_id, "032x")
            try:
                with log_fields(trace_id=trace_id):
                    yield
            except BaseException as error:
                made.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise

    def describe(self, name: str | None, attributes: Mapping[str, str | int]) -> None:
        """Name the current span and add attributes to it."""
        current = trace.get_current_span()
        if name is not None:
            current.update_name(name)
        current.set_attributes(dict(attributes))

    def traceparent(self) -> str | None:
        """Return the current span in the form of the W3C header, or None outside of spans."""
        carrier: dict[str, str] = {}
        self._w3c.inject(carrier)
        return carrier.get(HEADER)

    def close(self) -> None:
        """Send the last spans, for at most `CLOSE_SECONDS_MAX`."""
        closing = threading.Thread(target=self._provider.shutdown, name="otel-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS_MAX)
