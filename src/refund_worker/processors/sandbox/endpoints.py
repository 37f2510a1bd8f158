"""The endpoints of Stripe's API: each checks its parameters and decides. No keys, no faults of the wire."""

from __future__ import annotations

from refund_worker.processors.sandbox.actions import Plan
from refund_worker.processors.sandbox.answers import missing
from refund_worker.processors.sandbox.book import Book
from refund_worker.processors.sandbox.calls import Call
from refund_worker.processors.sandbox.decisions import Decision
from refund_worker.processors.sandbox.disputes import decide_close
from refund_worker.processors.sandbox.faults import Faults
from refund_worker.processors.sandbox.form import expands, refuse_unknown
from refund_worker.processors.sandbox.listing import LISTS, list_objects
from refund_worker.processors.sandbox.records import Dispute, Payment, Refund
from refund_worker.processors.sandbox.refunds import (
    SUCCEEDS_AT_ONCE,
    charge_object,
    decide_cancel,
    decide_create,
    decide_update,
    payment_intent_object,
    read_create_request,
)


def validate(call: Call) -> None:
    """Raise `StripeError` (400, not executed) for parameters that this endpoint does not accept."""
    match call.route.path_kind:
        case "create":
            read_create_request(call.params)
        case "update":
            refuse_unknown(call.params, ("metadata", "expand"))
        case kind if kind in LISTS:
            pass  # checked while listing
        case _:
            refuse_unknown(call.params, ("expand",))


def decide(book: Book, faults: Faults, call: Call, plan: Plan) -> Decision:
    """Return the effect of a call and its answer. Raise `StripeError` if the call is refused."""
    kind, object_id = call.route.path_kind, call.route.object_id or ""
    match kind:
        case "create":
            life = plan.lifecycle or SUCCEEDS_AT_ONCE
            return decide_create(book, read_create_request(call.params), call.key, faults.balance, life)
        case "update":
            return decide_update(refund_named(book, object_id), call.params)
        case "cancel":
            return decide_cancel(refund_named(book, object_id))
        case "close_dispute":
            return decide_close(book, dispute_named(book, object_id))
        case "retrieve":
            return Decision((), refund_named(book, object_id).object)
        case "dispute":
            return Decision((), dispute_named(book, object_id).object)
        case "charge":
            return Decision((), charge_object(_payment(book, object_id, "charge")))
        case "payment_intent":
            payment = _payment(book, object_id, "payment_intent")
            return Decision((), payment_intent_object(payment, expanded=expands(call.params, "latest_charge")))
    lag = plan.list_lag_seconds
    if lag is None:
        lag = faults.list_lag_seconds if kind == "list" else 0.0
    return Decision((), list_objects(book, LISTS[kind], call.params, lag_seconds=lag, disorder=plan.pages))


def refund_named(book: Book, refund_id: str) -> Refund:
    """Return the refund. Raise `StripeError` (404 resource_missing) if it is unknown."""
    refund = book.refunds.get(refund_id)
    if refund is None:
        raise missing("refund", refund_id, "id")
    return refund


def dispute_named(book: Book, dispute_id: str) -> Dispute:
    """Return the dispute. Raise `StripeError` (404 resource_missing) if it is unknown."""
    dispute = book.disputes.get(dispute_id)
    if dispute is None:
        raise missing("dispute", dispute_id, "dispute")
    return dispute


def _payment(book: Book, reference: str, what: str) -> Payment:
    payment = book.find_payment(reference)
    if payment is None or (what == "charge") == reference.startswith("pi_"):
        raise missing(what, reference, "id")
    return payment
