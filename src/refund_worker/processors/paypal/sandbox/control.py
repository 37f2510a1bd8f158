"""The sandbox's own endpoints, by which other programs drive it with JSON. They need no token: it is for tests only.

| request | effect |
|---|---|
| POST /_control/orders {amount, currency, disputed?, state?, reason?, without_order?} | capture a payment: its ids |
| POST /_control/faults {fault, capture_id?, times?} | the next refunds meet a fault: of a capture, or of any |
| POST /_control/faults {chances, seed?} | each other refund meets a fault by chance: {"reset": 0.02} |
| DELETE /_control/faults | end all faults |
| POST /_control/refunds {capture_id, amount} | refund as a person does in the dashboard |
| POST /_control/refunds/ID {status, reason?} | give a refund another status: FAILED, COMPLETED, CANCELLED, PENDING |
| POST /_control/captures/ID {disputed?, state?, reason?} | open a dispute, or change the state of a capture |
| POST /_control/webhooks {url, webhook_id?} | send an event for every change from now on, signed; url null: stop |
| POST /_control/events {refund_id, kind?} | send one event about a refund now, as it is |
| POST /_control/receivers {receiver, status, error?} | the next payouts to a receiver get a status: UNCLAIMED, … |
| POST /_control/items/ID {status or action, error?} | change a payout: claim, hold, block, return, reverse |
| POST /_control/batches/ID {status} | end a batch of payouts: DENIED, CANCELED |
| POST /_control/payout_events {id, kind?} | send one event about a payout or a batch now, as it is |
| POST /_control/clock {seconds} | let time pass: unclaimed payouts return after 30 days |
| POST /_control/settings {balance?, lag_seconds?, token_seconds?, revoke_tokens?, token_fault?} | change the account |
| POST /_control/settings {payout_seconds?, remembers_request_ids?} | change how it pays out |
| GET /_control/book | the book: captures, refunds, payouts, what receivers got, keys, events and their answers |

`book.FAULTS` lists the faults. With the capture "payouts" or "payout readings" they are met by requests for payouts,
or by readings of batches. A request that is not understood gets a 400 that says why.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from aiohttp import web

from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET
from refund_worker.processors.paypal.sandbox.payout_control import PayoutControl
from refund_worker.processors.paypal.sandbox.shapes import capture_json, refund_json

if TYPE_CHECKING:
    from refund_worker.processors.paypal.sandbox.server import PayPalServer

Door = Callable[[web.Request, dict[str, Any]], dict[str, Any]]


class Control:
    """Answers the requests below /_control."""

    def __init__(self, server: PayPalServer) -> None:
        self._server = server
        self._payouts = PayoutControl(server)

    def add_routes(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get("/_control/book", _answering(self._book))
        app.router.add_delete("/_control/faults", _answering(self._end_faults))
        doors: dict[str, Door] = {
            "orders": self._capture,
            "faults": self._plan_faults,
            "refunds": self._refund,
            "refunds/{id}": self._change,
            "captures/{id}": self._dispute,
            "webhooks": self._send_webhooks,
            "events": self._send_event,
            "receivers": self._payouts.expect,
            "items/{id}": self._payouts.change_item,
            "batches/{id}": self._payouts.end_batch,
            "payout_events": self._payouts.send_event,
            "clock": self._advance,
            "settings": self._set,
        }
        for name, door in doors.items():
            app.router.add_post(f"/_control/{name}", _answering(door))

    def _capture(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        made = self._server.book.new_capture(
            str(asked["amount"]),
            asked.get("currency", "GBP"),
            order_id=None if asked.get("without_order") else asked.get("order_id", ""),
            disputed=asked.get("disputed", ""),
            state=asked.get("state", ""),
            reason=asked.get("reason"),
        )
        return {"capture_id": made.capture_id, "order_id": made.order_id}

    def _plan_faults(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        book = self._server.book
        if "chances" in asked:
            chances = {str(name): float(chance) for name, chance in asked["chances"].items()}
            book.check_faults(chances)
            book.chances, book.dice = chances, random.Random(asked.get("seed", 1))  # noqa: S311
            return {}
        book.check_faults([asked["fault"]])
        book.faults[asked.get("capture_id", "")].extend([asked["fault"]] * int(asked.get("times", 1)))
        return {}

    def _end_faults(self, _request: web.Request, _asked: dict[str, Any]) -> dict[str, Any]:
        self._server.book.faults.clear()
        self._server.book.chances.clear()
        return {}

    def _refund(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        made = self._server.refund_elsewhere(asked["capture_id"], str(asked["amount"]))
        return refund_json(made, self._server.url)

    def _change(self, request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        changed = self._server.change(request.match_info["id"], asked["status"], asked.get("reason"))
        return refund_json(changed, self._server.url)

    def _dispute(self, request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        changed = {name: asked[name] for name in ("disputed", "state", "reason") if name in asked}
        capture = self._server.book.change_capture(request.match_info["id"], **changed)
        return capture_json(self._server.book, capture, self._server.url)

    def _send_webhooks(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        self._server.webhook_url = asked["url"]
        self._server.webhook_id = asked.get("webhook_id", self._server.webhook_id)
        return {"webhook_id": self._server.webhook_id}

    def _send_event(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        refund = self._server.book.refunds[asked["refund_id"]]
        return {"event_id": self._server.send_event(refund, asked.get("kind"))}

    def _advance(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        self._server.book.clock_offset += float(asked["seconds"])
        self._server.payouts.settle()
        return {"now": self._server.book.now()}

    def _set(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        server = self._server
        if "balance" in asked:
            server.book.balance = {name: Decimal(str(value)) for name, value in (asked["balance"] or {}).items()}
        server.book.lag_seconds = float(asked.get("lag_seconds", server.book.lag_seconds))
        server.token_seconds = float(asked.get("token_seconds", server.token_seconds))
        server.token_fault = asked.get("token_fault", server.token_fault)
        if asked.get("revoke_tokens"):
            server.revoke_tokens()
        self._payouts.set(asked)
        return {}

    def _book(self, _request: web.Request, _asked: dict[str, Any]) -> dict[str, Any]:
        server, book = self._server, self._server.book
        return self._payouts.book() | {
            "url": server.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "webhook_id": server.webhook_id,
            "now": book.now(),
            "captures": [capture_json(book, each, server.url) for each in book.captures.values()],
            "refunds": [
                refund_json(each, server.url) | {"capture_id": each.capture.capture_id}
                for each in book.refunds.values()
            ],
            "keys": {key: stored.refund and stored.refund.refund_id for key, stored in book.keys.items()},
            "events": [{"kind": e.kind, "event_id": e.event_id, "answers": e.answers} for e in server.events],
            "token_requests": server.token_requests,
            "verifications": server.verifications,
        }


def _answering(door: Door) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of a door: it reads the JSON that is sent, and says why a request is refused."""

    async def answer(request: web.Request) -> web.Response:
        try:
            asked = await request.json() if request.can_read_body else {}
            return web.json_response(door(request, asked))
        except KeyError as missing:
            return _refused(f"{missing} is missing or unknown")
        except (ValueError, TypeError, AttributeError, InvalidOperation) as wrong:
            return _refused(str(wrong))

    return answer


def _refused(why: str) -> web.Response:
    return web.json_response({"error": {"message": why}}, status=400)
