"""Stripe's rules for refunds. Decisions are pure: they read the book and return the records that would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.book import later
from refund_worker.processors.sandbox.connect import HOLD, account_without_money, needs_of, refusal_of, shares_of
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.form import Params, boolean_of, integer_of, metadata_of, refuse_unknown, text_of
from refund_worker.processors.sandbox.records import NO_SHARES, VOID_STATUSES, Payment, Refund, Shares
from refund_worker.processors.sandbox.refund_objects import destination_details, next_action, with_reference

CREATE_PARAMS = frozenset(
    {
        *("amount", "charge", "currency", "customer", "expand", "instructions_email", "metadata", "origin"),
        *("payment_intent", "reason", "refund_application_fee", "reverse_transfer"),
    }
)
REASONS = frozenset({"duplicate", "fraudulent", "requested_by_customer"})
REQUIRES_ACTION = "requires_action"
# A refund in one of these states has taken its money from our account.
MONEY_MOVED = frozenset({"succeeded", "pending"})
# Payment methods without native refunds can take long. Stripe's `pending_reason` names the cause.
PENDING_REASON, CHARGE_PENDING, INSUFFICIENT_FUNDS = "processing", "charge_pending", "insufficient_funds"
# These wait before the money leaves our account.
MONEY_WAITS = frozenset({CHARGE_PENDING, INSUFFICIENT_FUNDS})


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """The checked parameters of a create request. `amount` None means the whole remaining amount."""

    reference: str
    param: str
    amount: int | None
    reason: str | None
    metadata: dict[str, str]
    instructions_email: str | None = None
    reverse_transfer: bool = False
    refund_application_fee: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a scripted refund: the refund gets this status `after_seconds` after the previous step.

    `set` has further fields of the refund object, exactly as they are to be shown.
    """

    status: str | None
    after_seconds: float = 0.0
    failure_reason: str | None = None
    pending_reason: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)

    def as_record(self) -> JsonObject:
        """Return the step as JSON."""
        return {name: value for name, value in asdict(self).items() if value or name == "status"}


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
    email = text_of(params, "instructions_email")
    if email is not None and not 0 < email.find("@") < len(email) - 1:
        raise StripeError(400, f"Invalid email address: {email[:40]}", "email_invalid", "instructions_email")
    return CreateRequest(
        reference,
        "charge" if charge is not None else "payment_intent",
        None if amount is None else integer_of(amount, "amount", least=1),
        reason,
        {key: value for key, value in (metadata_of(params) or {}).items() if value},
        email,
        **{name: boolean_of(params, name) for name in ("reverse_transfer", "refund_application_fee")},
    )


def decide_create(
    book: AccountBook,
    request: CreateRequest,
    key: str | None,
    balance: Mapping[str, int],
    life: tuple[Step, ...] | None = None,
    *,
    created: int | None = None,
) -> Decision:
    """Create a refund, with a scripted `life` or as its payment's method does it.

    `balance` limits the refunds of a currency together, unless the ledger has a policy for it; a currency that is not
    named has no limit. `created` is in epoch seconds; the default is now.

    Raises `StripeError` (executed): resource_missing, charge_disputed, charge_already_refunded, an amount above the
    remaining one (param amount, no code), balance_insufficient, and what `shares_of` refuses.
    """
    payment = _payment_for(book, request)
    amount = _amount_for(payment, request)
    shares = shares_of(
        payment,
        amount,
        reverse_transfer=request.reverse_transfer,
        refund_application_fee=request.refund_application_fee,
    )
    life = life or _life_of(payment)
    if life[0].status not in VOID_STATUSES:
        life = _paid(book, payment, amount, shares, balance, life)
    refund = _new_refund(book, payment, amount, request, life[0])
    refund["created"] = refund["created"] if created is None else created
    if shares.transfer:
        refund["transfer_reversal"] = book.new_id("trr", refund["id"])
    record: JsonObject = {"kind": "refund", "refund": refund, "key": key}
    if shares != NO_SHARES:
        record["shares"] = asdict(shares)
    records: list[JsonObject] = [record, *_expiry(refund, payment)]
    due = book.now()
    for step in life[1:]:
        due += step.after_seconds
        records.append(scheduled_move(due, refund["id"], step))
    notices = [Notice("refund.created", refund["id"])]
    if refund["status"] in VOID_STATUSES:
        notices.append(Notice("refund.failed" if refund["status"] == "failed" else "refund.updated", refund["id"]))
    else:
        notices.append(Notice("charge.refunded", refund["id"]))
    return Decision(tuple(records), refund, tuple(notices))


def _paid(
    book: AccountBook,
    payment: Payment,
    amount: int,
    shares: Shares,
    balance: Mapping[str, int],
    life: tuple[Step, ...],
) -> tuple[Step, ...]:
    """Return the refund's life, or that of one which waits for money. Raise `StripeError` if it is refused for it."""
    currency = payment.currency
    limit = None if book.account or currency in book.ledger.policies else balance.get(currency)
    poor = account_without_money(book, currency, needs_of(book, payment, amount, shares))
    if limit is not None and book.refunded.get(currency, 0) + amount > limit:
        poor = book
    if poor is None:
        return life
    if poor.ledger.policies.get(currency) != HOLD:
        raise refusal_of(poor, book)
    return (Step("pending", pending_reason=INSUFFICIENT_FUNDS),)


def scheduled_move(due: float, refund_id: str, step: Step) -> JsonObject:
    """Return the record of a step that the refund takes later."""
    return later(due, {"do": "move", "id": refund_id, **step.as_record()})


def _life_of(payment: Payment) -> tuple[Step, ...]:
    """Return the steps of a refund of this payment if no rule scripts it."""
    if payment.status == "pending":
        return (Step("pending", pending_reason=CHARGE_PENDING),)
    return (Step(REQUIRES_ACTION),) if payment.customer_must_act else SUCCEEDS_AT_ONCE


def _payment_for(book: AccountBook, request: CreateRequest) -> Payment:
    payment = book.find_payment(request.reference)
    if payment is None or (request.param == "charge") == request.reference.startswith("pi_"):
        raise missing(request.param, request.reference, request.param)
    if payment.status == "failed":
        message = f"Charge {payment.charge_id} failed: there is no successful charge to refund."
        raise StripeError(400, message, param=request.param, executed=True)
    if payment.captured == 0:
        raise StripeError(400, f"Charge {payment.charge_id} has not been captured.", param="charge", executed=True)
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


def _new_refund(book: AccountBook, payment: Payment, amount: int, request: CreateRequest, first: Step) -> JsonObject:
    name = (payment.id, len(payment.refunds))
    status = first.status
    pending_reason = (first.pending_reason or PENDING_REASON) if status == "pending" else None
    waits = pending_reason in MONEY_WAITS
    refund: JsonObject = {
        "id": book.new_id("re", *name),
        "object": "refund",
        "amount": amount,
        "balance_transaction": book.new_id("txn", *name) if status in MONEY_MOVED and not waits else None,
        "charge": payment.charge_id,
        "created": int(book.now()),
        "currency": payment.currency,
        "destination_details": destination_details(payment, status),
        "failure_balance_transaction": None,
        "failure_reason": (first.failure_reason or "unknown") if status == "failed" else None,
        "metadata": request.metadata,
        "payment_intent": payment.payment_intent_id,
        "pending_reason": pending_reason,
        "reason": request.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
    if request.instructions_email is not None:
        refund["instructions_email"] = request.instructions_email
    if status == REQUIRES_ACTION:
        refund["next_action"] = _action(book, payment, refund)
    return {**refund, **first.set}


def _action(book: AccountBook, payment: Payment, refund: JsonObject) -> JsonObject:
    return next_action(refund.get("instructions_email") or payment.email, book.now(), payment.action_seconds)


def _expiry(refund: JsonObject, payment: Payment) -> tuple[JsonObject, ...]:
    """Return the record that lets a refund expire if the customer does not act in time."""
    if refund["status"] != REQUIRES_ACTION:
        return ()
    details = (refund.get("next_action") or {}).get("display_details") or {}
    expires_at = details.get("expires_at", refund["created"] + payment.action_seconds)
    return (later(expires_at, {"do": "expire", "id": refund["id"]}),)


def decide_update(refund: Refund, params: Params) -> Decision:
    """Change metadata: given keys are set, a key sent empty is removed, `metadata=` alone removes all."""
    sent = metadata_of(params)
    if sent is None:
        return Decision((), refund.object)
    return decide_edit(refund, {**refund.object["metadata"], **sent} if sent else {})


def decide_edit(refund: Refund, metadata: Mapping[str, str]) -> Decision:
    """Replace the refund's metadata. A key with an empty value is removed."""
    return _changed(refund, {"metadata": {key: text for key, text in metadata.items() if text}}, ("refund.updated",))


def decide_cancel(refund: Refund) -> Decision:
    """Cancel a refund that waits for the customer. Raise `StripeError` (400, executed) in any other state."""
    status = refund.object["status"]
    if status != REQUIRES_ACTION:
        message = f"A refund can only be canceled in requires_action; this one is {status}."
        raise StripeError(400, message, param="status", executed=True)
    changes = {"status": "canceled", "pending_reason": None, "next_action": None}
    return _changed(refund, changes, ("refund.updated",))


def decide_move(book: AccountBook, refund: Refund, step: Step, at: float | None = None) -> Decision:
    """Move a refund to the status of the step, as banks and customers do. `at` is when, by default now.

    Raise `StripeError` (400) if it already failed or was canceled.
    """
    if refund.void:
        raise StripeError(400, f"The refund is {refund.object['status']}; nothing comes after that.", param="status")
    status, payment = step.status, book.payment_of(refund)
    changes: JsonObject = {
        "status": status,
        "pending_reason": (step.pending_reason or PENDING_REASON) if status == "pending" else None,
    }
    if status == "failed":
        changes["failure_reason"] = step.failure_reason or "unknown"
    if status in VOID_STATUSES and refund.object["balance_transaction"] is not None:
        changes["failure_balance_transaction"] = book.new_id("txn", refund.id, "failure")
    if status in MONEY_MOVED:
        changes["destination_details"] = destination_details(payment, status)
        if refund.object["balance_transaction"] is None and changes["pending_reason"] not in MONEY_WAITS:
            changes["balance_transaction"] = book.new_id("txn", refund.id)
    if status == REQUIRES_ACTION:
        changes["next_action"] = _action(book, payment, refund.object)
    elif refund.object.get("next_action") is not None:
        changes["next_action"] = None
    types = ("refund.updated", "refund.failed") if status == "failed" else ("refund.updated",)
    changes |= step.set
    return _changed(
        refund,
        changes,
        types,
        _expiry({**refund.object, **changes}, payment),
        second=int(book.now() if at is None else at),
    )


def decide_expiry(book: AccountBook, refund: Refund, at: float | None = None) -> Decision:
    """Let a refund expire whose customer did not act. `at` is when, by default now.

    Raises `StripeError` (400, executed) if it does not wait for the customer.
    """
    _check_waits_for_customer(refund)
    return decide_move(book, refund, Step("failed"), at)


def decide_customer_acts(book: AccountBook, refund: Refund, after_seconds: float) -> Decision:
    """Record that the customer gave bank details: the refund is pending, and succeeds `after_seconds` later.

    Raises `StripeError` (400) if the refund does not wait for the customer.
    """
    _check_waits_for_customer(refund)
    pending = decide_move(book, refund, Step("pending"))
    success = scheduled_move(book.now() + after_seconds, refund.id, Step("succeeded"))
    return Decision((*pending.records, success), pending.object, pending.notices)


def decide_reference(refund: Refund, reference: str | None = None) -> Decision:
    """Show the reference by which the bank finds the refund. Raise `StripeError` (400) if it has no destination."""
    details = refund.object["destination_details"]
    if not isinstance(details, dict) or details.get("type") not in details:
        raise StripeError(400, f"The refund is {refund.object['status']} and has no destination with a reference.")
    changes = {"destination_details": with_reference(refund.id, details, reference)}
    return _changed(refund, changes, ("refund.updated",))


def _check_waits_for_customer(refund: Refund) -> None:
    if refund.object["status"] != REQUIRES_ACTION:
        message = f"Only a refund in requires_action waits for the customer; this one is {refund.object['status']}."
        raise StripeError(400, message, param="status", executed=True)


def _changed(
    refund: Refund,
    changes: JsonObject,
    types: tuple[str, ...],
    more: tuple[JsonObject, ...] = (),
    *,
    second: int | None = None,
) -> Decision:
    previous = {name: refund.object.get(name) for name in changes if refund.object.get(name) != changes[name]}
    record: JsonObject = {"kind": "changed", "id": refund.id, "set": changes}
    if second is not None:
        record["at"] = second
    notices = tuple(Notice(type, refund.id, previous) for type in types)
    return Decision((record, *more), {**refund.object, **changes}, notices)
