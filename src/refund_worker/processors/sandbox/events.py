"""Webhook events as Stripe builds them."""

from __future__ import annotations

from dataclasses import dataclass

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.charges import charge_object, payment_intent_object
from refund_worker.processors.sandbox.decisions import Notice
from refund_worker.processors.sandbox.fraud_warnings import warning_object
from refund_worker.processors.sandbox.payees import account_object
from refund_worker.processors.sandbox.records import Payment
from refund_worker.processors.sandbox.transfers import transfer_object

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True, slots=True)
class Topic:
    """The object of an event as it is now, the payment that it belongs to if there is one, and the request's key."""

    object: JsonObject
    payment: Payment | None = None
    idempotency_key: str | None = None


def topic_of(book: AccountBook, notice: Notice) -> Topic:
    """Return what the event is about."""
    match notice.type.split("."):
        case ["charge", "dispute", _]:
            dispute = book.disputes[notice.object_id]
            return Topic(dispute.object, book.payment_of(dispute))
        case ["radar", *_]:
            warning = book.warnings[notice.object_id]
            return Topic(warning_object(book, warning), book.payment_of(warning))
        case ["charge", what] if what != "refunded":
            payment = book.payments[notice.object_id]
            return Topic(charge_object(payment), payment)
        case ["payment_intent", _]:
            payment = book.payments[notice.object_id]
            return Topic(payment_intent_object(payment), payment)
        case ["transfer", _]:
            transfer = book.transfers[notice.object_id]
            return Topic(transfer_object(transfer), idempotency_key=transfer.idempotency_key)
        case ["payout", _]:
            payout = book.payouts[notice.object_id]
            return Topic(payout.object, idempotency_key=payout.idempotency_key)
        case ["account", _]:
            return Topic(account_object(book))
        case _:
            refund = book.refunds[notice.object_id]
            payment = book.payment_of(refund)
            shown = charge_object(payment) if notice.type == "charge.refunded" else refund.object
            return Topic(shown, payment, refund.idempotency_key)


def event_object(book: AccountBook, notice: Notice, topic: Topic, number: int) -> JsonObject:
    """Return the event, the object's event of this `number` since the start of the sandbox.

    Its id depends on the time too: a restart counts from one again, and a receiver drops an id that it has seen.
    """
    data: JsonObject = {"object": topic.object}
    if notice.previous is not None and notice.type.endswith(".updated"):
        data["previous_attributes"] = notice.previous
    return {
        **({"account": book.account} if book.account else {}),
        "id": book.new_id("evt", notice.object_id, notice.type, topic.object.get("status"), number, book.now()),
        "object": "event",
        "api_version": API_VERSION,
        "created": int(book.now()),
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": topic.idempotency_key},
        "type": notice.type,
    }
