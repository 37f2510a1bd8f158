"""Stripe's rules for transfers to connected accounts and their reversals. Pure decisions, as for refunds.

The code of a destination that cannot be paid, and the messages of all refusals but `balance_insufficient`, are not read
in Stripe's documentation: people report them. A transfer takes effect at once and keeps its currency.
"""

from __future__ import annotations

from dataclasses import dataclass

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.fields import CURRENCY
from refund_worker.processors.sandbox.form import Params, integer_of, metadata_of, refuse_unknown, text_of
from refund_worker.processors.sandbox.payout_records import Moved

TRANSFER_PARAMS = frozenset(
    {"amount", "currency", "description", "destination", "expand", "metadata", "transfer_group"}
)
REVERSAL_PARAMS = frozenset({"amount", "description", "expand", "metadata"})
# Stripe shows this number of reversals within a transfer; the others are listed.
REVERSALS_SHOWN = 10
NO_MONEY = "balance_insufficient"


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """The checked parameters of a new transfer."""

    amount: int
    currency: str
    destination: str
    description: str | None
    transfer_group: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class ReversalRequest:
    """The checked parameters of a new reversal. `amount` None means all that is left."""

    amount: int | None
    description: str | None
    metadata: dict[str, str]


def required(params: Params, name: str) -> str:
    """Return the parameter as text. Raise `StripeError` (400 parameter_missing) if it was not sent."""
    value = text_of(params, name)
    if value is None:
        raise StripeError(400, f"Missing required param: {name}.", "parameter_missing", name)
    return value


def currency_of(params: Params) -> str:
    """Return the currency in lower case. Raise `StripeError` (400) unless it has three letters."""
    currency = required(params, "currency")
    if not CURRENCY.match(currency):
        raise StripeError(400, f"Invalid currency: {currency[:40]}", param="currency")
    return currency.lower()


def set_metadata(params: Params) -> dict[str, str]:
    """Return the metadata of a new object, without keys that were sent empty."""
    return {key: text for key, text in (metadata_of(params) or {}).items() if text}


def read_transfer_request(params: Params) -> TransferRequest:
    """Check the parameters of a transfer. Raise `StripeError` (400, not executed) if they are malformed."""
    refuse_unknown(params, TRANSFER_PARAMS)
    return TransferRequest(
        integer_of(required(params, "amount"), "amount", least=1),
        currency_of(params),
        required(params, "destination"),
        text_of(params, "description"),
        text_of(params, "transfer_group"),
        set_metadata(params),
    )


def read_reversal_request(params: Params) -> ReversalRequest:
    """Check the parameters of a reversal. Raise `StripeError` (400, not executed) if they are malformed."""
    refuse_unknown(params, REVERSAL_PARAMS)
    amount = text_of(params, "amount")
    return ReversalRequest(
        None if amount is None else integer_of(amount, "amount", least=1),
        text_of(params, "description"),
        set_metadata(params),
    )


def transfer_named(book: AccountBook, transfer_id: str) -> Moved:
    """Return the transfer. Raise `StripeError` (404 resource_missing) if it is unknown."""
    transfer = book.transfers.get(transfer_id)
    if transfer is None:
        raise missing("transfer", transfer_id, "id")
    return transfer


def reversal_named(book: AccountBook, transfer_id: str, reversal_id: str) -> Moved:
    """Return a reversal of the transfer. Raise `StripeError` (404 resource_missing) if it has no such reversal."""
    transfer_named(book, transfer_id)
    reversal = book.reversals.get(reversal_id)
    if reversal is None or reversal.object["transfer"] != transfer_id:
        raise missing("transfer reversal", reversal_id, "id")
    return reversal


def transfer_object(transfer: Moved, changes: JsonObject | None = None, newest: JsonObject | None = None) -> JsonObject:
    """Return the transfer as Stripe shows it, with its newest reversals.

    `changes` and `newest`, a further reversal, are those of a decision that is not committed yet.
    """
    listed = [newest] if newest is not None else []
    listed += [each.object for each in reversed(transfer.reversals.oldest_first())]
    url = f"/v1/transfers/{transfer.id}/reversals"
    reversals: JsonObject = {"object": "list", "data": listed[:REVERSALS_SHOWN], "url": url}
    return {**transfer.object, **(changes or {}), "reversals": {**reversals, "has_more": len(listed) > REVERSALS_SHOWN}}


def decide_transfer(book: AccountBook, request: TransferRequest, key: str | None) -> Decision:
    """Move money to a connected account. Its event is transfer.created.

    Raises `StripeError` (400, executed): resource_missing for an account that is not connected,
    insufficient_capabilities_for_transfer, and balance_insufficient.
    """
    found = book.whole.find_account(request.destination)
    if found is None or found is book or not request.destination.startswith("acct_"):
        message = f"No such destination: '{request.destination[:80]}'"
        raise StripeError(400, message, "resource_missing", "destination", executed=True)
    if found.profile.transfers != "active":
        message = (
            "Your destination account needs to have at least one of the following capabilities enabled: transfers,"
            " crypto_transfers, legacy_payments"
        )
        raise StripeError(400, message, "insufficient_capabilities_for_transfer", executed=True)
    if request.amount > book.ledger.available(request.currency, book.now()):
        message = "You have insufficient available funds in your Stripe account for this transfer."
        raise StripeError(400, message, NO_MONEY, executed=True)
    name = (request.destination, len(book.transfers))
    transfer_id = book.new_id("tr", "sent", *name)
    shown: JsonObject = {
        "id": transfer_id,
        "object": "transfer",
        "amount": request.amount,
        "amount_reversed": 0,
        "balance_transaction": book.new_id("txn", transfer_id),
        "created": int(book.now()),
        "currency": request.currency,
        "description": request.description,
        "destination": request.destination,
        "destination_payment": book.new_id("py", "sent", *name),
        "livemode": False,
        "metadata": request.metadata,
        "reversed": False,
        "source_transaction": None,
        "source_type": "card",
        "transfer_group": request.transfer_group,
    }
    record = {"kind": "transfer", "transfer": shown, "key": key, "delay": found.profile.transfer_delay_seconds}
    return Decision((record,), transfer_object(Moved(shown, key, 0)), (Notice("transfer.created", transfer_id),))


def decide_update_transfer(transfer: Moved, params: Params) -> Decision:
    """Change metadata, as of a refund. Its event is transfer.updated."""
    changes = metadata_changes(transfer, params)
    if changes is None:
        return Decision((), transfer_object(transfer))
    record = {"kind": "transfer_changed", "id": transfer.id, "set": changes}
    notice = Notice("transfer.updated", transfer.id, {"metadata": transfer.object["metadata"]})
    return Decision((record,), transfer_object(transfer, changes), (notice,))


def metadata_changes(moved: Moved, params: Params) -> JsonObject | None:
    """Return the new metadata of the object, or None if none was sent. A key that was sent empty is removed."""
    sent = metadata_of(params)
    if sent is None:
        return None
    whole = {**moved.object["metadata"], **sent} if sent else {}
    return {"metadata": {key: text for key, text in whole.items() if text}}


def decide_reversal(book: AccountBook, transfer: Moved, request: ReversalRequest, key: str | None) -> Decision:
    """Take money of a transfer back from the connected account. Its event is transfer.reversed.

    Raises `StripeError` (400, executed): more than is left of the transfer, and balance_insufficient.
    """
    shown = transfer.object
    left = shown["amount"] - shown["amount_reversed"]
    amount = left if request.amount is None else request.amount
    if left == 0 or amount > left:
        message = f"Reversal amount ({amount}) is greater than unreversed amount on transfer ({left})"
        raise StripeError(400, message, param="amount", executed=True)
    there = book.whole.of(shown["destination"])
    if amount > there.ledger.available(shown["currency"], book.now()):
        message = "The connected account has insufficient funds to reverse the transfer."
        raise StripeError(400, message, NO_MONEY, executed=True)
    name = (transfer.id, len(transfer.reversals))
    reversal_id = book.new_id("trr", *name)
    reversal: JsonObject = {
        "id": reversal_id,
        "object": "transfer_reversal",
        "amount": amount,
        "balance_transaction": book.new_id("txn", reversal_id),
        "created": int(book.now()),
        "currency": shown["currency"],
        "destination_payment_refund": book.new_id("pyr", *name),
        "metadata": request.metadata,
        "source_refund": None,
        "transfer": transfer.id,
    }
    record = {"kind": "reversal", "reversal": reversal, "key": key}
    return Decision((record,), reversal, (Notice("transfer.reversed", transfer.id),))
