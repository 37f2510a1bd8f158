"""Stripe's rules for refunds. Decisions are pure: they read the book and return the records that would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.book import Book, later
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.form import Params, integer_of, metadata_of, refuse_unknown, text_of
from refund_worker.processors.sandbox.records import VOID_STATUSES, Payment, Refund

CREATE_PARAMS = frozenset(
    {
        *("amount", "charge", "currency", "customer", "expand", "instructions_email", "metadata", "origin"),
        *("payment_intent", "reason", "refund_application_fee", "reverse_transfer"),
    }
)
REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer"})
# Payment methods without native refunds can take long. Stripe's `pending_reason` names the cause.
PENDING_REASON = "processing"


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """The checked parameters of a create request. `amount` None means the whole remaining amount."""

    reference: str
    param: str
    amount: int | None
    reason: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a scripted refund: the refund gets this status `after_seconds` after the previous step."""

    status: str | None
    after_seconds: float = 0.0
    failure_reason: str | None = None


SUCCEEDS_AT_ONCE = (Step("succeeded"),)


def read_create_request(params: Params) -> CreateRequest:
    """Check the parameters of a create request. Raise `StripeError` (400, not executed) if they are malformed."""
    refuse_unknown(params, CREATE_PARAMS)
    charge, intent = text_of(params, "charge"), text_of(params, "payment_intent")
    if charge is not None and intent is not None:
        raise StripeError(400, "Send either charge or payment_intent, not both.")
    reference = charge if charge is not None else intent
    if reference is None:
        raise StripeError(400, "One of charge or payment_intent is needed.", "parameter_missing")
    amount = text_of(params, "amount")
    reason = text_of(params, "reason")
    if reason is not None and reason not in REASONS:
        raise StripeError(400, f"Invalid reason: {reason[:40]}", param="reason")
    return CreateRequest(
        reference,
        "charge" if charge is not None else "payment_intent",
        None if amount is None else integer_of(amount, "amount", least=1),
        reason,
        {key: value for key, value in (metadata_of(params) or {}).items() if value},
    )


def decide_create(
    book: Book,
    request: CreateRequest,
    key: str | None,
    balance: Mapping[str, int],
    life: tuple[Step, ...] = SUCCEEDS_AT_ONCE,
) -> Decision:
    """Create a refund.

    `balance` is the account's initial balance by currency; a currency that is not named has no limit.

    Raises `StripeError` (executed): resource_missing, charge_disputed, charge_already_refunded, an amount above the
    remaining one (param amount, no code), balance_insufficient.
    """
    payment = _payment_for(book, request)
    amount = _amount_for(payment, request)
    limit = balance.get(payment.currency)
    if limit is not None and book.refunded.get(payment.currency, 0) + amount > limit:
        raise StripeError(400, "The account's balance is too small.", "balance_insufficient", executed=True)
    refund = _new_refund(book, payment, amount, request, life[0])
    records: list[JsonObject] = [{"kind": "refund", "refund": refund, "key": key}]
    due = book.now()
    for step in life[1:]:
        due += step.after_seconds
        move = {"do": "move", "id": refund["id"], "status": step.status, "failure_reason": step.failure_reason}
        records.append(later(due, move))
    notices = [Notice("refund.created", refund["id"])]
    if refund["status"] in VOID_STATUSES:
        notices.append(Notice("refund.failed" if refund["status"] == "failed" else "refund.updated", refund["id"]))
    else:
        notices.append(Notice("charge.refunded", refund["id"]))
    return Decision(tuple(records), refund, tuple(notices))


def _payment_for(book: Book, request: CreateRequest) -> Payment:
    payment = book.find_payment(request.reference)
    if payment is None or (request.param == "charge") == request.reference.startswith("pi_"):
        raise missing(request.param, request.reference, request.param)
    if payment.closed_to_refunds:
        raise StripeError(400, f"Charge {payment.charge_id} is disputed.", "charge_disputed", executed=True)
    return payment


def _amount_for(payment: Payment, request: CreateRequest) -> int:
    if payment.refundable == 0:
        message = f"Charge {payment.charge_id} has already been refunded."
        raise StripeError(400, message, "charge_already_refunded", executed=True)
    amount = payment.refundable if request.amount is None else request.amount
    if amount > payment.refundable:
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({payment.refundable})"
        raise StripeError(400, message, param="amount", executed=True)
    return amount


def _new_refund(book: Book, payment: Payment, amount: int, request: CreateRequest, first: Step) -> JsonObject:
    name = (payment.id, len(payment.refunds))
    status = first.status
    return {
        "id": book.new_id("re", *name),
        "object": "refund",
        "amount": amount,
        "balance_transaction": book.new_id("txn", *name) if status in ("succeeded", "pending") else None,
        "charge": payment.charge_id,
        "created": int(book.now()),
        "currency": payment.currency,
        "destination_details": None,
        "failure_balance_transaction": None,
        "failure_reason": (first.failure_reason or "unknown") if status == "failed" else None,
        "metadata": request.metadata,
        "payment_intent": payment.payment_intent_id,
        "pending_reason": PENDING_REASON if status == "pending" else None,
        "reason": request.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }


def decide_update(refund: Refund, params: Params) -> Decision:
    """Change metadata: given keys are set, a key sent empty is removed, `metadata=` alone removes all."""
    sent = metadata_of(params)
    if sent is None:
        return Decision((), refund.object)
    merged = {**refund.object["metadata"], **sent} if sent else {}
    return _changed(refund, {"metadata": {key: value for key, value in merged.items() if value}}, ("refund.updated",))


def decide_cancel(refund: Refund) -> Decision:
    """Cancel a refund that waits for the customer. Raise `StripeError` (400, executed) in any other state."""
    status = refund.object["status"]
    if status != "requires_action":
        message = f"A refund can only be canceled in requires_action; this one is {status}."
        raise StripeError(400, message, param="status", executed=True)
    return _changed(refund, {"status": "canceled", "pending_reason": None}, ("refund.updated",))


def decide_move(book: Book, refund: Refund, status: str | None, failure_reason: str | None) -> Decision:
    """Move a refund to `status`, as banks and customers do.

    Raise `StripeError` (400) if it already failed or was canceled.
    """
    if refund.void:
        raise StripeError(400, f"The refund is {refund.object['status']}; nothing comes after that.", param="status")
    changes: JsonObject = {"status": status, "pending_reason": PENDING_REASON if status == "pending" else None}
    if status == "failed":
        changes["failure_reason"] = failure_reason or "unknown"
        changes["failure_balance_transaction"] = book.new_id("txn", refund.object["id"], "failure")
    if status == "succeeded" and refund.object["balance_transaction"] is None:
        changes["balance_transaction"] = book.new_id("txn", refund.object["id"])
    types = ("refund.updated", "refund.failed") if status == "failed" else ("refund.updated",)
    return _changed(refund, changes, types)


def _changed(refund: Refund, changes: JsonObject, types: tuple[str, ...]) -> Decision:
    refund_id = refund.object["id"]
    previous = {name: refund.object[name] for name in changes if refund.object[name] != changes[name]}
    record = {"kind": "changed", "id": refund_id, "set": changes}
    notices = tuple(Notice(type, refund_id, previous) for type in types)
    return Decision((record,), {**refund.object, **changes}, notices)


def charge_object(payment: Payment) -> JsonObject:
    """Return the payment as Stripe's charge object, without its list of refunds."""
    return {
        "id": payment.charge_id,
        "object": "charge",
        "amount": payment.amount,
        "amount_captured": payment.captured,
        "amount_refunded": payment.refunded,
        "captured": True,
        "currency": payment.currency,
        "disputed": payment.disputed,
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_intent": payment.payment_intent_id,
        "refunded": payment.refundable == 0,
        "status": "succeeded",
    }


def payment_intent_object(payment: Payment, *, expanded: bool = False) -> JsonObject:
    """Return the payment as Stripe's payment intent object. If `expanded`, it has the whole charge, not its id."""
    return {
        "id": payment.id,
        "object": "payment_intent",
        "amount": payment.amount,
        "amount_received": payment.captured,
        "currency": payment.currency,
        "latest_charge": charge_object(payment) if expanded else payment.charge_id,
        "livemode": False,
        "metadata": {},
        "status": "succeeded",
    }
