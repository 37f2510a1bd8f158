"""The screens of the staff's procedures: Manage Customers, one customer, Transactions, and their actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection, RowMapping

from refund_worker.api_schema import Refund
from refund_worker.domain.refund import NOT_YET_POSTED, Kind, To
from refund_worker.engine.intake.schemas import CorrectionSchema, parse_schema
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.views import api_objects
from refund_worker.errors import NotFound, RefundWorkerError
from refund_worker.store import accounts, ledger, refunds
from refund_worker.store.reporting import console_queries
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, key_of, required_text, whole
from refund_worker.web.console.pages import Page, RowNumber, ThePage
from refund_worker.web.console.query import SearchText
from refund_worker.web.console.refund_forms import accepted, ask, form_id, trial

router = APIRouter()
PAGE = 50

Json = dict[str, Any]


@router.get("/customers")
def manage_customers(page: ThePage, q: SearchText = "", after: SearchText | None = None) -> HTMLResponse:
    """List the customers by id; the plus button opens the form that corrects the balance."""
    with page.context.database.read() as connection:
        rows = console_queries.customers_like(connection, q.strip(), limit=PAGE, after=after)
    return page.render("customers.html", q=q, rows=rows[:PAGE], more=rows[PAGE - 1] if len(rows) > PAGE else None)


@router.get("/customer")
def one_customer(page: ThePage, id: SearchText = "") -> Response:
    """Show one customer: balance, payments, corrections and refunds."""
    if not id:
        return page.redirect("/customers")
    with page.context.database.read() as connection:
        customer = api_objects.customer(connection, id)
        paid = console_queries.latest_payments(connection, id)
        latest = refunds.Filters(customer_id=id, client=page.identity.sees, limit=10)
        found = api_objects.list_refunds(connection, latest)["data"]
    return page.render("customer.html", customer=customer, payments=paid, refunds=found)


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


@router.get("/transactions")
def transactions(
    page: ThePage, customer: SearchText = "", after: SearchText | None = None, before: RowNumber | None = None
) -> HTMLResponse:
    """List the changes of balances, newest first, of one customer or of all."""
    customer = customer.strip()
    with page.context.database.read() as connection:
        account = None
        waiting: list[Refund] = []
        if customer:
            account = accounts.find_customer(connection, customer)
            found = ledger.transactions_of(connection, customer, limit=PAGE + 1, after=after) if account else []
            open_ones = refunds.Filters(
                customer_id=customer, statuses=NOT_YET_POSTED, client=page.identity.sees, limit=PAGE
            )
            waiting = api_objects.list_refunds(connection, open_ones)["data"]
        else:
            found = console_queries.latest_transactions(connection, limit=PAGE, before=before)
        lines = _lines(connection, found[:PAGE])
    more = found[PAGE - 1] if len(found) > PAGE else None
    shown: Json = {"lines": lines, "more": more, "customer": customer, "account": account, "waiting": waiting}
    return page.render("transactions.html", 404 if customer and account is None else 200, **shown)


def _lines(connection: Connection, entries: Collection[RowMapping]) -> list[Line]:
    ids = [entry["transaction_id"] for entry in entries]
    refundable = console_queries.taken_of_transactions(connection, ids)
    reversed_ones = console_queries.reversed_among(connection, ids)
    with_money = console_queries.refunds_with_legs(connection, {e["refund_id"] for e in entries if e["refund_id"]})
    payouts = console_queries.payouts_of(connection, ids)
    return [
        _line(entry, refundable, reversed_ones, with_money, payouts.get(entry["transaction_id"])) for entry in entries
    ]


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
    elif kind == "correction" and not entry["refund_id"]:
        paid_out = transaction is not None and transaction["taken"] > 0
        delete = "it is being paid out or was paid out" if paid_out else ""
        pay_out = entry["credits"] < 0 and not paid_out and id not in reversed_ones
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
        entry = authorised.delete_transaction(page.context, page.identity, id, reason=reason)
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
        (line,) = _lines(connection, [entry])
        account = accounts.find_customer(connection, entry["customer_id"])
    values: Json = {"line": line, "account": account, "reason": page.form.get("reason", ""), "error": error}
    return page.render("delete_transaction.html", error.status if error else 200, **values)


# --- Add credits to customer's account -------------------------------------------------------------------------------


@router.get("/add-credits")
def ask_to_add_credits(page: ThePage, customer: SearchText = "") -> Response:
    """Show the form with the balance and the recent corrections."""
    if not customer:
        return page.redirect("/customers")
    return _credits_page(page, {"customer": customer})


@router.post("/add-credits", response_model=None)
def add_credits(page: ThePage) -> Response:
    """Add the correction; the same form sent twice adds one correction."""
    form = page.form
    try:
        values = {"credits": whole(form, "credits", "Amount"), "reason": required_text(form, "reason", "Reason")}
        body = parse_schema(CorrectionSchema, values)
        authorised.correct(
            page.context,
            page.identity,
            form.get("customer", ""),
            credits=body.credits,
            reason=body.reason,
            idempotency_key=key_of(form),
        )
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _credits_page(page, form, error)
    return page.redirect("/add-credits", customer=form["customer"], done="corrected")


def _credits_page(page: Page, form: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    id = form.get("customer", "")
    with page.context.database.read() as connection:
        customer = api_objects.customer(connection, id)
        ids = [entry["transaction_id"] for entry in customer["recent_corrections"]]
        found = ledger.transactions_by_id(connection, ids)
        lines = _lines(connection, [found[each] for each in ids])
    values: Json = {
        "customer": customer,
        "lines": lines,
        "credits": form.get("credits", ""),
        "reason": form.get("reason", ""),
        "request_id": form_id(form, error),
        "error": error,
    }
    return page.render("add_credits.html", error.status if error else 200, **values)


# --- Return money through the paying system --------------------------------------------------------------------------


@router.get("/return-money")
def ask_to_return_money(page: ThePage, id: SearchText = "", currency: SearchText = "") -> Response:
    """Show the payments that the money of a negative correction would go back through."""
    if not id:
        return page.redirect("/transactions")
    return _money_page(page, {"id": id, "currency": currency})


@router.post("/return-money", response_model=None)
def return_money(page: ThePage) -> Response:
    """Pay out the correction by a withdrawal that removes nothing more from the balance."""
    form = page.form
    entry = _correction(page, form.get("id", ""))
    try:
        fields = {
            "kind": "withdrawal",
            "to": "source",
            "customer_id": entry["customer_id"],
            "transaction_id": entry["transaction_id"],
            "currency": form.get("currency") or None,
            "reason": required_text(form, "reason", "Reason"),
            "note": form.get("note", "").strip() or None,
        }
        refund_id = ask(page, fields)
    except RefundWorkerError as error:
        return _money_page(page, form, error)
    return page.redirect(f"/refunds/{refund_id}", done=accepted(page, refund_id))


def _correction(page: Page, transaction_id: str) -> RowMapping:
    with page.context.database.read() as connection:
        entry = ledger.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    if entry is None or entry["kind"] != "correction" or entry["credits"] >= 0:
        raise NotFound(f"there is no correction {transaction_id} that removed credits")
    return entry


def _money_page(page: Page, form: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    entry = _correction(page, form.get("id", ""))
    with page.context.database.read() as connection:
        currencies = sorted(
            {row["currency"] for row in console_queries.latest_payments(connection, entry["customer_id"])}
        )
    wanted = form.get("currency") or (currencies[0] if len(currencies) > 1 else "")
    currency = wanted if wanted in currencies else None
    previewed = preview(page.context, trial(page, Kind.WITHDRAWAL, To.SOURCE, entry, currency=currency))
    values: Json = {
        "entry": entry,
        "preview": previewed,
        "currencies": currencies,
        "currency": currency or "",
        "reason": form.get("reason", "") or entry["description"],
        "note": form.get("note", ""),
        "request_id": form_id(form, error),
        "error": error,
    }
    return page.render("return_money.html", error.status if error else 200, **values)
