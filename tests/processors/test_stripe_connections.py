"""The Stripe adapter's connections: failed ones, redirects, cookies, reuse and concurrent calls."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tests.processors.scripted_stripe import ORDER, Bench, Request, answers, frozen, raw, refund

from refund_worker.domain.processor_replies import Answered, NotSent, Unanswered
from refund_worker.processors.stripe.adapter import BODY_BYTES_MAX


def test_endless_answer_is_cut_off(bench: Bench) -> None:
    bench.play(raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (BODY_BYTES_MAX + 1)))
    reply = bench.ask(bench.adapter(bench.server.url, timeout_seconds=20))
    assert reply == Unanswered(f"unreadable answer: the answer is larger than {BODY_BYTES_MAX} bytes")


def test_refused_connection_is_not_sent(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: no one else can take the port, and it refuses
        reply = bench.ask(bench.adapter(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout_seconds=5))
    assert isinstance(reply, NotSent)


def test_unresolvable_host_name_is_not_sent(bench: Bench) -> None:
    assert isinstance(bench.ask(bench.adapter("http://no-such-host.invalid", timeout_seconds=5)), NotSent)


def test_failed_handshake_is_not_sent(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    assert isinstance(bench.ask(bench.adapter(bench.server.url.replace("http:", "https:"))), NotSent)
    assert not bench.server.requests


def test_reset_of_a_reused_connection_is_unanswered_and_not_resent(bench: Bench) -> None:
    adapter = bench.play(answers(200, refund()), raw(b"", then_reset=True), answers(200, refund()))
    body = adapter.freeze(ORDER)
    assert isinstance(bench.run(adapter.send("key_1", body)), Answered)
    assert isinstance(bench.run(adapter.send("key_2", body)), Unanswered)
    assert bench.server.connections == 1, "the second call must reuse the connection of the first"
    assert len(bench.server.requests) == 2


def test_redirect_is_not_followed(bench: Bench) -> None:
    for status in (301, 302, 303, 307, 308):
        reply = bench.send(answers(status, b"", Location="/v1/elsewhere"), answers(200, refund()))
        assert reply == Unanswered(f"HTTP {status}")
        assert [request.target for request in bench.server.requests] == ["/v1/refunds"]


def test_base_address_may_end_in_a_slash(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    assert isinstance(bench.ask(bench.adapter(bench.server.url + "/")), Answered)
    assert [request.target for request in bench.server.requests] == ["/v1/refunds"]


def test_cookie_from_a_server_is_never_sent_back(bench: Bench) -> None:
    bench.play(answers(200, refund(), Set_Cookie="seen=1; Path=/"))
    adapter = bench.adapter(
        bench.server.url.replace("127.0.0.1", "localhost")
    )  # clients store no cookies for IP addresses
    assert all(isinstance(bench.ask(adapter, key), Answered) for key in ("key_1", "key_2"))
    assert not any("cookie" in request.headers for request in bench.server.requests)


def test_one_connection_is_reused_until_close(bench: Bench) -> None:
    adapter = bench.play(answers(200, refund()))
    body = adapter.freeze(ORDER)
    replies = [bench.run(adapter.send(f"key_{n}", body)) for n in range(5)]
    assert all(isinstance(reply, Answered) for reply in replies)
    assert bench.server.connections == 1
    bench.run(adapter.close())
    bench.run(adapter.close())
    assert isinstance(bench.run(adapter.send("key_9", body)), Answered)
    assert bench.server.connections == 2


def test_answers_of_concurrent_calls_are_not_mixed_up(bench: Bench) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01 if request.form["amount"].endswith("0") else 0)
        await answers(200, refund(amount=int(request.form["amount"])))(request, writer)

    adapter = bench.play(echo)
    bodies = [frozen(amount_minor=amount) for amount in range(100, 140)]

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(adapter.send(f"key_{n}", body) for n, body in enumerate(bodies)))

    assert [reply.object.amount_minor for reply in bench.run(all_at_once())] == list(range(100, 140))
