"""Synchronise with the lists of connected accounts. There can be many, so only those that need it are listed."""

from __future__ import annotations

import logging
from collections import defaultdict

from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.dispute_sync import DISPUTES, WARNINGS, ListSync
from refund_worker.engine.processor_sync.listing import DAYS, ListDenied, NotListed
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.engine.refunds.send_gate import stale_processors
from refund_worker.store import processors, refunds

log = logging.getLogger(__name__)


class ConnectedSync:
    """A schedule of listings of a platform's connected accounts: those whose last listing is too old to be relied on.

    Only accounts over which money was sent lately, or is to be sent, are listed. One that does not answer does not hold
    up the others: nothing is sent there until it was listed again.
    """

    def __init__(self) -> None:
        self._others: defaultdict[str, tuple[ListSync, ListSync]] = defaultdict(
            lambda: (ListSync(DISPUTES), ListSync(WARNINGS))
        )

    def sync_due(self, context: Context, platform: str) -> int:
        """List the accounts that need it; return the number of our refunds there that are unknown here."""
        if platform not in context.processors:
            return 0
        with context.database.read() as connection:
            now = context.clock(connection)
            names = refunds.connected_accounts(connection, platform, now - DAYS * 86_400)
            stale = stale_processors(connection, context, now)
            listed = processors.listed_ones(connection, names)
        unknown = 0
        for name in sorted(names):
            if name in stale or name not in listed:
                unknown += self._sync(context, name)
        return unknown

    def _sync(self, context: Context, name: str) -> int:
        try:
            unknown = sync_recent(context, name)
            for listing in self._others[name]:
                listing.sync_recent(context, name)
        except ListDenied:
            raise  # the credentials are the platform's: no other account can be listed either
        except NotListed as error:
            log.warning("%s was not listed: %s", name, error, extra={"processor": name})
            return 0
        return unknown
