"""The routes of the API, by subject; `ROUTERS` has all of them."""

from refund_worker.web import webhooks
from refund_worker.web.api import actions, batches, customers, health, payments, processors, refunds

ROUTERS = (
    payments.router,
    customers.router,
    refunds.router,
    actions.router,
    batches.router,
    processors.router,
    webhooks.router,
    health.router,
)
