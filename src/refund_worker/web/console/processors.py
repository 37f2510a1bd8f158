"""Processors: their state, and the switch that pauses and resumes each of them."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from refund_worker.engine.idempotency import Key
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.processor_sync.status import is_known, switches
from refund_worker.engine.views.account_facts import account_facts
from refund_worker.engine.views.api_objects import Json
from refund_worker.errors import NotFound, RefundWorkerError
from refund_worker.store.reporting import console_queries
from refund_worker.web import authorised
from refund_worker.web.console.forms import Why, key_of, required_text
from refund_worker.web.console.pages import Page, ThePage, new_request_id

router = APIRouter()


@router.get("/processors")
def show_processors(page: ThePage) -> HTMLResponse:
    """Show the processors, each with its switch."""
    return _processors_page(page)


def _processors_page(page: Page, error: RefundWorkerError | None = None) -> HTMLResponse:
    with page.context.database.read() as connection:
        counts = dict(console_queries.processors_of_payments(connection))
        found = switches(connection, page.context, others=counts)
    found = [switch | account_facts(page.context.accounts, switch["name"]) for switch in found]
    values: Json = {"found": found, "counts": counts, "counted_max": console_queries.COUNTED_MAX}
    values |= {"request_id": new_request_id(), "typed": page.form}
    return page.render("processors.html", error.status if error else 200, error=error, **values)


@router.post("/processors/pause", response_model=None)
def pause(page: ThePage) -> Response:
    """Pause a processor: the kill switch."""
    return _switch(page, authorised.pause_processor, "paused")


@router.post("/processors/resume", response_model=None)
def resume(page: ThePage) -> Response:
    """Resume a processor."""
    return _switch(page, authorised.resume_processor, "resumed")


def _switch(page: Page, turn: Callable[..., object], done: str) -> Response:
    who = page.identity
    try:
        name = _known(page, page.form.get("name", ""))
        reason = parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason
        key = Key(who.client, key_of(page.form))
        turn(page.context, who, name, reason=reason, key=key)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _processors_page(page, error)
    return page.redirect("/processors", done=done)


def _known(page: Page, name: str) -> str:
    """Return `name`. Raises `NotFound` for an unknown processor: a misspelled name must not look like a paused one."""
    with page.context.database.read() as connection:
        if not is_known(connection, page.context, name):
            raise NotFound(f"processor {name} is not known")
    return name
