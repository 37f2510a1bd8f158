"""Failures grouped by failure code: how often, how much money, since when."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.engine.views.api_objects import Json
from refund_worker.store.reporting import failure_stats
from refund_worker.times import iso

# Failed refunds are final and never leave the list: count only the newest, or the page would get slower forever.
FAILED_AT_MOST = 10_000


def failures(connection: Connection, *, failed_at_most: int = FAILED_AT_MOST) -> list[Json]:
    """Return refunds that need a person, and the newest failed ones, by failure code, the most frequent first.

    Each group is {failure_code, refunds, needs_attention, failed, amounts: [{currency, amount_minor}],
    processor_accounts, first_seen, last_seen, example}; amounts are the sums first requested, `processor_accounts` are
    those where it failed, `example` is one of the messages.
    """
    sums: dict[str | None, list[Json]] = {}
    for code, currency, total in failure_stats.asked_by_failure(connection, failed_at_most=failed_at_most):
        sums.setdefault(code, []).append({"currency": currency, "amount_minor": int(total)})
    accounts: dict[str | None, list[str]] = {}
    for code, account in failure_stats.accounts_by_failure(connection, failed_at_most=failed_at_most):
        accounts.setdefault(code, []).append(account)
    return [
        {
            "failure_code": row["failure_code"],
            "refunds": row["refunds"],
            "needs_attention": int(row["needs_attention"]),
            "failed": row["refunds"] - int(row["needs_attention"]),
            "amounts": sums.get(row["failure_code"], []),
            "processor_accounts": accounts.get(row["failure_code"], []),
            "first_seen": iso(row["first_seen"]),
            "last_seen": iso(row["last_seen"]),
            "example": row["example"],
        }
        for row in failure_stats.failures_by_code(connection, failed_at_most=failed_at_most)
    ]
