"""Overview, the settings and the help page."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from refund_worker.domain.refund import NON_FINAL
from refund_worker.engine.access.permissions import CONSOLE_ROLES
from refund_worker.engine.processor_sync.refund_waits import waiting_by_processor
from refund_worker.engine.processor_sync.status import stored_switches
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_groups import failures
from refund_worker.engine.views.funds import funds_view, shortfalls
from refund_worker.engine.views.process_health import process_health
from refund_worker.engine.views.refused_webhooks import refused_webhooks
from refund_worker.engine.views.runbook import sections
from refund_worker.store import fraud_warnings, outbox
from refund_worker.store.payouts import lists, runs
from refund_worker.store.reporting import claim_queries, console_queries, metrics
from refund_worker.store.reporting.console_queries import COUNTED_MAX
from refund_worker.web.console.pages import ThePage
from refund_worker.web.console.payouts import NEEDS_PERSON
from refund_worker.web.console.system import compared_processors

router = APIRouter()
# Payout runs that await approval; the Overview counts no more.
WAITING_RUNS = 100


@router.get("/")
def overview(page: ThePage) -> HTMLResponse:
    """Show whether anything needs a person, with links to it."""
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        oldest = metrics.oldest_in(connection, NON_FINAL)
        switches = stored_switches(connection, page.context)
        values: Json = {
            "counts": metrics.count_in(connection, NON_FINAL),
            "oldest": None if oldest is None else now - oldest,
            "due": metrics.count_due(connection, now),
            "waiting_events": metrics.count_waiting_events(connection),
            "money_in_flight": console_queries.money_in_flight(connection),
            "groups": failures(connection, failed_at_most=0),
            "now": now,
            "health": process_health(connection, now),
            "last_paid": console_queries.last_paid_at(connection),
            "processors": compared_processors(connection, switches),
            "notified": {each: outbox.count_in(connection, each, COUNTED_MAX) for each in ("waiting", "given_up")},
            "paused": [switch for switch in switches if switch["paused"]],
            "waiting": waiting_by_processor(connection, switches),
            "funds": funds_view(connection, page.context),
            "claims": claim_queries.waiting_claims(connection),
            "warnings": fraud_warnings.count_open(connection),
            "payouts": lists.count_in(connection, NEEDS_PERSON),
            "runs": runs.waiting(connection, WAITING_RUNS),
            "refused": [each for each in refused_webhooks(connection, now) if each.lasts],
        }
    accounts = page.context.accounts
    values["looked_up"] = [name for name in accounts.without_lists() if accounts[name].capabilities.finds_refunds]
    values["short"] = shortfalls(values["funds"])
    return page.render("overview.html", **values)


@router.get("/settings")
def settings(page: ThePage) -> HTMLResponse:
    """Show every setting, with secrets hidden."""
    return page.render("settings.html", settings=page.settings.redacted())


@router.get("/help")
def help(page: ThePage) -> HTMLResponse:
    """Show the staff's two procedures, the roles, and the runbook: every alarm and failure code."""
    return page.render("help.html", chapters=sections(), roles=CONSOLE_ROLES.items())
