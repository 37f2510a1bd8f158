"""The local PayPal as a process of its own, driven over HTTP as the demonstration and the chaos tests drive it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.processors.paypal.conftest import order
from tests.support.migrated import migrated_sqlite_url, sqlite_template

from refund_worker.domain.processor_replies import Answered, Misconfigured, Refused, Reply, Unanswered
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.processors.paypal import verification
from refund_worker.processors.paypal.adapter import PayPalProcessor
from refund_worker.processors.paypal.entry import ENTRY, PayPalSettings
from refund_worker.processors.paypal.sandbox import PayPalSandbox, PayPalSandboxError
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings

__all__ = ["migrated_sqlite_url", "sqlite_template"]


@pytest.fixture
def process() -> Iterator[PayPalSandbox]:
    verification.forget()
    with PayPalSandbox() as started:
        yield started


class Listener(BaseHTTPRequestHandler):
    """A receiver of events that refuses the first delivery of each."""

    seen: list[tuple[dict[str, str], bytes]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_first = body not in [earlier for _, earlier in self.seen]
        self.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(503 if is_first else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def listener() -> Iterator[str]:
    Listener.seen.clear()
    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/webhooks/paypal"
    server.shutdown()
    server.server_close()


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


async def refund(url: str, capture_id: str, key: str = "k:1", *, timeout_seconds: float = 5) -> list[Any]:
    """Send the same refund twice with one adapter, and return both replies."""
    adapter = PayPalProcessor(CLIENT_ID, CLIENT_SECRET, base=url, live=False, timeout_seconds=timeout_seconds)
    try:
        body = adapter.freeze(order(capture_id, 1_250))
        return [await adapter.send(key, body), await adapter.send(key, body)]
    finally:
        await adapter.close()


def test_other_programs_make_payments_and_faults(process: PayPalSandbox) -> None:
    made = process.control("orders", amount="12.50")
    process.control("faults", capture_id=made["capture_id"], fault="reset")
    first, again = asyncio.run(refund(process.url, made["capture_id"]))
    assert isinstance(first, Unanswered)
    assert isinstance(again, Answered)
    book = process.book()
    assert (book["client_id"], book["webhook_id"]) == (CLIENT_ID, WEBHOOK_ID)
    assert [each["status"] for each in book["captures"]] == ["REFUNDED"]
    assert [(each["capture_id"], each["amount"]["value"]) for each in book["refunds"]] == [
        (made["capture_id"], "12.50")
    ]
    assert book["keys"] == {"k:1": again.object.processor_refund_id}


def test_events_are_signed_and_delivered_until_they_are_taken(process: PayPalSandbox, listener: str) -> None:
    made = process.control("orders", amount="12.50", currency="EUR")
    process.control("webhooks", url=listener)
    refund_id = process.control("refunds", capture_id=made["capture_id"], amount="1.00")["id"]
    process.control(f"refunds/{refund_id}", status="FAILED", reason="ECHECK")
    wait_for(lambda: [event["answers"] for event in process.book()["events"]] == [[503, 200], [503, 200]])
    kinds = [event["kind"] for event in process.book()["events"]]
    assert kinds == ["PAYMENT.CAPTURE.REFUNDED", "PAYMENT.REFUND.FAILED"]
    settings = PayPalSettings(
        client_id=CLIENT_ID, client_secret=CLIENT_SECRET, api_base=process.url, webhook_id=WEBHOOK_ID
    )
    assert ENTRY.webhooks is not None
    for headers, body in Listener.seen:
        ENTRY.webhooks.verify_event(settings, headers, body, time.time())
        kind = json.loads(body)["event_type"]
        hint = ENTRY.webhooks.event_hint(kind, body.decode())
        assert hint is not None
        assert hint.processor_refund_id == refund_id
    process.control("webhooks", url=None)
    process.control("events", refund_id=refund_id)
    process.control(f"refunds/{refund_id}", status="COMPLETED")
    assert len(process.book()["events"]) == 3


def test_account_clock_and_disputes_are_changed(process: PayPalSandbox) -> None:
    made = process.control("orders", amount="12.50", without_order=True)
    assert made["order_id"] is None
    process.control(f"captures/{made['capture_id']}", disputed="chargeback", reason="CHARGEBACK", state="PENDING")
    assert process.book()["captures"][0]["status_details"] == {"reason": "CHARGEBACK"}
    before = process.book()["now"]
    assert process.control("clock", seconds=86_400)["now"] > before + 86_399
    process.control("settings", balance={"GBP": "5.00"}, lag_seconds=5, token_seconds=60, revoke_tokens=True)


def test_refund_of_any_payment_meets_a_fault_or_one_by_chance(process: PayPalSandbox) -> None:
    first, second = process.new_payment("12.50"), process.new_payment("12.50")
    process.add_fault("issue:REFUND_NOT_ALLOWED")
    refused, repeated = asyncio.run(refund(process.url, first, "k:1"))
    assert isinstance(refused, Refused)
    assert isinstance(repeated, Answered)
    assert refused.code == "REFUND_NOT_ALLOWED"
    process.control("faults", chances={"reset": 1.0})
    lost, again = asyncio.run(refund(process.url, second, "k:2"))
    assert isinstance(lost, Unanswered)
    assert isinstance(again, Unanswered)
    process.clear_faults()
    _, found = asyncio.run(refund(process.url, second, "k:2"))
    assert isinstance(found, Answered)
    assert [each["capture_id"] for each in process.refunds()] == [first, second]


@pytest.mark.parametrize(
    ("name", "asked", "why"),
    [
        ("faults", {"fault": "earthquake"}, "no such fault: earthquake; there are timeout, "),
        ("faults", {"chances": {"earthquake": 1}}, "no such fault"),
        ("refunds", {"capture_id": "CAP9", "amount": "1.00"}, "'CAP9' is missing or unknown"),
        ("orders", {}, "'amount' is missing or unknown"),
        ("orders", {"amount": "much"}, "ConversionSyntax"),
    ],
)
def test_request_that_is_not_understood_is_refused(
    process: PayPalSandbox, name: str, asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(PayPalSandboxError, match=re.escape(why)):
        process.control(name, **asked)


@pytest.mark.parametrize("end", ["stdin", "signal"])
def test_process_ends_with_the_one_that_started_it_and_at_a_signal(end: str) -> None:
    command = [sys.executable, "-m", "refund_worker.processors.paypal.sandbox", "--port", "0", "--until-stdin-closes"]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert started.stdout is not None
    assert b"listening on http://127.0.0.1:" in started.stdout.readline()
    if end == "signal":
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0
    assert started.communicate(timeout=20) == (b"", b"")
    assert started.returncode == 0


def test_port_in_use_is_said(process: PayPalSandbox) -> None:
    command = [sys.executable, "-m", "refund_worker.processors.paypal.sandbox", "--port", str(process.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("the PayPal sandbox stopped: ")


def test_killed_server_has_its_book_again(tmp_path: Path) -> None:
    verification.forget()
    with PayPalSandbox(book=tmp_path / "book.jsonl") as process:
        capture_id = process.new_payment("50.00")
        process.control(f"captures/{capture_id}", disputed="case")
        process.control(f"captures/{capture_id}", disputed="")
        process.add_fault("timeout", capture_id)
        assert isinstance(sent(process, "k-1", capture_id), Unanswered)
        assert isinstance(sent(process, "k-2", capture_id, 9_999), Refused)
        by_hand = process.control("refunds", capture_id=capture_id, amount="3.00")
        process.control(f"refunds/{by_hand['id']}", status="FAILED")
        before = process.book()
        process.kill()
        with (tmp_path / "book.jsonl").open("ab") as file:
            file.write(b'[{"kind":"refund"')  # a write that the kill cut off
        process.start()
        for name in ("captures", "refunds", "keys", "url"):
            assert process.book()[name] == before[name]
        assert isinstance(sent(process, "k-1", capture_id), Answered)
        assert isinstance(sent(process, "k-2", capture_id, 9_999), Refused)
        assert len(process.refunds()) == 2
        assert process.new_payment("1.00") not in [capture["id"] for capture in before["captures"]]


def sent(process: PayPalSandbox, key: str, capture_id: str, minor: int = 1_000) -> Reply:
    """Return the reply to a refund that is sent under a key."""

    async def send() -> Reply:
        adapter = PayPalProcessor(CLIENT_ID, CLIENT_SECRET, base=process.url, live=False, timeout_seconds=2)
        try:
            return await adapter.send(key, adapter.freeze(order(capture_id, minor)))
        finally:
            await adapter.close()

    return asyncio.run(send())


def test_development_sandbox_learns_payments_and_keeps_them(migrated_sqlite_url: str, tmp_path: Path) -> None:
    """It knows no payment before it is refunded, and takes each as our database has it."""
    capture_id, of_others = "7MB00412XK553120D", "9QP11870LR246801A"
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        own = PaymentRecord(
            payment_id="pay-1",
            customer_id="ann",
            processor="paypal",
            processor_payment_id=capture_id,
            amount_minor=1_250,
            currency="GBP",
            credits=100,
            captured_at=time.time() - 60,
        )
        other = replace(own, payment_id="pay-2", processor="stripe", processor_payment_id=of_others)
        record_payments(runtime.context, [own, other])
    variables = {**os.environ, PREFIX + "DATABASE_URL": migrated_sqlite_url}
    book = tmp_path / "paypal-book.jsonl"
    for _ in range(2):  # the second process knows the refund of the first
        with PayPalSandbox(book=book, program="refund_worker.cli.dev_paypal", environment=variables) as dev:
            made, again = asyncio.run(refund(dev.url, capture_id))
            assert isinstance(made, Answered)
            assert isinstance(again, Answered)
            assert made.object.processor_refund_id == again.object.processor_refund_id
            assert isinstance(asyncio.run(refund(dev.url, of_others, "k:2"))[0], Misconfigured)
            assert len(dev.refunds()) == 1
