"""The reference server outside the suite: it survives its end, and requests that no client of ours makes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.processors.http.planted import planted_server
from tests.processors.http.subject import account

from refund_worker.domain.processor_replies import Answered, Found, Refused, Reply
from refund_worker.processors.conformance.bench import Refundable
from refund_worker.processors.conformance.http_bench import HttpBench


async def refunded(url: str, payment: Refundable | None, amounts: tuple[int, ...]) -> tuple[Refundable, list[Reply]]:
    """Ask for refunds of these amounts, each under its own key, of a new payment of 100 or an earlier one."""
    offered = {"test_calls": True}
    bench = HttpBench.of(account(url), timeout_seconds=5, offered=offered)
    try:
        used = payment or await bench.new_payment(100)
        assert used is not None
        bodies = [f'{{"payment":"{used.payment_id}","amount_minor":{n},"currency":"EUR","ours":{{}}}}' for n in amounts]
        return used, [await bench.processor.send(f"key-{n}", body) for n, body in enumerate(bodies)]
    finally:
        await bench.processor.close()


def test_keys_refunds_and_refusals_survive_a_killed_server(tmp_path: Path) -> None:
    options = ("--test-calls", "--database", str(tmp_path / "book.db"))
    with planted_server(None, tmp_path, *options) as server:
        payment, first = asyncio.run(refunded(server.url, None, (60, 60)))
    with planted_server(None, tmp_path, *options) as server:  # the first one was killed
        _, again = asyncio.run(refunded(server.url, payment, (60, 60)))
    assert [type(reply) for reply in first] == [type(reply) for reply in again] == [Answered, Refused]
    for before, after in zip(first, again, strict=True):
        assert isinstance(before, Answered | Refused)
        assert isinstance(after, Answered | Refused)
        assert (before.replayed, after.replayed) == (False, True)
    assert isinstance(first[0], Answered)
    assert isinstance(again[0], Answered)
    assert first[0].object == again[0].object


@pytest.mark.parametrize(
    "head",
    [
        "POST /refunds HTTP/1.1\r\nContent-Length: -5",
        "POST /refunds HTTP/1.1\r\nContent-Length: 99999999999",
        "POST /refunds HTTP/1.1\r\nContent-Length: x",
        "POST /refunds HTTP/1.1\r\nTransfer-Encoding: chunked",
        "GET /capabilities HTTP/1.1\r\nwebhook-timestamp: 1\r\nwebhook-id: \xe9",
        "DELETE /refunds/r-1 HTTP/1.1",
        "nonsense",
    ],
)
def test_odd_request_moves_nothing_and_stops_no_other(tmp_path: Path, head: str) -> None:
    with planted_server(None, tmp_path) as server:
        parts = urlsplit(server.url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10) as connection:
            connection.sendall(f"{head}\r\nHost: h\r\n\r\n".encode("latin-1") + b"x" * 70_000)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(100)
            except ConnectionResetError:
                answer = b""
        assert b" 200 " not in answer
        assert b" 201 " not in answer
        _, replies = asyncio.run(refunded(server.url, None, (10,)))
        assert isinstance(replies[0], Answered)


def test_find_after_odd_amounts_is_exact(tmp_path: Path) -> None:
    with planted_server(None, tmp_path) as server:
        payment, _ = asyncio.run(refunded(server.url, None, (1, 2, 3)))

        async def listed() -> object:
            bench = HttpBench.of(account(server.url), timeout_seconds=5)
            try:
                return await bench.processor.find(payment.payment_id, "")
            finally:
                await bench.processor.close()

        found = asyncio.run(listed())
    assert isinstance(found, Found)
    assert sorted(each.amount_minor for each in found.objects) == [1, 2, 3]
