"""Stripe's rules for disputes. Decisions are pure: they read the book and return the records that would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.ledger import ADJUSTMENT, Transaction, transaction_object
from refund_worker.processors.sandbox.records import CARD, Dispute, Payment
from refund_worker.processors.sandbox.refunds import Step
from refund_worker.processors.sandbox.refunds import decide_move as decide_refund_move


@dataclass(frozen=True, slots=True)
class StatusRule:
    """The meaning of a dispute's status: is it an inquiry, has it ended, can the charge be refunded."""

    inquiry: bool = False
    final: bool = False
    refundable: bool = False


# https://docs.stripe.com/api/disputes/object, API 2026-10-28.
STATUSES = {
    "warning_needs_response": StatusRule(inquiry=True, refundable=True),
    "warning_under_review": StatusRule(inquiry=True, refundable=True),
    "warning_closed": StatusRule(inquiry=True, refundable=True, final=True),
    "needs_response": StatusRule(),
    "under_review": StatusRule(),
    "appeal_needs_response": StatusRule(),
    "appeal_under_review": StatusRule(),
    "won": StatusRule(refundable=True, final=True),
    "prevented": StatusRule(refundable=True, final=True),
    "lost": StatusRule(final=True),
}
# A status that Stripe does not document yet.
UNKNOWN = StatusRule()
# These end in our favour: the money comes back.
WON = frozenset({"won", "prevented"})
REASONS = frozenset(
    {
        *("bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated"),
        *("debit_not_authorized", "duplicate", "fraudulent", "general", "incorrect_account_details"),
        *("insufficient_funds", "noncompliant", "product_not_received", "product_unacceptable"),
        *("subscription_canceled", "unrecognized"),
    }
)
# https://docs.stripe.com/api/disputes/close: only a dispute that waits for our response.
CAN_BE_CLOSED = frozenset({"needs_response"})
RESPONSE_SECONDS = 9 * 86400
PENDING_REFUND_DISPUTED = "charge_for_pending_refund_disputed"


@dataclass(frozen=True, slots=True)
class Opening:
    """A new dispute. Without an `amount` the rest that is not disputed yet; other missing values follow the status."""

    amount: int | None = None
    status: str = "needs_response"
    reason: str = "fraudulent"
    due_by: int | None = None
    created: int | None = None
    withdraw: bool | None = None
    fee: int = 0
    refundable: bool | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    fails_pending_refunds: bool = False


def decide_open(book: AccountBook, payment: Payment, opening: Opening) -> Decision:
    """Open a dispute or an inquiry. A dispute withdraws the money at once, an inquiry does not.

    Raises `StripeError` (400) if more than the captured amount would be disputed.
    """
    dispute = _new_dispute(book, payment, opening)
    notices = [Notice("charge.dispute.created", dispute["id"])]
    moves_money = not STATUSES.get(opening.status, UNKNOWN).inquiry and opening.status not in WON
    if moves_money if opening.withdraw is None else opening.withdraw:
        withdrawal = _movement(book, dispute, -dispute["amount"], opening.fee, dispute["created"])
        dispute["balance_transactions"] = [withdrawal]
        notices.append(Notice("charge.dispute.funds_withdrawn", dispute["id"]))
    records: list[JsonObject] = [{"kind": "dispute", "dispute": dispute}]
    for refund in payment.refunds if opening.fails_pending_refunds else ():
        if refund.object["status"] == "pending":
            failed = decide_refund_move(book, refund, Step("failed", failure_reason=PENDING_REFUND_DISPUTED))
            records += failed.records
            notices += failed.notices
    return Decision(tuple(records), dispute, tuple(notices))


def _new_dispute(book: AccountBook, payment: Payment, opening: Opening) -> JsonObject:
    created = int(book.now()) if opening.created is None else opening.created
    rule = STATUSES.get(opening.status, UNKNOWN)
    return {
        "id": book.new_id("dp", payment.id, len(payment.disputes)),
        "object": "dispute",
        "amount": _disputed_amount(payment, opening),
        "balance_transactions": [],
        "charge": payment.charge_id,
        "created": created,
        "currency": payment.currency,
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": created + RESPONSE_SECONDS if opening.due_by is None else opening.due_by,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": rule.refundable if opening.refundable is None else opening.refundable,
        "livemode": payment.livemode,
        "metadata": dict(opening.metadata),
        "network_reason_code": None,
        "payment_intent": payment.payment_intent_id,
        "payment_method_details": {
            "card": {"brand": "visa", "case_type": "inquiry" if rule.inquiry else "chargeback", "network": "visa"},
            "type": CARD,
        },
        "reason": opening.reason,
        "status": opening.status,
    }


def _disputed_amount(payment: Payment, opening: Opening) -> int:
    others = sum(
        dispute.object["amount"]
        for dispute in payment.disputes
        if dispute.status not in WON and dispute.status != "warning_closed"
    )
    free = payment.captured - others
    amount = free if opening.amount is None else opening.amount
    if not 0 < amount <= free:
        message = f"Of {payment.charge_id}, {free} can be disputed: {payment.captured} captured, {others} disputed now."
        raise StripeError(400, message, param="amount")
    return amount


@dataclass(frozen=True, slots=True)
class Move:
    """A dispute's new status. The money moves as the status needs, unless `funds` is False."""

    status: str
    funds: bool | None = None
    fee: int = 0
    due_by: int | None = None
    refundable: bool | None = None


def decide_move(book: AccountBook, dispute: Dispute, move: Move) -> Decision:
    """Move a dispute to another status, as banks do, and the money with it.

    A won or prevented dispute gets its money back. An inquiry that becomes a dispute loses it, and so does a won one
    that is opened or lost again. Raises `StripeError` (400) if the dispute already has this status.
    """
    if move.status == dispute.status:
        raise StripeError(400, f"Dispute {dispute.id} already is {move.status}.", param="status")
    rule = STATUSES.get(move.status, UNKNOWN)
    before = STATUSES.get(dispute.status, UNKNOWN)
    changes: JsonObject = {
        "status": move.status,
        "is_charge_refundable": rule.refundable if move.refundable is None else move.refundable,
    }
    if move.due_by is not None:
        changes["evidence_details"] = {**dispute.object["evidence_details"], "due_by": move.due_by}
    types = ["charge.dispute.closed" if rule.final else "charge.dispute.updated"]
    if move.funds is not False:
        if move.status in WON and dispute.withdrawn:
            types.append("charge.dispute.funds_reinstated")
            changes["balance_transactions"] = _after(book, dispute, dispute.withdrawn)
        elif not rule.inquiry and before.refundable and move.status not in WON and not dispute.withdrawn:
            types.append("charge.dispute.funds_withdrawn")
            changes["balance_transactions"] = _after(book, dispute, -dispute.object["amount"], move.fee)
    return _changed(dispute, changes, types)


def decide_withdrawal(book: AccountBook, dispute: Dispute, fee: int = 0) -> Decision:
    """Withdraw the disputed amount. Raise `StripeError` (400) if it is already withdrawn."""
    if dispute.withdrawn:
        raise StripeError(400, f"The funds of dispute {dispute.id} are already withdrawn.")
    movements = _after(book, dispute, -dispute.object["amount"], fee)
    return _changed(dispute, {"balance_transactions": movements}, ["charge.dispute.funds_withdrawn"])


def decide_reinstatement(book: AccountBook, dispute: Dispute) -> Decision:
    """Give the withdrawn amount back, in every status: a loss too can be reinstated later.

    Raises `StripeError` (400) if nothing is withdrawn.
    """
    if not dispute.withdrawn:
        raise StripeError(400, f"No funds of dispute {dispute.id} are withdrawn.")
    movements = _after(book, dispute, dispute.withdrawn)
    return _changed(dispute, {"balance_transactions": movements}, ["charge.dispute.funds_reinstated"])


def decide_close(book: AccountBook, dispute: Dispute) -> Decision:
    """Concede a dispute: it is lost. Raise `StripeError` (400, executed) unless it waits for our response."""
    if dispute.status not in CAN_BE_CLOSED:
        message = f"Only a dispute in needs_response can be closed; this one is {dispute.status}."
        raise StripeError(400, message, param="dispute", executed=True)
    return decide_move(book, dispute, Move("lost"))


def _after(book: AccountBook, dispute: Dispute, amount: int, fee: int = 0) -> list[JsonObject]:
    earlier: list[JsonObject] = dispute.object["balance_transactions"]
    return [*earlier, _movement(book, dispute.object, amount, fee, int(book.now()))]


def _movement(book: AccountBook, dispute: JsonObject, amount: int, fee: int, second: int) -> JsonObject:
    transaction_id = book.new_id("txn", dispute["id"], len(dispute["balance_transactions"]))
    transaction = Transaction(transaction_id, ADJUSTMENT, amount, dispute["currency"], dispute["id"], second, fee)
    return transaction_object(transaction, second)


def _changed(dispute: Dispute, changes: JsonObject, types: list[str]) -> Decision:
    previous = {name: dispute.object[name] for name in changes if dispute.object[name] != changes[name]}
    record = {"kind": "dispute_changed", "id": dispute.id, "set": changes}
    notices = tuple(Notice(type, dispute.id, previous) for type in types)
    return Decision((record,), {**dispute.object, **changes}, notices)
