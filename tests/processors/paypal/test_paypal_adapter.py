"""The adapter with the local PayPal: tokens, lost answers, keys, lists, limits of time and size, and secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.processors.paypal.conftest import Bench, order

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NoList,
    NotReadable,
    NotSent,
    PaymentRead,
    PaymentUnreadable,
    Refused,
    Unanswered,
)
from refund_worker.processors.paypal.access import Token, token_of
from refund_worker.processors.paypal.adapter import KEY_LENGTH_MAX, PayPalProcessor
from refund_worker.processors.paypal.sandbox.book import DAY
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_SECRET
from refund_worker.processors.wire import BODY_BYTES_MAX, HttpAnswer


def send(bench: Bench, adapter: PayPalProcessor, capture: str, key: str = "k:1", **of: Any) -> Any:
    """Freeze and send a refund of a capture."""
    return bench.run(adapter.send(key, adapter.freeze(order(capture, **of))))


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_concurrent_calls_share_one_request_for_a_token(bench: Bench) -> None:
    adapter, captures = bench.adapter(), [bench.server.new_payment("9.00") for _ in range(20)]

    async def at_once() -> list[Any]:
        bodies = [adapter.freeze(order(capture)) for capture in captures]
        return await asyncio.gather(*(adapter.send(f"{n}:1", body) for n, body in enumerate(bodies)))

    assert {type(reply) for reply in bench.run(at_once())} == {Answered}
    assert bench.server.token_requests == 1


def test_token_is_kept_for_later_calls(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    for attempt in (1, 2, 3):
        assert isinstance(send(bench, adapter, capture, f"k:{attempt}", amount_minor=100, attempt=attempt), Answered)
    assert bench.server.token_requests == 1


def test_token_near_its_end_is_renewed_before_a_call(bench: Bench) -> None:
    bench.server.token_seconds = 0.4
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    send(bench, adapter, capture, amount_minor=100)
    time.sleep(0.25)
    send(bench, adapter, capture, "k:2", amount_minor=100, attempt=2)
    assert bench.server.token_requests == 2
    assert not [each for each in bench.server.exchanges if each.status == 401]


def test_refused_token_is_renewed_once_and_the_refund_is_made(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    bench.run(adapter.find(capture, ""))
    bench.server.revoke_tokens()
    assert isinstance(send(bench, adapter, capture), Answered)
    assert bench.server.token_requests == 2
    assert len(bench.server.refunds_of(capture)) == 1


def test_refused_tokens_of_many_calls_are_renewed_together(bench: Bench) -> None:
    adapter = bench.adapter()
    captures = [bench.server.new_payment("9.00") for _ in range(10)]
    bench.run(adapter.find(captures[0], ""))
    bench.server.revoke_tokens()

    async def at_once() -> list[Any]:
        bodies = [adapter.freeze(order(capture)) for capture in captures]
        return await asyncio.gather(*(adapter.send(f"{n}:1", body) for n, body in enumerate(bodies)))

    assert {type(reply) for reply in bench.run(at_once())} == {Answered}
    assert bench.server.token_requests == 2


def test_token_that_is_refused_twice_is_denied(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    monkeypatch.setattr(bench.server, "is_known", lambda request: False)
    reply = send(bench, adapter, capture)
    assert reply == Denied("invalid_token", "Token signature verification failed")
    assert bench.server.token_requests == 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("error500", NotSent("no access token: HTTP 500 INTERNAL_SERVER_ERROR")),
        ("html", NotSent("no access token: HTTP 403")),
        ("429", Busy("RATE_LIMIT_REACHED")),
    ],
)
def test_call_without_a_token_was_never_sent(bench: Bench, fault: str, expected: object) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    bench.server.token_fault = fault
    assert send(bench, adapter, capture) == expected
    assert not bench.server.exchanges
    bench.server.token_fault = ""
    assert isinstance(send(bench, adapter, capture), Answered)


def test_token_that_does_not_come_in_time_was_never_sent(bench: Bench) -> None:
    adapter, capture = bench.adapter(timeout_seconds=0.3), bench.server.new_payment("9.00")
    bench.server.token_fault = "hang"
    began = time.monotonic()
    assert isinstance(send(bench, adapter, capture), NotSent)
    assert time.monotonic() - began < 2
    assert not bench.server.exchanges


def test_caller_that_is_canceled_does_not_end_the_others_request(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")

    async def cancel_the_first() -> object:
        first = asyncio.ensure_future(adapter.find_payment(capture))
        second = asyncio.ensure_future(adapter.find_payment(capture))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert isinstance(bench.run(cancel_the_first()), PaymentRead)
    assert bench.server.token_requests == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"access_token": "t"},
        {"access_token": "", "expires_in": 1},
        {"access_token": "a b", "expires_in": 1},
        {"access_token": "t\r\nX: 1", "expires_in": 1},
        {"access_token": "t" * 9_000, "expires_in": 1},
        {"access_token": 5, "expires_in": 1},
        {"access_token": "t", "expires_in": 0},
        {"access_token": "t", "expires_in": True},
        {"access_token": "t", "expires_in": "9"},
        {"access_token": "t", "expires_in": 10**9},
    ],
)
def test_unusable_token_is_not_used(body: object) -> None:
    assert isinstance(token_of(HttpAnswer(200, {}, json.dumps(body).encode()), 0), NotSent)


def test_token_is_good_until_shortly_before_its_end() -> None:
    def good_until(seconds: float) -> float:
        body = json.dumps({"access_token": "t", "expires_in": seconds}).encode()
        token = token_of(HttpAnswer(200, {}, body), 1_000)
        assert isinstance(token, Token)
        assert "t" not in repr(token).replace("Token", "").replace("good_until", "")
        return token.good_until

    assert good_until(32_400) == 1_000 + 32_400 - 120
    assert good_until(60) == 1_030


# --- lost answers and keys --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["timeout", "reset", "cut", "proxy", "error500", "minimal"])
def test_refund_with_a_lost_answer_is_made_once(bench: Bench, fault: str) -> None:
    adapter, capture = bench.adapter(timeout_seconds=0.5), bench.server.new_payment("9.00")
    bench.server.book.faults[capture].append(fault)
    first = send(bench, adapter, capture)
    assert isinstance(first, Unanswered)
    assert not first.server_error
    again = send(bench, adapter, capture)
    assert isinstance(again, Answered)
    assert again.replayed
    assert len(bench.server.refunds_of(capture)) == 1


@pytest.mark.parametrize(("fault", "kind"), [("lost", Unanswered), ("error503", Unanswered), ("409", Busy)])
def test_refund_that_was_not_made_is_made_with_the_same_key(bench: Bench, fault: str, kind: type) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    bench.server.book.faults[capture].append(fault)
    assert isinstance(send(bench, adapter, capture), kind)
    again = send(bench, adapter, capture)
    assert isinstance(again, Answered)
    assert not again.replayed


def test_repeat_tells_the_state_that_the_refund_has_now(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    made = send(bench, adapter, capture).object
    bench.server.change(made.processor_refund_id, "FAILED", "ECHECK")
    again = send(bench, adapter, capture)
    assert (again.object.status, again.object.failure_code, again.replayed) == ("failed", "ECHECK", True)


def test_key_that_is_forgotten_is_caught_by_the_invoice_number(bench: Bench) -> None:
    """A restored database may repeat an attempt of long ago: its key is forgotten, and the money went back."""
    adapter, capture = bench.adapter(), bench.server.new_payment("20.00")
    assert isinstance(send(bench, adapter, capture), Answered)
    bench.server.book.clock_offset += 46 * DAY
    assert isinstance(send(bench, adapter, capture), AlreadyRefunded)
    assert len(bench.server.refunds_of(capture)) == 1


def test_key_of_another_leg_is_a_conflict(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("20.00")
    send(bench, adapter, capture)
    assert isinstance(send(bench, adapter, capture, attempt=2), KeyConflict)
    assert len(bench.server.refunds_of(capture)) == 1


@pytest.mark.parametrize("key", ["", " k", "k ", "ä", "k\n", "k" * (KEY_LENGTH_MAX + 1)])
def test_key_that_no_header_takes_is_refused_before_anything_is_sent(bench: Bench, key: str) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    with pytest.raises(ValueError, match="printable"):
        bench.run(adapter.send(key, adapter.freeze(order(capture))))


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"capture": "C", "request": {}}', '{"capture": 5, "request": []}'])
def test_body_that_was_not_frozen_is_refused_before_anything_is_sent(bench: Bench, body: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        bench.run(bench.adapter().send("k:1", body))
    assert bench.server.token_requests == 0


def test_request_has_key_preference_and_canonical_body(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    reply = send(bench, adapter, capture, "rf_1-1:1")
    (exchange,) = bench.server.exchanges
    assert exchange.headers["paypal-request-id"] == "rf_1-1:1"
    assert exchange.headers["prefer"] == "return=representation"
    assert set(exchange.request) == {"amount", "custom_id", "invoice_id"}
    assert reply.request_id


# --- refusals that only PayPal has ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("captured", "expected"),
    [
        ({"disputed": "chargeback"}, Blocked),
        ({"disputed": "case"}, Blocked),
        ({"state": "PENDING", "reason": "ECHECK"}, Blocked),
        ({"state": "DECLINED"}, Refused),
    ],
)
def test_state_of_the_capture_decides(bench: Bench, captured: dict[str, str], expected: type) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00", **captured)
    assert isinstance(send(bench, adapter, capture, amount_minor=100), expected)


def test_empty_balance_blocks_and_a_new_key_works_after_a_top_up(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    bench.server.book.balance["GBP"] = Decimal(5)
    blocked = send(bench, adapter, capture)
    assert isinstance(blocked, Blocked)
    assert blocked.code == "REFUND_FAILED_INSUFFICIENT_FUNDS"
    bench.server.book.balance["GBP"] = Decimal(50)
    assert isinstance(send(bench, adapter, capture), Blocked), "the refusal is kept under its key"
    assert isinstance(send(bench, adapter, capture, "k:2", attempt=2), Answered)


def test_yen_have_no_decimals(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("900", "JPY")
    assert send(bench, adapter, capture, amount_minor=900, currency="JPY").object.amount_minor == 900


def test_refund_that_waits_is_pending(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    bench.server.book.faults[capture].append("pending")
    assert send(bench, adapter, capture).object.status == "pending"


# --- lists and payments -----------------------------------------------------------------------------------------------


def test_capture_without_an_order_has_no_list(bench: Bench) -> None:
    """It must not look like an empty list: that would prove that no refund exists."""
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00", order_id=None)
    send(bench, adapter, capture, amount_minor=100)
    reply = bench.run(adapter.find(capture, ""))
    assert isinstance(reply, NoList)
    assert (reply.code, reply.untouched) == ("no_order", False)
    paid = bench.run(adapter.find_payment(capture))
    assert isinstance(paid, PaymentRead)
    assert (paid.reading.captured_minor, paid.reading.refunded_minor) == (900, None)


def test_untouched_capture_without_an_order_says_so(bench: Bench) -> None:
    capture = bench.server.new_payment("9.00", order_id=None)
    reply = bench.run(bench.adapter().find(capture, ""))
    assert isinstance(reply, NoList)
    assert reply.untouched


def test_order_that_paypal_does_not_know_is_no_empty_list(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.book.new_capture("9.00")
    send(bench, adapter, capture.capture_id, amount_minor=100)
    bench.server.book.forgotten_orders.add(capture.order_id or "")
    reply = bench.run(adapter.find(capture.capture_id, ""))
    assert isinstance(reply, NoList)
    assert (reply.code, reply.untouched) == ("no_order", False)
    paid = bench.run(adapter.find_payment(capture.capture_id))
    assert isinstance(paid, PaymentRead)
    assert paid.reading.refunded_minor is None


def test_order_that_lags_is_no_empty_list(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    send(bench, adapter, capture, amount_minor=100)
    bench.server.book.lag_seconds = 60
    assert isinstance(bench.run(adapter.find(capture, "")), Unanswered)
    assert isinstance(bench.run(adapter.find_payment(capture)), Unanswered)
    bench.server.book.clock_offset += 61
    found = bench.run(adapter.find(capture, ""))
    assert isinstance(found, Found)
    assert len(found.objects) == 1


def test_refunds_of_another_capture_of_the_order_are_left_out(bench: Bench) -> None:
    adapter, first = bench.adapter(), bench.server.book.new_capture("9.00")
    second = bench.server.book.new_capture("9.00", order_id=first.order_id)
    send(bench, adapter, first.capture_id, "a:1", amount_minor=100)
    send(bench, adapter, second.capture_id, "b:1", amount_minor=200)
    found = bench.run(adapter.find(second.capture_id, ""))
    assert isinstance(found, Found)
    assert [refund.amount_minor for refund in found.objects] == [200]


def test_failed_refund_is_listed_and_is_not_refunded_money(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    made = send(bench, adapter, capture, amount_minor=100).object
    send(bench, adapter, capture, "k:2", amount_minor=200, attempt=2)
    bench.server.change(made.processor_refund_id, "FAILED")
    found = bench.run(adapter.find(capture, ""))
    assert isinstance(found, Found)
    assert {refund.status for refund in found.objects} == {"succeeded", "failed"}
    paid = bench.run(adapter.find_payment(capture))
    assert isinstance(paid, PaymentRead)
    assert paid.reading.refunded_minor == 200


def test_payment_that_our_app_may_not_read_stops_no_refund(bench: Bench) -> None:
    adapter, capture = bench.adapter(), bench.server.new_payment("9.00")
    bench.server.book.faults[f"read {capture}"].append("PERMISSION_DENIED")
    assert isinstance(bench.run(adapter.find_payment(capture)), PaymentUnreadable)
    bench.server.book.faults[f"read {capture}"].append("PERMISSION_DENIED")
    assert isinstance(bench.run(adapter.find(capture, "")), Denied)


def test_unknown_payment_and_bad_ids_are_misconfigured_without_a_call(bench: Bench) -> None:
    adapter = bench.adapter()
    for work in (adapter.find("ch_1", ""), adapter.find_payment("x/y"), adapter.fetch("../x"), adapter.cancel("R1")):
        assert isinstance(bench.run(work), Misconfigured)
    assert isinstance(bench.run(adapter.recent(datetime.now(UTC))), Misconfigured)
    assert isinstance(bench.run(adapter.balance()), NotReadable)
    assert bench.server.token_requests == 0
    unknown = bench.run(adapter.find_payment("CAP99999999999999"))
    assert isinstance(unknown, Misconfigured)
    assert unknown.code == "not_found"


# --- networks ---------------------------------------------------------------------------------------------------------


def test_refused_connection_was_never_sent(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        adapter = bench.adapter(base=f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert isinstance(send(bench, adapter, "CAP00000000000001"), NotSent)
        assert isinstance(bench.run(adapter.find("CAP00000000000001", "")), NotSent)


def test_deadline_covers_the_token_and_all_requests(bench: Bench) -> None:
    adapter, capture = bench.adapter(timeout_seconds=0.4), bench.server.new_payment("9.00")
    bench.run(adapter.find(capture, ""))
    bench.server.book.faults[capture].append("timeout")
    began = time.monotonic()
    assert send(bench, adapter, capture) == Unanswered("no complete answer within the time allowed")
    assert time.monotonic() - began < 2


class Raw:
    """A server that answers the token and then the same bytes to every request."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.server: asyncio.Server | None = None
        self.asked: list[str] = []

    async def start(self) -> str:
        """Return the server's URL."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split()[1])
        if "/oauth2/token" in head:
            body = b'{"access_token": "t", "expires_in": 900}'
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        else:
            writer.write(self.answer)
        try:
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            pass


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/other\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\nproxied",
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b" " * (BODY_BYTES_MAX + 10),
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000,
    ],
)
def test_unusable_answer_is_unanswered(bench: Bench, answer: bytes) -> None:
    raw = Raw(answer)
    adapter = bench.adapter(base=bench.run(raw.start()), timeout_seconds=10)
    assert isinstance(send(bench, adapter, "CAP00000000000001"), Unanswered)
    assert isinstance(bench.run(adapter.find("CAP00000000000001", "")), Unanswered)
    assert raw.server is not None
    raw.server.close()


def test_refusal_of_a_proxy_renews_no_token(bench: Bench) -> None:
    """It may have passed the refund on. If the renewal then failed, the call would look as if it was never sent."""
    raw = Raw(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 7\r\n\r\nproxied")
    adapter = bench.adapter(base=bench.run(raw.start()))
    assert send(bench, adapter, "CAP00000000000001") == Unanswered("HTTP 401")
    assert raw.asked == ["/v1/oauth2/token", "/v2/payments/captures/CAP00000000000001/refund"]
    assert raw.server is not None
    raw.server.close()


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_no_reply_and_no_log_line_has_a_secret(
    bench: Bench, everything_logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, capture = bench.adapter(timeout_seconds=0.5), bench.server.new_payment("20.00")
    said: list[object] = [adapter, adapter._calls, adapter._calls._access, adapter._calls._http]
    for attempt, fault in enumerate(("", "reset", "error500", "429", "timeout"), 1):
        bench.server.book.faults[capture].extend([fault] if fault else [])
        said.append(send(bench, adapter, capture, f"k:{attempt}", amount_minor=100, attempt=attempt))
    tokens = list(bench.server._tokens)
    monkeypatch.setattr(bench.server, "is_known", lambda request: False)
    said.append(send(bench, adapter, capture))
    said.append(send(bench, bench.adapter(secret="another_secret_value"), capture))
    text = repr(said) + everything_logged.text
    assert tokens
    for secret in (CLIENT_SECRET, "another_secret_value", *tokens, *bench.server._tokens, "Basic ", "Bearer "):
        assert secret not in text
