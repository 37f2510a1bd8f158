"""The shares of payees in customers' spends, for the pages of spends and of their refunds."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from refund_worker.domain.payouts.earnings import Earning
from refund_worker.store.payouts import earnings


def shares_of(connection: Connection, transaction_ids: Collection[str]) -> dict[str, list[Earning]]:
    """Return the shares of payees in these spends, by spend."""
    found: dict[str, list[Earning]] = {}
    for earning in earnings.earnings_of_spends(connection, transaction_ids) if transaction_ids else ():
        found.setdefault(earning.transaction_id or "", []).append(earning)
    return found
