"""Manage Customers, and the page of one customer."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.fraud_warning_objects import warning_page
from refund_worker.store import accounts, refunds
from refund_worker.store.claims import ClaimFilters, list_claims
from refund_worker.store.fraud_warnings import WarningFilters
from refund_worker.store.reporting import console_queries, entry_search
from refund_worker.web.console.claims import lines_of
from refund_worker.web.console.pages import ThePage
from refund_worker.web.console.query import SearchText

router = APIRouter()
PAGE = 50
# Disputes and outside refunds of a customer that the page names.
CLAIMS = 5


@router.get("/customers")
def manage_customers(page: ThePage, q: SearchText = "", after: SearchText | None = None) -> HTMLResponse:
    """List the customers by id; the plus button opens the form that corrects the balance."""
    q = q.strip()
    with page.context.database.read() as connection:
        found = entry_search.customers_found(connection, q, limit=PAGE, after=after)
    return page.render("customers.html", q=q, found=found, read_max=entry_search.CUSTOMERS_READ_MAX, page_size=PAGE)


@router.get("/customer")
def one_customer(page: ThePage, id: SearchText = "") -> Response:
    """Show one customer: balance, payments, corrections and refunds."""
    if not id:
        return page.redirect("/customers")
    with page.context.database.read() as connection:
        customer = api_objects.customer(connection, id, page.context.policy.allocation)
        account = accounts.find_customer(connection, id) or CustomerAccount(customer_id=id)
        payable = account.payable_besides(accounts.credits_to_pay_out(connection, account.customer_id))
        paid = console_queries.latest_payments(connection, account.customer_id)
        own = account.customer_id
        claimed = list_claims(connection, ClaimFilters(kind=ClaimKind.DISPUTE, limit=CLAIMS, customer_id=own))
        claimed += list_claims(connection, ClaimFilters(kind=ClaimKind.OUTSIDE_REFUND, limit=CLAIMS, customer_id=own))
        warned = warning_page(connection, WarningFilters(limit=CLAIMS, customer_id=own, condition="open"))["data"]
        latest = refunds.Filters(customer_id=id, client=page.identity.sees, limit=10)
        found = api_objects.list_refunds(connection, latest)["data"]
    values: Json = {"customer": customer, "payable": payable, "payments": paid, "refunds": found}
    return page.render("customer.html", claims=lines_of(claimed), warnings=warned, **values)
