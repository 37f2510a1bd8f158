"""The control endpoints about payouts, and what the book shows of them. `control.py` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from refund_worker.processors.paypal.sandbox.payout_shapes import batch_header, item_json
from refund_worker.processors.paypal.sandbox.payouts import STATUSES, Batch

if TYPE_CHECKING:
    from refund_worker.processors.paypal.sandbox.server import PayPalServer

ACTIONS = {"claim": "SUCCESS", "hold": "ONHOLD", "block": "BLOCKED", "return": "RETURNED", "reverse": "REVERSED"}


class PayoutControl:
    """The control endpoints about payouts."""

    def __init__(self, server: PayPalServer) -> None:
        self._server = server

    def expect(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        """Choose the status that the next items to a receiver get, and the error's name."""
        if asked["status"] not in STATUSES:
            raise KeyError(asked["status"])
        self._server.book.payouts.outcomes[str(asked["receiver"])] = asked["status"], asked.get("error")
        return {}

    def change_item(self, request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        """Give an item another status, by its name or by an action."""
        status = ACTIONS[asked["action"]] if "action" in asked else str(asked["status"])
        item = self._server.payouts.change(request.match_info["id"], status, asked.get("error"))
        return item_json(self._server.book.payouts.batches[item.batch_id], item, self._server.url)

    def end_batch(self, request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        """Deny or cancel a batch."""
        return batch_header(self._server.payouts.end(request.match_info["id"], asked["status"]))

    def send_event(self, _request: web.Request, asked: dict[str, Any]) -> dict[str, Any]:
        """Send one event about an item or a batch now, as it is."""
        payouts = self._server.book.payouts
        known = payouts.items.get(asked["id"]) or payouts.batches[asked["id"]]
        event = self._server.payouts.event(known, asked.get("kind"))
        if event is None:
            raise KeyError("kind")
        self._server.begin_event(*event)
        return {"event_id": event[1]}

    def set(self, asked: dict[str, Any]) -> None:
        """Change how the account pays out."""
        payouts = self._server.book.payouts
        payouts.seconds = float(asked.get("payout_seconds", payouts.seconds))
        payouts.remembers_request_ids = bool(asked.get("remembers_request_ids", payouts.remembers_request_ids))

    def book(self) -> dict[str, Any]:
        """Return the part of the book about payouts."""
        self._server.payouts.settle()
        payouts = self._server.book.payouts
        received = {
            receiver: {currency: str(amount) for currency, amount in amounts.items()}
            for receiver, amounts in payouts.received().items()
        }
        batches = [self._shown(batch) for batch in payouts.batches.values()]
        balance = {currency: str(amount) for currency, amount in self._server.book.balance.items()}
        return {"payouts": batches, "received": received, "balance": balance}

    def _shown(self, batch: Batch) -> dict[str, Any]:
        items = [item_json(batch, item, self._server.url) for item in batch.items]
        return batch_header(batch) | {"key": batch.key, "items": items}
