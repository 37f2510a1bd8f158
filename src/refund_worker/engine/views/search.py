"""Find refunds by whatever a person has in hand: an id, a key, a customer, a payment, a batch, a text or a day."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from sqlalchemy import Connection, RowMapping

from refund_worker import api_schema
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.money import decimal_places
from refund_worker.engine.views.api_objects import list_refunds, refund_view
from refund_worker.errors import InvalidRequest
from refund_worker.store import accounts, refunds
from refund_worker.store.refunds import Filters
from refund_worker.store.reporting import entry_search
from refund_worker.store.reporting import search as store
from refund_worker.times import DAY, EARLIEST, LATEST

LIMIT = 50
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT = re.compile(r"(?P<number>[0-9][0-9,]*(?:\.[0-9]+)?)\s*(?P<currency>[A-Za-z]{3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Filters without an index: they are compared with the texts and amounts of the newest refunds, piece by piece."""

    kind: str | None = None
    amount: str | None = None
    text: str | None = None
    requested_by: str | None = None
    reference: str | None = None  # a refund whose manual payment has this in its reference matches too

    @property
    def any(self) -> bool:
        """Return True if one of them is set."""
        return any((self.kind, self.amount, self.text, self.requested_by, self.reference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The refunds that a search found, newest first.

    `matched` says by what: "text", "id", or "id, customer" if the text is several names, or "".

    `looked_back_to` is the id of the oldest refund whose text was read, if there are older ones. `more` is True if an
    exact name has more refunds than these. `customers` are those with the text in their id; they are looked for only if
    no refund is found.
    """

    refunds: list[api_schema.Refund]
    matched: str
    looked_back_to: str | None = None
    customer_id: str | None = None
    transaction_id: str | None = None
    batch_id: str | None = None
    day: tuple[float, float] | None = None
    more: bool = False
    customers: tuple[str, ...] = ()


def search(connection: Connection, text: str, *, client: str | None = None, before: str | None = None) -> Found:
    """Return what `text` names, of the refunds that `client` (None: anyone) may see.

    An exact name comes first: of a refund, a batch, a payment, a refund at the processor, its trace, a transaction, a
    customer, or a day. A text can be several names at once: then each of them counts. Otherwise the texts of the newest
    refunds and the references of their manual payments are searched, those older than the refund `before` if it is
    given, and then the ids of customers, in any case.
    """
    text = text.strip()
    if not text:
        return Found(refunds=[], matched="")
    if before is None and (exact := _exact(connection, text, client)) is not None:
        return exact
    wanted = Wanted(text=text, reference=text)
    page = list_matching(connection, Filters(client=client, starting_after=before, limit=LIMIT), wanted)
    if page.data or before is not None:
        return Found(refunds=page.data, matched="text" if page.data else "", looked_back_to=page.looked_back_to)
    named = entry_search.customers_found(connection, text, limit=LIMIT).rows
    customers = tuple(row["customer_id"] for row in named)
    return Found(refunds=[], matched="", looked_back_to=page.looked_back_to, customers=customers)


Finder = Callable[[Connection, str, str | None, int], list[str]]


def _by_customer(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    return refunds.find_ids(connection, Filters(client=client, customer_id=text, limit=limit - 1))


_FINDERS: Mapping[str, Finder] = {
    "id": store.by_id_or_key,
    "payment": store.by_payment,
    "processor's refund": store.by_object,
    "manual payment": store.by_manual_payment,
    "trace": store.by_trace,
    "transaction": store.by_transaction,
    "customer": _by_customer,
}


def _exact(connection: Connection, text: str, client: str | None) -> Found | None:
    by_name = {matched: find(connection, text, client, LIMIT + 1) for matched, find in _FINDERS.items()}
    ids = sorted({refund_id for found in by_name.values() for refund_id in found}, reverse=True)
    customer = accounts.find_customer(connection, text)
    entry = store.transaction_of(connection, text)
    if ids:
        return Found(
            refunds=_views(connection, ids[:LIMIT]),
            matched=", ".join(matched for matched, found in by_name.items() if found),
            customer_id=customer.customer_id if customer else None,
            transaction_id=text if entry is not None and by_name["transaction"] else None,
            more=len(ids) > LIMIT,
        )
    batch = text if store.is_batch(connection, text, client) else None
    if batch is not None:
        return Found(refunds=[], matched="batch", batch_id=batch)
    if customer is not None:
        return Found(refunds=[], matched="customer", customer_id=customer.customer_id)
    if entry is not None:
        return Found(refunds=[], matched="transaction", transaction_id=text, customer_id=entry["customer_id"])
    if store.is_payment(connection, text):
        return Found(refunds=[], matched="payment", transaction_id=text)
    day = day_of(text)
    if day is None:
        return None
    filters = Filters(client=client, created_gte=day[0], created_lt=day[1], limit=LIMIT)
    return Found(refunds=list_refunds(connection, filters)["data"], matched="day", day=day)


@dataclass(frozen=True, slots=True)
class Matching:
    """One page of refunds that match; `looked_back_to` is where the next page begins, None at the end."""

    data: list[api_schema.Refund]
    looked_back_to: str | None


def list_matching(connection: Connection, filters: Filters, wanted: Wanted) -> Matching:
    """Return the refunds that match, newest first, at most `filters.limit`, of the next `store.WINDOW` refunds.

    Raises `InvalidRequest` for a text that is not an amount.
    """
    matches = _matcher(wanted)
    rows = store.window(connection, filters)
    read = [row["refund_id"] for row in rows]
    money = store.money_of(connection, read) if wanted.amount else {}
    named = _naming(wanted.reference, store.references_of(connection, read)) if wanted.reference else frozenset()
    ids: list[str] = []
    for row in rows:
        if row["refund_id"] in named or matches(row, money.get(row["refund_id"], [])):
            ids.append(row["refund_id"])
            if len(ids) > filters.limit:
                return Matching(_views(connection, ids[:-1]), ids[-2])
    more = len(rows) == store.WINDOW
    return Matching(_views(connection, ids), rows[-1]["refund_id"] if more else None)


def _naming(text: str, references: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Return the refunds of these (refund id, reference) whose reference has the text, with or without our prefix."""
    part = folded(text.removeprefix(MANUAL_PREFIX))
    return frozenset(refund_id for refund_id, reference in references if part and part in folded(reference))


def _matcher(wanted: Wanted) -> Callable[[RowMapping, Iterable[tuple[str, int]]], bool]:
    text, asked_by = folded(wanted.text or ""), folded(wanted.requested_by or "")
    amount = None if wanted.amount is None else amount_of(wanted.amount)

    def matches(row: RowMapping, money: Iterable[tuple[str, int]]) -> bool:
        if wanted.kind is not None and row["kind"] != wanted.kind:
            return False
        if text and not any(text in folded(str(row[name] or "")) for name in ("reason", "note")):
            return False
        if asked_by and not any(asked_by in folded(str(row[n] or "")) for n in ("requested_by", "requested_by_note")):
            return False
        return amount is None or any(_same(amount, minor, currency) for currency, minor in money)

    return matches


def _same(amount: tuple[Decimal, str | None], minor: int, currency: str) -> bool:
    number, wanted = amount
    return wanted in (None, currency) and Decimal(minor).scaleb(-decimal_places(currency)) == number


def amount_of(text: str) -> tuple[Decimal, str | None]:
    """Return the number of an amount such as 12.50 or 12.50 EUR, and its currency. Raises `InvalidRequest`."""
    found = _AMOUNT.fullmatch(text.strip())
    try:
        if found is None:
            raise InvalidOperation
        number = Decimal(found["number"].replace(",", ""))
    except InvalidOperation:
        raise InvalidRequest("amount: enter an amount such as 12.50, or 12.50 EUR", field="amount") from None
    return number, found["currency"].upper() if found["currency"] else None


def day_of(text: str) -> tuple[float, float] | None:
    """Return the beginning and the end of a day such as 2026-11-27, in UTC, or None if the text is no day that a filter
    takes.
    """
    if not _DAY.fullmatch(text):
        return None
    try:
        begins = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return (begins, begins + DAY) if EARLIEST <= begins < LATEST else None


def folded(text: str) -> str:
    """Return the text without differences of case and of Unicode forms."""
    return unicodedata.normalize("NFKC", text).casefold()


def _views(connection: Connection, ids: list[str]) -> list[api_schema.Refund]:
    found = {refund.refund_id: refund_view(refund) for refund in refunds.load(connection, ids)}
    return [found[each] for each in ids]
