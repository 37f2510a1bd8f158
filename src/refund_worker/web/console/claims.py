"""Outside refunds and disputes: lists with filters, and a page for each with its credits and its actions.

Early fraud warnings are listed with the disputes, which they precede.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from refund_worker.api_schema import OutsideStatus
from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.views.claim_objects import claim_page, claim_view, claim_views, find
from refund_worker.engine.views.fraud_warning_objects import warning_page
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.store import ledger, payments
from refund_worker.store.claims import ClaimFilters
from refund_worker.store.fraud_warnings import WarningFilters
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, required_text
from refund_worker.web.console.labels import DISPUTE_STATUSES
from refund_worker.web.console.pages import Page, ThePage
from refund_worker.web.console.query import SearchText, ShortText

router = APIRouter()
PAGE = 50
OUTSIDE_STATUSES: tuple[str, ...] = get_args(OutsideStatus)
DECISIONS = ("write_off", "debt")
HEADINGS: Mapping[ClaimKind, str] = {
    ClaimKind.OUTSIDE_REFUND: "Outside refund",
    ClaimKind.EARLIER_REFUND: "Refund from before the payment was recorded",
    ClaimKind.CLOSE: "Closed payment",
    ClaimKind.DISPUTE: "Dispute",
}
PATHS: Mapping[ClaimKind, str] = {ClaimKind.OUTSIDE_REFUND: "/outside-refunds", ClaimKind.DISPUTE: "/disputes"}


@router.get("/outside-refunds")
def show_outside_refunds(
    page: ThePage, status: ShortText = "", customer_id: SearchText = "", after: SearchText = ""
) -> HTMLResponse:
    """List refunds that others made, newest first."""
    if status and status not in OUTSIDE_STATUSES:
        raise InvalidRequest("choose one of the statuses shown", field="status")
    filters = _filters(ClaimKind.OUTSIDE_REFUND, status, customer_id, after)
    return _list(page, filters, OUTSIDE_STATUSES)


@router.get("/disputes")
def show_disputes(
    page: ThePage,
    status: ShortText = "",
    customer_id: SearchText = "",
    payment_id: SearchText = "",
    after: SearchText = "",
) -> HTMLResponse:
    """List disputes and inquiries, newest first."""
    filters = _filters(ClaimKind.DISPUTE, status, customer_id, after)
    return _list(page, replace(filters, payment_id=payment_id.strip() or None), DISPUTE_STATUSES)


def _filters(kind: ClaimKind, status: str, customer_id: str, after: str) -> ClaimFilters:
    return ClaimFilters(
        kind=kind,
        limit=PAGE,
        after=after or None,
        customer_id=customer_id.strip() or None,
        condition=status or None,
    )


def _list(page: Page, filters: ClaimFilters, statuses: tuple[str, ...]) -> HTMLResponse:
    is_outside = filters.kind is ClaimKind.OUTSIDE_REFUND
    chosen = WarningFilters(limit=PAGE, customer_id=filters.customer_id, payment_id=filters.payment_id)
    with page.context.database.read() as connection:
        found = claim_page(connection, filters)
        warned = {"data": [], "has_more": False} if is_outside else warning_page(connection, chosen)
    return page.render(
        "outside_refunds.html" if is_outside else "disputes.html",
        rows=found["data"],
        more=found["data"][-1]["id"] if found["has_more"] else None,
        chosen=filters,
        statuses=statuses,
        warnings=warned["data"],
        more_warnings=warned["has_more"],
    )


@router.get("/outside-refunds/{claim_id}")
def show_outside_refund(page: ThePage, claim_id: str) -> HTMLResponse:
    """Show a refund that others made."""
    return claim_html(page, claim_id, ClaimKind.OUTSIDE_REFUND)


@router.get("/disputes/{claim_id}")
def show_dispute(page: ThePage, claim_id: str) -> HTMLResponse:
    """Show a dispute."""
    return claim_html(page, claim_id, ClaimKind.DISPUTE)


@router.post("/outside-refunds/{claim_id}/decide", response_model=None)
def decide_outside_refund(page: ThePage, claim_id: str) -> Response:
    """Write the missing credits of an outside refund off, or make them a debt."""
    return _decide(page, claim_id, ClaimKind.OUTSIDE_REFUND)


@router.post("/disputes/{claim_id}/decide", response_model=None)
def decide_dispute(page: ThePage, claim_id: str) -> Response:
    """Write the missing credits of a lost dispute off, or make them a debt."""
    return _decide(page, claim_id, ClaimKind.DISPUTE)


def _decide(page: Page, claim_id: str, kind: ClaimKind) -> Response:
    def act(reason: str) -> None:
        decision = page.form.get("decision", "")
        if decision not in DECISIONS:
            raise InvalidRequest("choose one of the decisions shown", field="decision")
        authorised.decide_claim(page.context, page.identity, claim_id, kind, decision=decision, reason=reason)

    return _act(page, claim_id, kind, act, "decided")


@router.post("/outside-refunds/{claim_id}/link", response_model=None)
def link(page: ThePage, claim_id: str) -> Response:
    """Let an outside refund count as the payment of a refund, a spend or a correction."""

    def act(reason: str) -> None:
        refund_id = page.form.get("refund_id", "").strip() or None
        transaction_id = page.form.get("transaction_id", "").strip() or None
        authorised.link_outside_refund(
            page.context,
            page.identity,
            claim_id,
            refund_id=refund_id,
            transaction_id=transaction_id,
            reason=reason,
        )

    return _act(page, claim_id, ClaimKind.OUTSIDE_REFUND, act, "linked")


def _act(page: Page, claim_id: str, kind: ClaimKind, act: Callable[[str], None], done: str) -> Response:
    """Do what the form asks for, and show the claim again: with the result, or with the error and the typed text."""
    with page.context.database.read() as connection:
        find(connection, claim_id, kind)
    try:
        act(parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason)
    except RefundWorkerError as error:
        return claim_html(page, claim_id, kind, error)
    return page.redirect(f"{PATHS[kind]}/{claim_id}", done=done)


def claim_html(page: Page, claim_id: str, kind: ClaimKind, error: RefundWorkerError | None = None) -> HTMLResponse:
    """Return the page of a claim, with its entries and the actions that are possible. Raises `NotFound`."""
    with page.context.database.read() as connection:
        claim = find(connection, claim_id, kind)
        values = _values(connection, claim)
    return page.render("claim.html", error.status if error else 200, error=error, typed=page.form, **values)


def _values(connection: Connection, claim: Claim) -> dict[str, Any]:
    ids = [claim.posting_id(number + 1) for number in range(claim.postings)]
    entries = ledger.transactions_by_id(connection, ids)
    known = payments.payments_by_id(connection, [claim.payment_id] if claim.payment_id else [])
    view = claim_view(connection, claim)
    return {
        "claim": claim,
        "view": view,
        "path": _path(claim),
        "heading": HEADINGS[claim.kind],
        "is_dispute": claim.kind is ClaimKind.DISPUTE,
        "can_be_linked": claim.kind is ClaimKind.OUTSIDE_REFUND and claim.is_live and not view.get("refund_id"),
        "entries": [entries[each] for each in ids if each in entries],
        "payment": known.get(claim.payment_id or ""),
    }


def lines_of(connection: Connection, found: list[Claim]) -> list[dict[str, Any]]:
    """Return claims for the pages of customers and refunds, each with the path of its own page."""
    return [_line(claim, view) for claim, view in zip(found, claim_views(connection, found), strict=True)]


def _path(claim: Claim) -> str:
    return PATHS[ClaimKind.DISPUTE if claim.kind is ClaimKind.DISPUTE else ClaimKind.OUTSIDE_REFUND]


def _line(claim: Claim, view: Mapping[str, Any]) -> dict[str, Any]:
    more = {"path": f"{_path(claim)}/{claim.claim_id}", "is_dispute": claim.kind is ClaimKind.DISPUTE}
    return {**view, **more, "taken": claim.taken, "held": claim.held}
