"""Stripe's `expand`: an answer that contains whole objects instead of their ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.charges import charge_object, payment_intent_object
from refund_worker.processors.sandbox.form import Params
from refund_worker.processors.sandbox.ledger import transaction_object
from refund_worker.processors.sandbox.transfers import transfer_object

# Stripe's limit: https://docs.stripe.com/expand.
DEPTH_MAX = 4


def _charge(book: AccountBook, charge_id: str) -> JsonObject | None:
    payment = book.find_payment(charge_id)
    return None if payment is None else charge_object(payment)


def _intent(book: AccountBook, intent_id: str) -> JsonObject | None:
    payment = book.find_payment(intent_id)
    return None if payment is None else payment_intent_object(payment)


def _transaction(book: AccountBook, transaction_id: str) -> JsonObject | None:
    transaction = book.ledger.transactions.get(transaction_id)
    return None if transaction is None else transaction_object(transaction, book.now())


def _source(book: AccountBook, source_id: str) -> JsonObject | None:
    entry = book.refunds.get(source_id) or book.disputes.get(source_id)
    if entry is not None:
        return entry.object
    moved = book.payouts.get(source_id) or book.reversals.get(source_id)
    if moved is not None:
        return moved.object
    return _transfer(book, source_id) or _charge(book, source_id)


def _transfer(book: AccountBook, transfer_id: str) -> JsonObject | None:
    transfer = book.transfers.get(transfer_id)
    return None if transfer is None else transfer_object(transfer)


Resolve = Callable[[AccountBook, str], JsonObject | None]
# The properties that can be expanded, by the kind of object.
OF_PAYMENT: Mapping[str, Resolve] = {"charge": _charge, "payment_intent": _intent}
EXPANDABLE: Mapping[str, Mapping[str, Resolve]] = {
    "balance_transaction": {"source": _source},
    "charge": {"balance_transaction": _transaction, "payment_intent": _intent},
    "dispute": OF_PAYMENT,
    "payment_intent": {"latest_charge": _charge},
    "payout": {"balance_transaction": _transaction, "failure_balance_transaction": _transaction},
    "radar.early_fraud_warning": OF_PAYMENT,
    "refund": {**OF_PAYMENT, "balance_transaction": _transaction, "failure_balance_transaction": _transaction},
    "transfer": {"balance_transaction": _transaction},
    "transfer_reversal": {"balance_transaction": _transaction, "transfer": _transfer},
}


def expanded(book: AccountBook, shown: JsonObject, params: Params) -> JsonObject:
    """Return the answer with what `expand[]` asks for. Raise `StripeError` (400) for another property."""
    asked = params.get("expand")
    if not isinstance(asked, dict):
        return shown
    for path in asked.values():
        steps = path.split(".")
        if len(steps) > DEPTH_MAX:
            raise StripeError(400, f"expand has at most {DEPTH_MAX} levels: {path[:80]}", param="expand")
        if shown["object"] == "list" and steps[0] == "data":
            shown = {**shown, "data": [_with(book, item, steps[1:], path) for item in shown["data"]]}
        else:
            shown = _with(book, shown, steps, path)
    return shown


def _with(book: AccountBook, shown: JsonObject, steps: Sequence[str], path: str) -> JsonObject:
    resolve = EXPANDABLE.get(shown.get("object", ""), {}).get(steps[0]) if steps else None
    if resolve is None:
        raise StripeError(400, f"This property cannot be expanded ({path[:80]}).", param="expand")
    value = shown.get(steps[0])
    whole = resolve(book, value) if isinstance(value, str) else value
    if not isinstance(whole, dict):
        return shown
    return {**shown, steps[0]: _with(book, whole, steps[1:], path) if steps[1:] else whole}
