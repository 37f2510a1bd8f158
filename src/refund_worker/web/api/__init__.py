"""The routes of the HTTP API, by subject."""

from fastapi import APIRouter

from refund_worker.web import reference, webhooks
from refund_worker.web.api import (
    actions,
    batches,
    claims,
    customers,
    earnings,
    funds,
    health,
    payees,
    payments,
    payout_actions,
    payout_runs,
    payouts,
    processors,
    reconciliations,
    refunds,
    search,
    sync,
)


def make_routers() -> tuple[APIRouter, ...]:
    """Return all routers, those of the registered processors' webhooks included."""
    return (
        payments.router,
        customers.router,
        payees.router,
        earnings.router,
        payouts.router,
        payout_actions.router,
        payout_runs.router,
        refunds.router,
        sync.router,
        funds.router,
        search.router,
        actions.router,
        claims.router,
        batches.router,
        processors.router,
        reconciliations.router,
        webhooks.make_router(),
        health.router,
        reference.router,
    )
