"""Payees: the list, one payee with sums, earnings, payouts and history, and the statement of a month."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.engine.intake.payee_schemas import PayoutPreviewSchema
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.engine.payouts.preview import preview_payout
from refund_worker.engine.sums.statement import month_bounds
from refund_worker.engine.views.api_objects import Json, event_view
from refund_worker.engine.views.payee_objects import earning_view, find_payee, payee_page
from refund_worker.engine.views.payee_statement import payee_statement, statement_csv
from refund_worker.engine.views.payout_objects import list_payouts
from refund_worker.errors import InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store import timeline
from refund_worker.store.payouts import earnings
from refund_worker.store.payouts.lists import PayoutFilters, held_until
from refund_worker.web.authorised import pause_payee, resume_payee, reveal_destination
from refund_worker.web.console.forms import Why, required_text
from refund_worker.web.console.pages import HEADERS, Page, ThePage
from refund_worker.web.console.query import SearchText, ShortText
from refund_worker.web.console.timeline import event_views
from refund_worker.web.csv_answers import csv_answer

router = APIRouter()
PAGE = 50
# Earnings and payouts on the page of one payee.
LATEST = 20


@router.get("/payees")
def list_payees(
    page: ThePage, id: SearchText = "", customer_id: SearchText = "", after: SearchText | None = None
) -> Response:
    """List payees by id: all, those of a customer, or the one with an id, whose page opens."""
    id, customer_id = id.strip(), customer_id.strip()
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        if id:
            try:
                find_payee(connection, id, now)
                return page.redirect("/payee", id=id)
            except NotFound:
                pass
        found = payee_page(connection, now, limit=PAGE, after=after, customer_id=customer_id or None)
    more = found["data"][-1]["payee_id"] if found["has_more"] else None
    return page.render("payees.html", rows=found["data"], more=more, missing=id, customer_id=customer_id)


@router.get("/payee")
def one_payee(page: ThePage, id: SearchText = "") -> Response:
    """Show one payee."""
    return _payee_page(page, id) if id else page.redirect("/payees")


@router.post("/payee/pause", response_model=None)
def pause(page: ThePage) -> Response:
    """Pay nothing to the payee until it is resumed."""
    return _switch(page, pause=True)


@router.post("/payee/resume", response_model=None)
def resume(page: ThePage) -> Response:
    """Let the payee be paid again."""
    return _switch(page, pause=False)


def _switch(page: Page, *, pause: bool) -> Response:
    payee_id = page.form.get("payee_id", "")
    switch = pause_payee if pause else resume_payee
    try:
        reason = parse_schema(Why, {"reason": required_text(page.form, "reason", "Reason")}).reason
        switch(page.context, page.identity, payee_id, reason=reason)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _payee_page(page, payee_id, error)
    return page.redirect("/payee", id=payee_id, done="payee_paused" if pause else "payee_resumed")


@router.post("/payee/destination", response_model=None)
def show_destination(page: ThePage) -> Response:
    """Show the whole destination, once: the read is noted in the payee's timeline. A reload asks again."""
    payee_id = page.form.get("payee_id", "")
    try:
        whole = reveal_destination(page.context, page.identity, payee_id)
    except NotFound:
        raise
    except RefundWorkerError as error:
        return _payee_page(page, payee_id, error)
    return _payee_page(page, payee_id, whole=whole)


def _payee_page(
    page: Page, payee_id: str, error: RefundWorkerError | None = None, *, whole: Mapping[str, str] | None = None
) -> HTMLResponse:
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        payee = find_payee(connection, payee_id, now)
        filters = PayoutFilters(payee_id=payee_id, client=page.identity.sees, limit=LATEST)
        found = list_payouts(connection, filters)
        values: Json = {
            "payee": payee,
            "sums": _sums(connection, payee, now),
            "earnings": _earnings(connection, payee),
            "payouts": found["data"],
            "more_payouts": found["has_more"],
            "timeline": event_views([event_view(row) for row in timeline.events_about(connection, payee_id)], None),
            "month": month_of(now),
        }
    # Of a trial request only the reason to wait is shown.
    trial = PayoutPreviewSchema(payee_id=payee_id).request(client=page.identity.client, actor=page.identity.actor)
    values |= {"hold": preview_payout(page.context, trial)["hold"], "whole": whole, "typed": page.form}
    values |= {"is_paused": payee["paused_by"] is not None}
    return page.render("payee.html", error.status if error else 200, error=error, **values)


def _sums(connection: Connection, payee: api_schema.Payee, now: float) -> list[Json]:
    """Return the sums in each currency, with when the next of the held earnings becomes available."""
    return [
        {**each, "held_until": held_until(connection, payee["payee_id"], each["currency"], now)}
        for each in payee["balances"]
    ]


def _earnings(connection: Connection, payee: api_schema.Payee) -> list[api_schema.Earning]:
    """Return the latest earnings in all currencies, those that become available last first."""
    found = [
        earning
        for each in payee["balances"]
        for earning in earnings.latest(connection, payee["payee_id"], each["currency"], limit=LATEST)
    ]
    found.sort(key=lambda earning: earning.available_at, reverse=True)
    return [earning_view(earning) for earning in found[:LATEST]]


def month_of(now: float) -> str:
    """Return the month of a time (epoch seconds) in UTC, such as 2026-10."""
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m}"


@router.get("/payee/statement")
def statement(page: ThePage, id: SearchText = "", month: ShortText = "") -> Response:
    """Show the payee's statement of a month in UTC, by default of this month."""
    if not id:
        return page.redirect("/payees")
    error, found = None, None
    with page.context.database.read() as connection:
        payee = find_payee(connection, id, page.context.clock(connection))
        month = month or month_of(page.context.clock(connection))
        try:
            found = payee_statement(connection, id, month, *month_bounds(month))
        except InvalidRequest as wrong:
            error = wrong
    values: Json = {"payee": payee, "month": month, "statement": found}
    return page.render("statement.html", 422 if error else 200, error=error, **values)


@router.get("/payee/statement.csv")
def statement_as_csv(page: ThePage, id: SearchText = "", month: ShortText = "") -> Response:
    """Return the payee's statement of a month as CSV, as the API does. Raises `NotFound`, and `InvalidRequest`."""
    begin, end = month_bounds(month)
    with page.context.database.read() as connection:
        found = payee_statement(connection, id, month, begin, end)
    return csv_answer(statement_csv(found), f"statement-{month}", HEADERS)
