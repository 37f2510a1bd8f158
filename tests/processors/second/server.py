"""A little server that behaves like the made-up AcmePay, with a book of its own, a clock that moves, and faults.

Its lists lag by `lag_seconds`, its keys live for an hour, its amounts are decimal texts. It runs in a thread.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn, Self

from aiohttp import web

from refund_worker.processors.local_server.closing import close_server

TOKEN = "test_acmepay_token"
LAG_SECONDS = 120.0
KEY_SECONDS = 3_600.0
WINDOW_SECONDS = 180 * 86_400.0
PAGE_SIZE = 10
# The name of a problem → HTTP status.
PROBLEMS = {
    "BAD_TOKEN": 401,
    "NO_SUCH_PAYMENT": 404,
    "NO_SUCH_REFUND": 404,
    "ID_REUSED": 409,
    "ID_BUSY": 409,
    "SLOW_DOWN": 429,
    "NOTHING_LEFT": 422,
    "TOO_MUCH": 422,
    "WINDOW_CLOSED": 422,
    "CONTESTED": 422,
    "NO_FUNDS": 422,
    "NOT_VOIDABLE": 422,
    "BAD_AMOUNT": 422,
    "BAD_FORM": 400,
}


@dataclass
class Payment:
    """A captured payment. Amounts in whole currency units, as AcmePay counts."""

    ref: str
    captured: Decimal
    currency: str
    contested: bool
    captured_at: float


@dataclass
class Refund:
    """A refund in the book."""

    ref: str
    payment: Payment
    value: Decimal
    labels: dict[str, str]
    made: float
    state: str = "DONE"
    cause: str | None = None

    def described(self) -> dict[str, Any]:
        """Return the refund's JSON."""
        made = datetime.fromtimestamp(self.made, UTC).isoformat()
        fields = {"kind": "refund", "ref": self.ref, "payment": self.payment.ref, "labels": self.labels, "made": made}
        money = {"value": str(self.value), "currency": self.payment.currency, "mode": "test"}
        bank_ref = f"BANK{self.ref}" if self.state == "DONE" else None
        return {**fields, **money, "state": self.state, "cause": self.cause, "bank_ref": bank_ref}


@dataclass
class Book:
    """What AcmePay knows."""

    payments: dict[str, Payment] = field(default_factory=dict)
    refunds: dict[str, Refund] = field(default_factory=dict)
    keys: dict[str, tuple[float, str, int, dict[str, Any]]] = field(default_factory=dict)  # when, body, status, answer
    clock_offset: float = 0.0

    def now(self) -> float:
        """Return the server's time in epoch seconds."""
        return time.time() + self.clock_offset

    def left(self, payment: Payment) -> Decimal:
        """Return how much of a payment is not refunded."""
        return payment.captured - sum(
            (r.value for r in self.refunds.values() if r.payment is payment and r.state not in ("FAILED", "VOID")),
            Decimal(0),
        )


class AcmePayServer:
    """`with AcmePayServer() as server: … server.url`. `faults[payment]` are the faults of its next requests."""

    def __init__(self) -> None:
        self.book = Book()
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)
        self.url = ""
        self.lag_seconds = LAG_SECONDS  # of the lists
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def new_payment(self, captured: str, currency: str = "GBP", *, contested: bool = False) -> str:
        """Capture a payment and return its id."""
        ref = f"AP-{next(self._numbers)}"
        self.book.payments[ref] = Payment(ref, Decimal(captured), currency, contested, self.book.now())
        return ref

    def refund(self, payment_id: str, value: Decimal, labels: dict[str, str], state: str = "DONE") -> Refund:
        """Create a refund in the book."""
        made = Refund(
            f"RF-{next(self._numbers)}", self.book.payments[payment_id], value, labels, self.book.now(), state
        )
        self.book.refunds[made.ref] = made
        return made

    def refunds_of(self, payment_id: str) -> list[Refund]:
        """Return the payment's refunds in the book."""
        return [each for each in self.book.refunds.values() if each.payment.ref == payment_id]

    # --- serving ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/payments/{ref}/refunds", self._create)
        app.router.add_get("/refunds", self._list)
        app.router.add_get("/refunds/{ref}", self._show)
        app.router.add_post("/refunds/{ref}/void", self._void)
        app.router.add_get("/payments/{ref}", self._payment)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        self._loop.run_forever()
        close_server(runner, self._loop)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        _check_token(request)
        key, text = request.headers["X-Request-Id"], await request.text()
        now = self.book.now()
        if not re.fullmatch("[A-Za-z0-9:_-]{1,40}", key):
            _refuse("BAD_FORM")
        known = self.book.keys.get(key)
        if known is not None and now - known[0] < KEY_SECONDS:
            if known[1] != request.path + text:
                _refuse("ID_REUSED")
            return web.json_response(known[3], status=known[2], headers={"X-Replayed": "yes"})
        order = json.loads(text) | {"payment": request.match_info["ref"]}
        waiting = self.faults[order["payment"]]
        fault = waiting.popleft() if waiting else ""
        if fault in ("ID_BUSY", "SLOW_DOWN"):
            _refuse(fault)
        try:
            status, answer = 201, self._made(order, "ASK" if fault == "ask" else "DONE").described()
        except web.HTTPException as refusal:
            status, answer = refusal.status, json.loads(refusal.text or "")
        self.book.keys[key] = now, request.path + text, status, answer
        if fault in ("timeout", "reset", "cut", "error"):
            return await _break(request, fault, answer)
        return web.json_response(answer, status=status, headers={"X-Trace": f"trace-{len(self.book.keys)}"})

    def _made(self, order: dict[str, Any], state: str) -> Refund:
        payment, value = self.book.payments.get(order["payment"]), Decimal(order["value"])
        if payment is None:
            _refuse("NO_SUCH_PAYMENT")
        if payment.contested:
            _refuse("CONTESTED")
        if self.book.now() - payment.captured_at > WINDOW_SECONDS:
            _refuse("WINDOW_CLOSED")
        left = self.book.left(payment)
        if left == 0:
            _refuse("NOTHING_LEFT")
        if value > left:
            _refuse("TOO_MUCH")
        if order["currency"] != payment.currency or value <= 0:
            _refuse("BAD_AMOUNT")
        return self.refund(payment.ref, value, order["labels"], state)

    async def _list(self, request: web.Request) -> web.Response:
        _check_token(request)
        payment, since = request.query.get("payment"), request.query.get("since")
        if payment is not None and payment not in self.book.payments:
            _refuse("NO_SUCH_PAYMENT")
        begin = datetime.fromisoformat(since).timestamp() if since else 0.0
        shown = [
            each
            for each in self.book.refunds.values()
            if payment in (None, each.payment.ref) and begin <= each.made <= self.book.now() - self.lag_seconds
        ]
        start = int(request.query.get("after", "0"))
        following = str(start + PAGE_SIZE) if len(shown) > start + PAGE_SIZE else None
        items = [each.described() for each in shown[start : start + PAGE_SIZE]]
        return web.json_response({"kind": "refunds", "items": items, "next": following})

    async def _show(self, request: web.Request) -> web.Response:
        _check_token(request)
        return web.json_response(self._named(request).described())

    async def _void(self, request: web.Request) -> web.Response:
        _check_token(request)
        refund = self._named(request)
        if refund.state != "ASK":
            _refuse("NOT_VOIDABLE")
        refund.state = "VOID"
        return web.json_response(refund.described())

    async def _payment(self, request: web.Request) -> web.Response:
        _check_token(request)
        payment = self.book.payments.get(request.match_info["ref"])
        if payment is None:
            _refuse("NO_SUCH_PAYMENT")
        returned = payment.captured - self.book.left(payment)
        money = {"captured": str(payment.captured), "returned": str(returned), "currency": payment.currency}
        fields = {"kind": "payment", "ref": payment.ref, "contested": payment.contested, "mode": "test"}
        return web.json_response(fields | money)

    def _named(self, request: web.Request) -> Refund:
        refund = self.book.refunds.get(request.match_info["ref"])
        if refund is None:
            _refuse("NO_SUCH_REFUND")
        return refund


def _check_token(request: web.Request) -> None:
    given = request.headers.get("X-Acme-Token")
    if given != TOKEN:
        _refuse("BAD_TOKEN", f"{given} is no token")  # so that the suite sees that it is hidden


def _refuse(name: str, told: str = "") -> NoReturn:
    text = json.dumps({"problem": {"name": name, "text": told or f"this is a {name}", "trace": "trace-0"}})
    headers = {"Retry-After": "3"} if name == "SLOW_DOWN" else {}
    error = web.HTTPException(text=text, headers=headers, content_type="application/json")
    error.set_status(PROBLEMS[name])
    raise error


async def _break(request: web.Request, fault: str, answer: dict[str, Any]) -> web.StreamResponse:
    """Spoil the answer to a request that was executed."""
    if fault == "error":
        return web.Response(status=500, text="something broke")
    if fault == "timeout":
        await asyncio.sleep(1.0)
    if fault == "cut":
        text = json.dumps(answer)
        response = web.StreamResponse(status=201, headers={"Content-Length": str(len(text))})
        await response.prepare(request)
        await response.write(text[: len(text) // 2].encode())
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
