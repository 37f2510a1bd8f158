"""Overview, the latest webhooks, the settings and the help page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from refund_worker.domain.refund import NON_FINAL
from refund_worker.engine.access.permissions import CONSOLE_ROLES
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_codes import FAILURE_CODES
from refund_worker.engine.views.failure_groups import failures
from refund_worker.store import processors
from refund_worker.store.reporting import console_queries, metrics
from refund_worker.web.console.pages import ThePage

router = APIRouter()
LATEST = 100


@router.get("/")
def overview(page: ThePage) -> HTMLResponse:
    """Is all well, and if not, where to look."""
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        oldest = metrics.oldest_in(connection, NON_FINAL)
        values: Json = {
            "counts": metrics.count_in(connection, NON_FINAL),
            "oldest": None if oldest is None else now - oldest,
            "due": metrics.count_due(connection, now),
            "waiting_events": metrics.count_waiting_events(connection),
            "money_in_flight": console_queries.money_in_flight(connection),
            "groups": failures(connection, failed_at_most=0),
            "paused": [row for row in processors.status_of_processors(connection) if row["paused_by"]],
        }
    return page.show("overview.html", **values)


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
    """Explain the two refund procedures and every failure code."""
    return page.show("help.html", codes=sorted(FAILURE_CODES.items()), roles=CONSOLE_ROLES.items())
