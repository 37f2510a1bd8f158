"""The whole deployment on real servers: Postgres, Valkey, sandbox, two workers, two schedulers, the web."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from refund_worker.engine.access.api_keys import create_key
from refund_worker.engine.context import Context
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings
from tests.chaos.clients import Client, Promises
from tests.support import debian
from tests.support.deployment_processes import Parts
from tests.support.migrated import migrate
from tests.support.pgbouncer import PgBouncer
from tests.support.processes import free_port
from tests.support.sales import paid, sell, spent
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.standby import Name, Standby

LEASE_SECONDS = 3
# Longer than a freeze beyond the lease, an effect 3 s late and a list that lags by 3 s, even on a slow machine.
QUIET_SECONDS = 15
CLOCKS = {
    "LEASE_SECONDS": LEASE_SECONDS,
    "QUIET_SECONDS": QUIET_SECONDS,
    "SWEEP_SECONDS": 0.5,
    "RETRY_BASE_SECONDS": 0.2,
    "RETRY_MAX_SECONDS": 2,
    "POLL_SECONDS": 0.5,
    "STRIPE_RATE_PER_SECOND": 0,
}
SANDBOX_KEY = "sk_test_ofTheChaosRun"
PAYMENTS_EACH = 2
# So many that no payment gets more than some tens of refunds, however long the run: before a send its list is read.
CUSTOMERS, CLIENTS, WORKERS, SCHEDULERS = 300, 4, 2, 2
# Much more than is ever requested, so that a double refund is not refused because too little is left.
PAYMENT_CREDITS, SPEND_CREDITS = 100_000, 50_000
WEBHOOK_SECRET = "whsec_ofTheChaosRunAlone"
READY_SECONDS_MAX = 120.0
# Connections of the pooler to the server.
POOLED = 20


class Stage:
    """A running deployment with payments on both sides and an API key. `clients` start with `begin_asking`."""

    def __init__(self, folder: Path, seed: int, source: Path | None = None) -> None:
        """Create the stage. If given, `source` is the folder of the code that workers, schedulers and web run."""
        self.folder, self.seed = folder, seed
        self.postgres = PostgresServer()
        self.standby: Standby | None = None
        self.name: Name | None = None
        self.pooler: PgBouncer | None = None
        self.valkey = ValkeyServer()
        self.web_port = free_port()
        self.sandbox = Sandbox(
            book=folder / "book.jsonl",
            fsync=True,
            faults={"seed": seed, "hang_seconds": 5},
            webhook_url=f"http://127.0.0.1:{self.web_port}/webhooks/stripe",
            webhook_secret=WEBHOOK_SECRET,
        )
        self.parts = Parts(folder, source)
        self.promises = Promises()
        self.clients: list[Client] = []
        self.left_behind: list[int] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        for client in self.clients:
            client.stop.set()
        self.parts.stop()
        self.left_behind = self.parts.kill_left_behind()
        self.sandbox.close()
        self.valkey.close()
        if self.pooler is not None:
            self.pooler.close()
        if self.name is not None:
            self.name.close()
        if self.standby is not None:
            self.standby.close()
        self.postgres.close()

    def _start(self) -> None:
        self.postgres.start()
        self.valkey.start()
        self.sandbox.start()
        self._place_database()
        settings = {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.valkey.url,
            "STRIPE_API_KEY": SANDBOX_KEY,
            "STRIPE_API_BASE": self.sandbox.url,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        } | {name: str(value) for name, value in CLOCKS.items()}
        ours = {PREFIX + name: value for name, value in settings.items()}
        self.parts.environment |= ours
        with build_runtime(load_settings(ours), processors=False) as runtime:
            self._sell(runtime.context)
            self.api_key = create_key(runtime.context, name="chaos", client="chaos", role="requester")
        for number in range(WORKERS):
            self.parts.add(f"worker-{number}", "worker", "--concurrency", "2")
        for number in range(SCHEDULERS):
            self.parts.add(f"scheduler-{number}", "scheduler")
        self.parts.add("web", "web", "--port", str(self.web_port))
        self.wait_for_web()

    def _place_database(self) -> None:
        """Make the database, its synchronous standby, the name of the primary, and a pooler if PgBouncer is here.

        `audit_url` leads to the primary without the pooler.
        """
        direct = self.postgres.databases.create(migrate)
        self.standby = Standby(self.postgres, synchronous=True).start()
        self.name = Name(self.postgres)
        self.audit_url = self.database_url = self.name.url(direct.rpartition("/")[2])
        if debian.find("pgbouncer") is None:
            print("NOT TESTED: no pooler is in the way, because pgbouncer is not installed")
            return
        self.pooler = PgBouncer(self.name.port, size=POOLED).start()
        self.database_url = self.pooler.url(direct)

    def fail_over(self) -> bool:
        """Crash the primary, promote its standby, and give the new primary a standby. False if it is not in step."""
        assert self.standby is not None
        assert self.name is not None
        if not self.standby.is_in_step():
            return False
        old, self.postgres = self.postgres, self.standby
        old.crash()
        self.standby.promote()
        self.name.move_to(self.postgres)
        old.close()
        self.standby = Standby(self.postgres, synchronous=True).start()
        return True

    def _sell(self, context: Context) -> None:
        payments = [
            paid(
                f"{customer}-{number}",
                customer_id=f"c{customer}",
                amount_minor=PAYMENT_CREDITS * 10,
                currency="USD",
                credits=PAYMENT_CREDITS,
            )
            for customer in range(CUSTOMERS)
            for number in range(PAYMENTS_EACH)
        ]
        spends = [
            spent(n, transaction_id=f"t{n}", customer_id=f"c{n}", credits=SPEND_CREDITS) for n in range(CUSTOMERS)
        ]
        sell(context, self.sandbox, payments, spends)

    def wait_for_web(self) -> None:
        """Wait until the web is ready. Fail if that takes too long."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/readyz", timeout=2):
                    return
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline, "the web does not become ready"
                time.sleep(0.1)

    def begin_asking(self) -> None:
        """Start the clients."""
        for number in range(CLIENTS):
            client = Client(number, self.seed, self.web_port, self.api_key, CUSTOMERS, self.promises)
            client.start()
            self.clients.append(client)

    def end_asking(self, seconds_max: float) -> bool:
        """Let every client finish its last request. Return True if all did so in time."""
        deadline = time.monotonic() + seconds_max
        for client in self.clients:
            client.stop.set()
        for client in self.clients:
            client.join(max(0.0, deadline - time.monotonic()))
        return not any(client.is_alive() for client in self.clients)
