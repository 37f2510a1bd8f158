"""Every answer and every silence, from a scripted server on a real socket, and what the Stripe adapter makes of it.

Rows follow Stripe's own pages: docs.stripe.com/api/errors, /error-codes and /api/idempotent_requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pytest

from refund_worker.processors.base import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    RefundInstruction,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.stripe.adapter import BODY_BYTES_MAX, PAGE_SIZE, PAGES_MAX_OF_A_PAYMENT, StripeProcessor

T = TypeVar("T")
API_KEY = "sk_test_51HiddenKeyOfTheAdapter"
TIMEOUT_SECONDS = 0.4  # where nothing, or no end, is to come
PATIENCE_SECONDS = 20.0  # where an answer is: on a busy machine it may take its time
CARD = "4242424242424242"
ORDER = RefundInstruction("rf_1", "leg_1", 1, "ch_1", 1500, "EUR", "customer asked")


# --- A server that answers from a script ------------------------------------------------------------------------------


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body, keep_blank_values=True).items()}

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


Act = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Plays one act for each request, the last one for ever, and keeps the requests it was sent."""

    acts: list[Act]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                await self.acts[min(len(self.requests), len(self.acts)) - 1](request, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body.decode())


def answers(status: int, body: object, **headers: str) -> Act:
    """A complete answer; `body` is sent as JSON, or as it is if it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Request_Id": "req_1", **headers}.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *lines]) + "\r\n\r\n"

    async def act(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + content)

    return act


def error(status: int, kind: str | None, code: str | None = None, /, **more: Any) -> Act:
    headers = {name: more.pop(name) for name in list(more) if name[0].isupper()}
    fields = {"type": kind, "code": code, "message": more.pop("message", "in Stripe's words"), **more}
    return answers(status, {"error": {name: value for name, value in fields.items() if value is not None}}, **headers)


def raw(content: bytes, *, then_reset: bool = False) -> Act:
    """Bytes as they are, then an orderly end of the connection or a reset."""

    async def act(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        if then_reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()

    return act


async def drips(_request: Request, writer: asyncio.StreamWriter) -> None:
    """A byte at a time, each well inside any read timeout, for much longer than the outer deadline."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(TIMEOUT_SECONDS / 20)


async def says_nothing(_request: Request, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


def refund(**changes: Any) -> dict[str, Any]:
    marks = {"refund_worker_refund": "rf_1", "refund_worker_leg": "leg_1", "refund_worker_attempt": "1"}
    body = {"id": "re_1", "object": "refund", "amount": 1500, "currency": "eur", "created": 1_700_000_000}
    return {**body, "status": "succeeded", "charge": "ch_1", "payment_intent": "pi_1", "metadata": marks, **changes}


def page(*refunds: dict[str, Any], has_more: bool = False) -> Act:
    return answers(200, {"object": "list", "data": list(refunds), "has_more": has_more, "url": "/v1/refunds"})


class Bench:
    """The adapter and a scripted server on one loop, run in many small steps as the worker does."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = ScriptedServer([])
        self._adapters: list[StripeProcessor] = []
        self._listeners: list[asyncio.Server] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def play(self, *acts: Act) -> StripeProcessor:
        """Starts a server with this script; an adapter that talks to it."""
        self.server = ScriptedServer(list(acts))
        listener = self.run(asyncio.start_server(self.server.handle, "127.0.0.1", 0))
        self._listeners.append(listener)
        self.server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        silent = drips in acts or says_nothing in acts
        return self.adapter(self.server.url, TIMEOUT_SECONDS if silent else PATIENCE_SECONDS)

    def adapter(self, base: str, timeout_seconds: float = PATIENCE_SECONDS, **options: Any) -> StripeProcessor:
        """An adapter that is closed at the end of the test."""
        options = {"page_pauses_seconds": ()} | options
        self._adapters.append(StripeProcessor(API_KEY, base=base, timeout_seconds=timeout_seconds, **options))
        return self._adapters[-1]

    def send(self, *acts: Act) -> Any:
        return self.ask(self.play(*acts))

    def ask(self, adapter: StripeProcessor, key: str = "key_1") -> Any:
        return self.run(adapter.send(key, adapter.freeze(ORDER)))

    async def stop(self) -> None:
        for adapter in self._adapters:
            await adapter.close()
        for listener in self._listeners:
            listener.close()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for handler in handlers:
            handler.cancel()
        await asyncio.wait_for(asyncio.gather(*handlers, return_exceptions=True), 5)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.run(bench.stop())
    bench.loop.close()


# --- The table --------------------------------------------------------------------------------------------------------

INVALID, CARD_ERROR, API_ERROR = "invalid_request_error", "card_error", "api_error"
SAID = "in Stripe's words"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (error(400, INVALID, "charge_already_refunded"), AlreadyRefunded(SAID, "req_1")),
        (error(400, INVALID, "charge_disputed"), Blocked("charge_disputed", SAID, "req_1")),
        (error(400, INVALID, "refund_disputed_payment"), Blocked("refund_disputed_payment", SAID, "req_1")),
        (error(400, INVALID, param="amount"), Refused("amount_exceeds_unrefunded", SAID, "req_1", more_than_left=True)),
        (error(400, INVALID), UnknownRefusal(INVALID, SAID, "req_1")),
        (error(400, INVALID, "charge_not_refundable"), Refused("charge_not_refundable", SAID, "req_1")),
        (error(400, INVALID, "parameter_invalid_integer", param="amount"),
         Misconfigured("parameter_invalid_integer", SAID, "req_1")),
        (error(400, INVALID, "parameter_unknown", param="idempotency_key"),
         Denied("parameter_unknown", SAID, maybe_kept=True)),
        (error(400, INVALID, "parameter_unknown", Idempotent_Replayed="true"),
         Denied("parameter_unknown", SAID, maybe_kept=True, replayed=True)),
        (error(400, INVALID, "a_code_of_next_year"), UnknownRefusal("a_code_of_next_year", SAID, "req_1")),
        (error(422, INVALID, "a_code_of_next_year", param="amount"),
         UnknownRefusal("a_code_of_next_year", SAID, "req_1")),
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", SAID, "req_1")),
        (error(400, INVALID, "resource_missing"), Misconfigured("resource_missing", SAID, "req_1")),
        (error(404, INVALID), Misconfigured("not_found", SAID, "req_1")),
        (error(400, INVALID, "balance_insufficient"), Blocked("balance_insufficient", SAID, "req_1")),
        (error(402, CARD_ERROR, "balance_insufficient"), Blocked("balance_insufficient", SAID, "req_1")),
        (error(402, CARD_ERROR, message_code="insufficient_balance_for_refund"),
         Blocked("insufficient_balance_for_refund", SAID, "req_1")),
        (error(402, CARD_ERROR, "card_declined"), Refused("card_declined", SAID, "req_1")),
        (error(401, INVALID), Denied("http_401", SAID)),
        (error(401, INVALID, "api_key_expired"), Denied("api_key_expired", SAID)),
        (error(403, INVALID, "account_invalid"), Denied("account_invalid", SAID)),
        (answers(403, b"<html>blocked</html>"), Unanswered("HTTP 403")),
        (error(400, "idempotency_error"), KeyConflict(SAID)),
        (error(409, "idempotency_error", "idempotency_key_in_use"), Busy("idempotency_key_in_use")),
        (error(409, INVALID, "lock_timeout"), Busy("lock_timeout")),
        (error(409, INVALID, "a_code_of_next_year"), Unanswered(f"HTTP 409 {INVALID} a_code_of_next_year")),
        (error(409, "idempotency_error"), Busy("rate_limit")),
        (error(429, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(429, INVALID, "lock_timeout"), Busy("lock_timeout")),
        (error(429, INVALID, "rate_limit", Retry_After="7"), Busy("rate_limit", 7.0)),
        (error(429, INVALID, "rate_limit", Retry_After="1e300"), Busy("rate_limit", 86_400.0)),
        (error(429, INVALID, "rate_limit", Retry_After="-1"), Busy("rate_limit")),
        (error(429, INVALID, "rate_limit", Retry_After="Mon, 23 Nov 2026 05:00:00 GMT"), Busy("rate_limit")),
        (answers(429, b"slow down"), Busy("rate_limit")),
        (error(400, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(500, API_ERROR), Unanswered("HTTP 500 api_error", server_error=True)),
        (error(500, INVALID, "charge_already_refunded", Stripe_Should_Retry="false"),
         Unanswered(f"HTTP 500 {INVALID} charge_already_refunded", server_error=True)),
        (answers(502, b"<html>bad gateway</html>"), Unanswered("HTTP 502", server_error=True)),
        (answers(503, b""), Unanswered("HTTP 503", server_error=True)),
        (answers(504, {}), Unanswered("HTTP 504", server_error=True)),
        (error(400, INVALID, "odd", Stripe_Should_Retry="true"), Unanswered(f"HTTP 400 {INVALID} odd")),
        (error(400, API_ERROR, "odd"), UnknownRefusal("odd", SAID, "req_1")),
        (error(400, None, "odd"), Unanswered("HTTP 400 odd")),
        (error(408, INVALID), Unanswered(f"HTTP 408 {INVALID}")),
        (error(424, INVALID, "dependency"), Unanswered(f"HTTP 424 {INVALID} dependency")),
        (answers(400, b"<html>what?</html>"), Unanswered("HTTP 400")),
        (answers(404, b"<html>no such page</html>"), Unanswered("HTTP 404")),
        (answers(400, {"error": {"type": [INVALID], "code": 7}}), Unanswered("HTTP 400")),
    ],
)  # fmt: skip
def test_an_http_error_means_what_stripe_documents_and_nothing_more(bench: Bench, act: Act, expected: object) -> None:
    assert bench.send(act) == expected
    assert len(bench.server.requests) == 1, "the SDK must not try again by itself"


@pytest.mark.parametrize(
    "act",
    [
        answers(200, b'{"id": "re_1", "object": "ref'),
        answers(200, b""),
        answers(204, b""),
        answers(200, b"\xff\xfe{}"),
        answers(200, b"null"),
        answers(200, b"[" * 100_000),
        answers(200, b'{"amount": ' + b"9" * 5000 + b"}"),
        answers(200, refund(amount=2**63)),
        answers(200, []),
        answers(200, "a text"),
        answers(200, {"error": {"type": INVALID, "code": "charge_disputed"}}),
        answers(200, {"object": "list", "data": [], "has_more": False}),
        answers(200, refund(object="charge")),
        *(answers(200, {k: v for k, v in refund().items() if k != gone}) for gone in ("id", "object", "amount")),
        *(answers(200, {k: v for k, v in refund().items() if k != gone}) for gone in ("created", "currency")),
        *(answers(200, refund(amount=amount)) for amount in (True, 15.0, -1, "1500", None, float("nan"))),
        *(answers(200, refund(created=created)) for created in (True, -1, 1e9, 10**18)),
        *(answers(200, refund(currency=currency)) for currency in ("", "euro", 978, None)),
        *(answers(200, refund(id=identifier)) for identifier in ("", "../charges", 1, "re 1")),
        answers(200, refund(status=3)),
        answers(302, b"", Location="/elsewhere"),
        answers(400, {"error": "not_a_word_of_oauth"}),
    ],
)
def test_an_answer_that_says_nothing_certain_is_no_answer(bench: Bench, act: Act) -> None:
    reply = bench.send(act)
    assert isinstance(reply, Unanswered)
    assert not reply.server_error
    assert len(bench.server.requests) == 1


HALF = json.dumps(refund()).encode()[:40]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"


@pytest.mark.parametrize(
    "act",
    [
        raw(b""),
        raw(b"", then_reset=True),
        raw(b"HTTP/1.1 200 OK\r\nConte"),
        raw(HEAD + HALF),
        raw(HEAD + HALF, then_reset=True),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", then_reset=True),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
        raw(b"SSH-2.0-OpenSSH\r\n\r\n"),
        drips,
        says_nothing,
    ],
)
def test_silence_after_the_connection_was_made_is_never_a_refusal(bench: Bench, act: Act) -> None:
    started = bench.loop.time()
    reply = bench.send(act)
    assert isinstance(reply, Unanswered)
    assert len(bench.server.requests) == 1, "a POST is not sent twice on its own"
    assert bench.loop.time() - started < PATIENCE_SECONDS / 2


def test_an_endless_answer_is_cut_off(bench: Bench) -> None:
    bench.play(raw(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (BODY_BYTES_MAX + 1)))
    reply = bench.ask(bench.adapter(bench.server.url, timeout_seconds=20))
    assert reply == Unanswered(f"unreadable answer: the answer is larger than {BODY_BYTES_MAX} bytes")


def test_a_refused_connection_is_proved_not_sent(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: the port stays ours and refuses
        reply = bench.ask(bench.adapter(f"http://127.0.0.1:{taken.getsockname()[1]}", timeout_seconds=5))
    assert isinstance(reply, NotSent)


def test_a_name_that_does_not_resolve_is_proved_not_sent(bench: Bench) -> None:
    assert isinstance(bench.ask(bench.adapter("http://no-such-host.invalid", timeout_seconds=5)), NotSent)


def test_a_handshake_that_fails_is_proved_not_sent(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    assert isinstance(bench.ask(bench.adapter(bench.server.url.replace("http:", "https:"))), NotSent)
    assert not bench.server.requests


def test_a_reset_on_a_connection_used_before_is_unanswered_and_not_sent_again(bench: Bench) -> None:
    adapter = bench.play(answers(200, refund()), raw(b"", then_reset=True), answers(200, refund()))
    body = adapter.freeze(ORDER)
    assert isinstance(bench.run(adapter.send("key_1", body)), Answered)
    assert isinstance(bench.run(adapter.send("key_2", body)), Unanswered)
    assert bench.server.connections == 1, "the second call must have reused the first one's connection"
    assert len(bench.server.requests) == 2


def test_a_redirect_carries_neither_the_key_nor_the_order_elsewhere(bench: Bench) -> None:
    for status in (301, 302, 303, 307, 308):
        reply = bench.send(answers(status, b"", Location="/v1/elsewhere"), answers(200, refund()))
        assert reply == Unanswered(f"HTTP {status}")
        assert [request.target for request in bench.server.requests] == ["/v1/refunds"]


@pytest.mark.parametrize(
    ("said", "live"), [(True, True), (False, False), ("true", None), (1, None), (None, None)], ids=str
)
def test_the_mode_of_an_object_is_read_where_it_is_said(bench: Bench, said: object, live: bool | None) -> None:
    answered = bench.send(answers(200, refund(livemode=said)))
    assert isinstance(answered, Answered)
    assert answered.object.live is live


def test_an_address_may_end_in_a_slash(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    assert isinstance(bench.ask(bench.adapter(bench.server.url + "/")), Answered)
    assert [request.target for request in bench.server.requests] == ["/v1/refunds"]


def test_an_adapter_bears_the_name_that_it_was_given(bench: Bench) -> None:
    assert (bench.adapter("http://x").name, bench.adapter("http://x", name="stripe-eu").name) == ("stripe", "stripe-eu")


@pytest.mark.parametrize("body", [[], ["x"], "x", 7, None])
def test_an_error_whose_body_is_json_of_another_shape_is_no_answer(bench: Bench, body: object) -> None:
    assert bench.send(answers(400, body)) == Unanswered("HTTP 400")


def test_a_request_id_that_is_none_is_not_kept(bench: Bench) -> None:
    for odd in (f"card {CARD}", "req_" + "x" * 900, ""):
        assert bench.send(answers(200, refund(), Request_Id=odd)).request_id is None


def test_a_notice_from_stripe_is_no_error_even_where_warnings_are(bench: Bench) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(bench.send(answers(200, refund(), Stripe_Notice="your version is old")), Answered)


# --- What is sent -----------------------------------------------------------------------------------------------------


def test_the_frozen_body_is_what_stripe_gets_under_the_key_given(bench: Bench) -> None:
    adapter = bench.play(answers(200, refund()))
    body = adapter.freeze(ORDER)
    assert body == (
        '{"amount":1500,"charge":"ch_1","metadata":{"refund_worker_attempt":"1","refund_worker_leg":"leg_1",'
        '"refund_worker_refund":"rf_1"},"reason":"requested_by_customer"}'
    )
    bench.run(adapter.send("key_1", body))
    bench.run(adapter.send("key_1", body))
    first, second = bench.server.requests
    assert first.headers["idempotency-key"] == "key_1"
    assert not any("key_1" in part for part in (first.target, first.body)), "the key is a header and nothing else"
    assert first.headers["authorization"] == f"Bearer {API_KEY}"
    assert first.form == {
        "amount": "1500",
        "charge": "ch_1",
        "metadata[refund_worker_attempt]": "1",
        "metadata[refund_worker_leg]": "leg_1",
        "metadata[refund_worker_refund]": "rf_1",
        "reason": "requested_by_customer",
    }
    assert (second.body, second.headers) == (first.body, first.headers), "a repeat must not differ in anything"
    assert "x-stripe-client-telemetry" not in second.headers
    assert "stripe-account" not in first.headers


def test_a_cookie_that_a_server_sets_is_never_sent_back(bench: Bench) -> None:
    bench.play(answers(200, refund(), Set_Cookie="seen=1; Path=/"))
    adapter = bench.adapter(bench.server.url.replace("127.0.0.1", "localhost"))  # no client keeps cookies for a number
    assert all(isinstance(bench.ask(adapter, key), Answered) for key in ("key_1", "key_2"))
    assert not any("cookie" in request.headers for request in bench.server.requests)


def test_a_connected_account_is_named_in_the_header(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    bench.ask(bench.adapter(bench.server.url, account="acct_7"))
    assert bench.server.requests[0].headers["stripe-account"] == "acct_7"


@pytest.mark.parametrize(("payment", "parameter"), [("ch_1", "charge"), ("py_1", "charge"), ("pi_1", "payment_intent")])
def test_a_payment_is_named_by_the_parameter_of_its_kind(payment: str, parameter: str) -> None:
    body = json.loads(_frozen(processor_payment_id=payment))
    assert body[parameter] == payment
    assert {"charge", "payment_intent"} & set(body) == {parameter}


@pytest.mark.parametrize("payment", ["", "re_1", "cash-17", "CH_1", "ch_1/../x", "ch_1&amount=9", "ch_ü"])
def test_a_payment_that_is_not_stripes_is_never_frozen_nor_searched(bench: Bench, payment: str) -> None:
    with pytest.raises(ValueError, match="begins with"):
        _frozen(processor_payment_id=payment)
    adapter = bench.play(page())
    with pytest.raises(ValueError, match="begins with"):
        bench.run(adapter.find(payment, "leg_1"))
    assert not bench.server.requests


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("duplicate", "duplicate"),
        (" Duplicate payment. ", "duplicate"),
        ("not a duplicate", "requested_by_customer"),
        ("fraudulent", "requested_by_customer"),
        ("", "requested_by_customer"),
        ("x" * 5000, "requested_by_customer"),
    ],
)
def test_a_free_reason_becomes_one_of_two_words_and_never_fraudulent(reason: str, expected: str) -> None:
    assert json.loads(_frozen(reason=reason))["reason"] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"amount_minor": True},
        {"amount_minor": 1.0},
        {"leg_id": ""},
        {"refund_id": "x" * 501},
    ],
)
def test_an_order_that_stripe_would_cut_or_misread_is_not_frozen(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        _frozen(**changes)


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "a\r\nX: y", "schlüssel"])
def test_a_key_that_no_header_carries_is_not_sent(bench: Bench, key: str) -> None:
    adapter = bench.play(answers(200, refund()))
    with pytest.raises(ValueError, match="idempotency key"):
        bench.run(adapter.send(key, adapter.freeze(ORDER)))
    assert not bench.server.requests


def _frozen(**changes: Any) -> str:
    fields = {name: getattr(ORDER, name) for name in RefundInstruction.__slots__}
    return StripeProcessor(API_KEY).freeze(RefundInstruction(**{**fields, **changes}))


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "expired_or_canceled_card", Refused),
        (400, "charge_already_refunded", AlreadyRefunded),
        (400, "balance_insufficient", Blocked),
        (404, "resource_missing", Misconfigured),
        (400, "a_code_of_next_year", UnknownRefusal),
        (400, "parameter_unknown", Denied),
    ],
)
def test_a_refusal_says_whether_it_is_the_stored_answer_of_its_key(
    bench: Bench, status: int, code: str, kind: type, stored: bool
) -> None:
    reply = bench.send(error(status, INVALID, code, **({"Idempotent_Replayed": "true"} if stored else {})))
    assert isinstance(reply, kind)
    assert getattr(reply, "replayed") is stored  # noqa: B009 -- each of these has it


# --- What is answered -------------------------------------------------------------------------------------------------


def test_a_refund_object_is_passed_on_in_our_words(bench: Bench) -> None:
    reply = bench.send(answers(200, refund(currency="JPY", failure_reason="declined"), Idempotent_Replayed="true"))
    assert isinstance(reply, Answered)
    assert (reply.request_id, reply.replayed) == ("req_1", True)
    answered = reply.object
    assert (answered.processor_refund_id, answered.status, answered.failure_code) == ("re_1", "succeeded", "declined")
    assert (answered.amount_minor, answered.currency) == (1500, "JPY")
    assert (answered.payment_refs, answered.leg_id, answered.attempt) == (("ch_1", "pi_1"), "leg_1", 1)
    assert answered.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert answered.live is None


@pytest.mark.parametrize("status", ["pending", "requires_action", "failed", "canceled", "a_word_of_next_year", None])
def test_any_status_is_passed_on_and_none_is_guessed_at(bench: Bench, status: str | None) -> None:
    assert bench.send(answers(200, refund(status=status))).object.status == status


def test_a_pending_refund_that_waits_for_our_balance_is_pending_and_nothing_else(bench: Bench) -> None:
    answered = bench.send(answers(200, refund(status="pending", pending_reason="insufficient_funds"))).object
    assert (answered.status, answered.failure_code) == ("pending", None)


@pytest.mark.parametrize(
    ("changes", "refs", "leg_id", "attempt"),
    [
        ({"charge": {"id": "ch_9", "object": "charge"}}, ("ch_9", "pi_1"), "leg_1", 1),
        ({"charge": None, "payment_intent": None}, (), "leg_1", 1),
        ({"metadata": None}, ("ch_1", "pi_1"), None, None),
        ({"metadata": []}, ("ch_1", "pi_1"), None, None),
        ({"metadata": {"refund_worker_leg": "leg_1", "refund_worker_attempt": "٣"}}, ("ch_1", "pi_1"), "leg_1", None),
        ({"metadata": {"refund_worker_leg": 5, "refund_worker_attempt": "9" * 99}}, ("ch_1", "pi_1"), None, None),
        # No database stores these, and a list that holds one is read again every minute.
        ({"metadata": {"refund_worker_leg": "leg\x00"}}, ("ch_1", "pi_1"), None, None),
        ({"metadata": {"refund_worker_leg": "leg\ud800", "refund_worker_attempt": "1"}}, ("ch_1", "pi_1"), None, 1),
    ],
)
def test_marks_and_references_are_read_where_they_are_sound(
    bench: Bench, changes: dict[str, Any], refs: tuple[str, ...], leg_id: str | None, attempt: int | None
) -> None:
    answered = bench.send(answers(200, refund(**changes))).object
    assert (answered.payment_refs, answered.leg_id, answered.attempt) == (refs, leg_id, attempt)


def test_fetch_and_cancel_ask_for_the_object_and_judge_the_answer_alike(bench: Bench) -> None:
    adapter = bench.play(
        answers(200, refund(status="canceled")), answers(200, refund(status="pending")), error(400, INVALID, "odd")
    )
    fetched, canceled, refused = (bench.run(adapter.fetch("re_1")), bench.run(adapter.cancel("re_1")), None)
    refused = bench.run(adapter.cancel("re_2"))
    assert isinstance(fetched, Answered)
    assert isinstance(canceled, Answered)
    assert refused == UnknownRefusal("odd", SAID, "req_1")
    asked = [(request.method, request.target, request.body) for request in bench.server.requests]
    assert asked == [
        ("GET", "/v1/refunds/re_1", ""),
        ("POST", "/v1/refunds/re_1/cancel", ""),
        ("POST", "/v1/refunds/re_2/cancel", ""),
    ]


@pytest.mark.parametrize("identifier", ["", "..", "re_1/cancel", "re_1?expand=x", "re 1", "re_1\n", "x" * 256])
def test_an_id_that_would_ask_for_something_else_is_not_asked_for(bench: Bench, identifier: str) -> None:
    adapter = bench.play(answers(200, refund()))
    assert isinstance(bench.run(adapter.fetch(identifier)), Misconfigured)
    assert isinstance(bench.run(adapter.cancel(identifier)), Misconfigured)
    assert not bench.server.requests


# --- Lists ------------------------------------------------------------------------------------------------------------


def test_find_reads_every_page_and_gives_all_that_it_holds_once(bench: Bench) -> None:
    other_leg = {"refund_worker_leg": "leg_2", "refund_worker_attempt": "1"}
    adapter = bench.play(
        page(refund(id="re_3"), refund(id="re_2", metadata={}, amount=10), has_more=True),
        page(refund(id="re_2", metadata={}, amount=10), refund(id="re_1", metadata=other_leg), has_more=True),
        page(
            refund(id="re_b", metadata={}, amount=200, status="failed"),
            refund(id="re_d", metadata={"order": "7"}, amount=3, status=None),
            refund(id="re_e", metadata={}, amount=800, charge="ch_other", payment_intent=None),
        ),
    )
    found = bench.run(adapter.find("ch_1", "leg_1"))
    assert isinstance(found, Found)
    assert [one.processor_refund_id for one in found.objects] == ["re_3", "re_2", "re_1", "re_b", "re_d", "re_e"]
    assert [one.leg_id for one in found.objects] == ["leg_1", None, "leg_2", None, None, None]
    limit = str(PAGE_SIZE)
    assert [request.query for request in bench.server.requests] == [
        {"charge": "ch_1", "limit": limit},
        {"charge": "ch_1", "limit": limit, "starting_after": "re_2"},
        {"charge": "ch_1", "limit": limit, "starting_after": "re_1"},
    ]


def test_find_takes_the_later_word_where_a_shifted_page_repeats_an_object(bench: Bench) -> None:
    adapter = bench.play(
        page(refund(status="pending"), has_more=True), page(refund(status="failed"), refund(id="re_0", metadata={}))
    )
    found = bench.run(adapter.find("pi_1", "leg_1"))
    assert isinstance(found, Found)
    assert [one.status for one in found.objects if one.leg_id] == ["failed"]
    assert "payment_intent" in bench.server.requests[0].query


def endless() -> Act:
    count = iter(range(10**6))

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        await page(refund(id=f"re_{next(count)}"), has_more=True)(request, writer)

    return act


@pytest.mark.parametrize(
    "acts",
    [
        [endless()],
        [page(refund(), has_more=True)],
        [page(has_more=True)],
        [page(refund(), has_more=True), page(refund(id="re_0", amount=None))],
        [page(refund(), has_more=True), raw(HEAD + HALF, then_reset=True)],
        [page(refund(), has_more=True), error(400, INVALID, "resource_missing", param="starting_after")],
        [answers(200, {"object": "list", "data": [refund()]})],
        [answers(200, {"object": "list", "data": {}, "has_more": False})],
        [answers(200, refund())],
        [page(refund(), has_more=True), says_nothing],
    ],
)
def test_a_list_not_read_to_its_end_is_no_search_result(bench: Bench, acts: list[Act]) -> None:
    adapter = bench.play(*acts)
    assert isinstance(bench.run(adapter.find("ch_1", "leg_1")), Unanswered)
    assert len(bench.server.requests) <= 51


@pytest.mark.parametrize("act", [page(refund(), has_more=True), page(has_more=True)])
def test_a_list_that_does_not_advance_is_given_up_at_once(bench: Bench, act: Act) -> None:
    adapter = bench.play(act)
    told = bench.run(adapter.find("ch_1", "leg_1"))
    assert isinstance(told, Unanswered)
    assert "does not advance" in told.reason
    assert len(bench.server.requests) <= 2


def test_a_search_of_many_slow_pages_ends_with_the_deadline_of_one_call(bench: Bench) -> None:
    next_page = endless()

    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(TIMEOUT_SECONDS / 4)
        await next_page(request, writer)

    bench.play(slowly)
    adapter = bench.adapter(bench.server.url, TIMEOUT_SECONDS)
    started = bench.loop.time()
    assert isinstance(bench.run(adapter.find("ch_1", "leg_1")), Unanswered)
    assert bench.loop.time() - started < PAGES_MAX_OF_A_PAYMENT * TIMEOUT_SECONDS / 8, "half of what all pages take"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", SAID, "req_1")),
        (error(400, INVALID, "odd"), Misconfigured("unknown_refusal", f"odd: {SAID}", "req_1")),
        (error(400, INVALID, "charge_disputed"), Misconfigured("charge_disputed", SAID, "req_1")),
        (error(400, INVALID, "parameter_unknown"), Denied("parameter_unknown", SAID, maybe_kept=True)),
        (error(400, INVALID, "charge_already_refunded"), Unanswered("an answer that no list gives")),
        (error(401, INVALID), Denied("http_401", SAID)),
        (error(429, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(500, API_ERROR), Unanswered("HTTP 500 api_error", server_error=True)),
    ],
)
def test_a_search_that_fails_refuses_no_refund(bench: Bench, act: Act, expected: object) -> None:
    adapter = bench.play(act)
    assert bench.run(adapter.find("ch_1", "leg_1")) == expected
    assert bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC))) == expected


def test_recent_gives_ours_and_foreign_ones_since_a_moment(bench: Bench) -> None:
    adapter = bench.play(page(refund(), has_more=True), page(refund(id="re_0", metadata={})))
    found = bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(found, Found)
    assert [one.leg_id for one in found.objects] == ["leg_1", None]
    assert bench.server.requests[0].query["created[gte]"] == "1767225600"
    with pytest.raises(ValueError, match="time zone"):
        bench.run(adapter.recent(datetime(2026, 1, 1)))  # noqa: DTZ001 -- the naive one is the point


@pytest.mark.parametrize(
    "failing",
    [
        error(429, INVALID, "rate_limit"),
        error(500, API_ERROR),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then_reset=True),
    ],
)
def test_a_page_of_recent_that_is_not_answered_is_asked_for_again_and_the_list_comes_to_its_end(
    bench: Bench, failing: Act
) -> None:
    bench.play(page(refund(), has_more=True), failing, failing, page(refund(id="re_0", metadata={})))
    adapter = bench.adapter(bench.server.url, page_pauses_seconds=(0.01, 0.01))
    found = bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(found, Found)
    assert [one.processor_refund_id for one in found.objects] == ["re_1", "re_0"]
    asked = [request.query.get("starting_after") for request in bench.server.requests]
    assert asked == [None, "re_1", "re_1", "re_1"]


def test_a_page_of_recent_that_is_denied_is_not_asked_for_again(bench: Bench) -> None:
    bench.play(error(401, INVALID))
    adapter = bench.adapter(bench.server.url, page_pauses_seconds=(0.01, 0.01))
    assert isinstance(bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC))), Denied)
    assert len(bench.server.requests) == 1


# --- Secrets and resources --------------------------------------------------------------------------------------------


def test_no_secret_enters_a_reply_a_repr_or_a_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = f"Invalid API Key provided: {API_KEY} for card {CARD} and ref 111111111111\x1b[31m"
    for act in (error(401, INVALID, message=said), error(400, INVALID, f"code {CARD}", message=said)):
        reply = bench.send(act)
        assert API_KEY not in repr(reply)
        assert CARD not in repr(reply)
        assert "111111111111" not in repr(reply)
        assert "\x1b" not in reply.message
    status = bench.send(answers(200, refund(status=f"odd {CARD}", failure_reason=CARD)))
    assert CARD not in repr(status)
    adapter = bench.adapter(bench.server.url)
    assert API_KEY not in repr(adapter)
    assert API_KEY not in str(vars(adapter))
    assert not any(secret in record.getMessage() for record in caplog.records for secret in (API_KEY, CARD))


@pytest.mark.parametrize("api_key", ["", "sk_test_1\n", "sk test", "sk_tést"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_quoted(api_key: str) -> None:
    with pytest.raises(ValueError) as raised:
        StripeProcessor(api_key)
    assert not api_key or api_key not in str(raised.value)


def test_one_connection_serves_many_runs_of_the_loop_and_close_ends_it(bench: Bench) -> None:
    adapter = bench.play(answers(200, refund()))
    body = adapter.freeze(ORDER)
    replies = [bench.run(adapter.send(f"key_{n}", body)) for n in range(5)]
    assert all(isinstance(reply, Answered) for reply in replies)
    assert bench.server.connections == 1
    bench.run(adapter.close())
    bench.run(adapter.close())
    assert isinstance(bench.run(adapter.send("key_9", body)), Answered)
    assert bench.server.connections == 2


def test_answers_of_calls_side_by_side_are_not_mixed_up(bench: Bench) -> None:
    async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01 if request.form["amount"].endswith("0") else 0)
        await answers(200, refund(amount=int(request.form["amount"])))(request, writer)

    adapter = bench.play(echo)
    bodies = [_frozen(amount_minor=amount) for amount in range(100, 140)]

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(adapter.send(f"key_{n}", body) for n, body in enumerate(bodies)))

    assert [reply.object.amount_minor for reply in bench.run(all_at_once())] == list(range(100, 140))


def test_a_payment_by_hand_is_blocked_and_asks_nothing_of_anyone(bench: Bench) -> None:
    manual = ManualProcessor()
    assert (manual.name, ManualProcessor(name="cheques").name) == ("manual", "cheques")
    body = manual.freeze(ORDER)
    assert json.loads(body)["payment"] == "ch_1"
    assert body == manual.freeze(ORDER)
    sent = bench.run(manual.send("key_1", body))
    assert isinstance(sent, Blocked)
    assert sent.code == "manual_processor"
    assert bench.run(manual.find("ch_1", "leg_1")) == Found(())
    assert bench.run(manual.recent(datetime(2026, 1, 1, tzinfo=UTC))) == Found(())
    assert isinstance(bench.run(manual.fetch("x")), Misconfigured)
    assert isinstance(bench.run(manual.cancel("x")), Misconfigured)
    bench.run(manual.close())
