"""The server: the part of PayPal's API that refunds and payouts need, on 127.0.0.1, with signed webhooks."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

try:
    import aiohttp
    from aiohttp import web
except ImportError as error:
    raise ImportError("aiohttp is not installed: install the extra refund-worker[sandbox]") from error

from refund_worker.processors.local_server.closing import close_server
from refund_worker.processors.local_server.journal import Journal
from refund_worker.processors.paypal.sandbox.book import Book, Refund, Refusal
from refund_worker.processors.paypal.sandbox.control import Control
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.processors.paypal.sandbox.failures import (
    HANG_SECONDS_MAX,
    broken_answer,
    error_answer,
    invalid_token,
    is_not_executed,
    not_executed,
)
from refund_worker.processors.paypal.sandbox.payout_calls import PayoutCalls
from refund_worker.processors.paypal.sandbox.shapes import capture_json, order_json, refund_json
from refund_worker.processors.paypal.sandbox.signing import KeyedHash, Signer, signed_headers, signed_text

TOKEN_SECONDS = 32_400
CERTIFICATE = "/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"
DELIVERIES_MAX = 5
START_SECONDS_MAX = 10.0
KINDS = {
    "COMPLETED": "PAYMENT.CAPTURE.REFUNDED",
    "PENDING": "PAYMENT.REFUND.PENDING",
    "FAILED": "PAYMENT.REFUND.FAILED",
    "CANCELLED": "PAYMENT.REFUND.CANCELLED",
}


@dataclass
class Exchange:
    """A request of the API and its answer, for checks against the published description."""

    method: str
    path: str
    headers: dict[str, str]
    request: Any
    status: int
    answer: Any


@dataclass
class Event:
    """An event that was sent, with the statuses of the answers; 0 is no answer."""

    kind: str
    event_id: str
    body: bytes
    answers: list[int] = field(default_factory=list)


class PayPalServer:
    """The server on 127.0.0.1, in a thread of this process. Without a `signer` its events have no certificate.

    `book` is the file of its book. Without one the book is in memory.
    """

    def __init__(self, port: int = 0, signer: Callable[[], Signer] | None = None, *, book: Path | None = None) -> None:
        self.book = Book(journal=None if book is None else Journal(book))
        self.payouts = PayoutCalls(self)
        own = KeyedHash()
        self._signer = signer or (lambda: own)
        self.url = ""
        self.exchanges: deque[Exchange] = deque(maxlen=2_000)
        self.events: list[Event] = []
        self.token_seconds: float = TOKEN_SECONDS
        self.token_fault = ""  # "", "error500", "html", "hang", "429"
        self.token_requests = 0
        self.verifications = 0
        self.certificate_requests = 0
        self.verify_fault = ""  # "", "error500", "html"
        self.webhook_url: str | None = None
        self.webhook_id = WEBHOOK_ID
        self._tokens: dict[str, float] = {}
        self._running: set[str] = set()
        self._event_numbers = itertools.count(1)
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._failed: OSError | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_SECONDS_MAX)
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self.book.close()

    # --- what tests do ------------------------------------------------------------------------------------------------

    def new_payment(self, amount: str, currency: str = "GBP", **more: Any) -> str:
        """Capture a payment and return the capture's id."""
        return self.book.new_capture(amount, currency, **more).capture_id

    def refunds_of(self, capture_id: str) -> list[Refund]:
        """Return the refunds of a capture in the book."""
        return self.book.refunds_of(self.book.captures[capture_id])

    def refund_elsewhere(self, capture_id: str, amount: str) -> Refund:
        """Refund as a person does in the dashboard."""
        return self.changed(self.book.refund(self.book.captures[capture_id], Decimal(amount)))

    def change(self, refund_id: str, status: str, reason: str | None = None) -> Refund:
        """Give a refund another status."""
        return self.changed(self.book.change(refund_id, status, reason))

    def revoke_tokens(self) -> None:
        """Make all tokens invalid."""
        self._tokens.clear()

    def event(self, refund: Refund, kind: str | None = None) -> tuple[str, bytes]:
        """Return the id and body of an event about a refund as it is now."""
        event_id = f"WH-{secrets.token_hex(8).upper()}-{next(self._event_numbers)}"
        event = {
            "id": event_id,
            "event_version": "1.0",
            "create_time": refund_json(refund, self.url)["update_time"],
            "resource_type": "refund",
            "resource_version": "2.0",
            "event_type": kind or KINDS[refund.status],
            "summary": f"A refund of {refund.amount} {refund.capture.currency}",
            "resource": refund_json(refund, self.url),
            "links": [
                {"href": f"{self.url}/v1/notifications/webhooks-events/{event_id}", "rel": "self", "method": "GET"}
            ],
        }
        return event_id, json.dumps(event).encode()

    def signed(self, body: bytes, *, at: float | None = None, webhook_id: str | None = None) -> dict[str, str]:
        """Return the headers, by lower-case name, that sign an event at a time (epoch seconds; default: now)."""
        return signed_headers(
            self._signer().sign,
            body,
            webhook_id=webhook_id or self.webhook_id,
            at=self.book.now() if at is None else at,
            certificate_url=self.url + CERTIFICATE,
        )

    # --- the API ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(middlewares=[self._recorded])
        app.router.add_post("/v1/oauth2/token", self._token)
        app.router.add_post("/v2/payments/captures/{id}/refund", self._refund)
        app.router.add_get("/v2/payments/captures/{id}", self._capture)
        app.router.add_get("/v2/payments/refunds/{id}", self._show)
        app.router.add_get("/v2/checkout/orders/{id}", self._order)
        app.router.add_post("/v1/notifications/verify-webhook-signature", self._verify)
        app.router.add_get(CERTIFICATE, self._certificate)
        self.payouts.add_routes(app)
        Control(self).add_routes(app)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        try:
            self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self._port).start())
        except OSError as error:
            self._failed = error
            close_server(runner, self._loop)
            self._ready.set()
            return
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        self._loop.run_forever()
        close_server(runner, self._loop)  # with events on their way, and answers that never come

    @web.middleware
    async def _recorded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Turn refusals into answers, and keep what was said."""
        try:
            response = await handler(request)
        except Refusal as refusal:
            response = error_answer(refusal.status, refusal.issue, refusal.field)
        if isinstance(response, web.Response) and request.path.startswith(("/v2/", "/v1/payments/")):
            sent, text = await request.text(), response.text or ""
            self.exchanges.append(
                Exchange(
                    request.method,
                    request.path,
                    {name.lower(): value for name, value in request.headers.items()},
                    json.loads(sent) if sent else None,
                    response.status,
                    json.loads(text) if text.startswith("{") else text,
                )
            )
        return response

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.token_requests += 1
        match self.token_fault:
            case "hang":
                await asyncio.sleep(HANG_SECONDS_MAX)
            case "error500":
                return error_answer(500, "")
            case "html":
                return web.Response(status=403, text="<html>blocked</html>", content_type="text/html")
            case "429":
                return error_answer(429, "", name="RATE_LIMIT_REACHED")
        good = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        given = request.headers.get("Authorization", "")
        if given != f"Basic {good}":
            # PayPal does not repeat the secret. Another server might, and then it must not reach our records.
            _, _, repeated = base64.b64decode(given.removeprefix("Basic ")).decode("utf-8", "replace").partition(":")
            told = f"Client Authentication failed: {repeated}"
            body = {"error": "invalid_client", "error_description": told}
            return web.json_response(body, status=401)
        if (await request.post()).get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        value = f"A21AA{secrets.token_hex(24)}"
        self._tokens[value] = self.book.now() + self.token_seconds
        shown = {"access_token": value, "token_type": "Bearer", "expires_in": self.token_seconds, "app_id": "APP-LOCAL"}
        return web.json_response({"scope": "https://uri.paypal.com/services/payments/refund", **shown})

    def is_known(self, request: web.Request) -> bool:
        """Return True if a request has a good token."""
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        return scheme == "Bearer" and self._tokens.get(value, 0) > self.book.now()

    async def _refund(self, request: web.Request) -> web.StreamResponse:
        if not self.is_known(request):
            return invalid_token()
        key, capture_id, text = request.headers["PayPal-Request-Id"], request.match_info["id"], await request.text()
        if key in self._running:
            raise Refusal("PREVIOUS_REQUEST_IN_PROGRESS")
        fault = self.book.next_fault(capture_id)
        if is_not_executed(fault):
            return not_executed(request, fault)
        self._running.add(key)
        try:
            await asyncio.sleep(0.01)  # a request takes a moment: others under its key meet it
            status = "PENDING" if fault == "pending" else "COMPLETED"
            refund, repeated = self.book.request(key, capture_id, json.loads(text or "{}"), status)
        finally:
            self._running.discard(key)
        if not repeated:
            self.changed(refund)
        minimal = fault == "minimal" or request.headers.get("Prefer") != "return=representation"
        answer = refund_json(refund, self.url, minimal=minimal)
        if fault not in ("", "pending", "minimal"):
            return await broken_answer(request, fault, answer)
        headers = {"PayPal-Debug-Id": secrets.token_hex(7)}
        return web.json_response(answer, status=200 if repeated else 201, headers=headers)

    async def _capture(self, request: web.Request) -> web.StreamResponse:
        if not self.is_known(request):
            return invalid_token()
        capture = self.book.find_capture(request.match_info["id"])
        if capture is None:
            raise Refusal("INVALID_RESOURCE_ID", "capture_id")
        if self.book.faults[f"read {capture.capture_id}"]:
            raise Refusal(self.book.faults[f"read {capture.capture_id}"].popleft())
        return web.json_response(capture_json(self.book, capture, self.url))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        if not self.is_known(request):
            return invalid_token()
        refund = self.book.refunds.get(request.match_info["id"])
        if refund is None:
            raise Refusal("INVALID_RESOURCE_ID", "refund_id")
        return web.json_response(refund_json(refund, self.url))

    async def _order(self, request: web.Request) -> web.StreamResponse:
        if not self.is_known(request):
            return invalid_token()
        order_id = request.match_info["id"]
        shown = None if order_id in self.book.forgotten_orders else order_json(self.book, order_id, self.url)
        if shown is None:
            raise Refusal("INVALID_RESOURCE_ID", "order_id")
        return web.json_response(shown)

    async def _verify(self, request: web.Request) -> web.StreamResponse:
        self.verifications += 1
        if self.verify_fault == "error500":
            return error_answer(500, "")
        if self.verify_fault == "html":
            return web.Response(text="<html>maintenance</html>", content_type="text/html")
        if not self.is_known(request):
            return invalid_token()
        raw = await request.read()
        asked = json.loads(raw)
        event = raw.split(b'"webhook_event": ', 1)[1][:-1]
        text = signed_text(asked["transmission_id"], asked["transmission_time"], asked["webhook_id"], event)
        expected = await asyncio.to_thread(lambda: self._signer().sign(text))
        is_good = asked["transmission_sig"] == base64.b64encode(expected).decode()
        status = "SUCCESS" if is_good and asked["webhook_id"] == self.webhook_id else "FAILURE"
        return web.json_response({"verification_status": status})

    async def _certificate(self, request: web.Request) -> web.StreamResponse:
        self.certificate_requests += 1
        certificate = (await asyncio.to_thread(self._signer)).certificate_pem
        return web.Response(text=certificate, status=200 if certificate else 404)

    # --- webhooks -----------------------------------------------------------------------------------------------------

    def changed(self, refund: Refund) -> Refund:
        """Send an event about a refund, if there is an address. Any thread may call it."""
        self.send(KINDS[refund.status], *self.event(refund))
        return refund

    def send(self, kind: str, event_id: str, body: bytes) -> None:
        """Send an event, if there is an address. Any thread may call it."""
        if self.webhook_url is not None:
            self._loop.call_soon_threadsafe(self.begin_event, kind, event_id, body)

    def send_event(self, refund: Refund, kind: str | None = None) -> str:
        """Send one event about a refund as it is now, and return its id. For the server's own loop."""
        event_id, body = self.event(refund, kind)
        self.begin_event(kind or KINDS[refund.status], event_id, body)
        return event_id

    def begin_event(self, kind: str, event_id: str, body: bytes) -> None:
        """Deliver an event, on the server's own loop."""
        event = Event(kind, event_id, body)
        self.events.append(event)
        task = self._loop.create_task(self._deliver(event))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, event: Event) -> None:
        for number in range(DELIVERIES_MAX):
            url, headers = self.webhook_url, await asyncio.to_thread(self.signed, event.body)
            if url is None:
                return
            status = await _post(url, event.body, headers)
            event.answers.append(status)
            if 200 <= status < 300:
                return
            await asyncio.sleep(0.2 * 2**number)


async def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status of the answer to an event, 0 without an answer."""
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers={**headers, "Content-Type": "application/json"}) as response,
        ):
            await response.read()
            return response.status
    except (aiohttp.ClientError, TimeoutError):
        return 0
