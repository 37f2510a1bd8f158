"""Approvals: refunds that wait for a second person, why each waits, and the decision about many at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from refund_worker.api_schema import Payout
from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.domain.refund import Refund, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.refunds.approval_reasons import why_approval
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.funds import funds_view, shortfalls
from refund_worker.engine.views.payout_objects import list_payouts
from refund_worker.engine.views.payout_runs import run_views
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.store import refunds
from refund_worker.store.payouts import runs
from refund_worker.store.payouts.lists import PayoutFilters
from refund_worker.web.console import decide_many
from refund_worker.web.console.decide_many import Offer
from refund_worker.web.console.pages import Page, ThePage, link
from refund_worker.web.console.query import SearchText

router = APIRouter()
PAGE = 50


async def _chosen(customer_id: SearchText = "", batch_id: SearchText = "") -> Mapping[str, str]:
    """Return the filter in the address."""
    return {"customer_id": customer_id.strip(), "batch_id": batch_id.strip()}


Chosen = Annotated[Mapping[str, str], Depends(_chosen)]


@router.get("/approvals")
def approvals(page: ThePage, chosen: Chosen, starting_after: SearchText | None = None) -> HTMLResponse:
    """Show the refunds that wait for a second person, the oldest first, and why each waits."""
    with page.context.database.read() as connection:
        found, more = _waiting(connection, page, chosen, PAGE, starting_after)
        why_not = _why_not(connection, page, found)
        reasons = why_approval(connection, found, page.context.limits)
        short = shortfalls(funds_view(connection, page.context))
        paid_out = _payouts(connection, page) if not any(chosen.values()) else []
        waiting_runs = run_views(connection, runs.waiting(connection, PAGE)) if not any(chosen.values()) else []
        requesters = {payout["actor"] for payout in paid_out}
        why_not |= why_not_approve(connection, page.identity.actor, requesters)
    values: Json = {"found": [api_objects.refund_view(refund) for refund in found], "more": more, "chosen": chosen}
    values |= {"why_not": why_not, "reasons": reasons, "limits": page.context.limits, "short": short}
    return page.render("approvals.html", payouts=paid_out, runs=waiting_runs, **values)


def _payouts(connection: Connection, page: Page) -> list[Payout]:
    """Return the oldest payouts that wait for a second person."""
    wanted = (PayoutStatus.AWAITING_APPROVAL,)
    return list_payouts(
        connection, PayoutFilters(statuses=wanted, client=page.identity.sees, limit=PAGE, oldest_first=True)
    )["data"]


def _waiting(
    connection: Connection, page: Page, chosen: Mapping[str, str], limit: int, after: str | None = None
) -> tuple[list[Refund], str | None]:
    """Return the oldest refunds that wait, and the id of the last one if there are more."""
    wanted = refunds.Filters(
        statuses=(RefundStatus.AWAITING_APPROVAL,),
        customer_id=chosen["customer_id"] or None,
        batch_id=chosen["batch_id"] or None,
        client=page.identity.sees,
        limit=limit,
        starting_after=after,
        oldest_first=True,
    )
    ids = refunds.find_ids(connection, wanted)
    return refunds.load(connection, ids[:limit]), ids[limit - 1] if len(ids) > limit else None


def _why_not(connection: Connection, page: Page, found: list[Refund]) -> dict[str, str]:
    return why_not_approve(connection, page.identity.actor, {refund.requested_by for refund in found})


def _add_decision(action: Action) -> None:
    @router.get(f"/approvals/{action}", name=f"ask_to_{action}_many")
    def ask(page: ThePage, chosen: Chosen) -> HTMLResponse:
        return _ask(page, action, chosen)

    @router.post(f"/approvals/{action}", name=f"{action}_many")
    def decide(page: ThePage) -> HTMLResponse:
        chosen = {name: page.form.get(name, "") for name in ("customer_id", "batch_id")}
        try:
            decided = decide_many.read_form(page, _offer(chosen))
        except RefundWorkerError as error:
            return _ask(page, action, chosen, error)
        return decide_many.decide(page, action, _offer(chosen), decided)


for _action in (Action.APPROVE, Action.REJECT):
    _add_decision(_action)


def _ask(page: Page, action: Action, chosen: Mapping[str, str], error: RefundWorkerError | None = None) -> HTMLResponse:
    """Ask about the refunds of one customer or batch."""
    if not any(chosen.values()):
        raise InvalidRequest("choose a customer or a batch on the page Approvals: many are decided only together")
    with page.context.database.read() as connection:
        found, more = _waiting(connection, page, chosen, decide_many.MANY_MAX)
        barred = decide_many.why_not_now(connection, page, action, found)
    return decide_many.ask(page, action, _offer(chosen), found, barred, more=more is not None, error=error)


def _offer(chosen: Mapping[str, str]) -> Offer:
    whose = f"batch {chosen['batch_id']}" if chosen["batch_id"] else f"customer {chosen['customer_id']}"
    back = link("/approvals", **chosen)
    return Offer("/approvals", back, "Approvals", f"Of {whose}, the oldest first.", chosen)
