"""The whole deployment on real servers: Postgres, Valkey, two processors, two workers, two schedulers, the web."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.access.api_keys import create_key
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.context import Context
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings
from tests.chaos.audit import Books, count_open, count_open_payouts
from tests.chaos.clients import Client, Promises
from tests.chaos.payees import DESTINATIONS_KEY, PAYEE_CLIENTS, PayeeClient, Payees
from tests.chaos.paypal import PayPal
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
    "EARNINGS_HOLD_SECONDS": 0,
    "PAYEE_COOLDOWN_SECONDS": 0,
}
# Banks are slow; these are not.
SANDBOX = {"hang_seconds": 5, "payout_seconds": 2}
# Refunds go over all payments of a customer, so those with payments at both processors get many over both.
ALLOCATION = "pro_rata"
INTENSITY = 0.4
SANDBOX_KEY = "sk_test_ofTheChaosRun"
STRIPE, PAYPAL = "stripe", "paypal"
# The processors of a customer's payments. Half of all customers have payments at both.
WALLETS = ((STRIPE, STRIPE), (STRIPE, PAYPAL), (PAYPAL, PAYPAL), (PAYPAL, STRIPE))
# So many that no payment gets more than some tens of refunds, however long the run: before a send its list is read.
CUSTOMERS, CLIENTS, WORKERS, SCHEDULERS = 300, 4, 2, 2
# Much more than is ever requested, so that a double refund is not refused because too little is left.
PAYMENT_CREDITS, SPEND_CREDITS = 100_000, 50_000
WEBHOOK_SECRET = "whsec_ofTheChaosRunAlone"
READY_SECONDS_MAX = 120.0
# Connections of the pooler to the server.
POOLED = 20
# Above so many open refunds or payouts their clients wait. They are counted so often.
OPEN_MAX, OPEN_PAYOUTS_MAX, COUNT_SECONDS = 200, 50, 1.0


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
            faults={"seed": seed, **SANDBOX},
            webhook_url=f"http://127.0.0.1:{self.web_port}/webhooks/stripe",
            webhook_secret=WEBHOOK_SECRET,
        )
        self.paypal = PayPal(folder, seed, f"http://127.0.0.1:{self.web_port}/webhooks/paypal")
        self.books = Books(stripe=self.sandbox.book_path, paypal=self.paypal.book_path)
        self.charges: list[str] = []
        self.parts = Parts(folder, source)
        self.promises = Promises()
        self.payees = Payees(seed, self.web_port, self.sandbox, self.paypal)
        self.clients: list[Client | PayeeClient] = []
        self.left_behind: list[str] = []
        self._count_at = 0.0

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
        self.paypal.close()
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
        self.paypal.start()
        self._place_database()
        settings = {
            "DATABASE_URL": self.database_url,
            "BROKER_URL": self.valkey.url,
            "STRIPE_API_KEY": SANDBOX_KEY,
            "STRIPE_API_BASE": self.sandbox.url,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "PROCESSORS": json.dumps({PAYPAL: self.paypal.account}),
            "ALLOCATION": ALLOCATION,
            "DESTINATIONS_KEY": DESTINATIONS_KEY,
        } | {name: str(value) for name, value in CLOCKS.items()}
        ours = {PREFIX + name: value for name, value in settings.items()}
        self.parts.environment |= ours
        with build_runtime(load_settings(ours), processors=False) as runtime:
            self._sell(runtime.context)
            self.api_key = create_key(runtime.context, name="chaos", client="chaos", role="requester")
            self.payees.key = create_key(runtime.context, name="payees", client="chaos", role="admin")
        for number in range(WORKERS):
            self.parts.add(f"worker-{number}", "worker", "--concurrency", "2")
        for number in range(SCHEDULERS):
            self.parts.add(f"scheduler-{number}", "scheduler")
        self.parts.add("web", "web", "--port", str(self.web_port))
        self.wait_for_web()
        self.payees.record_all()

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

    def disturb_processors(self) -> None:
        """Begin the faults of both processors."""
        self.sandbox.change_faults({"mode": "heavy", "intensity": INTENSITY})
        self.paypal.disturb()

    def crash_stripe(self, seconds: float) -> None:
        """Kill the Stripe sandbox, and start it after `seconds` with the same book and its faults."""
        self.sandbox.kill()
        time.sleep(seconds)
        self.sandbox.start()
        self.sandbox.change_faults({"mode": "heavy", "intensity": INTENSITY})

    def _sell(self, context: Context) -> None:
        payments = [
            self._payment(customer, number, processor)
            for customer in range(CUSTOMERS)
            for number, processor in enumerate(WALLETS[customer % len(WALLETS)])
        ]
        spends = [
            spent(n, transaction_id=f"t{n}", customer_id=f"c{n}", credits=SPEND_CREDITS) for n in range(CUSTOMERS)
        ]
        at_stripe = [payment for payment in payments if payment.processor == STRIPE]
        at_paypal = [payment for payment in payments if payment.processor == PAYPAL]
        self.charges = [payment.processor_payment_id for payment in at_stripe]
        self.paypal.captures = [payment.processor_payment_id for payment in at_paypal]
        answers = record_payments(context, at_paypal)
        assert not [answer for answer in answers if isinstance(answer, Exception)], answers
        sell(context, self.sandbox, at_stripe, spends)

    def _payment(self, customer: int, number: int, processor: str) -> PaymentRecord:
        minor = PAYMENT_CREDITS * 10
        fields = {"customer_id": f"c{customer}", "amount_minor": minor, "currency": "USD", "credits": PAYMENT_CREDITS}
        if processor == PAYPAL:  # it names the payment, and takes refunds for some months only
            capture_id = self.paypal.server.new_payment(f"{minor // 100}.00", "USD")
            fields |= {"processor": PAYPAL, "processor_payment_id": capture_id, "captured_at": time.time() - 60}
        return paid(f"{customer}-{number}", **fields)

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
            self.clients.append(Client(number, self.seed, self.web_port, self.api_key, CUSTOMERS, self.promises))
        for number in range(PAYEE_CLIENTS):
            self.clients.append(PayeeClient(number, self.payees, CUSTOMERS))
        for client in self.clients:
            client.start()

    def wait_for_what_is_behind(self) -> None:
        """Let clients wait while much is open: a slow machine must not decide how long healing takes."""
        if time.monotonic() < self._count_at:
            return
        self._count_at = time.monotonic() + COUNT_SECONDS
        counted = (self.promises, count_open, OPEN_MAX), (self.payees.promises, count_open_payouts, OPEN_PAYOUTS_MAX)
        for promises, count, most in counted:
            with suppress(psycopg.OperationalError):
                (promises.held.set if count(self.audit_url) > most else promises.held.clear)()

    def end_asking(self, seconds_max: float) -> bool:
        """Let every client finish its last request. Return True if all did so in time."""
        deadline = time.monotonic() + seconds_max
        for client in self.clients:
            client.stop.set()
        for client in self.clients:
            client.join(max(0.0, deadline - time.monotonic()))
        return not any(client.is_alive() for client in self.clients)
