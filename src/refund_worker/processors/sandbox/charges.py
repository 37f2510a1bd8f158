"""Payments as Stripe shows them, the charge and its payment intent, and the rules by which a charge changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.book import later
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.fields import FIELDS
from refund_worker.processors.sandbox.records import Payment
from refund_worker.processors.sandbox.refunds import CHARGE_PENDING, Step, decide_move

# The optional fields of a registered payment, and what they are in `Payment`.
OPTIONS: Mapping[str, str] = {
    "action_seconds": "action_seconds",
    "application_fee_minor": "application_fee",
    "available_on": "available_on",
    "captured_minor": "captured",
    "created": "created",
    "customer": "customer",
    "customer_email": "email",
    "customer_must_act": "customer_must_act",
    "destination": "destination",
    "fee_minor": "fee",
    "intent_metadata": "intent_metadata",
    "livemode": "livemode",
    "metadata": "metadata",
    "payment_method": "method",
    "refund_type": "refund_type",
    "transfer_minor": "transfer",
}
# These connect a payment with another account.
CONNECTION = frozenset({"application_fee_minor", "destination", "transfer_minor"})
# A bank debit is pending for days, and then succeeds or fails.
PENDING, SUCCEEDED, FAILED = "pending", "succeeded", "failed"
FAILURE_CODE, FAILURE_MESSAGE = "insufficient_funds", "The payment failed."
# The payment intent's status and event for each status of its charge.
INTENT_STATUSES = {PENDING: "processing", SUCCEEDED: "succeeded", FAILED: "requires_payment_method"}
INTENT_EVENTS = {PENDING: "processing", SUCCEEDED: "succeeded", FAILED: "payment_failed"}


def options_of(fields: Mapping[str, Any], amount: int) -> JsonObject:
    """Return the optional fields of a payment as arguments of `Payment`. Raise `StripeError` (400) for a wrong one."""
    for name in OPTIONS.keys() & fields.keys():
        if not FIELDS[name].accepts(fields[name]):
            raise StripeError(400, f"{name} must be {FIELDS[name].takes}.", param=name)
    if fields.get("captured_minor", amount) > amount:
        raise StripeError(400, "captured_minor must not exceed amount_minor.", param="captured_minor")
    options: JsonObject = {OPTIONS[name]: value for name, value in fields.items() if name in OPTIONS}
    return options | _connection(fields, amount) if CONNECTION & fields.keys() else options


def _connection(fields: Mapping[str, Any], amount: int) -> JsonObject:
    """Check what connects the payment with another account, and return its transfer: the whole amount by default."""
    if "destination" not in fields and "account" not in fields:
        raise StripeError(
            400, "A transfer or an application fee needs a destination or an account.", param="destination"
        )
    if "account" in fields and ("destination" in fields or "transfer_minor" in fields):
        raise StripeError(400, "A charge of a connected account has no destination here.", param="destination")
    transfer = fields.get("transfer_minor", amount) if "destination" in fields else 0
    if transfer > amount or fields.get("application_fee_minor", 0) > amount:
        raise StripeError(400, "transfer_minor and application_fee_minor must not exceed amount_minor.")
    return {"transfer": transfer}


def decide_new_charge(book: AccountBook, fields: JsonObject) -> Decision:
    """Capture a new payment. Its fields are `payment` (its id), `amount_minor`, `currency`, and options.

    A pending charge can succeed or fail some seconds later. Raises `StripeError` (400) for a payment
    that exists.
    """
    payment_id = fields.get("payment") or book.new_id("ch", "new", len(book.payments))
    if "/" in payment_id or book.find_payment(payment_id) is not None:
        raise StripeError(400, f"{payment_id}: the id is taken, or contains a slash.", param="payment")
    amount, currency = fields["amount_minor"], fields["currency"].lower()
    record = {
        "kind": "payment",
        "id": payment_id,
        "amount": amount,
        "currency": currency,
        "disputed": False,
        "created": int(book.now()),
        "more": {**options_of(fields, amount), "status": fields.get("status", SUCCEEDED)},
    }
    payment = Payment.of_record(record)
    if payment.status not in INTENT_STATUSES:
        raise StripeError(400, "status must be succeeded, pending or failed.", param="status")
    records = [record]
    for name, status in (("succeeds_after_seconds", SUCCEEDED), ("fails_after_seconds", FAILED)):
        if name in fields:
            due = book.now() + fields[name]
            records.append(later(due, {"do": "charge", "id": payment_id, "status": status}))
    return Decision(tuple(records), _after(book, payment, {}), _notices(payment, payment.status))


def decide_move_charge(
    book: AccountBook, payment: Payment, status: str, failure_code: str | None = None, at: float | None = None
) -> Decision:
    """Let a charge succeed or fail, and with it the refunds that wait for it. A charge can fail after it succeeded.

    Raises `StripeError` (400) for another status, or the status that it has.
    """
    if status not in (SUCCEEDED, FAILED) or status == payment.status:
        message = f"A charge can become succeeded or failed; {payment.charge_id} is {payment.status}."
        raise StripeError(400, message, param="status")
    captured = 0 if status == FAILED else payment.captured or payment.amount
    changes: JsonObject = {"status": status, "captured": captured}
    if status == FAILED:
        changes["failure_code"] = failure_code or FAILURE_CODE
    records: list[JsonObject] = [_change(book, payment, changes, at)]
    notices = list(_notices(payment, status))
    for refund in payment.refunds:
        if refund.object["status"] == PENDING and refund.object["pending_reason"] == CHARGE_PENDING:
            moved = decide_move(book, refund, Step(status), at)
            records += moved.records
            notices += moved.notices
    return Decision(tuple(records), _after(book, payment, changes), tuple(notices))


def decide_capture(book: AccountBook, payment: Payment, captured: int | None) -> Decision:
    """Capture an authorized payment, in part if `captured` is less than its amount.

    Raises `StripeError` (400) if it is captured already, or for more than its amount.
    """
    amount = payment.amount if captured is None else captured
    if payment.captured or not 0 < amount <= payment.amount or payment.status != SUCCEEDED:
        message = (
            f"{payment.charge_id} is {payment.status}; {payment.captured} of {payment.amount} are captured."
            " Only an authorized charge without a capture can be captured."
        )
        raise StripeError(400, message, "charge_already_captured", "captured_minor")
    changes: JsonObject = {"captured": amount}
    notices = (Notice("charge.captured", payment.id), *_intent_notice(payment, SUCCEEDED))
    shown = _after(book, payment, changes)
    return Decision((_change(book, payment, changes, None),), shown, notices)


def _change(book: AccountBook, payment: Payment, changes: JsonObject, at: float | None) -> JsonObject:
    second = int(book.now() if at is None else at)
    return {"kind": "payment_changed", "id": payment.id, "set": changes, "at": second}


def _after(book: AccountBook, payment: Payment, changes: Mapping[str, Any]) -> JsonObject:
    after = replace(payment, **changes)
    if after.earns:
        after.transaction_id = book.charge_transaction_id(payment.id)
    return charge_object(after)


def _notices(payment: Payment, status: str) -> tuple[Notice, ...]:
    return (Notice(f"charge.{status}", payment.id), *_intent_notice(payment, status))


def _intent_notice(payment: Payment, status: str) -> tuple[Notice, ...]:
    if payment.payment_intent_id is None:
        return ()
    return (Notice(f"payment_intent.{INTENT_EVENTS[status]}", payment.id),)


def charge_object(payment: Payment) -> JsonObject:
    """Return the payment as Stripe's charge object, without its list of refunds."""
    failed = payment.status == FAILED
    transfer = {"amount": payment.transfer, "destination": payment.destination} if payment.destination else None
    return {
        "id": payment.charge_id,
        "object": "charge",
        "amount": payment.amount,
        "amount_captured": payment.captured,
        "amount_refunded": payment.refunded,
        "application_fee_amount": payment.application_fee or None,
        "balance_transaction": payment.transaction_id,
        "billing_details": {"email": payment.email},
        "captured": payment.captured > 0,
        "created": payment.created,
        "currency": payment.currency,
        "customer": payment.customer,
        "disputed": payment.disputed,
        "failure_code": payment.failure_code if failed else None,
        "failure_message": FAILURE_MESSAGE if failed else None,
        "livemode": payment.livemode,
        "metadata": payment.metadata,
        "paid": not failed,
        "payment_intent": payment.payment_intent_id,
        "payment_method_details": {"type": payment.method, payment.method: {}},
        "refunded": payment.captured > 0 and payment.refundable == 0,
        "status": payment.status,
        "transfer_data": transfer,
    }


def payment_intent_object(payment: Payment) -> JsonObject:
    """Return the payment as Stripe's payment intent object, with the id of its charge."""
    to_capture = payment.status == SUCCEEDED and not payment.captured
    return {
        "id": payment.id,
        "object": "payment_intent",
        "amount": payment.amount,
        "amount_capturable": payment.amount if to_capture else 0,
        "amount_received": payment.captured if payment.status == SUCCEEDED else 0,
        "capture_method": "manual" if payment.captured < payment.amount else "automatic",
        "confirmation_method": "automatic",
        "created": payment.created,
        "currency": payment.currency,
        "customer": payment.customer,
        "latest_charge": payment.charge_id,
        "livemode": payment.livemode,
        "metadata": payment.intent_metadata,
        "payment_method_types": [payment.method],
        "status": "requires_capture" if to_capture else INTENT_STATUSES[payment.status],
    }
