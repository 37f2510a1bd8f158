"""refund-worker inside this process, in virtual time: what the web process, the workers and the scheduler do."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from servers import DAY, HOUR, PAYPAL, STRIPE, Servers
from sqlalchemy import Connection, text

from refund_worker.domain.payouts.payee import PayeeBalance
from refund_worker.engine.context import Context
from refund_worker.engine.jobs.advance import advance_due
from refund_worker.engine.payees.refresh import refresh_payees
from refund_worker.engine.processor_sync.sync import RecentSync, sync_recent
from refund_worker.errors import RefundWorkerError
from refund_worker.processors.paypal.sandbox import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.runtime import build_runtime, open_database
from refund_worker.settings import PREFIX, load_settings
from refund_worker.store.payouts import payees
from refund_worker.store.payouts.payouts import ask_again, named_legs
from refund_worker.store.schema import upgrade

CURRENCY = "USD"
# Of virtual time. Nothing is sent while the last list of refunds is older than the time between two questions.
POLL_SECONDS, LIST_SECONDS = 4 * HOUR, 3 * HOUR
EARNINGS_HOLD_SECONDS = DAY
PAYOUT_MINIMUM_MINOR = 1_000
OPEN_OBJECTS = (
    "SELECT l.processor, l.object_id FROM payout_legs l JOIN payouts p USING (payout_id)"
    " WHERE l.object_id IS NOT NULL AND p.status IN ('pending', 'recipient_action', 'paid', 'returning')"
)
NEXT_DUE = (
    "SELECT min(due_at) FROM (SELECT due_at FROM refunds UNION ALL SELECT due_at FROM payouts) d WHERE due_at > :now"
)


class Program:
    """The program with a database and both servers, as a context manager. `context` is what its functions take."""

    def __init__(self, servers: Servers, database_url: str) -> None:
        self._servers = servers
        self._settings = _settings(servers, database_url)
        self._stack = ExitStack()
        self._watch = RecentSync()
        self._numbers = itertools.count(1)
        self._listed_at = 0.0

    def __enter__(self) -> Program:
        with ExitStack() as stack:
            with closing(open_database(self._settings)) as database:
                upgrade(database)
            runtime = stack.enter_context(build_runtime(self._settings))
            self.context: Context = replace(
                runtime.context, clock=lambda _connection: self._servers.now, new_id=self._new_id
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def _new_id(self, prefix: str) -> str:
        """Return ids that are the same in each run."""
        return f"{prefix}_{next(self._numbers):012d}"

    @property
    def is_fresh(self) -> bool:
        """Return True if the database has no entry yet."""
        return self.rows("SELECT 1 FROM ledger_transactions LIMIT 1") == []

    def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.context.database.read() as connection:
            found = [tuple(row) for row in connection.execute(text(query), values)]
        # Postgres has sums of integers as decimal numbers.
        return [tuple(int(each) if isinstance(each, Decimal) else each for each in row) for row in found]

    def balance_of(self, payee_id: str) -> PayeeBalance:
        """Return the sums of a performer."""
        return self.balances([payee_id])[payee_id]

    def balances(self, payee_ids: Iterable[str]) -> dict[str, PayeeBalance]:
        """Return the sums of performers."""
        pairs = {(payee_id, CURRENCY) for payee_id in payee_ids}
        with self.context.database.read() as connection:
            found = payees.balances(connection, pairs, self._servers.now)
        return {payee_id: balance for (payee_id, _), balance in found.items()}

    # --- time --------------------------------------------------------------------------------------------------------

    def work_until(self, moment: float) -> None:
        """Let the time pass until `moment` (epoch seconds), and do all that becomes due, each at its time."""
        self._work()
        while (due := self._next_due()) is not None and due <= moment:
            self._servers.advance_to(due)
            self._work()
        self._servers.advance_to(moment)
        self._work()

    def _work(self) -> None:
        """Do all that is due now. A list of refunds that is too old would stop all sending: it is read first."""
        if self._servers.now - self._listed_at > LIST_SECONDS:
            self._listed_at = self._servers.now
            sync_recent(self.context, STRIPE)
        while advance_due(self.context):
            pass

    def _next_due(self) -> float | None:
        due: float | None = self.rows(NEXT_DUE, now=self._servers.now)[0][0]
        return due

    def look_at_the_servers(self) -> None:
        """Read what others did there: refunds that failed late, disputes, accounts that can be paid now."""
        self._watch.sync_all(self.context, STRIPE)
        self._listed_at = self._servers.now
        while refresh_payees(self.context):
            pass
        self._work()

    def ask_about_all_payouts(self) -> None:
        """Ask about each payout that can still change, as events of the processors make the program do."""
        objects: defaultdict[str, list[str]] = defaultdict(list)
        for account, object_id in self.rows(OPEN_OBJECTS):
            objects[account].append(object_id)

        def ask(connection: Connection) -> None:
            for account, object_ids in objects.items():
                ask_again(connection, named_legs(connection, account, object_ids=object_ids), self._servers.now)

        self.context.database.run(ask)
        self._work()


def accepted(answers: Sequence[Any]) -> None:
    """Raise the first refusal among the answers."""
    for answer in answers:
        if isinstance(answer, RefundWorkerError):
            raise answer


def database_in(folder: Path) -> str:
    """Return the URL of a database file in the folder."""
    return f"sqlite:///{folder.resolve() / 'refunds.db'}"


def _settings(servers: Servers, database_url: str) -> Any:
    paypal = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "webhook_id": WEBHOOK_ID,
        "api_base": servers.paypal.url,
    }
    values = {
        "DATABASE_URL": database_url,
        "BROKER_URL": "memory://",
        "STRIPE_API_KEY": "sk_test_sandbox",
        "STRIPE_API_BASE": servers.stripe.url,
        "PROCESSORS": json.dumps({PAYPAL: paypal}),
        "DESTINATIONS_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "POLL_SECONDS": f"{POLL_SECONDS:g}",
        "EARNINGS_HOLD_SECONDS": f"{EARNINGS_HOLD_SECONDS:g}",
        "PAYOUT_MINIMUM": f"{CURRENCY}:{PAYOUT_MINIMUM_MINOR}",
    }
    return load_settings({PREFIX + name: value for name, value in values.items()})
