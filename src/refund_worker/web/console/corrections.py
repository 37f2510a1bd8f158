"""Add credits to customer's account, and the return of the money of a correction through the paying system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection, RowMapping

from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction
from refund_worker.domain.ledger import Purpose
from refund_worker.domain.refund import Kind, To
from refund_worker.engine.accounts.corrections import state_of
from refund_worker.engine.accounts.split_correction import divided, payable_of_correction
from refund_worker.engine.intake.schemas import CorrectionSchema, parse_schema
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.views import api_objects
from refund_worker.errors import ChangedMeanwhile, NotFound, RefundWorkerError
from refund_worker.store import accounts, ledger
from refund_worker.store.payouts import payees
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, key_of, required_text, whole
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import LongText, SearchText, ShortText
from refund_worker.web.console.refund_forms import accepted, ask, form_id, trial
from refund_worker.web.console.transactions import lines_of

router = APIRouter()
# Entries that are shown if the account has changed while the form was open.
LATEST = 5
# Payees of one customer that the form offers.
PAYEES = 10

Json = dict[str, Any]


# --- Add credits to customer's account -------------------------------------------------------------------------------


@router.get("/add-credits")
def ask_to_add_credits(
    page: ThePage, customer: SearchText = "", credits: ShortText = "", reason: LongText = ""
) -> Response:
    """Show the form with the balance, what can be paid out, and the recent corrections.

    A link can fill in the amount and the reason, as those of early fraud warnings do. Nothing happens before a person
    sends the form.
    """
    if not customer:
        return page.redirect("/customers")
    return _credits_page(page, {"customer": customer, "credits": credits, "reason": reason})


@router.post("/add-credits", response_model=None)
def add_credits(page: ThePage) -> Response:
    """Add the correction; the same form sent twice adds one correction.

    Nothing is added if the account has changed since the form was opened, or if credits to be paid out cannot be.
    """
    form = page.form
    if form.get("use"):
        # A button with the part that can be paid out: it fills the form in, and a person presses Add.
        return _credits_page(page, {**form, "credits": form["use"], "purpose": Purpose.PAYOUT})
    try:
        credits = whole(form, "credits", "Amount")
        values: Json = {"credits": credits, "reason": required_text(form, "reason", "Reason")}
        if credits < 0:  # the purpose is about credits that are taken off
            values["purpose"] = form.get("purpose") or None
        body = parse_schema(CorrectionSchema, values)
        authorised.correct(
            page.context,
            page.identity,
            form.get("customer", ""),
            body,
            idempotency_key=key_of(form),
            payable_only=True,
            seen=form.get("seen"),
        )
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _credits_page(page, form, error)
    return page.redirect("/add-credits", customer=form["customer"], done="corrected")


def _credits_page(page: Page, form: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    id = form.get("customer", "")
    with page.context.database.read() as connection:
        customer = api_objects.customer(connection, id, page.context.policy)
        account = accounts.find_customer(connection, id) or CustomerAccount(customer_id=id)
        seen = state_of(connection, account)
        # Free credits must not take the place of those that wait to be paid out.
        payable = account.payable_besides(accounts.credits_to_pay_out(connection, account.customer_id))
        ids = [entry["transaction_id"] for entry in customer["recent_corrections"]]
        found = ledger.transactions_by_id(connection, ids)
        lines = lines_of(connection, [found[each] for each in ids])
        changed = isinstance(error, ChangedMeanwhile)
        its_ids = accounts.ids_of(connection, account.customer_id)
        latest = ledger.transactions_of(connection, its_ids, limit=LATEST) if changed else []
    values: Json = {
        "customer": customer,
        "lines": lines,
        "latest": latest,
        "seen": seen,
        "payable": payable,
        "credits": form.get("credits", ""),
        "purpose": form.get("purpose") or Purpose.PAYOUT,
        "reason": form.get("reason", ""),
        "request_id": form_id(form, error),
        "error": error,
    }
    return page.render("add_credits.html", error.status if error else 200, **values)


# --- Return money through the paying system --------------------------------------------------------------------------


@router.get("/return-money")
def ask_to_return_money(
    page: ThePage, id: SearchText = "", currency: SearchText = "", payee_id: SearchText = ""
) -> Response:
    """Show the payments that the money of a negative correction would go back through.

    With a payee, the rest that they cannot take is paid out.
    """
    if not id:
        return page.redirect("/transactions")
    return _money_page(page, {"id": id, "currency": currency, "payee_id": payee_id})


@router.post("/return-money", response_model=None)
def return_money(page: ThePage) -> Response:
    """Pay out the correction by a withdrawal that removes nothing more from the balance."""
    form = page.form
    with page.context.database.read() as connection:
        entry = _correction(connection, form.get("id", ""))
    try:
        payee_id = form.get("payee_id") or None
        fields = {
            "kind": "withdrawal",
            "to": "payout" if payee_id else "source",
            "payee_id": payee_id,
            "customer_id": entry["customer_id"],
            "transaction_id": entry["transaction_id"],
            "currency": form.get("currency") or None,
            "reason": required_text(form, "reason", "Reason"),
            "note": form.get("note", "").strip() or None,
            "instructions_email": form.get("instructions_email", "").strip() or None,
        }
        refund_id = ask(page, fields)
    except RefundWorkerError as error:
        return _money_page(page, form, error)
    return page.redirect(f"/refunds/{refund_id}", done=accepted(page, refund_id))


@router.post("/split-correction", response_model=None)
def split_correction(page: ThePage) -> Response:
    """Replace a correction that is too large by parts that can be paid out, and go on with the first of them."""
    form = page.form
    try:
        reason = parse_schema(Why, {"reason": required_text(form, "reason", "Reason")}).reason
        made = authorised.split_correction(
            page.context,
            page.identity,
            form.get("id", ""),
            first=form.get("first", ""),
            shown=form.get(f"shown-{form.get('first', '')}", ""),
            reason=reason,
            idempotency_key=key_of(form),
        )
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _money_page(page, form, error)
    return page.redirect("/return-money", id=made["transaction_id"], currency=form.get("first", ""), done="split")


def _correction(connection: Connection, transaction_id: str) -> RowMapping:
    entry = ledger.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    if entry is None or entry["purpose"] != Purpose.PAYOUT:
        raise NotFound(f"there is no correction {transaction_id} that removed credits to pay them out")
    return entry


def _money_page(page: Page, form: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    allocation = page.context.policy
    with page.context.database.read() as connection:
        entry = _correction(connection, form.get("id", ""))
        account = accounts.find_customer(connection, entry["customer_id"]) or CustomerAccount(customer_id="")
        correction = accounts.refundable_transactions(connection, [entry["transaction_id"]])[entry["transaction_id"]]
        payable = payable_of_correction(connection, account, correction, allocation)
        customers_payees = payees.page(connection, limit=PAYEES, customer_id=account.customer_id)
    payee = next((each for each in customers_payees if each.payee_id == form.get("payee_id")), None)
    whole_ones = [part.currency for part in payable if part.credits == correction.credits]
    currencies = [part.currency for part in payable]
    wanted = form.get("currency", "")
    currency = wanted if wanted in currencies else next(iter([*whole_ones, *currencies]), None)
    if payee is not None:
        currency = payee.currency
    options = {"currency": currency, "payee_id": payee.payee_id if payee else None}
    previewed = preview(page.context, trial(page, Kind.WITHDRAWAL, To.SOURCE, entry, **options))
    values: Json = {
        "entry": entry,
        "preview": previewed,
        "payable": payable,
        "currency": currency or "",
        "payees": customers_payees,
        "payee": payee,
        "divisions": [] if whole_ones or payee else _divisions(account, correction, payable),
        "correction": correction,
        "reason": form.get("reason", "") or entry["description"],
        "note": form.get("note", ""),
        "instructions_email": form.get("instructions_email", ""),
        "request_id": form_id(form, error),
        "error": error,
    }
    return page.render("return_money.html", error.status if error else 200, **values)


def _divisions(account: CustomerAccount, correction: RefundableTransaction, payable: Any) -> list[Json]:
    """Return the ways to divide a correction that no currency can pay out, one for each currency as the first."""
    if correction.taken or correction.reversed:
        return []
    return [
        {"first": part.currency, "division": divided(account, correction.credits, payable, part.currency)}
        for part in payable
    ]
