"""Traces: HTTP request, message and processor call are one trace at a real OTLP receiver."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from refund_worker.engine.access.api_keys import create_key
from refund_worker.tracing import span
from tests.support.deployment import STRIPE_KEY, Deployment, wait_until
from tests.support.sales import paid, sell

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET_TEXT = "Veras own words"


class Receiver(ThreadingHTTPServer):
    """An OTLP receiver: `spans` are (service, span) in the order of their arrival, `bodies` what was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Any]] = []
        self.bodies = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(a.value.string_value for a in group.resource.attributes if a.key == "service.name")
            self.server.spans += [(service, each) for scope in group.scope_spans for each in scope.spans]
        self.server.bodies += body
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Write nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_request_message_and_call_are_one_trace(tmp_path: Path, receiver: Receiver) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        deployment.start("worker")
        deployment.celery()
        key = create_key(deployment.context, name="shop", client="shop", role="admin")
        deployment.parts.add("web", "web", "--port", "0")
        log = tmp_path / "web.log"
        url = wait_until(lambda: log.exists() and re.search(r"listens on (http://[0-9.:]+)", log.read_text()))[1]
        sell(deployment.context, deployment.sandbox, [paid("vera")])
        body = {"kind": "withdrawal", "to": "source", "customer_id": "c-vera", "credits": 50, "reason": SECRET_TEXT}
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "k-1", "traceparent": CALLER}
        with httpx.Client(base_url=url, timeout=60) as http:
            wait_until(lambda: http.get("/readyz").status_code == 200)
            assert http.post("/v1/refunds", json=body, headers=headers).status_code == 202
        wait_until(lambda: any(each.name == "stripe send" for _, each in receiver.spans))
        wait_until(lambda: {"POST /v1/refunds", "process refunds"} <= {each.name for _, each in receiver.spans})
    spans = {each.name: (service, each) for service, each in receiver.spans}
    (web, request), (worker, message), (_, call) = (
        spans[name] for name in ("POST /v1/refunds", "process refunds", "stripe send")
    )
    assert (web, worker) == ("refund-worker-web", "refund-worker-worker")
    assert {each.trace_id.hex() for each in (request, message, call)} == {CALLER.split("-")[1]}
    assert request.parent_span_id.hex() == CALLER.split("-")[2]
    assert (message.parent_span_id, call.parent_span_id) == (request.span_id, message.span_id)
    told = {a.key: a.value.string_value or a.value.int_value for each in (request, call) for a in each.attributes}
    assert told == {
        "http.request.method": "POST",
        "http.route": "/v1/refunds",
        "http.response.status_code": 202,
        "refund_worker.outcome": "answered",
        "refund_worker.code": "succeeded",
    }
    for hidden in (SECRET_TEXT, STRIPE_KEY, key, "c-vera", "k-1"):
        assert hidden.encode() not in receiver.bodies
    assert {each.name for _, each in receiver.spans}.isdisjoint({"GET /readyz", "HTTP"})


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_end_does_not_wait_for_a_receiver(how: str) -> None:
    with socket.socket() as receiver:
        receiver.bind(("127.0.0.1", 0))
        if how == "is silent":
            receiver.listen()
        url = f"http://127.0.0.1:{receiver.getsockname()[1]}"
        environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        ran = subprocess.run(
            [sys.executable, "-c", ENDS], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
    began, ended = map(float, ran.stdout.split())
    assert ended - began < 4, "the end of tracing"
    assert time.monotonic() - ended < 4, "the end of the process"


ENDS = """
import time
from refund_worker.tracing import end_tracing, set_up_tracing, span
set_up_tracing("web")
with span("HTTP", "server"):
    pass
began = time.monotonic()
end_tracing()
print(began, time.monotonic())
"""

NOT_LOADED = """
import sys
from refund_worker.tracing import describe, end_tracing, set_up_tracing, span
import refund_worker.web.app, refund_worker.worker.tasks
set_up_tracing("web")
with span("HTTP", "server", "00-forged"):
    describe("x", a=1)
end_tracing()
print([name for name in sys.modules if name.startswith("opentelemetry.exporter") or name == "refund_worker.otel"])
"""


def test_without_a_receiver_nothing_is_loaded() -> None:
    ran = subprocess.run([sys.executable, "-c", NOT_LOADED], capture_output=True, text=True, timeout=60, check=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_span_without_tracing_passes_exceptions_on() -> None:
    with pytest.raises(KeyError), span("HTTP", "server"):
        raise KeyError
