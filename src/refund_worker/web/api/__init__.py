"""The routes by subject; `ROUTERS` is all of them."""

from refund_worker.web import webhooks
from refund_worker.web.api import acts, batches, customers, health, processors, records, refunds

ROUTERS = (
    records.router,
    customers.router,
    refunds.router,
    acts.router,
    batches.router,
    processors.router,
    webhooks.router,
    health.router,
)
