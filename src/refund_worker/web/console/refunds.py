"""Refunds: the list with filters in the address, its CSV, and one refund with its history and actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from refund_worker.domain.refund import (
    ENDED_UNSENT,
    FINAL,
    TROUBLED,
    UNDER_WAY,
    UNPAID_OBJECT_STATES,
    WAITING_FOR_PERSON,
    Kind,
    RefundStatus,
)
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.domain.waiting import WaitCause
from refund_worker.engine.access.permissions import Act, may
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import parse_schema, parse_since
from refund_worker.engine.processor_sync.live_lookup import LiveLookup, lookup_now
from refund_worker.engine.processor_sync.refund_waits import waits_of
from refund_worker.engine.refunds.approval_reasons import why_approval
from refund_worker.engine.views import api_objects, csv_rows
from refund_worker.engine.views.refund_facts import explain_refund
from refund_worker.engine.views.search import Matching, Wanted, day_of, list_matching
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.processors.accounts import accounts_of
from refund_worker.store import ledger
from refund_worker.store.claims import claims_on
from refund_worker.store.refunds import Filters
from refund_worker.store.reporting import console_queries
from refund_worker.web.authorised import act_on_refund, sync_refund
from refund_worker.web.console.acts import possible, reference_of
from refund_worker.web.console.claims import lines_of
from refund_worker.web.console.downloads import ROWS_AT_ONCE, download
from refund_worker.web.console.forms import Why, key_of, required_text, whole
from refund_worker.web.console.labels import WAITS_FOR
from refund_worker.web.console.pages import Page, ThePage, new_request_id
from refund_worker.web.console.query import SearchText
from refund_worker.web.console.selection import BACK_MAX, PAGE, actions_of
from refund_worker.web.console.timeline import attempt_view, event_views, is_not_known, lights

router = APIRouter()
# Refunds of the same customer that the person who approves is shown.
HISTORY = 5
# The refund's page explains these in a section of their own.
SAID_ELSEWHERE = (WaitCause.APPROVAL, WaitCause.PERSON)
DAY_WANTED = "enter a day such as 2026-11-27"

# Common filters by status, offered as links.
GROUPS: Mapping[str, tuple[RefundStatus, ...]] = {
    "in progress": UNDER_WAY,
    "needs a person": WAITING_FOR_PERSON,
    "finished": tuple(sorted(FINAL)),
}

Json = dict[str, Any]
Texts = Annotated[list[SearchText], Query(max_length=20)]


async def _chosen(
    status: Texts = [],  # noqa: B006 - FastAPI makes a new one
    customer_id: SearchText = "",
    failure_code: SearchText = "",
    created_gte: SearchText = "",
    created_lte: SearchText = "",
    idempotency_key: SearchText = "",
    id: SearchText = "",
    kind: SearchText = "",
    amount: SearchText = "",
    reason: SearchText = "",
    requested_by: SearchText = "",
) -> Json:
    """Return the filter, with the parameter names of the API and the command line; blanks at the ends do not count."""
    given = {"customer_id": customer_id, "failure_code": failure_code, "created_gte": created_gte}
    given |= {"created_lte": created_lte, "idempotency_key": idempotency_key, "id": id, "kind": kind}
    given |= {"amount": amount, "reason": reason, "requested_by": requested_by}
    return {"status": [each for each in status if each], **{name: text.strip() for name, text in given.items()}}


Chosen = Annotated[Json, Depends(_chosen)]


@router.get("/refunds")
def list_refunds(page: ThePage, chosen: Chosen, starting_after: SearchText | None = None) -> HTMLResponse:
    """List refunds; the filter is in the address, so that it can be shared."""
    error = None
    found = Matching([], None)
    try:
        with page.context.database.read() as connection:
            found = _matching(connection, _filters(page, chosen, starting_after, PAGE), chosen)
    except InvalidRequest as wrong:
        error = wrong
    shown: Json = {"found": found, "chosen": chosen, "groups": GROUPS, "statuses": list(RefundStatus)}
    shown |= {"searched": _wanted(chosen).any, "kinds": list(Kind)}
    shown |= {"acts": actions_of(page), "list_query": page.request.url.query[:BACK_MAX]}
    return page.render("refunds.html", 422 if error else 200, error=error, **shown)


def _matching(connection: Connection, filters: Filters, chosen: Json) -> Matching:
    """Return one page; only the filters without an index read the refunds' texts piece by piece."""
    if (wanted := _wanted(chosen)).any:
        return list_matching(connection, filters, wanted)
    page = api_objects.list_refunds(connection, filters)
    return Matching(page["data"], page["data"][-1]["id"] if page["has_more"] else None)


def _wanted(chosen: Json) -> Wanted:
    named = {"kind": "kind", "amount": "amount", "text": "reason", "requested_by": "requested_by"}
    return Wanted(**{field: chosen[name] or None for field, name in named.items()})


@router.get("/refunds.csv")
def refunds_as_csv(page: ThePage, chosen: Chosen) -> Response:
    """Return the whole list as a CSV file, in which no cell is a formula; its byte order mark is for Excel."""
    with page.context.database.read() as connection:
        _matching(connection, _filters(page, chosen, None, 1), chosen)  # a wrong filter is an error, not a short file
    return download(page, "refunds.csv", csv_rows.HEADER, _blocks(page, chosen))


def _filters(page: Page, chosen: Json, starting_after: str | None, limit: int) -> Filters:
    unknown = [status for status in chosen["status"] if status not in list(RefundStatus)]
    if unknown:
        raise InvalidRequest(
            f"status: {unknown[0]} is not a status; choose from {', '.join(RefundStatus)}", field="status"
        )
    if chosen["kind"] not in ("", *Kind):
        raise InvalidRequest(f"kind: {chosen['kind']} is not a kind; choose from {', '.join(Kind)}", field="kind")
    return Filters(
        statuses=tuple(chosen["status"]),
        customer_id=chosen["customer_id"] or None,
        failure_code=chosen["failure_code"] or None,
        created_gte=_begin(chosen["created_gte"]) if chosen["created_gte"] else None,
        created_lt=_end(chosen["created_lte"]) if chosen["created_lte"] else None,
        idempotency_key=chosen["idempotency_key"] or None,
        refund_id=chosen["id"] or None,
        client=page.identity.sees,
        limit=limit,
        starting_after=starting_after,
    )


def _begin(day: str) -> float:
    """Return the begin of a day, or the moment of a time with its zone."""
    try:
        return parse_since(day)
    except InvalidRequest:
        raise InvalidRequest(f"created_gte: {DAY_WANTED}", field="created_gte") from None


def _end(day: str) -> float:
    """Return the end of a day, which belongs to the list, or the moment after a time with its zone."""
    bounds = day_of(day)
    try:
        return bounds[1] if bounds else parse_since(day) + 0.001
    except InvalidRequest:
        raise InvalidRequest(f"created_lte: {DAY_WANTED}", field="created_lte") from None


def _blocks(page: Page, chosen: Json) -> Iterator[list[list[object]]]:
    after, more = None, True
    while more:
        with page.context.database.read() as connection:
            found = _matching(connection, _filters(page, chosen, after, ROWS_AT_ONCE), chosen)
        yield [row for refund in found.data for row in csv_rows.rows_of(refund)]
        after, more = found.looked_back_to, found.looked_back_to is not None


@router.get("/refunds/{refund_id}/retry")
def ask_to_retry(page: ThePage, refund_id: str) -> HTMLResponse:
    """Show what the processor has for this refund now, before a person decides to retry."""
    return _retry_page(page, refund_id, page.form)


def _retry_page(
    page: Page, refund_id: str, form: Mapping[str, str], error: RefundWorkerError | None = None
) -> HTMLResponse:
    with page.context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id, client=page.identity.sees)
    # No transaction is open here, since the processor may answer slowly.
    possible = Action.RETRY in available_actions(refund)
    lookups: Sequence[LiveLookup] = ()
    if possible:
        timeout = page.settings.call_timeout_seconds
        accounts = accounts_of(page.settings)
        lookups = lookup_now(page.context.database, lambda: accounts.make_processors(timeout), refund)
    values: Json = {
        "refund": api_objects.refund_view(refund),
        "why": explain_refund(refund),
        "possible": possible,
        "lookups": lookups,
        "never_sent": not any(leg.last_sent_at for leg in refund.legs),
        "live_objects": sum(item.status not in UNPAID_OBJECT_STATES for found in lookups for item in found.objects),
        "request_id": form.get("request_id") or new_request_id(),
        "reason": form.get("reason", ""),
        "error": error,
    }
    return page.render("retry_one.html", error.status if error else 200, **values)


@router.get("/refunds/{refund_id}")
def one_refund(page: ThePage, refund_id: str) -> HTMLResponse:
    """Show the refund with its whole history."""
    return _refund_page(page, refund_id)


def _refund_page(page: Page, refund_id: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id, client=page.identity.sees)
        timeline = api_objects.timeline(connection, refund_id)
        attempts = [attempt_view(row) for row in console_queries.attempts_of(connection, refund_id)]
        taken_back = ledger.reversal_of(connection, f"{refund_id}-credit")
        objects = console_queries.objects_of(connection, refund_id)
        by_payment = claims_on(connection, {leg.payment_id for leg in refund.legs})
        claimed = lines_of(connection, [claim for its in by_payment.values() for claim in its])
        now = page.context.clock(connection)
        waits = waits_of(connection, page.context, refund)
        barred = why_not_approve(connection, page.identity.actor, [refund.requested_by]).get(refund.requested_by)
        to_approve = [refund] if refund.status is RefundStatus.AWAITING_APPROVAL else []
        approval = why_approval(connection, to_approve, page.context.limits).get(refund_id)
        latest = Filters(customer_id=refund.customer_id, client=page.identity.sees, limit=HISTORY + 1)
        history = api_objects.list_refunds(connection, latest)["data"] if to_approve else []
    view = api_objects.refund_view(refund)
    values = possible(page, view["available_actions"], barred) | {
        "refund": view,
        "approval": approval,
        "waits_for": list(dict.fromkeys(WAITS_FOR[wait.cause] for wait in waits)),
        "may_sync": bool(refund.legs) and may(page.identity.role, Act.SYNC),
        "waits": [wait for wait in waits if wait.cause not in SAID_ELSEWHERE],
        "history": [other for other in history if other["id"] != refund_id][:HISTORY],
        "limits": page.context.limits,
        "lights": lights(refund, taken_back=taken_back is not None),
        "taken_back": taken_back,
        "not_known": [leg.leg_id for leg in refund.legs if is_not_known(leg)],
        "timeline": event_views(timeline, refund),
        "attempts": attempts,
        "objects": objects,
        "claims": claimed,
        "attention": [leg for leg in refund.legs if leg.attention_code],
        "why": explain_refund(refund),
        "payment_at_processor": {leg.leg_id: leg.processor_payment_id for leg in refund.legs},
        "needs_care": refund.status in TROUBLED,
        "age": now - refund.created_at,
        "request_id": new_request_id(),
        "error": error,
    }
    return page.render("refund.html", error.status if error else 200, **values)


@router.post("/refunds/{refund_id}/sync", response_model=None)
def sync(page: ThePage, refund_id: str) -> Response:
    """Ask the processor about the refund now, and show the refund."""
    try:
        sync_refund(page.context, page.identity, refund_id, access=page.access)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _refund_page(page, refund_id, error)
    return page.redirect(f"/refunds/{refund_id}", done="synced")


def _add_act(action: Action) -> None:
    @router.post(f"/refunds/{{refund_id}}/{action}", response_model=None, name=f"{action}_refund")
    def act(page: ThePage, refund_id: str) -> Response:
        return _act(page, refund_id, action)


for _action in Action:
    _add_act(_action)


def _act(page: Page, refund_id: str, action: Action) -> Response:
    form, who = page.form, page.identity
    try:
        reason = parse_schema(Why, {"reason": required_text(form, "reason", "Reason")}).reason
        reference = reference_of(form, reason) if action is Action.RESOLVE else None
        refund = act_on_refund(
            page.context,
            who,
            refund_id,
            action,
            reason=reason,
            reference=reference,
            version=whole(form, "version", "Version"),
            key=Key(who.client, key_of(form)),
        )
    except NotFound:
        raise
    except RefundWorkerError as error:
        if action is Action.RETRY:
            return _retry_page(page, refund_id, form, error)
        return _refund_page(page, refund_id, error)
    requested = action is Action.CANCEL and refund.status not in ENDED_UNSENT
    return page.redirect(f"/refunds/{refund_id}", done="cancel_requested" if requested else str(action))
