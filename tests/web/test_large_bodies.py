"""Large bodies on a real server: their total memory is bounded, and small ones are accepted meanwhile."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from tests.support.deployment import wait_until
from tests.web.client import Web, is_problem
from tests.web.connections.served_api import MIB, PATIENCE_SECONDS, ServedApi, serving
from tests.web.test_batches import row

from refund_worker.errors import InvalidRequest
from refund_worker.web.api.batches import BATCH_BYTES_MAX
from refund_worker.web.problems import Crowded
from refund_worker.web.request_body import (
    BATCHES_BYTES_MAX,
    BODIES_BYTES_MAX,
    BODY_BYTES_MAX,
    FREE_BYTES,
    ROW_BYTES,
    ROW_BYTES_MAX,
    ByteBudget,
    rows_of,
)

LARGE = 59 * MIB


@pytest.fixture
def api(migrated_sqlite_url: str) -> Iterator[ServedApi]:
    with serving(migrated_sqlite_url, body_seconds=3600) as api:
        yield api


def post(api: ServedApi, path: str, size: int, content: bytes) -> socket.socket:
    """Open a connection and begin a body of this size with this content."""
    connection = api.connect()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: api",
        f"Authorization: Bearer {api.key}",
        "Idempotency-Key: k",
        "Content-Type: application/json",
        f"Content-Length: {size}",
    )
    connection.sendall("\r\n".join((*lines, "", "")).encode())
    with contextlib.suppress(ConnectionError):
        connection.sendall(content)
    return connection


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(1 << 16).split()[1])


def empty_batch(size: int) -> bytes:
    return b'{"refunds": [' + b" " * (size - 15) + b"]}"


def test_four_large_batches_use_memory_of_two_and_get_answers(api: ServedApi) -> None:
    api.listed()
    before = highest = api.resident_bytes()
    statuses: list[int] = []

    def send() -> None:
        with post(api, "/v1/refund-batches", LARGE, empty_batch(LARGE)) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            statuses.append(status_of(connection))

    senders = [threading.Thread(target=send) for _ in range(4)]
    for each in senders:
        each.start()
    while any(each.is_alive() for each in senders):
        highest = max(highest, api.resident_bytes())
        assert api.health() == 200
    assert len(statuses) == 4
    assert set(statuses) <= {202, 503}
    assert 202 in statuses
    assert highest - before < BATCHES_BYTES_MAX + 60 * MIB


def test_batch_without_memory_is_refused_until_another_is_done(api: ServedApi) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(2):
            held.enter_context(post(api, "/v1/refund-batches", LARGE, empty_batch(LARGE)[:-1]))

        def refused() -> bytes | None:
            with post(api, "/v1/refund-batches", LARGE, b"{") as third:
                third.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    answer = third.recv(1 << 16)
                    third.settimeout(PATIENCE_SECONDS)
                    while answer and not answer.endswith(b"}"):
                        answer += third.recv(1 << 16)
                    return answer
            return None

        # Wait until the server has read the bytes of both.
        answer: bytes = wait_until(refused, PATIENCE_SECONDS)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 503 " in head.partition(b"\r\n")[0]
        assert b"retry-after: 1" in head.lower()
        assert json.loads(body)["code"] == "unavailable"
        small = httpx.post(
            f"{api.process.url}/v1/refund-batches",
            json={"refunds": []},
            headers={"Authorization": f"Bearer {api.key}"},
            timeout=PATIENCE_SECONDS,
        )
        assert small.status_code == 202
    # Both connections are gone with unfinished bodies: their memory is free again.
    with post(api, "/v1/refund-batches", LARGE, empty_batch(LARGE)) as last:
        last.settimeout(PATIENCE_SECONDS)
        wait_until(lambda: api.health() == 200)
        assert status_of(last) in (202, 503)
    wait_until(lambda: _is_taken(api), PATIENCE_SECONDS)


def _is_taken(api: ServedApi) -> bool:
    with post(api, "/v1/refund-batches", LARGE, empty_batch(LARGE)) as connection:
        connection.settimeout(PATIENCE_SECONDS)
        return status_of(connection) == 202


def test_unfinished_bodies_are_bounded_and_small_ones_are_accepted(api: ServedApi) -> None:
    fitting = BODIES_BYTES_MAX // (BODY_BYTES_MAX - FREE_BYTES)
    with contextlib.ExitStack() as held:
        for _ in range(fitting):
            held.enter_context(post(api, "/v1/refunds", BODY_BYTES_MAX, b" " * (BODY_BYTES_MAX - 1)))

        def refused() -> bool:
            with post(api, "/v1/refunds", BODY_BYTES_MAX, b"{") as more:
                more.settimeout(0.2)
                with contextlib.suppress(TimeoutError):
                    return status_of(more) == 503
            return False

        wait_until(refused, PATIENCE_SECONDS)
        with post(api, "/v1/refunds", 2, b"{}") as small:
            assert status_of(small) == 422
    with post(api, "/v1/refunds", BODY_BYTES_MAX + 1, b"") as too_large:
        assert status_of(too_large) == 413


@pytest.mark.parametrize("before", range(4))
def test_multibyte_characters_are_read_across_pieces(before: int) -> None:
    rows = [{"a": "x" * before + "😀é" * count} for count in (1, ROW_BYTES // 6, ROW_BYTES // 2)]
    raw = json.dumps({"refunds": rows}, ensure_ascii=False).encode()
    assert list(rows_of(raw, "refunds")) == rows


def test_invalid_utf_8_is_refused_at_any_position(web: Web) -> None:
    good = json.dumps(row("a")).encode()
    for content in (good[:-1] + b', "note": "\xff"}', good + b",\xff", good + b', {"note": "' + b"x" * 9_000 + b"\xc3"):
        headers = {"Content-Type": "application/json"}
        body = b'{"refunds": [' + content + b"]}"
        answer = web.call("POST", "/v1/refund-batches", headers=headers, content=body)
        assert is_problem(answer, 422, "invalid_request")
    assert web.call("GET", "/v1/refunds").json()["data"] == []


def test_a_row_without_an_end_is_refused() -> None:
    raw = b'{"refunds": [{"a": "' + b"x" * (ROW_BYTES_MAX + 10)
    with pytest.raises(InvalidRequest):
        list(rows_of(raw, "refunds"))


def test_body_memory_is_used_to_the_last_byte_and_no_further() -> None:
    budget = ByteBudget(10)
    budget.take(4)
    budget.take(6)
    with pytest.raises(Crowded):
        budget.take(1)
    budget.give_back(6)
    budget.check(6)
    with pytest.raises(Crowded):
        budget.check(7)


def test_a_body_and_a_batch_may_be_as_large_as_the_documentation_says() -> None:
    assert (BODY_BYTES_MAX, BATCH_BYTES_MAX) == (1024 * 1024, 64 * 1024 * 1024)
