"""Payments: the list with its search, and the page of one payment, which can be closed there."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from refund_worker.api_schema import PaymentRead
from refund_worker.engine.context import Context
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.views import api_objects, lists, payment_objects
from refund_worker.errors import NotFound, RefundWorkerError
from refund_worker.store import claims, refunds
from refund_worker.store.reporting import search
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, required_text
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import SearchText

router = APIRouter()
PAGE, REFUNDS = 50, 100


@router.get("/payments")
def list_payments(page: ThePage, q: SearchText = "", after: SearchText | None = None) -> HTMLResponse:
    """List the payments by id: all, or those with this id here or at a processor, or those of this customer."""
    q = q.strip()
    with page.context.database.read() as connection:
        rows = _named(connection, page.context, q) if q and after is None else []
        more = False
        if not rows:
            found = lists.payments(connection, page.context, customer_id=q or None, limit=PAGE, after=after)
            rows, more = found["data"], found["has_more"]
    return page.render("payments.html", q=q, rows=rows, more=rows[-1]["payment_id"] if more else None)


def _named(connection: Connection, context: Context, text: str) -> list[PaymentRead]:
    """Return the payments with this id: yours, your other one, or any of a processor's."""
    ids = search.payments_named(connection, text)[:PAGE]
    return [payment_objects.payment(connection, context, payment_id) for payment_id in ids]


@router.get("/payment")
def one_payment(page: ThePage, id: SearchText = "") -> Response:
    """Show one payment: what is left of it, its refunds, and what others took of it."""
    return _payment_page(page, id) if id else page.redirect("/payments")


@router.post("/payment/close", response_model=None)
def close_payment(page: ThePage) -> Response:
    """Close a payment whose money never came, or that was recorded wrong."""
    payment_id = required_text(page.form, "payment_id", "Payment")
    try:
        reason = parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason
        authorised.close_payment(page.context, page.identity, payment_id, reason=reason)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _payment_page(page, payment_id, error)
    return page.redirect("/payment", id=payment_id, done="closed")


def _payment_page(page: Page, id: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        try:
            payment = payment_objects.payment(connection, page.context, id)
        except NotFound:
            named = _named(connection, page.context, id)
            if len(named) != 1:
                raise
            payment = named[0]
        ids = search.by_payment(connection, payment["payment_id"], page.identity.sees, REFUNDS)
        loaded = {refund.refund_id: api_objects.refund_view(refund) for refund in refunds.load(connection, ids)}
        taken = claims.claims_on(connection, [payment["payment_id"]]).get(payment["payment_id"], [])
    return page.render(
        "payment.html",
        error.status if error else 200,
        error=error,
        typed=page.form,
        payment=payment,
        refunds=[loaded[each] for each in ids if each in loaded],
        claims=taken,
    )
