"""Manage Customers, and the page of one customer, where it is merged into another, exported or erased."""

from __future__ import annotations

import re

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.engine.intake.schemas import KnownId, parse_schema
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.customer_export import export_customer
from refund_worker.engine.views.fraud_warning_objects import warning_page
from refund_worker.engine.views.payee_objects import payee_page
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store import accounts, refunds
from refund_worker.store.claims import ClaimFilters, list_claims
from refund_worker.store.fraud_warnings import WarningFilters
from refund_worker.store.reporting import console_queries, entry_search
from refund_worker.web.authorised import erase_customer, merge_customers
from refund_worker.web.console.claims import lines_of
from refund_worker.web.console.forms import Why, required_text
from refund_worker.web.console.pages import HEADERS, Page, ThePage
from refund_worker.web.console.query import SearchText
from refund_worker.web.methods import SENT_METHOD

router = APIRouter()


class Merge(Why):
    """The customer that survives a merge, and why, validated like the API's."""

    into: KnownId


PAGE = 50
# Disputes and outside refunds, and payees, of a customer that the page names.
CLAIMS = 5
PAYEES = 10


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
    return _customer_page(page, id) if id else page.redirect("/customers")


@router.post("/customer/merge", response_model=None)
def merge_customer(page: ThePage) -> Response:
    """Merge the customer into another, whose page follows."""
    customer_id = _customer_named(page)
    try:
        into = page.form.get("into", "").strip()
        typed = {"into": into, "reason": required_text(page.form, "reason", "Reason")}
        asked = parse_schema(Merge, typed)
        survivor = merge_customers(page.context, page.identity, customer_id, into=asked.into, reason=asked.reason)
    except RefundWorkerError as error:
        return _customer_page(page, customer_id, error)
    return page.redirect("/customer", id=survivor, done="merged")


@router.post("/customer/erase", response_model=None)
def erase_the_texts(page: ThePage) -> Response:
    """Erase the texts of the customer, whose id was typed again: nothing brings them back."""
    customer_id = _customer_named(page)
    try:
        reason = parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason
        if page.form.get("again", "").strip() != customer_id:
            raise InvalidRequest(f"Customer: type {customer_id}, because an erasure cannot be undone", field="again")
        erase_customer(page.context, page.identity, customer_id, reason=reason)
    except RefundWorkerError as error:
        return _customer_page(page, customer_id, error)
    return page.redirect("/customer", id=customer_id, done="erased")


@router.get("/customer.json")
def export_all(page: ThePage, id: SearchText = "") -> Response:
    """Return everything that is stored about the customer as a file, in pieces."""
    pieces = export_customer(page.context, id)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", id)
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="customer-{name}.json"'}
    # HEAD has no body: its rows would be read for nothing.
    text = iter(()) if page.request.scope.get(SENT_METHOD) == "HEAD" else pieces
    return StreamingResponse(text, media_type="application/json", headers=headers)


def _customer_named(page: Page) -> str:
    """Return the customer of the form. Raises `InvalidRequest` if it names none, `NotFound` for an unknown one."""
    customer_id = required_text(page.form, "customer_id", "Customer")
    with page.context.database.read() as connection:
        if accounts.find_customer(connection, customer_id) is None:
            raise NotFound(f"customer {customer_id} is not known")
    return customer_id


def _customer_page(page: Page, id: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        customer = api_objects.customer(connection, id, page.context.policy)
        account = accounts.find_customer(connection, id) or CustomerAccount(customer_id=id)
        payable = account.payable_besides(accounts.credits_to_pay_out(connection, account.customer_id))
        paid = console_queries.latest_payments(connection, account.customer_id)
        own = account.customer_id
        claimed = list_claims(connection, ClaimFilters(kind=ClaimKind.DISPUTE, limit=CLAIMS, customer_id=own))
        claimed += list_claims(connection, ClaimFilters(kind=ClaimKind.OUTSIDE_REFUND, limit=CLAIMS, customer_id=own))
        lines = lines_of(connection, claimed)
        warned = warning_page(connection, WarningFilters(limit=CLAIMS, customer_id=own, condition="open"))["data"]
        latest = refunds.Filters(customer_id=id, client=page.identity.sees, limit=10)
        found = api_objects.list_refunds(connection, latest)["data"]
        paid_to = payee_page(connection, page.context.clock(connection), limit=PAYEES, customer_id=own)
    values: Json = {"customer": customer, "payable": payable, "payments": paid, "refunds": found, "payees": paid_to}
    status = error.status if error else 200
    values |= {"error": error, "typed": page.form}
    return page.render("customer.html", status, claims=lines, warnings=warned, **values)
