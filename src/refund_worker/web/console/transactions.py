"""Transactions: the list with its search, the possible actions of each entry, and Delete."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection, RowMapping

from refund_worker.api_schema import Refund
from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.ledger import Purpose
from refund_worker.domain.payouts.earnings import Earning
from refund_worker.domain.refund import NOT_YET_POSTED
from refund_worker.engine.accounts.corrections import state_of
from refund_worker.engine.intake.schemas import parse_day, parse_schema
from refund_worker.engine.views import api_objects
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.processors.accounts import Accounts
from refund_worker.store import accounts, ledger, refunds
from refund_worker.store.reporting import console_queries, entry_search
from refund_worker.store.reporting.entry_search import Found, Wanted
from refund_worker.times import DAY
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, required_text
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import SearchText
from refund_worker.web.console.shares import shares_of

router = APIRouter()
PAGE = 50

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of Transactions and its possible actions.

    `refund` and `delete` are None if the action never applies to this kind of entry, "" if it is possible now, and
    otherwise the reason why it is not.
    """

    entry: RowMapping
    refund: str | None
    delete: str | None
    pay_out: bool
    paid_out_by: str | None  # id of the refund that pays a correction out
    shares: Sequence[Earning] = ()  # of payees in this spend, or in the spend that this entry refunds


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The entries that a person looks for: of a customer, of a day in UTC, by an id or a text, or one entry."""

    customer: str
    q: str
    day: str
    id: str
    after: str | None


async def _chosen(
    customer: SearchText = "", q: SearchText = "", day: SearchText = "", id: SearchText = "", after: SearchText = ""
) -> Chosen:
    return Chosen(customer=customer.strip(), q=q.strip(), day=day.strip(), id=id, after=after or None)


@router.get("/transactions")
def transactions(page: ThePage, chosen: Annotated[Chosen, Depends(_chosen)]) -> HTMLResponse:
    """List the changes of balances, newest first, of one customer or of all, or those that match a search."""
    found, error = Found([], None), None
    account = None
    waiting: list[Refund] = []
    with page.context.database.read() as connection:
        if chosen.customer:
            account = accounts.find_customer(connection, chosen.customer)
        try:
            if account is not None or not chosen.customer:
                ids = accounts.ids_of(connection, account.customer_id) if account else []
                found = _find(connection, chosen, ids, page.context.accounts)
        except InvalidRequest as wrong:
            error = wrong
        if account is not None and not (chosen.q or chosen.day or chosen.id or chosen.after):
            statuses, sees = NOT_YET_POSTED, page.identity.sees
            open_ones = refunds.Filters(customer_id=chosen.customer, statuses=statuses, client=sees, limit=PAGE)
            waiting = api_objects.list_refunds(connection, open_ones)["data"]
        lines = lines_of(connection, found.rows)
    missing = (chosen.customer and account is None) or (chosen.id and not found.rows)
    values: Json = {"lines": lines, "found": found, "chosen": chosen, "account": account, "waiting": waiting}
    values |= {"read_max": entry_search.ENTRIES_READ_MAX, "page_size": PAGE, "error": error}
    return page.render("transactions.html", error.status if error else 404 if missing else 200, **values)


def _find(connection: Connection, chosen: Chosen, customer_ids: Sequence[str], accounts: Accounts) -> Found:
    """Return the entries that belong to the id, or else those that match. `customer_ids` are all of the customer, none
    for all customers. Raises `InvalidRequest` for a wrong day."""
    name = chosen.id or (chosen.q if not chosen.after else "")
    if name:
        family = entry_search.family_of(connection, name, tuple(accounts))
        named = [row for row in family if not customer_ids or row["customer_id"] in customer_ids]
        if named or chosen.id:
            return Found(named, None)
    since = parse_day(chosen.day, "day") if chosen.day else None
    wanted = Wanted(
        customer_ids=customer_ids,
        since=since,
        until=None if since is None else since + DAY,
        text=chosen.q,
        after=chosen.after,
    )
    return entry_search.entries(connection, wanted, limit=PAGE)


def lines_of(connection: Connection, entries: Collection[RowMapping]) -> list[Line]:
    """Return the entries with their possible actions, in order."""
    ids = [entry["transaction_id"] for entry in entries]
    refundable = console_queries.taken_of_transactions(connection, ids)
    reversed_ones = console_queries.reversed_among(connection, ids)
    with_money = console_queries.refunds_with_legs(connection, {e["refund_id"] for e in entries if e["refund_id"]})
    payouts = console_queries.payouts_of(connection, ids)
    shares = shares_of(connection, {spend for entry in entries if (spend := _spend_of(entry)) is not None})
    return [
        replace(
            _line(entry, refundable, reversed_ones, with_money, payouts.get(entry["transaction_id"])),
            shares=shares.get(_spend_of(entry) or "", ()),
        )
        for entry in entries
    ]


def _spend_of(entry: RowMapping) -> str | None:
    """Return the spend that the entry is or refunds, or None."""
    id: str | None = {"spend": entry["transaction_id"], "credit_refund": entry["refers_to"]}.get(entry["kind"])
    return id


def _line(
    entry: RowMapping,
    refundable: Mapping[str, RowMapping],
    reversed_ones: Collection[str],
    with_money: Collection[str],
    payout: str | None,
) -> Line:
    kind, id = entry["kind"], entry["transaction_id"]
    transaction = refundable.get(id)
    left = transaction["credits"] - transaction["taken"] if transaction else 0
    refund = delete = None
    pay_out = paid_out = False
    if kind == "spend":
        refund = "" if left else "all of it has already been refunded"
    elif kind == "credit_refund":
        delete = "the money of this refund has already been requested" if entry["refund_id"] in with_money else ""
    elif kind in ("correction", "expiry") and not entry["refund_id"]:
        paid_out = transaction is not None and transaction["taken"] > 0
        delete = "it is being paid out or was paid out" if paid_out else ""
        pay_out = entry["purpose"] == Purpose.PAYOUT and not paid_out and id not in reversed_ones
    if delete is not None and id in reversed_ones:
        delete = "already deleted: a reversal refers to it"
    return Line(entry, refund, delete, pay_out, payout if paid_out else None)


# --- Delete ----------------------------------------------------------------------------------------------------------


@router.get("/delete-transaction")
def ask_to_delete(page: ThePage, id: SearchText = "") -> Response:
    """Show the effect of Delete, or why it is not possible."""
    if not id:
        return page.redirect("/transactions")
    return _delete_page(page, id)


@router.post("/delete-transaction", response_model=None)
def delete_transaction(page: ThePage) -> Response:
    """Add the reversal entry; repeating the request adds no second one."""
    id = page.form.get("id", "")
    try:
        # The engine reverses an entry only once, so this needs no idempotency key of the form.
        reason = parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason
        seen = page.form.get("seen")
        entry = authorised.delete_transaction(page.context, page.identity, id, reason=reason, seen=seen)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _delete_page(page, id, error)
    return page.redirect("/transactions", customer=entry["customer_id"], done="deleted")


def _delete_page(page: Page, id: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        entry = ledger.transactions_by_id(connection, [id]).get(id)
        if entry is None:
            raise NotFound(f"transaction {id} is not known")
        (line,) = lines_of(connection, [entry])
        account = accounts.find_customer(connection, entry["customer_id"]) or CustomerAccount(customer_id="")
        seen = state_of(connection, account)
    values: Json = {
        "line": line,
        "account": account,
        "seen": seen,
        "reason": page.form.get("reason", ""),
        "error": error,
    }
    return page.render("delete_transaction.html", error.status if error else 200, **values)
