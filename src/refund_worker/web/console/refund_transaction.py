"""Refund transaction: the panel, its preview, and the earlier refunds of the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection, RowMapping

from refund_worker.domain.refund import NOT_YET_POSTED, Kind, To
from refund_worker.engine.accounts.payable import payable_parts
from refund_worker.engine.refunds.preview import preview
from refund_worker.engine.views import api_objects
from refund_worker.errors import Conflict, ExceedsRefundable, InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store import accounts, ledger, refunds
from refund_worker.store.reporting import console_queries
from refund_worker.web.console.forms import required_text, whole
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import SearchText
from refund_worker.web.console.refund_forms import accepted, ask, form_id, trial, was_sent
from refund_worker.web.console.shares import shares_of

router = APIRouter()
EARLIER = 20

Json = dict[str, Any]


@router.get("/refund-transaction")
def refund_panel(
    page: ThePage,
    id: SearchText = "",
    credits: SearchText | None = None,
    to: SearchText = "balance",
    currency: SearchText = "",
) -> Response:
    """Show the panel with a preview; without `credits`, for everything that is left to refund."""
    if not id:
        return page.redirect("/transactions")
    amount = {} if credits is None else {"credits": credits}
    return _panel(page, {"id": id, "to": to, "currency": currency} | amount)


@router.get("/refund-transaction/preview")
def back_to_panel(page: ThePage, id: SearchText = "") -> Response:
    """Redirect a preview's address that was opened again to the panel, since the form's input is not in it."""
    return page.redirect("/refund-transaction", id=id)


@router.post("/refund-transaction/preview")
def refund_preview(page: ThePage) -> HTMLResponse:
    """Show the panel with the input so far; nothing is stored."""
    return _panel(page, page.form)


@router.post("/refund-transaction", response_model=None)
def refund_transaction(page: ThePage) -> Response:
    """Accept the refund; the same form sent twice makes one refund."""
    form = page.form
    try:
        entry = _spend(page, form.get("id", ""))
        left = None
        if not was_sent(page):
            left = _left(page, entry)
            _check_as_seen(form, left)
            _amount(form, entry, left)
        fields = {
            "kind": "credit_refund",
            "to": form.get("to", ""),
            "customer_id": entry["customer_id"],
            "transaction_id": entry["transaction_id"],
            "credits": whole(form, "credits", "Amount"),
            "currency": form.get("currency") or None,
            "reason": required_text(form, "reason", "Reason"),
            "note": form.get("note", "").strip() or None,
            "instructions_email": form.get("instructions_email", "").strip() or None,
        }
        # Another form may be accepted at the same moment: the remainder is checked again under the lock.
        refund_id = ask(page, fields, left_seen=left)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _panel(page, form, error)
    if fields["to"] == To.BALANCE:
        return page.redirect("/transactions", customer=entry["customer_id"], done="refunded")
    return page.redirect(f"/refunds/{refund_id}", done=accepted(page, refund_id))


def _check_as_seen(form: Mapping[str, str], left: int) -> None:
    """Raise `Conflict` if the page showed another remainder: a form must not refund more than its reader meant."""
    seen = form.get("left", "")
    if seen != str(left):
        now_left = (
            f"{left:,} credits are left now, not {int(seen):,}" if seen.isdecimal() else f"{left:,} credits are left"
        )
        raise Conflict(
            f"{now_left}: check the refunds listed above, and send the form again only if the amount is still right"
        )


def _spend(page: Page, transaction_id: str) -> RowMapping:
    with page.context.database.read() as connection:
        entry = ledger.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    if entry is None or entry["kind"] != "spend":
        raise NotFound(f"there is no spend {transaction_id}")
    return entry


def _left(page: Page, entry: RowMapping) -> int:
    id = entry["transaction_id"]
    with page.context.database.read() as connection:
        transaction = console_queries.taken_of_transactions(connection, [id])[id]
    left: int = transaction["credits"] - transaction["taken"]
    return left


def _amount(form: Mapping[str, str], entry: RowMapping, left: int) -> int:
    """Return the amount of the form. Raises `InvalidRequest`, or `ExceedsRefundable` if it is more than is left."""
    credits = whole(form, "credits", "Amount")
    if credits < 1:
        raise InvalidRequest(f"Amount: from 1 to {left:,}", field="credits")
    if credits > left:
        many = f"{credits:,} is more than the {left:,} credits left of {entry['transaction_id']}"
        raise ExceedsRefundable(many, field="credits")
    return credits


def _panel(page: Page, form: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    entry = _spend(page, form.get("id", ""))
    left, full = _left(page, entry), -entry["credits"]
    with page.context.database.read() as connection:
        customer_id = accounts.survivor_of(connection, entry["customer_id"])
        payable = payable_parts(connection, customer_id, left, page.context.policy)
        earlier = _earlier(connection, page, entry)
        shares = shares_of(connection, [entry["transaction_id"]]).get(entry["transaction_id"], [])
    currencies = [part.currency for part in payable]
    to = To.SOURCE if form.get("to") == "source" else To.BALANCE
    typed = form.get("credits", str(left) if left else "").strip()
    chosen = form.get("currency") or (currencies[0] if len(currencies) > 1 and to is To.SOURCE else "")
    previewed, problem = None, None
    try:
        if typed and left:
            currency = chosen if to is To.SOURCE and chosen in currencies else None
            options = {"credits": _amount({"credits": typed}, entry, left), "currency": currency}
            previewed = preview(page.context, trial(page, Kind.CREDIT_REFUND, to, entry, **options))
    except RefundWorkerError as wrong:
        problem = wrong
    presets = [("Full", full), ("Half", full // 2), ("Remaining", left)]
    values: Json = {
        "entry": entry,
        "left": left,
        "earlier": earlier,
        "shares": shares,
        "to": to.value,
        "credits": typed,
        "currency": chosen,
        "currencies": currencies,
        "preview": previewed,
        "problem": problem,
        "presets": [(name, amount, 0 < amount <= left) for name, amount in presets],
        "request_id": form_id(form, error),
        "reason": form.get("reason", ""),
        "note": form.get("note", ""),
        "instructions_email": form.get("instructions_email", ""),
        "error": error,
    }
    return page.render("refund_transaction.html", error.status if error else 200, **values)


def _earlier(connection: Connection, page: Page, entry: RowMapping) -> list[Json]:
    """Return the refunds of this transaction, newest first; `deleted` is True if the credits were taken back."""
    id, sees = entry["transaction_id"], page.identity.sees
    posted = refunds.load(connection, console_queries.refunds_of_transaction(connection, id, limit=EARLIER))
    found = [api_objects.refund_view(refund) for refund in posted if sees in (None, refund.client)]
    wanted = refunds.Filters(customer_id=entry["customer_id"], statuses=NOT_YET_POSTED, client=sees, limit=EARLIER)
    waiting = api_objects.list_refunds(connection, wanted)["data"]
    found += [refund for refund in waiting if refund["transaction_id"] == id]
    reversed_ones = console_queries.reversed_among(connection, [f"{refund['id']}-credit" for refund in found])
    newest_first = sorted(found, key=lambda refund: str(refund["id"]), reverse=True)
    return [refund | {"deleted": f"{refund['id']}-credit" in reversed_ones} for refund in newest_first]
