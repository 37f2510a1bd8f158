"""The local Adyen as a process of its own, driven by its controls, and the events that it sends by itself."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.processors.adyen.bench import WEBHOOKS, account, order
from tests.processors.adyen.book import MERCHANT
from tests.processors.adyen.server import API_KEY
from tests.support.pages import ROOT

from refund_worker.domain.processor_replies import Answered
from refund_worker.processors.adyen.adapter import AdyenProcessor


class Receiver(ThreadingHTTPServer):
    """A server that refuses the first delivery, and accepts the others."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[tuple[dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(503 if len(self.server.taken) == 1 else 200)
        self.end_headers()
        self.wfile.write(b"[accepted]")

    def log_message(self, *_args: object) -> None:
        """Write nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def url() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.processors.adyen.server", "--port", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(20) == 0


def control(server: str, name: str, /, **values: Any) -> dict[str, Any]:
    request = urllib.request.Request(f"{server}/_control/{name}", json.dumps(values).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.loads(answer.read()))


def test_server_is_driven_by_controls_and_sends_its_events(url: str, receiver: Receiver) -> None:
    payment = control(url, "payments", value=5000)["psp"]
    hook = f"http://127.0.0.1:{receiver.server_address[1]}/webhooks/adyen"
    control(url, "webhook", url=hook, user="adyen", password="secret")
    control(url, "options", delay_seconds=0.05)
    control(url, "faults", payment=payment, fault="reset")

    async def send_twice() -> list[object]:
        adapter = AdyenProcessor(API_KEY, MERCHANT, base=f"{url}/v72", live=False, timeout_seconds=5)
        replies = [await adapter.send("k", adapter.freeze(order(payment))) for _ in range(2)]
        await adapter.close()
        return list(replies)

    _, answered = asyncio.run(send_twice())
    assert isinstance(answered, Answered)
    until = time.monotonic() + 15
    while len(receiver.taken) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    headers, body = receiver.taken[-1]
    assert headers["authorization"] == "Basic " + base64.b64encode(b"adyen:secret").decode()
    settings = account(webhook_user="adyen", webhook_password="secret")
    WEBHOOKS.verify_event(settings, headers, body, time.time())
    psp = answered.object.processor_refund_id
    assert WEBHOOKS.event_name(body) == (f"REFUND:true:{psp}", "REFUND")
    control(url, "fail", psp=psp)
    control(url, "repeat")
    shown = control(url, "book")
    assert [(each["psp"], each["state"]) for each in shown["refunds"]] == [(psp, "failed")]
    assert shown["violations"] == []
