"""The endpoints of Stripe's API: each checks its parameters and decides. No keys, no faults of the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.actions import Plan
from refund_worker.processors.sandbox.answers import JsonObject, missing
from refund_worker.processors.sandbox.calls import Call
from refund_worker.processors.sandbox.charges import charge_object, payment_intent_object
from refund_worker.processors.sandbox.decisions import Decision
from refund_worker.processors.sandbox.disputes import decide_close
from refund_worker.processors.sandbox.expansion import expanded
from refund_worker.processors.sandbox.faults import Faults
from refund_worker.processors.sandbox.form import Params, refuse_unknown
from refund_worker.processors.sandbox.fraud_warnings import warning_object
from refund_worker.processors.sandbox.funds import balance_object
from refund_worker.processors.sandbox.ledger import transaction_object
from refund_worker.processors.sandbox.listing import LISTS, list_objects, reversals_of
from refund_worker.processors.sandbox.payees import read_account
from refund_worker.processors.sandbox.payouts import (
    decide_cancel_payout,
    decide_create_payout,
    decide_update_payout,
    payout_named,
    read_payout_request,
)
from refund_worker.processors.sandbox.records import Dispute, Payment, Refund
from refund_worker.processors.sandbox.refunds import (
    decide_cancel,
    decide_create,
    decide_expiry,
    decide_update,
    read_create_request,
)
from refund_worker.processors.sandbox.transfers import (
    decide_reversal,
    decide_transfer,
    decide_update_transfer,
    read_reversal_request,
    read_transfer_request,
    reversal_named,
    transfer_named,
    transfer_object,
)


def validate(call: Call) -> None:
    """Raise `StripeError` (400, not executed) for parameters that this endpoint does not accept."""
    kind = call.route.path_kind
    if kind == "create":
        read_create_request(call.params)
    elif kind in NEW_MONEY:
        NEW_MONEY[kind](call.params)
    elif kind in ("update", "update_transfer", "update_payout"):
        refuse_unknown(call.params, ("metadata", "expand"))
    elif kind not in LISTS:  # a list checks its parameters itself
        refuse_unknown(call.params, ("expand",))


def decide(book: AccountBook, faults: Faults, call: Call, plan: Plan) -> Decision:
    """Return the effect of a call and its answer. Raise `StripeError` if the call is refused."""
    decision = _decide(book, faults, call, plan)
    if "expand" not in call.params:
        return decision
    return replace(decision, object=expanded(book, decision.object, call.params))


def _decide(book: AccountBook, faults: Faults, call: Call, plan: Plan) -> Decision:
    kind, object_id = call.route.path_kind, call.route.object_id or ""
    if kind == "create":
        return decide_create(book, read_create_request(call.params), call.key, faults.balance, plan.lifecycle)
    if kind == "balance":
        return Decision((), balance_object(book, {} if book.account else faults.balance))
    if kind in CHANGES:
        return CHANGES[kind](book, object_id, call.params)
    if kind in NEW_MONEY:
        return _decide_new(book, faults, call, plan)
    if kind in LISTS:
        lag = plan.list_lag_seconds
        if lag is None:
            lag = faults.list_lag_seconds if kind in LAGGING else 0.0
        listable = LISTS[kind] if kind != "reversals" else reversals_of(transfer_named(book, object_id))
        return Decision((), list_objects(book, listable, call.params, lag_seconds=lag, disorder=plan.pages))
    if kind == "reversal":
        return Decision((), reversal_named(book, object_id, call.route.part_id or "").object)
    if kind in ("account", "own_account"):
        return Decision((), read_account(book, call))
    return Decision((), READINGS[kind](book, object_id, call.params))


def _decide_new(book: AccountBook, faults: Faults, call: Call, plan: Plan) -> Decision:
    """Return the effect of a new transfer, reversal or payout."""
    match call.route.path_kind:
        case "create_transfer":
            return decide_transfer(book, read_transfer_request(call.params), call.key)
        case "create_reversal":
            transfer = transfer_named(book, call.route.object_id or "")
            return decide_reversal(book, transfer, read_reversal_request(call.params), call.key)
    request = read_payout_request(call.params)
    return decide_create_payout(book, request, call.key, faults.payout_seconds, plan.lifecycle)


def refund_named(book: AccountBook, refund_id: str) -> Refund:
    """Return the refund. Raise `StripeError` (404 resource_missing) if it is unknown."""
    refund = book.refunds.get(refund_id)
    if refund is None:
        raise missing("refund", refund_id, "id")
    return refund


def dispute_named(book: AccountBook, dispute_id: str) -> Dispute:
    """Return the dispute. Raise `StripeError` (404 resource_missing) if it is unknown."""
    dispute = book.disputes.get(dispute_id)
    if dispute is None:
        raise missing("dispute", dispute_id, "dispute")
    return dispute


def _payment(book: AccountBook, reference: str, what: str) -> Payment:
    payment = book.find_payment(reference)
    if payment is None or (what == "charge") == reference.startswith("pi_"):
        raise missing(what, reference, "id")
    return payment


def _read_warning(book: AccountBook, warning_id: str, params: Params) -> JsonObject:
    warning = book.warnings.get(warning_id)
    if warning is None:
        raise missing("early_fraud_warning", warning_id, "early_fraud_warning")
    return warning_object(book, warning)


def _read_transaction(book: AccountBook, transaction_id: str, params: Params) -> JsonObject:
    transaction = book.ledger.transactions.get(transaction_id)
    if transaction is None:
        raise missing("balance transaction", transaction_id, "id")
    return transaction_object(transaction, book.now())


def _read_intent(book: AccountBook, reference: str, params: Params) -> JsonObject:
    payment = _payment(book, reference, "payment_intent")
    return payment_intent_object(payment)


# Requests that make a transfer, a reversal or a payout, with the check of their parameters.
NEW_MONEY: Mapping[str, Callable[[Params], object]] = {
    "create_transfer": read_transfer_request,
    "create_reversal": read_reversal_request,
    "create_payout": read_payout_request,
}
# The lists that show a new object only after the setting list_lag_seconds.
LAGGING = frozenset({"list", "transfers", "reversals", "payouts"})
# Requests that change an object, and requests that read one, by their kind.
CHANGES: Mapping[str, Callable[[AccountBook, str, Params], Decision]] = {
    "update": lambda book, object_id, params: decide_update(refund_named(book, object_id), params),
    "cancel": lambda book, object_id, _: decide_cancel(refund_named(book, object_id)),
    "expire": lambda book, object_id, _: decide_expiry(book, refund_named(book, object_id)),
    "update_transfer": lambda book, object_id, params: decide_update_transfer(transfer_named(book, object_id), params),
    "update_payout": lambda book, object_id, params: decide_update_payout(
        payout_named(book, object_id), params, book.now()
    ),
    "cancel_payout": lambda book, object_id, _: decide_cancel_payout(book, payout_named(book, object_id)),
    "close_dispute": lambda book, object_id, _: decide_close(book, dispute_named(book, object_id)),
}
READINGS: Mapping[str, Callable[[AccountBook, str, Params], JsonObject]] = {
    "retrieve": lambda book, object_id, _: refund_named(book, object_id).object,
    "dispute": lambda book, object_id, _: dispute_named(book, object_id).object,
    "fraud_warning": _read_warning,
    "charge": lambda book, object_id, _: charge_object(_payment(book, object_id, "charge")),
    "payment_intent": _read_intent,
    "balance_transaction": _read_transaction,
    "transfer": lambda book, object_id, _: transfer_object(transfer_named(book, object_id)),
    "payout": lambda book, object_id, _: payout_named(book, object_id).object,
}
