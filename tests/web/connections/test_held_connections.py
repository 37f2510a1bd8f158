"""Clients without a key that hold many connections on a real server: others are answered."""

from __future__ import annotations

import contextlib
import json
import select
import sqlite3

import httpx
import pytest
from tests.support.deployment import wait_until
from tests.web.client import PAYMENT
from tests.web.connections.served_api import GET, HOOK, PATIENCE_SECONDS, ServedApi, rest, serving

from refund_worker.web.http_protocol import SPARE_PLACES


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /v1/refunds HTTP/1.1\r\nX", GET, HOOK + b"Content-Length: 100\r\n\r\nx"],
    ids=["silent", "half a head", "idle after an answer", "half a body"],
)
def test_api_and_health_answer_however_many_connections_are_held(api: ServedApi, said: bytes) -> None:
    with contextlib.ExitStack() as all_of_them:
        for _ in range(3 * (40 + SPARE_PLACES)):
            connection = all_of_them.enter_context(api.connect())
            connection.sendall(said)
        for _ in range(20):
            assert (api.health(), api.listed()) == (200, 200)


def test_500_silent_connections_block_no_other_client(url: str) -> None:
    with serving(url) as api, contextlib.ExitStack() as all_of_them:
        for _ in range(520):
            all_of_them.enter_context(api.connect())
        assert (api.health(), api.listed()) == (200, 200)


def test_silent_connections_are_closed_before_used_ones(api: ServedApi) -> None:
    with (
        contextlib.ExitStack() as all_of_them,
        httpx.Client(base_url=api.process.url, timeout=PATIENCE_SECONDS) as ours,
    ):
        assert ours.get("/healthz").status_code == 200
        silent = [all_of_them.enter_context(api.connect()) for _ in range(100)]
        assert rest(silent[0]) == b""  # the oldest
        assert ours.get("/healthz").status_code == 200
        assert len(ours._transport._pool.connections) == 1  # type: ignore[attr-defined]


def test_connections_within_the_limit_stay_open(url: str) -> None:
    with (
        serving(url, connections=8, head_seconds=3600, body_seconds=3600) as api,
        contextlib.ExitStack() as all_of_them,
    ):
        ours = [all_of_them.enter_context(api.connect()) for _ in range(8)]
        for connection in (ours[-1], ours[0]):
            connection.sendall(GET)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        one_more = all_of_them.enter_context(api.connect())
        one_more.sendall(GET)
        assert one_more.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        # Any of those that never sent a request and came at the same moment.
        ended, _, _ = select.select(ours[1:-1], [], [], PATIENCE_SECONDS)
        assert [rest(connection) for connection in ended] == [b""]


def test_busy_server_answers_503_to_others_but_health_is_answered(url: str) -> None:
    with (
        serving(url, connections=4, head_seconds=3600, body_seconds=3600) as api,
        contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as writer,
        contextlib.ExitStack() as all_of_them,
    ):
        asked = f"POST /v1/payments HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {api.key}\r\n"
        body = json.dumps(PAYMENT | {"payment_id": "p-crowd", "processor_payment_id": "ch_crowd"})
        asked += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        writer.execute("BEGIN IMMEDIATE")
        at_work = [all_of_them.enter_context(api.connect()) for _ in range(4)]
        for connection in at_work:
            connection.sendall(asked.encode())
        wait_until(lambda: api.listed() == 503, PATIENCE_SECONDS)
        answer = httpx.get(f"{api.process.url}/healthz-and-more", timeout=PATIENCE_SECONDS)
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "unavailable", "1")
        assert api.health() == 200
        writer.execute("ROLLBACK")
        assert all(connection.recv(1 << 16).startswith(b"HTTP/1.1 ") for connection in at_work)
        assert api.listed() == 200
