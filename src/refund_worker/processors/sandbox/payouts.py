"""Stripe's rules for payouts to a bank. Pure decisions, as for refunds.

A payout is pending, then in transit, then paid. It can fail at any time, also after it was paid: its money is then back
on the account that it came from. Only a pending one can be canceled. The codes of refusals are published, but for most
of them it is not read which call gets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from refund_worker.processors.sandbox.account_book import PLATFORM, AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.book import later
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.form import Params, integer_of, refuse_unknown, text_of
from refund_worker.processors.sandbox.payees import bank_id, decide_bank_errored
from refund_worker.processors.sandbox.payout_records import IN_TRANSIT, PAID, PENDING, RETURNED_STATUSES, Moved
from refund_worker.processors.sandbox.refunds import Step
from refund_worker.processors.sandbox.transfers import NO_MONEY, currency_of, metadata_changes, required, set_metadata

PAYOUT_PARAMS = frozenset(
    {"amount", "currency", "description", "destination", "expand", "metadata", "method", "source_type"}
    | {"statement_descriptor"}
)
STANDARD, INSTANT = "standard", "instant"
STATUSES = (PENDING, IN_TRANSIT, PAID, *sorted(RETURNED_STATUSES))
DESCRIPTOR_CHARACTERS_MAX = 22
# How long a payout takes until it is paid, and the part of it until it is in transit.
PAYOUT_SECONDS, INSTANT_SECONDS, PART_IN_TRANSIT = 2 * 86400.0, 1800.0, 0.1
# Stripe pays these currencies out in whole units only, although their amounts have two decimals.
WHOLE_UNITS = frozenset({"huf", "isk", "twd", "ugx"})
TRACE_DIGITS = 15


@dataclass(frozen=True, slots=True)
class PayoutRequest:
    """The checked parameters of a new payout."""

    amount: int
    currency: str
    description: str | None
    destination: str | None
    method: str
    statement_descriptor: str | None
    metadata: dict[str, str]


def read_payout_request(params: Params) -> PayoutRequest:
    """Check the parameters of a payout. Raise `StripeError` (400, not executed) if they are malformed."""
    refuse_unknown(params, PAYOUT_PARAMS)
    amount, currency = integer_of(required(params, "amount"), "amount", least=1), currency_of(params)
    method, descriptor = text_of(params, "method") or STANDARD, text_of(params, "statement_descriptor")
    if method not in (STANDARD, INSTANT):
        raise StripeError(400, f"Invalid method: must be one of {INSTANT} or {STANDARD}", param="method")
    if descriptor is not None and len(descriptor) > DESCRIPTOR_CHARACTERS_MAX:
        message = f"The statement descriptor has at most {DESCRIPTOR_CHARACTERS_MAX} characters."
        raise StripeError(400, message, param="statement_descriptor")
    if currency in WHOLE_UNITS and amount % 100:
        raise StripeError(400, f"Payouts in {currency} must be whole units: multiples of 100.", param="amount")
    named = text_of(params, "description"), text_of(params, "destination")
    return PayoutRequest(amount, currency, *named, method, descriptor, set_metadata(params))


def payout_named(book: AccountBook, payout_id: str) -> Moved:
    """Return the payout. Raise `StripeError` (404 resource_missing) if it is unknown."""
    payout = book.payouts.get(payout_id)
    if payout is None:
        raise missing("payout", payout_id, "payout")
    return payout


def decide_create_payout(
    book: AccountBook,
    request: PayoutRequest,
    key: str | None,
    seconds: float | None = PAYOUT_SECONDS,
    life: tuple[Step, ...] | None = None,
) -> Decision:
    """Pay money of the account to its bank, with a scripted `life` or the usual one. Its event is payout.created.

    `seconds` is how long a standard payout takes until it is paid, None if only an action moves it.

    Raises `StripeError` (400, executed): payouts_not_allowed, instant_payouts_unsupported, an unknown destination, no
    bank account in this currency, and balance_insufficient.
    """
    _check_bank(book, request)
    if request.amount > book.ledger.available(request.currency, book.now()):
        message = (
            "You have insufficient funds in your Stripe account for this transfer. Your card balance is too low."
            " You can use the /v1/balance endpoint to view your Stripe balance."
        )
        raise StripeError(400, message, NO_MONEY, executed=True)
    took = INSTANT_SECONDS if request.method == INSTANT and seconds is not None else seconds
    life = life or _usual_life(took)
    shown = payout_object(book, request, automatic=False, arrives=book.now() + (took or 0))
    first = Moved(shown, key, 0)
    shown |= _changes(book, first, life[0])
    records: list[JsonObject] = [{"kind": "payout", "payout": shown, "key": key}]
    due = book.now()
    for step in life[1:]:
        due += step.after_seconds
        records.append(later(due, {"do": "payout", "id": shown["id"], **step.as_record()}))
    notices = [Notice("payout.created", shown["id"])]
    if life[0].status in (PAID, *RETURNED_STATUSES):
        notices.append(Notice(f"payout.{life[0].status}", shown["id"]))
    return Decision(tuple(records), dict(shown), tuple(notices))


def _check_bank(book: AccountBook, request: PayoutRequest) -> None:
    profile = book.profile
    if not profile.payouts_enabled:
        message = "Cannot create payouts: payouts are disabled on this account."
        raise StripeError(400, message, "payouts_not_allowed", executed=True)
    if request.destination not in (None, bank_id(book)):
        message = f"No such external account: '{(request.destination or '')[:80]}'"
        raise StripeError(400, message, "resource_missing", "destination", executed=True)
    if profile.currency not in (None, request.currency):
        message = f"Sorry, you don't have any external accounts in that currency ({request.currency})"
        raise StripeError(400, message, executed=True)
    if request.method == INSTANT and not profile.instant:
        message = "The bank account or debit card does not support instant payouts."
        raise StripeError(400, message, "instant_payouts_unsupported", executed=True)


def _usual_life(seconds: float | None) -> tuple[Step, ...]:
    if seconds is None:
        return (Step(PENDING),)
    in_transit = seconds * PART_IN_TRANSIT
    return (Step(PENDING), Step(IN_TRANSIT, in_transit), Step(PAID, seconds - in_transit))


def payout_object(book: AccountBook, request: PayoutRequest, *, automatic: bool, arrives: float) -> JsonObject:
    """Return a new payout as Stripe shows it, still pending."""
    payout_id = book.new_id("po", request.currency, len(book.payouts))
    return {
        "id": payout_id,
        "object": "payout",
        "amount": request.amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": int(arrives),
        "automatic": automatic,
        "balance_transaction": book.new_id("txn", payout_id),
        "created": int(book.now()),
        "currency": request.currency,
        "description": request.description,
        "destination": bank_id(book),
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": request.metadata,
        "method": request.method,
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "in_progress" if automatic else "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": request.statement_descriptor,
        "status": PENDING,
        "trace_id": {"status": "pending", "value": None},
        "type": "bank_account",
    }


def decide_paid_out(book: AccountBook, fields: JsonObject) -> Decision:
    """Pay money to the account's bank, as its schedule or a person in the dashboard does: it arrives at once.

    Without an amount the payout is automatic: all that is available. Raises `StripeError` (400 balance_insufficient) if
    less is available.
    """
    currency, automatic = fields["currency"].lower(), "amount_minor" not in fields
    available = book.ledger.available(currency, book.now())
    amount = fields.get("amount_minor", available)
    if not 0 < amount <= available:
        raise StripeError(400, f"Of {currency}, {available} is available.", NO_MONEY, "amount_minor")
    request = PayoutRequest(amount, currency, None, None, STANDARD, None, {})
    shown = payout_object(book, request, automatic=automatic, arrives=book.now())
    shown |= _changes(book, Moved(shown, None, 0), Step(PAID))
    notices = tuple(Notice(type, shown["id"]) for type in ("payout.created", "payout.paid"))
    return Decision(({"kind": "payout", "payout": shown, "key": None},), dict(shown), notices)


def decide_update_payout(payout: Moved, params: Params, now: float) -> Decision:
    """Change metadata, as of a refund. Its event is payout.updated."""
    changes = metadata_changes(payout, params)
    if changes is None:
        return Decision((), payout.object)
    return _changed(payout, changes, ("payout.updated",), now)


def decide_cancel_payout(book: AccountBook, payout: Moved) -> Decision:
    """Cancel a pending payout. Raise `StripeError` (400, executed) in any other state, and for an automatic one."""
    status = payout.object["status"]
    if status != PENDING or payout.object["automatic"]:
        message = f"Payouts can only be canceled while they are pending and not automatic; this one is {status}."
        raise StripeError(400, message, executed=True)
    return decide_move_payout(book, payout, Step("canceled"))


def decide_move_payout(book: AccountBook, payout: Moved, step: Step, at: float | None = None) -> Decision:
    """Move a payout to the status of the step, as banks do. `at` is when, by default now.

    The step's `failure_reason` is the failure code. Raise `StripeError` (400) if it already failed or was canceled.
    """
    if payout.object["status"] in RETURNED_STATUSES:
        message = f"The payout is {payout.object['status']}; nothing comes after that."
        raise StripeError(400, message, param="status")
    types = ["payout.updated"]
    if step.status in (PAID, *RETURNED_STATUSES):
        types.append(f"payout.{step.status}")
    moved = _changed(payout, _changes(book, payout, step), types, book.now() if at is None else at)
    if step.status != "failed" or book.account == PLATFORM:
        return moved
    errored = decide_bank_errored(book)
    return Decision((*moved.records, *errored.records), moved.object, (*moved.notices, *errored.notices))


def decide_scheduled_payout(book: AccountBook, what: JsonObject, at: float) -> Decision | None:
    """Return the effect of a scheduled step that was due `at`, or None if something else happened first."""
    payout, status = book.payouts[what["id"]], what["status"]
    now = payout.object["status"]
    if now in RETURNED_STATUSES or now == status or (now == PAID and status == IN_TRANSIT):
        return None
    step = {name: value for name, value in what.items() if name not in ("account", "do", "id")}
    return decide_move_payout(book, payout, Step(**step), at)


def _changes(book: AccountBook, payout: Moved, step: Step) -> JsonObject:
    changes: JsonObject = {"status": step.status}
    if step.status == PAID:
        number = int.from_bytes(blake2b(payout.id.encode(), digest_size=6).digest())
        changes["trace_id"] = {"status": "supported", "value": f"{number:0{TRACE_DIGITS}d}"[:TRACE_DIGITS]}
    if step.status in RETURNED_STATUSES:
        changes["failure_balance_transaction"] = book.new_id("txn", payout.id, "failure")
    if step.status == "failed":
        changes["failure_code"] = step.failure_reason or "could_not_process"
        changes["failure_message"] = f"The bank could not take this payout ({changes['failure_code']})."
    return changes


def _changed(payout: Moved, changes: JsonObject, types: Sequence[str], at: float) -> Decision:
    previous = {name: payout.object[name] for name, value in changes.items() if payout.object[name] != value}
    record: JsonObject = {"kind": "payout_changed", "id": payout.id, "set": changes, "at": int(at)}
    notices = tuple(Notice(type, payout.id, previous) for type in types)
    return Decision((record,), {**payout.object, **changes}, notices)
