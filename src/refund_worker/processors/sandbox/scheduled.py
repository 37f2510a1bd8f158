"""Scheduled changes of an object: what banks, customers and clocks do to it later."""

from __future__ import annotations

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.charges import decide_move_charge
from refund_worker.processors.sandbox.decisions import Decision
from refund_worker.processors.sandbox.payouts import decide_scheduled_payout
from refund_worker.processors.sandbox.refunds import REQUIRES_ACTION, Step, decide_expiry, decide_move


def decide_scheduled(book: AccountBook, what: JsonObject, at: float) -> Decision | None:
    """Return the effect of a scheduled change that was due `at`, or None if something else happened first."""
    if what["do"] == "charge":
        payment = book.payments[what["id"]]
        if payment.status != "pending":
            return None
        return decide_move_charge(book, payment, what["status"], what.get("failure_code"), at)
    if what["do"] == "payout":
        return decide_scheduled_payout(book, what, at)
    refund = book.refunds[what["id"]]
    if refund.void:
        return None
    if what["do"] == "expire":
        return decide_expiry(book, refund, at) if refund.object["status"] == REQUIRES_ACTION else None
    step = {name: value for name, value in what.items() if name not in ("account", "do", "id")}
    return decide_move(book, refund, Step(**step), at)
