"""A real process that listens, answers, and shuts down in order."""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import text
from tests.support.web_process import WEBHOOK_SECRET as SECRET
from tests.support.web_process import WebProcess
from tests.web.client import PAYMENT, SPEND, settings_for

from refund_worker.engine.access.api_keys import create_key
from refund_worker.runtime import build_runtime
from refund_worker.store.database import Database


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["one process", "two processes"])
def http(request: pytest.FixtureRequest, migrated_sqlite_url: str) -> Iterator[httpx.Client]:
    with build_runtime(settings_for(migrated_sqlite_url), processors=False) as runtime:
        key = create_key(runtime.context, name="admin", client="backend", role="admin")
    with (
        WebProcess(migrated_sqlite_url, request.param) as server,
        httpx.Client(
            base_url=f"http://127.0.0.1:{server.port}", headers={"Authorization": f"Bearer {key}"}, timeout=10
        ) as client,
    ):
        yield client


def test_a_refund_is_accepted_by_a_real_process(http: httpx.Client) -> None:
    assert http.post("/v1/payments", json=PAYMENT).status_code == 201
    assert http.post("/v1/transactions", json=SPEND).status_code == 201
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "reason": "asked"}
    answers = [http.post("/v1/refunds", json=body, headers={"Idempotency-Key": "k-1"}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 200, 200, 200, 200]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert "server" not in answers[0].headers
    # This machine may read the metrics without a key; a request through a proxy on it may not.
    bare = httpx.Client(base_url=http.base_url, timeout=10)
    with bare:
        assert bare.get("/metrics").status_code == 200
        assert bare.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
        assert bare.get("/v1/refunds").status_code == 401


def test_a_signed_event_is_stored_once_by_a_real_process(http: httpx.Client, migrated_sqlite_url: str) -> None:
    event = json.dumps({"id": "evt_1", "type": "refund.updated"}).encode()
    second = int(time.time())
    digest = hmac.new(SECRET.encode(), b"%d." % second + event, hashlib.sha256).hexdigest()
    for _ in range(3):
        headers = {"Stripe-Signature": f"t={second},v1={digest}"}
        assert http.post("/webhooks/stripe", content=event, headers=headers).status_code == 200
    headers = {"Stripe-Signature": f"t={second},v1={digest[::-1]}"}
    assert http.post("/webhooks/stripe", content=event, headers=headers).status_code == 400
    database = Database(migrated_sqlite_url)
    with database.read() as connection:
        assert connection.execute(text("SELECT event_id FROM inbox")).scalars().all() == ["evt_1"]
    database.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_server_shuts_down_quickly_and_in_order(migrated_sqlite_url: str, how: signal.Signals) -> None:
    with WebProcess(migrated_sqlite_url) as server:
        server.stop_signal = how
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        assert "Traceback" not in server.log
        (line,) = map(json.loads, server.log.splitlines())
        assert line["message"] == f"refund-worker web listens on {server.url}"
        with socket.socket() as listener:
            listener.settimeout(2)
            assert listener.connect_ex(("127.0.0.1", server.port)) != 0
