"""How much was asked for in a window, by payee or by actor."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from refund_worker.domain.payouts.payout import PAYOUT_UNSENT_ENDS
from refund_worker.store.tables import payouts


def asked(
    connection: Connection, column: str, ids: Collection[str], since: float, *, runs: bool = True
) -> list[tuple[str, str, int, int, float]]:
    """Return (id, currency, minor units, requests, time of the first) of the payouts asked for since `since`.

    `column` is `payee_id` or `requested_by`. Payouts that ended before anything was sent count nothing, and
    without `runs` those of payout runs.
    """
    p = payouts.c
    whose = p[column]
    query = (
        select(whose, p.currency, func.sum(p.amount_minor), func.count(), func.min(p.created_at))
        .where(whose.in_(sorted(ids)), p.created_at > since, p.status.not_in(PAYOUT_UNSENT_ENDS))
        .group_by(whose, p.currency)
    )
    if not runs:
        query = query.where(p.run_id.is_(None))
    return [(row[0], row[1], int(row[2]), row[3], row[4]) for row in connection.execute(query)] if ids else []
