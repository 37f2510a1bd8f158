"""Payouts: the list with filters in the address, and one payout with its steps, its history and its actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, Response

from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payout import PAYOUT_ENDS, PAYOUT_PAID, Payout, PayoutStatus
from refund_worker.engine.access.permissions import Act, may, sees_compliance_causes
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.views import payout_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.payout_texts import is_of_compliance
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store.payouts import attempts
from refund_worker.store.payouts.lists import PayoutFilters
from refund_worker.web.authorised import act_on_payout, sync_payout
from refund_worker.web.console.acts import possible, reference_of
from refund_worker.web.console.forms import Why, key_of, required_text, whole
from refund_worker.web.console.pages import Page, ThePage, new_request_id
from refund_worker.web.console.query import SearchText
from refund_worker.web.console.timeline import event_views, payout_attempt_view

router = APIRouter()
PAGE = 50
NEEDS_PERSON = (PayoutStatus.AWAITING_APPROVAL, PayoutStatus.NEEDS_ATTENTION)
# Common filters by status, offered as links.
GROUPS: Mapping[str, tuple[PayoutStatus, ...]] = {
    "in progress": tuple(each for each in PayoutStatus if each not in (*PAYOUT_ENDS, *NEEDS_PERSON, PayoutStatus.PAID)),
    "needs a person": NEEDS_PERSON,
    "paid": PAYOUT_PAID,
    "ended unpaid": tuple(each for each in PAYOUT_ENDS if each not in PAYOUT_PAID),
}


async def _chosen(
    status: Annotated[list[SearchText], Query(max_length=20)] = [],  # noqa: B006 - FastAPI makes a new one
    payee_id: SearchText = "",
    processor_account: SearchText = "",
    failure_code: SearchText = "",
    idempotency_key: SearchText = "",
    run_id: SearchText = "",
) -> Json:
    """Return the filter, with the parameter names of the API and the command line; blanks at the ends do not count."""
    given = {"payee_id": payee_id, "processor_account": processor_account, "failure_code": failure_code}
    given |= {"idempotency_key": idempotency_key, "run_id": run_id}
    return {"status": [each for each in status if each], **{name: text.strip() for name, text in given.items()}}


Chosen = Annotated[Json, Depends(_chosen)]


@router.get("/payouts")
def list_payouts(page: ThePage, chosen: Chosen, starting_after: SearchText | None = None) -> HTMLResponse:
    """List payouts, newest first; the filter is in the address, so that it can be shared."""
    error, rows, more = None, [], None
    try:
        with page.context.database.read() as connection:
            found = payout_objects.list_payouts(connection, _filters(page, chosen, starting_after))
        rows = found["data"]
        more = rows[-1]["id"] if found["has_more"] else None
    except InvalidRequest as wrong:
        error = wrong
    values: Json = {"rows": rows, "more": more, "chosen": chosen, "groups": GROUPS, "statuses": list(PayoutStatus)}
    values |= {"accounts": [name for name, account in page.context.accounts.items() if account.entry.payouts]}
    return page.render("payouts.html", 422 if error else 200, error=error, **values)


def _filters(page: Page, chosen: Json, starting_after: str | None) -> PayoutFilters:
    if any(status not in list(PayoutStatus) for status in chosen["status"]):
        raise InvalidRequest("status: choose one of those shown", field="status")
    return PayoutFilters(
        statuses=tuple(chosen["status"]),
        payee_id=chosen["payee_id"] or None,
        run_id=chosen["run_id"] or None,
        processor=chosen["processor_account"] or None,
        failure_code=chosen["failure_code"] or None,
        idempotency_key=chosen["idempotency_key"] or None,
        client=page.identity.sees,
        limit=PAGE,
        starting_after=starting_after,
    )


@router.get("/payouts/{payout_id}")
def one_payout(page: ThePage, payout_id: str) -> HTMLResponse:
    """Show the payout with its whole history."""
    return _payout_page(page, payout_id)


def _payout_page(page: Page, payout_id: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    whole_history = sees_compliance_causes(page.identity.role)
    with page.context.database.read() as connection:
        payout = payout_objects.find_payout(connection, payout_id, client=page.identity.sees)
        view = payout_objects.show_payout(connection, payout)
        events = payout_objects.payout_timeline(connection, payout, whole=whole_history)
        tried = attempts.attempts_of(connection, payout_id)
        now = page.context.clock(connection)
        barred = why_not_approve(connection, page.identity.actor, [payout.requested_by]).get(payout.requested_by)
    hidden = not whole_history and (
        payout_objects.hides_cause(payout) or any(is_of_compliance(row["outcome_code"]) for row in tried)
    )
    values: Json = possible(page, view["available_actions"], barred) | {
        "payout": view,
        "limits": page.context.limits,
        "may_sync": may(page.identity.role, Act.SYNC),
        "timeline": event_views(events, payout),
        "attempts": [] if hidden else [payout_attempt_view(row) for row in tried],
        "needs_care": payout.status in (PayoutStatus.NEEDS_ATTENTION, PayoutStatus.RECIPIENT_ACTION),
        "age": now - payout.created_at,
        "request_id": new_request_id(),
    }
    return page.render("payout.html", error.status if error else 200, error=error, **values)


@router.post("/payouts/{payout_id}/sync", response_model=None)
def sync(page: ThePage, payout_id: str) -> Response:
    """Ask the processor about the payout now, and show the payout."""
    try:
        sync_payout(page.context, page.identity, payout_id, access=page.access)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _payout_page(page, payout_id, error)
    return page.redirect(f"/payouts/{payout_id}", done="synced")


def _add_act(action: PayoutAction) -> None:
    @router.post(f"/payouts/{{payout_id}}/{action}", response_model=None, name=f"{action}_payout")
    def act(page: ThePage, payout_id: str) -> Response:
        try:
            payout = _act(page, payout_id, action)
        except NotFound:
            raise
        except RefundWorkerError as error:
            return _payout_page(page, payout_id, error)
        requested = action is PayoutAction.CANCEL and payout.status is not PayoutStatus.CANCELED
        done = "payout_cancel_requested" if requested else f"payout_{action}"
        return page.redirect(f"/payouts/{payout_id}", done=done)


def _act(page: Page, payout_id: str, action: PayoutAction) -> Payout:
    form, who = page.form, page.identity
    reason = parse_schema(Why, {"reason": required_text(form, "reason", "Reason")}).reason
    return act_on_payout(
        page.context,
        who,
        payout_id,
        action,
        reason=reason,
        reference=reference_of(form, reason) if action is PayoutAction.RESOLVE else None,
        version=whole(form, "version", "Version"),
        key=Key(who.client, key_of(form)),
    )


for _action in PayoutAction:
    _add_act(_action)
