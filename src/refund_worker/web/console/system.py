"""System: whether workers and schedulers run, what was last compared, and the notifications to the admin backend."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import Connection, RowMapping

from refund_worker.engine.notifications.outbox import notifications
from refund_worker.engine.processor_sync.status import stored_switches
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.process_health import process_health
from refund_worker.errors import InvalidRequest
from refund_worker.store import outbox, processors
from refund_worker.store.reporting import console_queries, metrics, reconciliation
from refund_worker.web.authorised import redeliver
from refund_worker.web.console.pages import ThePage
from refund_worker.web.console.query import SearchText, ShortText

router = APIRouter()
LATEST = 100
STATES = {"waiting": "waiting", "given_up": "abandoned", "delivered": "delivered"}


@router.get("/system")
def system(page: ThePage) -> HTMLResponse:
    """Show the processes, and when money last went out and the books were last compared."""
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        counts = {state: outbox.count_in(connection, state, console_queries.COUNTED_MAX) for state in STATES}
        values: Json = {
            "now": now,
            "health": process_health(connection, now),
            "last_paid": console_queries.last_paid_at(connection),
            "due": metrics.count_due(connection, now),
            "waiting_events": metrics.count_waiting_events(connection),
            "counts": counts,
            "counted_max": console_queries.COUNTED_MAX,
            "database": "SQLite" if page.context.database.is_sqlite else "Postgres",
        }
        switches = stored_switches(connection, page.context, others=page.context.accounts.called())
        values["processors"] = compared_processors(connection, switches)
    accounts = page.context.accounts
    values["comparable"] = accounts.with_lists()
    values["looked_up"] = [name for name in accounts.called() if accounts[name].capabilities.finds_refunds]
    return page.render("system.html", **values)


def compared_processors(
    connection: Connection, switches: Sequence[Json]
) -> list[tuple[str, float | None, RowMapping | None]]:
    """Return (name, time of the last listing of its refunds, last comparison) of each processor, by name."""
    compared = reconciliation.latest(connection)
    listed = {switch["name"]: switch["looked_at"] for switch in switches}
    names = sorted({*listed, *compared} - {processors.ALL})
    return [(name, _epoch(listed.get(name)), compared.get(name)) for name in names]


def _epoch(at: str | None) -> float | None:
    return None if at is None else datetime.fromisoformat(at).timestamp()


@router.get("/notifications")
def show_notifications(page: ThePage, state: ShortText = "", refund_id: SearchText = "") -> HTMLResponse:
    """Show the notifications to the admin backend: those that wait, those abandoned, or those delivered."""
    refund_id = refund_id.strip()
    with page.context.database.read() as connection:
        counts = {each: outbox.count_in(connection, each, console_queries.COUNTED_MAX) for each in STATES}
        chosen = state if state in STATES else "given_up" if counts["given_up"] else "waiting"
        found = notifications(connection, LATEST, state=chosen, refund_id=refund_id or None)
    values: Json = {"found": found, "counts": counts, "chosen": "" if refund_id else chosen, "refund_id": refund_id}
    values |= {"states": STATES, "latest": LATEST, "counted_max": console_queries.COUNTED_MAX}
    values["address"] = page.settings.notify_url is not None
    return page.render("notifications.html", **values)


@router.post("/notifications/redeliver")
def send_again(page: ThePage) -> RedirectResponse:
    """Send one notification again, or all abandoned ones. Twice is harmless: the receiver knows their ids."""
    message_id = page.form.get("id", "")
    if not message_id and page.form.get("all") != "given_up":
        raise InvalidRequest("choose a notification to send again")
    redeliver(page.context, page.identity, [message_id] if message_id else None)
    return page.redirect("/notifications", state="waiting", done="redelivered")
