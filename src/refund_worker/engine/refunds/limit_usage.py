"""Read the usage that the limits are compared with, inside the transaction that accepts requests."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from refund_worker.domain.limits import Limits, Usage
from refund_worker.settings import Settings
from refund_worker.store import limits as sums
from refund_worker.store import locks


def usage_before(
    connection: Connection, customers: Collection[str], actors: Collection[str], limits: Limits, now: float
) -> Usage:
    """Return how much these customers, their payments and these actors have requested in the window.

    Amounts are in minor units. The usage is empty if no limit is set. Call it under the customers' locks. Actors have
    no row to lock; they are locked here, after the customers.
    """
    usage = Usage()
    if not limits.any:
        return usage
    since = now - limits.window_seconds
    for customer, payment, currency, amount in sums.money_of_customers(connection, customers, since):
        usage.money[("customer", customer), currency] += amount
        usage.money[("payment", payment), currency] += amount
    if limits.velocity:
        locks.acquire_for_actors(connection, actors)
        for actor, currency, amount in sums.money_of_actors(connection, actors, since):
            usage.money[("actor", actor), currency] += amount
        for kind, column, ids in (("actor", "requested_by", actors), ("customer", "customer_id", customers)):
            for subject, count, oldest in sums.counts(connection, column, ids, since):
                usage.requests[kind, subject] += count
                usage.oldest[kind, subject] = oldest
        for payment, count, oldest in sums.counts_of_payments(connection, customers, since):
            usage.requests["payment", payment] += count
            usage.oldest["payment", payment] = oldest
    return usage


def limits_of(settings: Settings) -> Limits:
    """Return the limits from the settings."""
    return Limits(
        approval_threshold_minor=settings.approval_threshold_minor,
        velocity_count=settings.velocity_count,
        velocity_amount_minor=settings.velocity_amount_minor,
        window_seconds=settings.velocity_window_seconds,
    )
