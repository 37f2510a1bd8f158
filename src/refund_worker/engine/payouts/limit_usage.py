"""Read the usage that the limits on payouts are compared with, inside the transaction that accepts requests."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from refund_worker.domain.limits import Limits, Usage
from refund_worker.store import locks
from refund_worker.store.payouts import usage as sums


def payout_usage_before(
    connection: Connection, payees: Collection[str], actors: Collection[str], limits: Limits, now: float
) -> Usage:
    """Return how much was asked for in the window for these payees and by these actors, in minor units.

    The usage is empty if no limit is set. Payouts are counted apart from refunds. Call it under the payees' locks;
    actors have no row to lock, and are locked here.
    """
    usage = Usage()
    if not limits.any:
        return usage
    since = now - limits.window_seconds
    if limits.velocity:
        locks.acquire_for_actors(connection, {f"payouts of {actor}" for actor in actors})
    for kind, column, ids in (("payee", "payee_id", payees), ("actor", "requested_by", actors)):
        for subject, currency, amount, requests, oldest in sums.asked(
            connection, column, ids, since, runs=kind == "payee"
        ):
            usage.money[(kind, subject), currency] += amount
            usage.requests[kind, subject] += requests
            first = usage.oldest.get((kind, subject), oldest)
            usage.oldest[kind, subject] = min(first, oldest)
    return usage
