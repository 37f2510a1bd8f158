"""Traces of HTTP requests, messages and processor calls, for OpenTelemetry; without the extra `otel` they cost nothing.

A trace is made only if OTEL_EXPORTER_OTLP_ENDPOINT is set. `otel.py` sends it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

from refund_worker.extras import MissingExtra

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADER = "traceparent"
_A_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

SpanKind = Literal["server", "consumer", "client"]


class Tracer(Protocol):
    """The part of a tracing library that this program uses."""

    def span(self, name: str, kind: SpanKind, traceparent: str | None) -> AbstractContextManager[None]:
        """Return a span around a block; it continues the trace of `traceparent`, or of the enclosing span."""

    def describe(self, name: str | None, attributes: Mapping[str, str | int]) -> None:
        """Name the current span and add attributes to it."""

    def traceparent(self) -> str | None:
        """Return the current span in the form of the W3C header, or None outside of spans."""

    def close(self) -> None:
        """Send the last spans."""


_tracer: Tracer | None = None


def set_up_tracing(process: str) -> None:
    """Begin to trace in this process, if the environment names a receiver. Call it after the last fork."""
    global _tracer
    if _tracer is not None or not any(os.environ.get(name) for name in ENDPOINTS):
        return
    try:
        from refund_worker.otel import OtelTracer
    except MissingExtra as error:
        log.warning("no traces are sent to %s: %s", ENDPOINTS[0], error.message)
        return
    _tracer = OtelTracer(process)


def end_tracing() -> None:
    """Send the last spans of this process and trace no more."""
    global _tracer
    ended, _tracer = _tracer, None
    if ended is not None:
        ended.close()


@contextmanager
def span(name: str, kind: SpanKind, traceparent: object = None) -> Iterator[None]:
    """Trace a block. `traceparent` may come from anybody: a text of another form begins a new trace."""
    if _tracer is None:
        yield
        return
    valid = isinstance(traceparent, str) and _A_TRACEPARENT.fullmatch(traceparent) is not None
    with _tracer.span(name, kind, str(traceparent) if valid else None):
        yield


def describe(name: str | None = None, **attributes: str | int | None) -> None:
    """Name the current span and add attributes; two underscores in a name become a dot.

    No attribute may hold a customer's id or text, or a secret.
    """
    if _tracer is not None:
        given = {key.replace("__", "."): value for key, value in attributes.items() if value is not None}
        _tracer.describe(name, given)


def current_traceparent() -> str | None:
    """Return the current span in the form of the W3C header, or None without one."""
    return None if _tracer is None else _tracer.traceparent()
