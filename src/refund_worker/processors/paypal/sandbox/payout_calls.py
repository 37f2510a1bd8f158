"""The requests of the Payouts API, and the events about payouts."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from refund_worker.processors.paypal.sandbox.book import PAYOUT_READINGS, Refusal
from refund_worker.processors.paypal.sandbox.failures import (
    broken_answer,
    invalid_token,
    is_not_executed,
    not_executed,
)
from refund_worker.processors.paypal.sandbox.payout_shapes import (
    BATCH_KINDS,
    CANCELED,
    ERRORS_PAGE,
    ITEM_KINDS,
    PAGE_SIZE_MAX,
    batch_header,
    batch_json,
    created_json,
    item_json,
    payout_event,
)
from refund_worker.processors.paypal.sandbox.payouts import Batch, Change, Item, PayoutRefusal, invalid

if TYPE_CHECKING:
    from refund_worker.processors.paypal.sandbox.server import PayPalServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
# Statuses of errors that a planned fault `issue:NAME` names, where it is not 400.
STATUS_OF_NAME = {
    "INSUFFICIENT_FUNDS": 422,
    "AUTHORIZATION_ERROR": 403,
    "REQUIRED_SCOPE_MISSING": 403,
    "SENDER_ACCOUNT_UNVERIFIED": 403,
    "SENDER_EMAIL_UNCONFIRMED": 403,
    "SENDER_RESTRICTED": 403,
    "INVALID_RESOURCE_ID": 404,
    "PREVIOUS_REQUEST_IN_PROGRESS": 409,
    "RATE_LIMIT_VALIDATION_FAILURES": 429,
}
BUSY_SECONDS = 0.01


class PayoutCalls:
    """Answers the requests below /v1/payments."""

    def __init__(self, server: PayPalServer) -> None:
        self._server = server
        self._payouts = server.book.payouts
        self._running: set[str] = set()
        self._numbers = itertools.count(1)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_post("/v1/payments/payouts", self._answering(self._create))
        app.router.add_get("/v1/payments/payouts/{id}", self._answering(self._batch))
        app.router.add_get("/v1/payments/payouts-item/{id}", self._answering(self._item))
        app.router.add_post("/v1/payments/payouts-item/{id}/cancel", self._answering(self._cancel))

    def settle(self) -> None:
        """Do what is due by now, with its events. Any thread may call it."""
        for changed in self._payouts.settle():
            self.changed(changed)

    def changed(self, changed: Change) -> None:
        """Send an event about a batch or an item, if there is one for its status. Any thread may call it."""
        event = self.event(changed)
        if event is not None:
            self._server.send(*event)

    def event(self, changed: Change, kind: str | None = None) -> tuple[str, str, bytes] | None:
        """Return kind, id and body of an event about a batch or an item as it is now, None if there is no such event.

        An event about a batch has no item in it.
        """
        at, number = self._payouts.now(), next(self._numbers)
        if isinstance(changed, Batch):
            kind = kind or BATCH_KINDS.get(changed.status)
            resource, resource_type = {"batch_header": batch_header(changed)}, "payouts"
        else:
            kind = kind or (CANCELED if changed.canceled else ITEM_KINDS.get(changed.status))
            batch = self._payouts.batches[changed.batch_id]
            resource, resource_type = item_json(batch, changed, self._server.url), "payouts_item"
        return None if kind is None else (kind, *payout_event(kind, resource_type, resource, number, at))

    def change(self, item_id: str, status: str, error: str | None = None) -> Item:
        """Give an item another status, with its event. Raises `KeyError`."""
        changed = self._payouts.change(item_id, status, error)
        self.changed(changed)
        return changed

    def end(self, batch_id: str, status: str) -> Batch:
        """Deny or cancel a batch, with its events. Raises `KeyError`."""
        ended = self._payouts.end(batch_id, status)
        changes: list[Change] = [*self._payouts.listed(ended), ended]
        for changed in changes:
            self.changed(changed)
        return ended

    def _answering(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if not self._server.is_known(request):
                return invalid_token()
            self.settle()
            try:
                return await handler(request)
            except PayoutRefusal as refusal:
                return refused(refusal)
            except Refusal as planned:
                return refused(PayoutRefusal(STATUS_OF_NAME.get(planned.issue, 400), planned.issue))

        return answer

    async def _create(self, request: web.Request) -> web.StreamResponse:
        key, text = request.headers.get("PayPal-Request-Id", secrets.token_hex(8)), await request.text()
        try:
            asked = json.loads(text)
        except ValueError:
            raise invalid("", "The request is no JSON") from None
        if key in self._running:
            raise Refusal("PREVIOUS_REQUEST_IN_PROGRESS")
        fault = self._server.book.next_payout_fault()
        if is_not_executed(fault):
            return not_executed(request, fault)
        self._running.add(key)
        try:
            await asyncio.sleep(BUSY_SECONDS)  # a request takes a moment: others under its key meet it
            batch = self._payouts.create(key, asked, self._server.url)
        finally:
            self._running.discard(key)
        answer = created_json(batch, self._server.url)
        if fault not in ("", "pending", "minimal"):
            return await broken_answer(request, fault, answer)
        return _json(answer, 201)

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        planned = self._server.book.faults[PAYOUT_READINGS]
        fault = planned.popleft() if planned else ""
        if is_not_executed(fault):
            return not_executed(request, fault)
        batch = self._payouts.batch(request.match_info["id"])
        page, size = _number(request, "page", 1), _number(request, "page_size", PAGE_SIZE_MAX)
        total = request.query.get("total_required") == "true"
        items = self._payouts.listed(batch)
        answer = batch_json(batch, items, self._server.url, page=page, size=size, total=total)
        return await broken_answer(request, fault, answer) if fault else _json(answer)

    async def _item(self, request: web.Request) -> web.StreamResponse:
        item = self._payouts.item(request.match_info["id"])
        return _json(item_json(self._payouts.batch(item.batch_id), item, self._server.url))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        fault = self._server.book.next_payout_fault()
        if is_not_executed(fault):
            return not_executed(request, fault)
        item = self._payouts.cancel(request.match_info["id"])
        self.changed(item)
        answer = item_json(self._payouts.batch(item.batch_id), item, self._server.url)
        return await broken_answer(request, fault, answer) if fault else _json(answer)


def refused(refusal: PayoutRefusal) -> web.Response:
    """Return the answer to a request that is refused."""
    debug_id = secrets.token_hex(7)
    body = {
        "name": refusal.name,
        "message": refusal.message,
        "debug_id": debug_id,
        "information_link": ERRORS_PAGE,
        "details": refusal.details,
        "links": [],
    }
    return web.json_response(body, status=refusal.status, headers={"PayPal-Debug-Id": debug_id})


def _json(answer: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(answer, status=status, headers={"PayPal-Debug-Id": secrets.token_hex(7)})


def _number(request: web.Request, name: str, default: int) -> int:
    """Return a number of the query. Raises `PayoutRefusal`."""
    text = request.query.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= PAGE_SIZE_MAX:
        raise invalid(name, "The value is not between 1 and 1000")
    return int(text)
