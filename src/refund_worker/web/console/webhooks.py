"""Webhooks: the latest events from the processors, by type and by result, with the refund that each is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import RowMapping

from refund_worker.engine.processor_sync import payment_events, webhook_inbox
from refund_worker.engine.processor_sync.transfer_events import shown_processor
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.refused_webhooks import refused_webhooks
from refund_worker.errors import InvalidRequest
from refund_worker.store import inbox
from refund_worker.store.processors import open_circuits
from refund_worker.store.reporting import console_queries, metrics
from refund_worker.web.console.pages import ThePage
from refund_worker.web.console.query import ShortText

router = APIRouter()
LATEST = 100
# Status in the address → its label and the stored results that it stands for. Events not processed yet have none.
STATUSES: Mapping[str, tuple[str, tuple[str, ...] | None]] = {
    "refund": ("about a refund", (webhook_inbox.PROCESSED,)),
    "unknown": ("refund unknown here", (webhook_inbox.UNKNOWN_REFUND,)),
    "not_recorded": ("payment not recorded", payment_events.NOT_RECORDED),
    "other": ("not about a refund", (webhook_inbox.NOT_ABOUT_REFUND,)),
    "not_understood": ("not understood", (webhook_inbox.NOT_UNDERSTOOD,)),
    "failed": ("failed", (webhook_inbox.BROKEN, webhook_inbox.UNANSWERED)),
    "waiting": ("waiting", None),
}


@router.get("/webhooks")
def webhooks(page: ThePage, status: ShortText = "", type: ShortText = "") -> HTMLResponse:
    """Show the latest webhook events, newest first, of one type or with one result if the address names them."""
    if status and status not in STATUSES:
        raise InvalidRequest(f"status: {status} is not one; choose from {', '.join(STATUSES)}", field="status")
    outcomes = STATUSES[status][1] if status else None
    kind = type.strip() or None
    with page.context.database.read() as connection:
        rows = console_queries.latest_events(
            connection, LATEST, kind=kind, outcomes=outcomes, waiting=status == "waiting"
        )
        refunds = webhook_inbox.refunds_of_events(connection, page.context, rows)
        kinds = console_queries.kinds_of_events(connection)
        waiting = metrics.count_waiting_events(connection)
        now, base = page.context.clock(connection), page.context.policy.retry_base_seconds
        circuits, refused = open_circuits(connection, now), refused_webhooks(connection, now)
    # `tries` counts those without a result; the one that ended an event comes on top.
    found = [
        dict(row)
        | {
            "processor": (shown := shown_processor(page.context, row["processor"], row["kind"], row["body"])),
            "refund_id": refunds.get((row["processor"], row["event_id"])),
            "tried": row["tries"] + bool(row["taken_at"]),
            "wait": None if row["taken_at"] else _why_waiting(row, shown, circuits, base, now),
        }
        for row in rows
    ]
    values: Json = {"rows": found, "waiting": waiting, "statuses": STATUSES, "chosen": status, "type": kind or ""}
    values |= {"kinds": sorted({*kinds, *([kind] if kind else [])}), "latest": LATEST}
    values |= {"searched": console_queries.EVENTS_SEARCHED, "refused": refused}
    return page.render("webhooks.html", **values)


def _why_waiting(
    row: RowMapping, shown: str, circuits: Collection[str], wait_seconds: float, now: float
) -> tuple[str, float | None]:
    """Return why an event waits, and the time of its next try if that is still to come. `shown` is its account."""
    if row["processor"] in circuits:
        return f"the circuit of {shown} is open", None
    if not row["tries"]:
        return "not processed yet", None
    why = f"{shown} did not return this refund: it does not know it, or it did not answer"
    at = inbox.next_try_at(row, wait_seconds)
    return why, at if at > now else None
