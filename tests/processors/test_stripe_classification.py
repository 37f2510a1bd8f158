"""The Stripe adapter classifies every answer, and every missing answer, of a scripted server on a real socket.

The rows follow Stripe's own pages: docs.stripe.com/api/errors, /error-codes and /api/idempotent_requests.
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

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.stripe.adapter import BODY_BYTES_MAX, PAGE_SIZE, PAGES_MAX_OF_A_PAYMENT, StripeProcessor

T = TypeVar("T")
API_KEY = "sk_test_51HiddenKeyOfTheAdapter"
TIMEOUT_SECONDS = 0.4  # for servers that send nothing or never finish
PATIENCE_SECONDS = 20.0  # for servers that answer: a busy machine can be slow
CARD = "4242424242424242"
ORDER = RefundInstruction("rf_1", "leg_1", 1, "ch_1", 1500, "EUR", "customer asked")


# --- A server that answers from a script ------------------------------------------------------------------------------


@dataclass
class Request:
    """A request that the scripted server received."""

    method: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def form(self) -> dict[str, str]:
        """The body's form fields, one value each."""
        return {name: values[0] for name, values in parse_qs(self.body, keep_blank_values=True).items()}

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, one value each."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


Act = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Plays one act for each request and repeats the last act. Stores the requests it received."""

    acts: list[Act]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
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
    """Return an act that sends a complete answer. `body` is sent as JSON, or unchanged if it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Request_Id": "req_1", **headers}.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *lines]) + "\r\n\r\n"

    async def act(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + content)

    return act


def error(status: int, kind: str | None, code: str | None = None, /, **more: Any) -> Act:
    """Return an act that sends Stripe's error object. Capitalised names in `more` are headers."""
    headers = {name: more.pop(name) for name in list(more) if name[0].isupper()}
    fields = {"type": kind, "code": code, "message": more.pop("message", "a message of Stripe's"), **more}
    return answers(status, {"error": {name: value for name, value in fields.items() if value is not None}}, **headers)


def raw(content: bytes, *, then_reset: bool = False) -> Act:
    """Return an act that sends these bytes unchanged and then closes or resets the connection."""

    async def act(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        if then_reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()

    return act


async def drips(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Send one byte at a time for much longer than the outer deadline, each byte well inside any read timeout."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(TIMEOUT_SECONDS / 20)


async def sends_nothing(_request: Request, _writer: asyncio.StreamWriter) -> None:
    """Send no answer."""
    await asyncio.sleep(30)


def refund(**changes: Any) -> dict[str, Any]:
    """Return a refund object as Stripe sends it, with these changes."""
    marks = {"refund_worker_refund": "rf_1", "refund_worker_leg": "leg_1", "refund_worker_attempt": "1"}
    body = {"id": "re_1", "object": "refund", "amount": 1500, "currency": "eur", "created": 1_700_000_000}
    return {**body, "status": "succeeded", "charge": "ch_1", "payment_intent": "pi_1", "metadata": marks, **changes}


def page(*refunds: dict[str, Any], has_more: bool = False) -> Act:
    """Return an act that sends one page of a list."""
    return answers(200, {"object": "list", "data": list(refunds), "has_more": has_more, "url": "/v1/refunds"})


class Bench:
    """The adapter and a scripted server on one loop, run in many small steps as the worker does."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = ScriptedServer([])
        self._adapters: list[StripeProcessor] = []
        self._listeners: list[asyncio.Server] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop."""
        return self.loop.run_until_complete(work)

    def play(self, *acts: Act) -> StripeProcessor:
        """Start a server with this script, and return an adapter connected to it."""
        self.server = ScriptedServer(list(acts))
        listener = self.run(asyncio.start_server(self.server.handle, "127.0.0.1", 0))
        self._listeners.append(listener)
        self.server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        silent = drips in acts or sends_nothing in acts
        return self.adapter(self.server.url, TIMEOUT_SECONDS if silent else PATIENCE_SECONDS)

    def adapter(self, base: str, timeout_seconds: float = PATIENCE_SECONDS, **options: Any) -> StripeProcessor:
        """Return an adapter that is closed at the end of the test."""
        options = {"page_pauses_seconds": ()} | options
        self._adapters.append(StripeProcessor(API_KEY, base=base, timeout_seconds=timeout_seconds, **options))
        return self._adapters[-1]

    def send(self, *acts: Act) -> Any:
        """Start a server with this script, send one refund, and return the reply."""
        return self.ask(self.play(*acts))

    def ask(self, adapter: StripeProcessor, key: str = "key_1") -> Any:
        """Send one refund over this adapter and return the reply."""
        return self.run(adapter.send(key, adapter.freeze(ORDER)))

    async def stop(self) -> None:
        """Close all adapters and servers."""
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
    """A bench that is stopped at the end of the test."""
    bench = Bench()
    yield bench
    bench.run(bench.stop())
    bench.loop.close()


# --- The table --------------------------------------------------------------------------------------------------------

INVALID, CARD_ERROR, API_ERROR = "invalid_request_error", "card_error", "api_error"
MESSAGE = "a message of Stripe's"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (error(400, INVALID, "charge_already_refunded"), AlreadyRefunded(MESSAGE, "req_1")),
        (error(400, INVALID, "charge_disputed"), Blocked("charge_disputed", MESSAGE, "req_1")),
        (error(400, INVALID, "refund_disputed_payment"), Blocked("refund_disputed_payment", MESSAGE, "req_1")),
        (error(400, INVALID, param="amount"),
         Refused("amount_exceeds_unrefunded", MESSAGE, "req_1", more_than_left=True)),
        (error(400, INVALID), UnknownRefusal(INVALID, MESSAGE, "req_1")),
        (error(400, INVALID, "charge_not_refundable"), Refused("charge_not_refundable", MESSAGE, "req_1")),
        (error(400, INVALID, "parameter_invalid_integer", param="amount"),
         Misconfigured("parameter_invalid_integer", MESSAGE, "req_1")),
        (error(400, INVALID, "parameter_unknown", param="idempotency_key"),
         Denied("parameter_unknown", MESSAGE, maybe_kept=True)),
        (error(400, INVALID, "parameter_unknown", Idempotent_Replayed="true"),
         Denied("parameter_unknown", MESSAGE, maybe_kept=True, replayed=True)),
        (error(400, INVALID, "a_code_of_next_year"), UnknownRefusal("a_code_of_next_year", MESSAGE, "req_1")),
        (error(422, INVALID, "a_code_of_next_year", param="amount"),
         UnknownRefusal("a_code_of_next_year", MESSAGE, "req_1")),
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(400, INVALID, "resource_missing"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(404, INVALID), Misconfigured("not_found", MESSAGE, "req_1")),
        (error(400, INVALID, "balance_insufficient"), Blocked("balance_insufficient", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, "balance_insufficient"), Blocked("balance_insufficient", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, message_code="insufficient_balance_for_refund"),
         Blocked("insufficient_balance_for_refund", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, "card_declined"), Refused("card_declined", MESSAGE, "req_1")),
        (error(401, INVALID), Denied("http_401", MESSAGE)),
        (error(401, INVALID, "api_key_expired"), Denied("api_key_expired", MESSAGE)),
        (error(403, INVALID, "account_invalid"), Denied("account_invalid", MESSAGE)),
        (answers(403, b"<html>blocked</html>"), Unanswered("HTTP 403")),
        (error(400, "idempotency_error"), KeyConflict(MESSAGE)),
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
        (error(400, API_ERROR, "odd"), UnknownRefusal("odd", MESSAGE, "req_1")),
        (error(400, None, "odd"), Unanswered("HTTP 400 odd")),
        (error(408, INVALID), Unanswered(f"HTTP 408 {INVALID}")),
        (error(424, INVALID, "dependency"), Unanswered(f"HTTP 424 {INVALID} dependency")),
        (answers(400, b"<html>what?</html>"), Unanswered("HTTP 400")),
        (answers(404, b"<html>no such page</html>"), Unanswered("HTTP 404")),
        (answers(400, {"error": {"type": [INVALID], "code": 7}}), Unanswered("HTTP 400")),
    ],
)  # fmt: skip
def test_http_error_is_classified_as_stripe_documents(bench: Bench, act: Act, expected: object) -> None:
    assert bench.send(act) == expected
    assert len(bench.server.requests) == 1, "the SDK must not retry"


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
        answers(400, {"error": "not_an_oauth_code"}),
    ],
)
def test_inconclusive_answer_counts_as_unanswered(bench: Bench, act: Act) -> None:
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
        sends_nothing,
    ],
)
def test_no_answer_after_connecting_is_never_a_refusal(bench: Bench, act: Act) -> None:
    started = bench.loop.time()
    reply = bench.send(act)
    assert isinstance(reply, Unanswered)
    assert len(bench.server.requests) == 1, "the adapter must not send a POST twice"
    assert bench.loop.time() - started < PATIENCE_SECONDS / 2


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


@pytest.mark.parametrize(
    ("said", "live"), [(True, True), (False, False), ("true", None), (1, None), (None, None)], ids=str
)
def test_livemode_is_read_if_it_is_a_boolean(bench: Bench, said: object, live: bool | None) -> None:
    answered = bench.send(answers(200, refund(livemode=said)))
    assert isinstance(answered, Answered)
    assert answered.object.live is live


def test_base_address_may_end_in_a_slash(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    assert isinstance(bench.ask(bench.adapter(bench.server.url + "/")), Answered)
    assert [request.target for request in bench.server.requests] == ["/v1/refunds"]


def test_adapter_has_the_name_that_it_was_given(bench: Bench) -> None:
    assert (bench.adapter("http://x").name, bench.adapter("http://x", name="stripe-eu").name) == ("stripe", "stripe-eu")


@pytest.mark.parametrize("body", [[], ["x"], "x", 7, None])
def test_error_with_json_of_another_shape_is_unanswered(bench: Bench, body: object) -> None:
    assert bench.send(answers(400, body)) == Unanswered("HTTP 400")


def test_malformed_request_id_is_not_stored(bench: Bench) -> None:
    for odd in (f"card {CARD}", "req_" + "x" * 900, ""):
        assert bench.send(answers(200, refund(), Request_Id=odd)).request_id is None


def test_stripe_notice_is_no_error_even_if_warnings_are(bench: Bench) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(bench.send(answers(200, refund(), Stripe_Notice="your version is old")), Answered)


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_frozen_body_is_sent_unchanged_with_the_given_key(bench: Bench) -> None:
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
    assert not any("key_1" in part for part in (first.target, first.body)), "the key must be in the header only"
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


def test_cookie_from_a_server_is_never_sent_back(bench: Bench) -> None:
    bench.play(answers(200, refund(), Set_Cookie="seen=1; Path=/"))
    adapter = bench.adapter(
        bench.server.url.replace("127.0.0.1", "localhost")
    )  # clients store no cookies for IP addresses
    assert all(isinstance(bench.ask(adapter, key), Answered) for key in ("key_1", "key_2"))
    assert not any("cookie" in request.headers for request in bench.server.requests)


def test_connected_account_is_sent_in_the_header(bench: Bench) -> None:
    bench.play(answers(200, refund()))
    bench.ask(bench.adapter(bench.server.url, account="acct_7"))
    assert bench.server.requests[0].headers["stripe-account"] == "acct_7"


@pytest.mark.parametrize(("payment", "parameter"), [("ch_1", "charge"), ("py_1", "charge"), ("pi_1", "payment_intent")])
def test_payment_is_sent_in_the_parameter_of_its_kind(payment: str, parameter: str) -> None:
    body = json.loads(_frozen(processor_payment_id=payment))
    assert body[parameter] == payment
    assert {"charge", "payment_intent"} & set(body) == {parameter}


@pytest.mark.parametrize("payment", ["", "re_1", "cash-17", "CH_1", "ch_1/../x", "ch_1&amount=9", "ch_ü"])
def test_payment_id_that_is_not_stripes_is_refused(bench: Bench, payment: str) -> None:
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
def test_free_text_reason_is_mapped_and_never_to_fraudulent(reason: str, expected: str) -> None:
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
def test_instruction_that_stripe_would_misread_is_not_frozen(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        _frozen(**changes)


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "a\r\nX: y", "schlüssel"])
def test_key_that_does_not_fit_a_header_is_not_sent(bench: Bench, key: str) -> None:
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
def test_refusal_says_if_it_was_replayed(bench: Bench, status: int, code: str, kind: type, stored: bool) -> None:
    reply = bench.send(error(status, INVALID, code, **({"Idempotent_Replayed": "true"} if stored else {})))
    assert isinstance(reply, kind)
    assert getattr(reply, "replayed") is stored  # noqa: B009 -- each of these types has it


# --- Answers ----------------------------------------------------------------------------------------------------------


def test_refund_object_is_converted_to_our_fields(bench: Bench) -> None:
    reply = bench.send(answers(200, refund(currency="JPY", failure_reason="declined"), Idempotent_Replayed="true"))
    assert isinstance(reply, Answered)
    assert (reply.request_id, reply.replayed) == ("req_1", True)
    answered = reply.object
    assert (answered.processor_refund_id, answered.status, answered.failure_code) == ("re_1", "succeeded", "declined")
    assert (answered.amount_minor, answered.currency) == (1500, "JPY")
    assert (answered.payment_refs, answered.leg_id, answered.attempt) == (("ch_1", "pi_1"), "leg_1", 1)
    assert answered.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert answered.live is None


@pytest.mark.parametrize("status", ["pending", "requires_action", "failed", "canceled", "a_status_of_next_year", None])
def test_any_status_is_passed_on_unchanged(bench: Bench, status: str | None) -> None:
    assert bench.send(answers(200, refund(status=status))).object.status == status


def test_refund_pending_for_our_balance_is_only_pending(bench: Bench) -> None:
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
        # Databases cannot store these characters, and a list with one of them is read again every minute.
        ({"metadata": {"refund_worker_leg": "leg\x00"}}, ("ch_1", "pi_1"), None, None),
        ({"metadata": {"refund_worker_leg": "leg\ud800", "refund_worker_attempt": "1"}}, ("ch_1", "pi_1"), None, 1),
    ],
)
def test_metadata_and_references_are_read_if_well_formed(
    bench: Bench, changes: dict[str, Any], refs: tuple[str, ...], leg_id: str | None, attempt: int | None
) -> None:
    answered = bench.send(answers(200, refund(**changes))).object
    assert (answered.payment_refs, answered.leg_id, answered.attempt) == (refs, leg_id, attempt)


def test_fetch_and_cancel_classify_their_answers_alike(bench: Bench) -> None:
    adapter = bench.play(
        answers(200, refund(status="canceled")), answers(200, refund(status="pending")), error(400, INVALID, "odd")
    )
    fetched, canceled, refused = (bench.run(adapter.fetch("re_1")), bench.run(adapter.cancel("re_1")), None)
    refused = bench.run(adapter.cancel("re_2"))
    assert isinstance(fetched, Answered)
    assert isinstance(canceled, Answered)
    assert refused == UnknownRefusal("odd", MESSAGE, "req_1")
    asked = [(request.method, request.target, request.body) for request in bench.server.requests]
    assert asked == [
        ("GET", "/v1/refunds/re_1", ""),
        ("POST", "/v1/refunds/re_1/cancel", ""),
        ("POST", "/v1/refunds/re_2/cancel", ""),
    ]


@pytest.mark.parametrize("identifier", ["", "..", "re_1/cancel", "re_1?expand=x", "re 1", "re_1\n", "x" * 256])
def test_malformed_refund_id_is_not_sent(bench: Bench, identifier: str) -> None:
    adapter = bench.play(answers(200, refund()))
    assert isinstance(bench.run(adapter.fetch(identifier)), Misconfigured)
    assert isinstance(bench.run(adapter.cancel(identifier)), Misconfigured)
    assert not bench.server.requests


# --- Lists ------------------------------------------------------------------------------------------------------------


def test_find_reads_every_page_and_returns_each_object_once(bench: Bench) -> None:
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


def test_find_uses_the_later_status_of_a_repeated_object(bench: Bench) -> None:
    adapter = bench.play(
        page(refund(status="pending"), has_more=True), page(refund(status="failed"), refund(id="re_0", metadata={}))
    )
    found = bench.run(adapter.find("pi_1", "leg_1"))
    assert isinstance(found, Found)
    assert [one.status for one in found.objects if one.leg_id] == ["failed"]
    assert "payment_intent" in bench.server.requests[0].query


def endless() -> Act:
    """Return an act that always sends another page."""
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
        [page(refund(), has_more=True), sends_nothing],
    ],
)
def test_incomplete_list_is_unanswered(bench: Bench, acts: list[Act]) -> None:
    adapter = bench.play(*acts)
    assert isinstance(bench.run(adapter.find("ch_1", "leg_1")), Unanswered)
    assert len(bench.server.requests) <= 51


@pytest.mark.parametrize("act", [page(refund(), has_more=True), page(has_more=True)])
def test_list_that_does_not_advance_ends_the_search(bench: Bench, act: Act) -> None:
    adapter = bench.play(act)
    reply = bench.run(adapter.find("ch_1", "leg_1"))
    assert isinstance(reply, Unanswered)
    assert "does not advance" in reply.reason
    assert len(bench.server.requests) <= 2


def test_search_of_slow_pages_ends_at_the_deadline_of_one_call(bench: Bench) -> None:
    next_page = endless()

    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(TIMEOUT_SECONDS / 4)
        await next_page(request, writer)

    bench.play(slowly)
    adapter = bench.adapter(bench.server.url, TIMEOUT_SECONDS)
    started = bench.loop.time()
    assert isinstance(bench.run(adapter.find("ch_1", "leg_1")), Unanswered)
    assert bench.loop.time() - started < PAGES_MAX_OF_A_PAYMENT * TIMEOUT_SECONDS / 8, "half the time of all pages"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(400, INVALID, "odd"), Misconfigured("unknown_refusal", f"odd: {MESSAGE}", "req_1")),
        (error(400, INVALID, "charge_disputed"), Misconfigured("charge_disputed", MESSAGE, "req_1")),
        (error(400, INVALID, "parameter_unknown"), Denied("parameter_unknown", MESSAGE, maybe_kept=True)),
        (error(400, INVALID, "charge_already_refunded"), Unanswered("an answer that no list gives")),
        (error(401, INVALID), Denied("http_401", MESSAGE)),
        (error(429, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(500, API_ERROR), Unanswered("HTTP 500 api_error", server_error=True)),
    ],
)
def test_failed_search_refuses_no_refund(bench: Bench, act: Act, expected: object) -> None:
    adapter = bench.play(act)
    assert bench.run(adapter.find("ch_1", "leg_1")) == expected
    assert bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC))) == expected


def test_recent_returns_our_and_foreign_refunds_since_a_time(bench: Bench) -> None:
    adapter = bench.play(page(refund(), has_more=True), page(refund(id="re_0", metadata={})))
    found = bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(found, Found)
    assert [one.leg_id for one in found.objects] == ["leg_1", None]
    assert bench.server.requests[0].query["created[gte]"] == "1767225600"
    with pytest.raises(ValueError, match="time zone"):
        bench.run(adapter.recent(datetime(2026, 1, 1)))  # noqa: DTZ001 -- a time without a zone is under test


@pytest.mark.parametrize(
    "failing",
    [
        error(429, INVALID, "rate_limit"),
        error(500, API_ERROR),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then_reset=True),
    ],
)
def test_recent_retries_an_unanswered_page(bench: Bench, failing: Act) -> None:
    bench.play(page(refund(), has_more=True), failing, failing, page(refund(id="re_0", metadata={})))
    adapter = bench.adapter(bench.server.url, page_pauses_seconds=(0.01, 0.01))
    found = bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(found, Found)
    assert [one.processor_refund_id for one in found.objects] == ["re_1", "re_0"]
    asked = [request.query.get("starting_after") for request in bench.server.requests]
    assert asked == [None, "re_1", "re_1", "re_1"]


def test_recent_does_not_retry_a_denied_page(bench: Bench) -> None:
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
def test_malformed_api_key_is_refused_without_being_quoted(api_key: str) -> None:
    with pytest.raises(ValueError) as raised:
        StripeProcessor(api_key)
    assert not api_key or api_key not in str(raised.value)


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
    bodies = [_frozen(amount_minor=amount) for amount in range(100, 140)]

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(adapter.send(f"key_{n}", body) for n, body in enumerate(bodies)))

    assert [reply.object.amount_minor for reply in bench.run(all_at_once())] == list(range(100, 140))


def test_manual_payment_is_blocked_without_a_request(bench: Bench) -> None:
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
