"""Synchronise with the lists of connected accounts. There can be many, so only those that need it are listed."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.dispute_sync import DISPUTES, WARNINGS, ListSync
from refund_worker.engine.processor_sync.listing import DAYS, ListDenied, ListRefused, NotListed
from refund_worker.engine.processor_sync.sync import sync_all, sync_interval_seconds, sync_recent
from refund_worker.engine.refunds.send_gate import stale_processors
from refund_worker.store import processors, refunds
from refund_worker.store.waiting import requeue_waiting_for
from refund_worker.times import DAY

log = logging.getLogger(__name__)


class ConnectedSync:
    """A schedule of listings of a platform's connected accounts.

    An account to which money is to be sent is listed as soon as its last listing is too old to be relied on. Every hour
    all accounts to which money was sent lately are listed, with their disputes and early fraud warnings: a refund can
    fail weeks after its success. One account that does not answer does not hold up the others.
    """

    def __init__(self) -> None:
        self._tried_at: defaultdict[str, float] = defaultdict(lambda: -math.inf)
        self._others: defaultdict[str, tuple[ListSync, ListSync]] = defaultdict(
            lambda: (ListSync(DISPUTES), ListSync(WARNINGS))
        )

    def sync_due(self, context: Context, platform: str) -> int:
        """List the accounts for which sends wait; return the number of our refunds there that are unknown here.

        An account that could not be listed is not asked for sooner than any other.
        """
        if platform not in context.processors:
            return 0
        with context.database.read() as connection:
            now = context.clock(connection)
            names = refunds.connected_accounts_to_send_to(connection, platform)
            stale = stale_processors(connection, context, now)
            due = names - (processors.listed_ones(connection, names) - stale)
        earliest = context.monotonic() - sync_interval_seconds(context.policy.poll_seconds)
        return self._sync(context, [name for name in due if self._tried_at[name] <= earliest], sync_recent)

    def sync_all(self, context: Context, platform: str) -> int:
        """List what was made lately on all accounts over which money was sent; return how many statuses were new."""
        if platform not in context.processors:
            return 0
        with context.database.read() as connection:
            since = context.clock(connection) - DAYS * DAY
            names = refunds.connected_accounts(connection, platform, since)
        return self._sync(context, names, self._sync_everything)

    def _sync_everything(self, context: Context, name: str) -> int:
        found = sync_all(context, name)
        for listing in self._others[name]:
            listing.sync_all(context, name)
        return found

    def _sync(self, context: Context, names: Iterable[str], sync: Callable[[Context, str], int]) -> int:
        total = 0
        for name in sorted(names):
            self._tried_at[name] = context.monotonic()
            try:
                total += sync(context, name)
            except ListDenied:
                raise  # the credentials are the platform's: no other account can be listed either
            except NotListed as error:
                log.warning("%s was not listed: %s", name, error, extra={"processor": name})
                if isinstance(error, ListRefused):
                    _ask_about_each_payment(context, name)
        return total


def _ask_about_each_payment(context: Context, name: str) -> None:
    """Let no refund wait for the list of an account that refuses it, for example because it ended its connection.

    Without a listing, each payment's own list is read before money is sent. Its refusal shows the refund to a person.
    """

    def work(connection: Connection) -> None:
        if processors.forget_listing(connection, name):
            requeue_waiting_for(connection, name, context.clock(connection))

    context.database.run(work)
