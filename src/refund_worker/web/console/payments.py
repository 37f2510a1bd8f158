"""Payments: the list with its search, and the page of one payment."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from refund_worker.api_schema import PaymentRead
from refund_worker.engine.context import Context
from refund_worker.engine.views import api_objects, lists, payment_objects
from refund_worker.errors import NotFound
from refund_worker.store import claims, refunds
from refund_worker.store.reporting import search
from refund_worker.web.console.pages import ThePage
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
    if not id:
        return page.redirect("/payments")
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
        "payment.html", payment=payment, refunds=[loaded[each] for each in ids if each in loaded], claims=taken
    )
