"""For your own test suite: the whole engine in this process, and the processor as a sandbox.

    # conftest.py
    from refund_worker.testing import refund_worker  # a fixture

    def test_a_cancelled_order_is_paid_back(refund_worker):
        refund_worker.add_payment("cust-1", amount_minor=2000, credits=200)
        refund_id = refund_worker.request("cust-1", credits=50)
        refund_worker.settle()
        assert refund_worker.refund(refund_id)["status"] == "succeeded"

Nothing leaves this machine. Each test has its own SQLite file and sandbox process; both end with it.
"""

from __future__ import annotations

import base64
import itertools
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from refund_worker import api_schema
from refund_worker.domain.payouts.destination import read_destination
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest, PayoutStatus
from refund_worker.domain.payouts.transfers import Method
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import FINAL, WAITING_FOR_PERSON, RefundStatus
from refund_worker.engine.access.api_keys import create_key, create_signed_key
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.context import Context
from refund_worker.engine.intake.schemas import RefundSchema, parse_schema
from refund_worker.engine.jobs.advance import advance_due
from refund_worker.engine.payees.earnings import record_earnings
from refund_worker.engine.payees.payees import record_payee
from refund_worker.engine.payouts.accept import request_payouts
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.views import api_objects, payee_objects, payout_objects
from refund_worker.errors import RefundWorkerError, Refusal
from refund_worker.extras import require
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.store.payouts import lists
from refund_worker.store.reporting import metrics

try:
    from refund_worker.engine.notifications.delivery import Deliverer
    from refund_worker.processors.sandbox import Sandbox
except ImportError:
    require("testing")
    raise

# Clocks of a test: what takes minutes in production takes tenths of a second here.
CLOCKS = {
    "LEASE_SECONDS": "5",
    "RETRY_BASE_SECONDS": "0.05",
    "RETRY_MAX_SECONDS": "0.5",
    "QUIET_SECONDS": "1",
    "POLL_SECONDS": "0.5",
    "PAYEE_COOLDOWN_SECONDS": "0",
    "EARNINGS_HOLD_SECONDS": "0",
    "STRIPE_RATE_PER_SECOND": "0",
}
# The destination of a payee who is paid by a person.
PAID_BY_A_PERSON = {"kind": "manual", "text": "cash at the desk"}
SETTLE_SECONDS_MAX = 20.0
START_SECONDS_MAX = 20.0
# These wait for a person or the processor: no work of ours moves them.
WAIT_FOR_OTHERS = {*WAITING_FOR_PERSON, RefundStatus.PENDING}
UNSETTLED = tuple(status for status in RefundStatus if status not in FINAL | WAIT_FOR_OTHERS)
UNSETTLED_PAYOUTS = (PayoutStatus.QUEUED, PayoutStatus.SENDING, PayoutStatus.RETURNING)


@dataclass(frozen=True, slots=True)
class ServedApi:
    """The HTTP API while it is served: `Client(served.url, served.key, signing_secret=served.signing_secret)`."""

    url: str
    key: str
    signing_secret: str | None = None


Door = ServedApi  # its former name, which tests of adopters may import


class RefundWorker:
    """The engine with its sandbox, as a context manager or by the fixture `refund_worker`.

    `notify_url` receives a notification of every change, signed with `notify_secret`. `settings` are more environment
    variables without their prefix, such as `APPROVAL_THRESHOLD_MINOR="500"`. `sandbox` scripts the processor's faults.
    """

    def __init__(self, folder: Path | None = None, *, notify_url: str | None = None, **settings: str) -> None:
        self._stack = ExitStack()
        self._folder, self._notify_url, self._more_settings = folder, notify_url, settings
        self._numbers = itertools.count(1)
        self.notify_secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = self._folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refund-worker-")))
            self.sandbox = stack.enter_context(Sandbox(book=folder / "book.jsonl"))
            self.settings = self._settings(folder)
            self.runtime: Runtime = stack.enter_context(build_runtime(self.settings))
            self._deliverer = Deliverer(self.settings) if self._notify_url else None
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _settings(self, folder: Path) -> Settings:
        values = CLOCKS | {
            "DATABASE_URL": f"sqlite:///{folder / 'refunds.db'}",
            "BROKER_URL": "memory://",
            "STRIPE_API_KEY": "sk_test_sandbox",
            "STRIPE_API_BASE": self.sandbox.url,
        }
        if self._notify_url:
            values |= {"NOTIFY_URL": self._notify_url, "NOTIFY_SECRET": self.notify_secret}
        return load_settings({PREFIX + name: value for name, value in (values | self._more_settings).items()})

    @property
    def context(self) -> Context:
        """Return the engine's context, for calls that have no method here."""
        return self.runtime.context

    # --- records -----------------------------------------------------------------------------------------------------

    def add_payment(
        self, customer_id: str, *, amount_minor: int, credits: int, currency: str = "GBP", payment_id: str | None = None
    ) -> PaymentRecord:
        """Record a captured payment, here and at the processor: it raises the balance. Return the record.

        `amount_minor` is in minor units. Raises the error that refuses it.
        """
        number = next(self._numbers)
        record = PaymentRecord(
            payment_id=payment_id or f"pay-{number}",
            customer_id=customer_id,
            processor="stripe",
            processor_payment_id=f"ch_test_{number}",
            amount_minor=amount_minor,
            currency=currency,
            credits=credits,
            captured_at=float(int(time.time())) + number / 1000,
        )
        self.sandbox.register_payment(record.processor_payment_id, amount_minor, currency)
        (answer,) = record_payments(self.context, [record])
        if isinstance(answer, RefundWorkerError):
            raise answer
        return record

    def add_spend(self, customer_id: str, *, credits: int, transaction_id: str | None = None) -> SpendRecord:
        """Record credits that the customer spent. Return the record. Raises the error that refuses it."""
        record = SpendRecord(
            transaction_id=transaction_id or f"spend-{next(self._numbers)}",
            customer_id=customer_id,
            credits=credits,
            description="spent in a test",
            occurred_at=float(int(time.time())),
        )
        (answer,) = record_spends(self.context, [record])
        if isinstance(answer, RefundWorkerError):
            raise answer
        return record

    def add_payee(
        self,
        payee_id: str,
        *,
        destination: Mapping[str, str] = PAID_BY_A_PERSON,
        currency: str = "GBP",
        processor_account: str = "manual",
        customer_id: str | None = None,
    ) -> None:
        """Record a payee. By default a person pays it: `resolve` ends its payouts. Raises the error that refuses it."""
        record = PayeeRecord(
            payee_id=payee_id,
            customer_id=customer_id,
            processor=processor_account,
            destination=read_destination(dict(destination)),
            currency=currency,
            country=None,
            method=Method.STANDARD,
        )
        record_payee(self.context, record, actor="test")

    def add_earning(
        self,
        payee_id: str,
        *,
        amount_minor: int,
        currency: str = "GBP",
        transaction_id: str | None = None,
        earning_id: str | None = None,
    ) -> EarningRecord:
        """Record a payee's share, which can be paid out at once. Return it. Raises the error that refuses it."""
        record = EarningRecord(
            earning_id=earning_id or f"earning-{next(self._numbers)}",
            payee_id=payee_id,
            amount_minor=amount_minor,
            currency=currency,
            transaction_id=transaction_id,
            available_at=None,
            description="earned in a test",
        )
        (answer,) = record_earnings(self.context, [record], actor="test")
        if isinstance(answer, RefundWorkerError):
            raise answer
        return record

    # --- actions -----------------------------------------------------------------------------------------------------

    def request(
        self,
        customer_id: str,
        *,
        kind: str = "withdrawal",
        to: str = "source",
        credits: int | None = None,
        transaction_id: str | None = None,
        payee_id: str | None = None,
        reason: str = "asked in a test",
        idempotency_key: str | None = None,
        client: str = "test",
    ) -> str:
        """Request a refund and return its id. Raises a `Refusal`, or `InvalidRequest` for a field that is not allowed.

        `to="payout"` with a `payee_id` pays that payee what the customer's payments cannot take back.
        """
        fields = {
            "kind": kind,
            "to": to,
            "customer_id": customer_id,
            "credits": credits,
            "transaction_id": transaction_id,
            "payee_id": payee_id,
            "reason": reason,
        }
        key = idempotency_key or f"key-{next(self._numbers)}"
        request = parse_schema(RefundSchema, fields).request(idempotency_key=key, client=client, actor="test")
        (answer,) = request_refunds(self.context, [request])
        if isinstance(answer, Refusal):
            raise answer
        return answer.refund_id

    def request_payout(
        self,
        payee_id: str,
        *,
        amount_minor: int | None = None,
        currency: str = "GBP",
        idempotency_key: str | None = None,
        client: str = "test",
    ) -> str:
        """Request a payout of earnings, without an amount of all that is payable, and return its id.

        Raises a `Refusal`.
        """
        request = PayoutRequest(
            idempotency_key=idempotency_key or f"key-{next(self._numbers)}",
            payee_id=payee_id,
            amount_minor=amount_minor,
            currency=currency,
            description="asked in a test",
            client=client,
            actor="test",
        )
        (answer,) = request_payouts(self.context, [request])
        if isinstance(answer, Refusal):
            raise answer
        return answer.payout_id

    def settle(self, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Do all the work there is, until each refund is final or waits for a person or the processor.

        The processor's webhook events are processed meanwhile, and notifications are delivered. Raises `TimeoutError`
        after `seconds_max`.
        """
        deadline = time.monotonic() + seconds_max
        while True:
            worked = advance_due(self.context) + process_inbox(self.context)
            if worked:
                continue
            if not self._unsettled():
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"not settled within {seconds_max:g} s: {self._unsettled()}")
            time.sleep(0.01)
        if sync_all(self.context, "stripe"):
            self.settle(max(0.0, deadline - time.monotonic()))
        elif self._deliverer is not None:
            self._deliverer.deliver(self.context)

    def _unsettled(self) -> dict[str, int]:
        with self.context.database.read() as connection:
            found = metrics.count_in(connection, UNSETTLED)
            payouts = lists.find_ids(connection, lists.PayoutFilters(statuses=UNSETTLED_PAYOUTS))
        found |= {"payouts": len(payouts)}
        return {status: count for status, count in found.items() if count}

    @contextmanager
    def http(self, role: str = "admin", client: str = "test", *, signed: bool = False) -> Iterator[ServedApi]:
        """Serve the HTTP API in a thread on a free port of 127.0.0.1, with a key of this role, `signed` or not."""
        require("web")
        import uvicorn

        from refund_worker.web.app import create_app

        name, secret = f"key-{next(self._numbers)}", None
        if signed:
            key, secret = create_signed_key(self.context, name=name, client=client, role=role)
        else:
            key = create_key(self.context, name=name, client=client, role=role)
        config = uvicorn.Config(create_app(self.settings), log_config=None, server_header=False, access_log=False)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="refund-worker-http")
            thread.start()
            try:
                deadline = time.monotonic() + START_SECONDS_MAX
                while not server.started and thread.is_alive() and time.monotonic() < deadline:
                    time.sleep(0.01)
                if not server.started:
                    raise TimeoutError("the HTTP API did not start; its log says why")
                yield ServedApi(f"http://127.0.0.1:{listening.getsockname()[1]}", key, secret)
            finally:
                server.should_exit = True
                thread.join(START_SECONDS_MAX)

    # --- results -----------------------------------------------------------------------------------------------------

    def refund(self, refund_id: str) -> api_schema.Refund:
        """Return the refund as the API shows it. Raises `NotFound`."""
        with self.context.database.read() as connection:
            return api_objects.refund_view(api_objects.find_refund(connection, refund_id))

    def customer(self, customer_id: str) -> api_schema.Customer:
        """Return the customer as the API shows it: balance, available, payable. Raises `NotFound`."""
        with self.context.database.read() as connection:
            return api_objects.customer(connection, customer_id, self.context.policy)

    def payout(self, payout_id: str) -> api_schema.Payout:
        """Return the payout as the API shows it. Raises `NotFound`."""
        with self.context.database.read() as connection:
            return payout_objects.show_payout(connection, payout_objects.find_payout(connection, payout_id))

    def payee(self, payee_id: str) -> api_schema.Payee:
        """Return the payee as the API shows it: status, and its sums. Raises `NotFound`."""
        with self.context.database.read() as connection:
            return payee_objects.find_payee(connection, payee_id, self.context.clock(connection))

    def paid_minor(self) -> int:
        """Return the minor units that the processor has refunded in its own records, over all payments."""
        return sum(refund["amount"] for refund in self.sandbox.refunds() if refund["status"] == "succeeded")


try:
    import pytest
except ImportError:  # the context manager serves other test runners too
    pass
else:

    @pytest.fixture
    def refund_worker(tmp_path: Path) -> Iterator[RefundWorker]:
        """Return a `RefundWorker` for this test alone."""
        with RefundWorker(tmp_path) as running:
            yield running
