"""For those who keep it running: what waits, what failed and why, approvals, processors, webhooks, settings, help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, Response

from refund_worker.domain.refund import ENDS, UNFINISHED, RefundStatus
from refund_worker.engine.access.permissions import CONSOLE_ROLES
from refund_worker.engine.access.persons import why_not_approve
from refund_worker.engine.intake.dead_letters import refused_requests
from refund_worker.engine.intake.schemas import parse_body
from refund_worker.engine.processor_sync.status import BUILT_IN, switches
from refund_worker.engine.refunds import bulk_retry
from refund_worker.engine.refunds.actions import Key
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_codes import FAILURE_CODES
from refund_worker.engine.views.failure_groups import FAILED_AT_MOST, failures
from refund_worker.errors import NotFound, RefundWorkerError
from refund_worker.store import processors, refunds
from refund_worker.store.reporting import console_queries, metrics
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, key_of, whole, words
from refund_worker.web.console.pages import Page, RowNumber, ThePage, new_request_id

router = APIRouter()
Word = Annotated[str, Query(max_length=200)]
LATEST = 100
REFUSED = 20
# Enough for one press of retry, whose lines in the timelines these bounds enclose.
EVENTS_MAX = 20 * bulk_retry.PRESS_MAX


@router.get("/")
def overview(page: ThePage) -> HTMLResponse:
    """Is all well, and if not, where to look."""
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        oldest = metrics.oldest_in(connection, UNFINISHED)
        values: Json = {
            "counts": metrics.count_in(connection, UNFINISHED),
            "oldest": None if oldest is None else now - oldest,
            "due": metrics.count_due(connection, now),
            "waiting_events": metrics.count_waiting_events(connection),
            "money_in_flight": console_queries.money_in_flight(connection),
            "groups": failures(connection, failed_at_most=0),
            "paused": [row for row in processors.status_of_processors(connection) if row["paused_by"]],
        }
    return page.show("overview.html", **values)


@router.get("/failures")
def show_failures(page: ThePage) -> HTMLResponse:
    """What stopped or failed, by cause, and what a door refused that can't answer its caller."""
    with page.context.database.read() as connection:
        groups = failures(connection)
        refused = refused_requests(connection, REFUSED)
    # What a person can do something about first, each part the most frequent first.
    groups.sort(key=lambda group: not group["needs_attention"])
    return page.show("failures.html", groups=groups, refused=refused, failed_at_most=FAILED_AT_MOST)


@router.get("/failures/retry")
def ask_to_retry(page: ThePage, code: Word = "") -> HTMLResponse:
    """Which refunds would be retried, and what retrying does."""
    return _retry_page(page, code)


@router.post("/failures/retry", response_model=None)
def retry(page: ThePage) -> Response:
    """Retry exactly those that the person saw, or none."""
    form = page.form
    code = form.get("code", "")
    try:
        retried = authorised.retry_all(
            page.context,
            page.identity,
            code or None,
            expected=whole(form, "expected", "Expected"),
            mark=form.get("mark", ""),
            reason=words(form, "reason", "Reason"),
            key=Key(page.identity.client, key_of(form)),
        )
    except RefundWorkerError as error:
        return _retry_page(page, code, error)
    bounds = {"first": retried.first_event, "last": retried.last_event, "by": page.identity.actor}
    return page.go("/failures/watch", **bounds)


def _retry_page(page: Page, code: str, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        stuck = bulk_retry.stuck_for(connection, code or None)
        shown = refunds.load(connection, stuck.ids[:20])
        group = next((g for g in failures(connection, failed_at_most=0) if g["failure_code"] == (code or None)), None)
    values: Json = {"code": code, "stuck": stuck, "shown": [api_objects.refund_view(r) for r in shown], "group": group}
    values |= {"request_id": new_request_id(), "reason": page.form.get("reason", "")}
    return page.show("retry.html", error.status if error else 200, error=error, **values)


@router.get("/failures/watch")
def watch(page: ThePage, first: RowNumber, last: RowNumber, by: Word) -> HTMLResponse:
    """What becomes of the refunds that one press retried."""
    with page.context.database.read() as connection:
        last = min(last, first + EVENTS_MAX)
        ids = console_queries.refunds_of_events(connection, first, last, actor=by, kind="retry_requested")
        counts = console_queries.statuses_of(connection, ids)
        found = [api_objects.refund_view(refund) for refund in refunds.load(connection, ids)]
    finished = sum(count for status, count in counts.items() if status in ENDS)
    return page.show("watch.html", counts=counts, refunds=found, finished=finished, by=by)


@router.get("/approvals")
def approvals(page: ThePage) -> HTMLResponse:
    """What waits for a second person."""
    wanted = refunds.Filters(statuses=(RefundStatus.AWAITING_APPROVAL,), limit=LATEST)
    with page.context.database.read() as connection:
        found = api_objects.list_refunds(connection, wanted)
        why_not = why_not_approve(connection, page.identity.actor, {refund["actor"] for refund in found["data"]})
    return page.show("approvals.html", found=found, why_not=why_not)


@router.get("/processors")
def show_processors(page: ThePage) -> HTMLResponse:
    """Where money is asked for, and the switch of each."""
    return _processors_page(page)


def _processors_page(page: Page, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        counts = dict(console_queries.processors_of_payments(connection))
        rates = {"stripe": page.settings.stripe_rate_per_second}
        found = switches(connection, page.context, others=counts, rates=rates)
    values: Json = {"found": found, "counts": counts, "counted_max": console_queries.COUNTED_MAX}
    values |= {"request_id": new_request_id(), "typed": page.form}
    return page.show("processors.html", error.status if error else 200, error=error, **values)


@router.post("/processors/pause", response_model=None)
def pause(page: ThePage) -> Response:
    """The kill switch."""
    return _switch(page, authorised.pause_processor, "paused")


@router.post("/processors/resume", response_model=None)
def resume(page: ThePage) -> Response:
    """Send there again."""
    return _switch(page, authorised.resume_processor, "resumed")


def _switch(page: Page, turn: Callable[..., object], done: str) -> Response:
    who = page.identity
    try:
        name = _known(page, page.form.get("name", ""))
        reason = parse_body(Why, {"reason": words(page.form, "reason", "Reason")}).reason
        key = Key(who.client, key_of(page.form))
        turn(page.context, who, name, reason=reason, key=key)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _processors_page(page, error)
    return page.go("/processors", done=done)


def _known(page: Page, name: str) -> str:
    """A name misspelled must not look like a switch turned."""
    with page.context.database.read() as connection:
        if name not in BUILT_IN and not metrics.is_known_processor(connection, name):
            raise NotFound(f"processor {name} is not known")
    return name


@router.get("/webhooks")
def webhooks(page: ThePage) -> HTMLResponse:
    """What the processors told us, the latest first."""
    with page.context.database.read() as connection:
        rows = console_queries.latest_events(connection, LATEST)
        waiting = metrics.count_waiting_events(connection)
    return page.show("webhooks.html", rows=rows, waiting=waiting)


@router.get("/settings")
def settings(page: ThePage) -> HTMLResponse:
    """Every setting, secrets hidden."""
    return page.show("settings.html", settings=page.settings.redacted())


@router.get("/help")
def help(page: ThePage) -> HTMLResponse:
    """How the seed's two procedures go, and what every failure code means."""
    return page.show("help.html", codes=sorted(FAILURE_CODES.items()), roles=CONSOLE_ROLES.items())
