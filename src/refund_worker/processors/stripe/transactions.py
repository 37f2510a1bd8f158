"""The Stripe adapter reads the balance transactions of refunds and disputes: each type's list in turn, page by page.

The object that caused a transaction is read with it, by expanding it. Where the server or a restricted key does not
allow that, the transaction comes without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from refund_worker.domain.balance_transactions import BalanceTransaction, Cause, TransactionsPage
from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_replies import Misconfigured, NotReadable, TransactionsReply
from refund_worker.processors.stripe.answers import ListFailure
from refund_worker.processors.stripe.objects import CREATED_MAX, CURRENCY, OPAQUE_ID, mark_of_installation, payment_refs
from refund_worker.processors.stripe.paging import Listing, Page, Pages
from refund_worker.processors.wire import Unreadable

# The types of balance transactions that can be about a refund or a dispute. Charges are the most, and none of these.
TYPES: Final = ("refund", "payment_refund", "refund_failure", "payment_failure_refund", "adjustment")
# Stripe's reports sort by this category: adjustments are of many kinds, and the type `refund` also has the part of a
# payment that was never captured. docs.stripe.com/reports/reporting-categories, read 2026-11.
_OF_CATEGORY: Final = {
    "refund": Cause.REFUND,
    "refund_failure": Cause.REFUND,
    "dispute": Cause.DISPUTE,
    "dispute_reversal": Cause.DISPUTE,
    "charge_failure": Cause.PAYMENT,
}
# Servers that speak Stripe's API may leave the category out.
_OF_TYPE: Final = {
    "refund": Cause.REFUND,
    "payment_refund": Cause.REFUND,
    "refund_failure": Cause.REFUND,
    "payment_failure_refund": Cause.PAYMENT,
}
_DISPUTE_IDS: Final = ("dp_", "du_")
_EXPANDED: Final = {"expand": ["data.source"]}


class ReadsTransactions:
    """The part of the Stripe adapter that reads balance transactions.

    `_failure` returns the meaning of a failed call.
    """

    _pages: Pages
    _failure: Callable[[Exception], NotReadable | ListFailure]

    async def balance_transactions(
        self, created_gte: datetime, created_lt: datetime, after: str | None
    ) -> TransactionsReply:
        """Return one page of the balance transactions made in this time; `after` continues an earlier page.

        Raises ValueError for a naive datetime.
        """
        if created_gte.tzinfo is None or created_lt.tzinfo is None:
            raise ValueError("a time needs a time zone")
        type, _, last = (after or TYPES[0]).partition(":")
        if type not in TYPES:
            raise ValueError("after is not of a page of balance transactions")
        where: dict[str, Any] = {"created": {"gte": int(created_gte.timestamp()), "lt": int(created_lt.timestamp())}}
        where |= {"type": type} | ({"starting_after": last} if last else {})
        try:
            found, has_more = await self._page_of_transactions(where)
            if has_more and (not found or found[-1][0] == last):
                raise Unreadable("the list says there is more but does not advance")
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer
            return self._failure(error)
        transactions = tuple(transaction for _, transaction in found if transaction is not None)
        if has_more:
            return TransactionsPage(transactions, f"{type}:{found[-1][0]}")
        following = TYPES[TYPES.index(type) + 1 :]
        return TransactionsPage(transactions, following[0] if following else None)

    async def balance_transactions_of(self, object_id: str) -> TransactionsReply:
        """Return all balance transactions of one refund or dispute, within one deadline."""
        if not OPAQUE_ID.fullmatch(object_id):
            return Misconfigured("bad_payment_id", "this is no id of a Stripe object; nothing was asked")
        try:
            found = await self._pages.of_payment(TRANSACTIONS, {"source": object_id})
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)
        return TransactionsPage(tuple(transaction for _, transaction in found if transaction is not None), None)

    async def _page_of_transactions(self, where: Mapping[str, Any]) -> Page[Listed]:
        try:
            return await self._pages.one(TRANSACTIONS, {**where, **_EXPANDED})
        except Exception as error:
            if not isinstance(self._failure(error), NotReadable):
                raise
            return await self._pages.one(TRANSACTIONS, where)


# The id of a transaction, which continues a list, and the transaction, or None if it is about neither.
Listed = tuple[str, BalanceTransaction | None]


def to_transaction(data: object) -> Listed:
    """Return the balance transaction that Stripe's JSON describes, without it if it is about neither a refund nor a
    dispute.

    Raises `Unreadable` if it is no balance transaction or lacks a required field.
    """
    if not isinstance(data, dict) or data.get("object") != "balance_transaction":
        raise Unreadable("not a balance transaction")
    identifier, amount, currency, created = (data.get(name) for name in ("id", "amount", "currency", "created"))
    if not isinstance(identifier, str) or not OPAQUE_ID.fullmatch(identifier):
        raise Unreadable("a balance transaction without a usable id")
    source = data.get("source")
    described = source if isinstance(source, dict) else {}
    object_id = described.get("id") if described else source
    cause = _cause(data, object_id)
    if cause is None:
        return identifier, None
    # type() and not isinstance(): True is an int to Python, and no amount.
    if type(amount) is not int or abs(amount) > AMOUNT_MAX:
        raise Unreadable("a balance transaction whose amount is not a whole number of minor units")
    if type(created) is not int or not 0 <= created < CREATED_MAX:
        raise Unreadable("a balance transaction without a usable time of creation")
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency):
        raise Unreadable("a balance transaction without a currency")
    if not isinstance(object_id, str) or not OPAQUE_ID.fullmatch(object_id):
        raise Unreadable("a balance transaction without the object that caused it")
    own_currency = described.get("currency")
    is_other = isinstance(own_currency, str) and own_currency.upper() != currency.upper()
    refs = payment_refs(described)
    return identifier, BalanceTransaction(
        transaction_id=identifier,
        cause=cause,
        object_id=object_id,
        amount_minor=amount,
        currency=currency.upper(),
        created_at=datetime.fromtimestamp(created, UTC),
        payment_refs=(object_id, *refs) if cause is Cause.PAYMENT else refs,
        installation=mark_of_installation(described),
        is_converted=is_other or data.get("exchange_rate") is not None,
    )


def _cause(data: Mapping[str, Any], object_id: object) -> Cause | None:
    """Return the kind of object that caused the transaction, or None for any other movement."""
    category, type = data.get("reporting_category"), data.get("type")
    if isinstance(category, str):
        return _OF_CATEGORY.get(category)
    if type == "adjustment" and isinstance(object_id, str) and object_id.startswith(_DISPUTE_IDS):
        return Cause.DISPUTE
    return _OF_TYPE.get(type) if isinstance(type, str) else None


TRANSACTIONS: Final[Listing[Listed]] = Listing("/v1/balance_transactions", to_transaction, lambda listed: listed[0])
