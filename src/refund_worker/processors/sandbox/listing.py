"""The lists of the API: newest first, by payment and time of creation, one page at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.charges import charge_object
from refund_worker.processors.sandbox.form import Params, integer_of, refuse_unknown, text_of
from refund_worker.processors.sandbox.fraud_warnings import warning_object
from refund_worker.processors.sandbox.ledger import Transaction, transaction_object
from refund_worker.processors.sandbox.payout_records import Moved
from refund_worker.processors.sandbox.records import Dispute, Entry, FraudWarning, Ordered, Payment, Refund, position
from refund_worker.processors.sandbox.transfers import transfer_object

PAGE_PARAMS = frozenset({"created", "limit", "starting_after", "ending_before", "expand"})
LIMIT_DEFAULT, LIMIT_MAX = 10, 100
# How much later than the given second an object must be to satisfy the condition, and to exceed it.
LOWER = {"gt": 1, "gte": 0}
UPPER = {"lt": 0, "lte": 1}
Disorder = Literal["repeat", "shift"]
AnyEntry = TypeVar("AnyEntry", bound=Entry)


@dataclass(frozen=True, slots=True)
class Listable(Generic[AnyEntry]):
    """One list of the API: its address, its own parameters, and how to find and show its objects.

    `candidates` returns the objects that the parameters ask for, oldest first; `find` returns one object by its id.
    """

    what: str
    url: str
    params: frozenset[str]
    candidates: Callable[[AccountBook, Params], Sequence[AnyEntry]]
    find: Callable[[AccountBook, str], AnyEntry | None]
    show: Callable[[AccountBook, AnyEntry], JsonObject]


def list_objects(
    book: AccountBook,
    listable: Listable[AnyEntry],
    params: Params,
    *,
    lag_seconds: float = 0.0,
    disorder: Disorder | None = None,
) -> JsonObject:
    """Return one page of a list. Objects younger than `lag_seconds` are not listed yet.

    `disorder` is a fault of a page that follows another: "repeat" shows the last object of the previous page again,
    "shift" skips one. Raises `StripeError` for parameters that Stripe refuses.
    """
    refuse_unknown(params, PAGE_PARAMS | listable.params)
    limit = integer_of(text_of(params, "limit") or str(LIMIT_DEFAULT), "limit", least=1)
    if limit > LIMIT_MAX:
        raise StripeError(400, f"limit is at most {LIMIT_MAX}.", "parameter_invalid_integer", "limit")
    first, end = _bounds(params)
    if lag_seconds:
        end = min(end, int(book.now() - lag_seconds) + 1)
    after, before = _cursor(book, listable, params, "starting_after"), _cursor(book, listable, params, "ending_before")
    if after is not None and before is not None:
        raise StripeError(400, "Send either starting_after or ending_before, not both.")
    entries = listable.candidates(book, params)
    low, high = (bisect_left(entries, second, key=_created) for second in (first, end))
    if before is not None:
        low = max(low, bisect_right(entries, position(before), key=position))
        found = entries[low : min(high, low + limit + 1)]
        return _page(book, listable, found[:limit][::-1], more=len(found) > limit)
    if after is not None:
        high = min(high, _end_of_older(entries, after, disorder if limit > 1 else None))
    start = max(low, high - limit)
    return _page(book, listable, entries[start:high][::-1] if high > start else (), more=low < start)


def _created(entry: Entry) -> int:
    return entry.created


def _end_of_older(entries: Sequence[AnyEntry], cursor: AnyEntry, disorder: Disorder | None) -> int:
    """Return how many of `entries`, which are oldest first, may still follow the cursor."""
    end = bisect_left(entries, position(cursor), key=position)
    return min(len(entries), end + 1) if disorder == "repeat" else end - 1 if disorder == "shift" else end


def _page(book: AccountBook, listable: Listable[AnyEntry], entries: Sequence[AnyEntry], *, more: bool) -> JsonObject:
    data = [listable.show(book, entry) for entry in entries]
    return {"object": "list", "data": data, "has_more": more, "url": listable.url}


def _cursor(book: AccountBook, listable: Listable[AnyEntry], params: Params, name: str) -> AnyEntry | None:
    object_id = text_of(params, name)
    if object_id is None:
        return None
    entry = listable.find(book, object_id)
    if entry is None:
        raise missing(listable.what, object_id, name)
    return entry


def _bounds(params: Params, time: str = "created") -> tuple[float, float]:
    """Return the first second of the time that is asked for, and the second after the last one."""
    asked = params.get(time)
    if asked is None:
        return float("-inf"), float("inf")
    if isinstance(asked, str):
        second = integer_of(asked, time)
        return second, second + 1
    first, end = float("-inf"), float("inf")
    for name, text in asked.items():
        if name in LOWER:
            first = max(first, integer_of(text, f"{time}[{name}]") + LOWER[name])
        elif name in UPPER:
            end = min(end, integer_of(text, f"{time}[{name}]") + UPPER[name])
        else:
            raise StripeError(400, f"Received unknown parameter: {time}[{name}]", "parameter_unknown", time)
    return first, end


# -- the lists --------------------------------------------------------------------------------------------------------


def payment_named(
    book: AccountBook, params: Params, names: Collection[str] = ("charge", "payment_intent")
) -> Payment | None:
    """Return the payment that the parameters ask for, or None if they name no payment.

    Raises `StripeError` (404 resource_missing) if there is no such payment.
    """
    chosen = None
    for name in names:
        reference = text_of(params, name)
        if reference is None:
            continue
        chosen = book.find_payment(reference)
        if chosen is None or (name == "charge") == reference.startswith("pi_"):
            raise missing(name, reference, name)
    return chosen


def _refunds(book: AccountBook, params: Params) -> Sequence[Refund]:
    payment = payment_named(book, params)
    return (book.refund_list if payment is None else payment.refunds).oldest_first()


def _disputes(book: AccountBook, params: Params) -> Sequence[Dispute]:
    payment = payment_named(book, params)
    return (book.dispute_list if payment is None else payment.disputes).oldest_first()


def _warnings(book: AccountBook, params: Params) -> Sequence[FraudWarning]:
    payment = payment_named(book, params)
    return (book.warning_list if payment is None else payment.warnings).oldest_first()


def _charges(book: AccountBook, params: Params) -> Sequence[Payment]:
    payment = payment_named(book, params, ("payment_intent",))
    payments = book.payment_list.oldest_first() if payment is None else [payment]
    customer = text_of(params, "customer")
    return payments if customer is None else [each for each in payments if each.customer == customer]


def _find_charge(book: AccountBook, charge_id: str) -> Payment | None:
    return None if charge_id.startswith("pi_") else book.find_payment(charge_id)


def _transactions(book: AccountBook, params: Params) -> Sequence[Transaction]:
    type, currency = text_of(params, "type"), text_of(params, "currency")
    source, payout = text_of(params, "source"), text_of(params, "payout")
    if source is None and payout is None:
        return book.ledger.listed(type, currency).oldest_first()
    paid_out = book.ledger.by_payout.get(payout or "", [])
    chosen = paid_out if source is None else book.ledger.by_source.get(source, [])
    in_payout = {each.id for each in paid_out}
    found = [
        each
        for each in chosen
        if type in (None, each.type) and currency in (None, each.currency) and (payout is None or each.id in in_payout)
    ]
    return sorted(found, key=position)


def _transfers(book: AccountBook, params: Params) -> Sequence[Moved]:
    return _matching(book.transfer_list, params, ("destination", "transfer_group"))


def _payouts(book: AccountBook, params: Params) -> Sequence[Moved]:
    found = _matching(book.payout_list, params, ("destination", "status"))
    first, end = _bounds(params, "arrival_date")
    return [each for each in found if first <= each.object["arrival_date"] < end]


def _matching(entries: Ordered[Moved], params: Params, names: Sequence[str]) -> Sequence[Moved]:
    """Return the entries whose fields have the values that the parameters ask for."""
    wanted = {name: text for name in names if (text := text_of(params, name)) is not None}
    found = entries.oldest_first()
    if not wanted:
        return found
    return [each for each in found if all(each.object[name] == text for name, text in wanted.items())]


def _as_stored(book: AccountBook, entry: Any) -> JsonObject:
    shown: JsonObject = entry.object
    return shown


OF_PAYMENT = frozenset({"charge", "payment_intent"})
REFUNDS: Listable[Refund] = Listable(
    "refund", "/v1/refunds", OF_PAYMENT, _refunds, lambda book, refund_id: book.refunds.get(refund_id), _as_stored
)
DISPUTES: Listable[Dispute] = Listable(
    "dispute", "/v1/disputes", OF_PAYMENT, _disputes, lambda book, dispute_id: book.disputes.get(dispute_id), _as_stored
)
WARNINGS: Listable[FraudWarning] = Listable(
    "early_fraud_warning",
    "/v1/radar/early_fraud_warnings",
    OF_PAYMENT,
    _warnings,
    lambda book, warning_id: book.warnings.get(warning_id),
    warning_object,
)
CHARGES: Listable[Payment] = Listable(
    "charge",
    "/v1/charges",
    frozenset({"customer", "payment_intent"}),
    _charges,
    _find_charge,
    lambda _, payment: charge_object(payment),
)
TRANSACTIONS: Listable[Transaction] = Listable(
    "balance_transaction",
    "/v1/balance_transactions",
    frozenset({"currency", "payout", "source", "type"}),
    _transactions,
    lambda book, transaction_id: book.ledger.transactions.get(transaction_id),
    lambda book, transaction: transaction_object(transaction, book.now()),
)
TRANSFERS: Listable[Moved] = Listable(
    "transfer",
    "/v1/transfers",
    frozenset({"destination", "transfer_group"}),
    _transfers,
    lambda book, transfer_id: book.transfers.get(transfer_id),
    lambda _, transfer: transfer_object(transfer),
)
PAYOUTS: Listable[Moved] = Listable(
    "payout",
    "/v1/payouts",
    frozenset({"arrival_date", "destination", "status"}),
    _payouts,
    lambda book, payout_id: book.payouts.get(payout_id),
    _as_stored,
)


def reversals_of(transfer: Moved) -> Listable[Moved]:
    """Return the list of a transfer's reversals. Stripe's has no filter by time."""
    found = transfer.reversals.oldest_first()
    return Listable(
        "transfer reversal",
        f"/v1/transfers/{transfer.id}/reversals",
        frozenset(),
        lambda _book, _params: found,
        lambda _, reversal_id: next((each for each in found if each.id == reversal_id), None),
        _as_stored,
    )


LISTS: dict[str, Listable[Any]] = {
    "list": REFUNDS,
    "balance_transactions": TRANSACTIONS,
    "charges": CHARGES,
    "disputes": DISPUTES,
    "fraud_warnings": WARNINGS,
    "transfers": TRANSFERS,
    "reversals": TRANSFERS,  # a transfer's own list, see `reversals_of`
    "payouts": PAYOUTS,
}
