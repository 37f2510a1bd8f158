"""The search box: find a refund, a transaction, a customer or a batch by whatever a person has in hand."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from refund_worker.engine.views import search
from refund_worker.engine.views.search import Found
from refund_worker.web.console.pages import Page, ThePage, at
from refund_worker.web.console.query import SearchText

router = APIRouter()


@router.get("/search", response_model=None)
def find(page: ThePage, q: SearchText = "", before: SearchText | None = None) -> Response:
    """Show what the text finds; a single hit is opened at once."""
    text = q.strip()
    with page.context.database.read() as connection:
        found = search.search(connection, text, client=page.identity.sees, before=before)
    target = None if before else _only_hit(page, found)
    return target or _results(page, text, found)


def _only_hit(page: Page, found: Found) -> RedirectResponse | None:
    if found.payouts or found.payee_id is not None:
        alone = not found.refunds and found.customer_id is None
        if alone and len(found.payouts) == 1 and found.payee_id is None:
            return page.redirect(f"/payouts/{found.payouts[0]['id']}")
        return page.redirect("/payee", id=found.payee_id) if alone and not found.payouts else None
    if len(found.refunds) == 1 and found.looked_back_to is None and not found.more:
        return page.redirect(f"/refunds/{found.refunds[0]['id']}")
    if found.refunds and found.day is None:
        return None
    if found.batch_id is not None:
        return page.redirect(f"/batches/{found.batch_id}")
    if found.day is not None:
        first = at(found.day[0])[:10]
        return page.redirect("/refunds", created_gte=first, created_lte=first)
    if found.transaction_id is not None:
        return page.redirect("/transactions", id=found.transaction_id)
    if found.customer_id is not None:
        return page.redirect("/customer", id=found.customer_id)
    alone = len(found.customers) == 1 and found.looked_back_to is None
    return page.redirect("/customer", id=found.customers[0]) if alone else None


def _results(page: Page, text: str, found: Found) -> HTMLResponse:
    return page.render("search.html", q=text, found=found, search_text=text)
