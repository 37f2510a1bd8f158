"""Fixtures: a running sandbox, the official client connected to it, its customers, and a receiver for its webhooks."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import stripe
from tests.processors.sandbox.customer import Customer

from refund_worker.processors.sandbox import Sandbox

CLIENT_TIMEOUT_SECONDS = 1.5
_numbers = itertools.count(1)

Connect = Callable[..., stripe.StripeClient]


@pytest.fixture(autouse=True, scope="session")
def _no_telemetry() -> None:
    stripe.enable_telemetry = False


@pytest.fixture(scope="session")
def _shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox(faults={"seed": 1, "webhook_retry_seconds": 0.1, "hang_seconds": 0.2}) as running:
        yield running


@pytest.fixture
def sandbox(_shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """A shared sandbox without faults. Tests that use it must not change its clock, balance or key life."""
    yield _shared_sandbox
    _shared_sandbox.clear_faults()
    _shared_sandbox.send_webhooks_to(None)


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    """A sandbox for one test only."""
    with Sandbox() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A function that creates official clients of a sandbox."""
    opened: list[stripe.RequestsClient] = []

    def make(
        sandbox: Sandbox, *, api_key: str = "sk_test_tests", timeout: float = CLIENT_TIMEOUT_SECONDS
    ) -> stripe.StripeClient:
        transport = stripe.RequestsClient(timeout=timeout)
        opened.append(transport)
        return stripe.StripeClient(api_key, base_addresses={"api": sandbox.url}, http_client=transport)

    yield make
    for transport in opened:
        transport.close()


@pytest.fixture
def client(sandbox: Sandbox, connect: Connect) -> stripe.StripeClient:
    """An official client of the shared sandbox."""
    return connect(sandbox)


@pytest.fixture
def charge(sandbox: Sandbox) -> str:
    """A captured charge of 10.00 GBP that no other test uses."""
    charge_id = f"ch_{next(_numbers)}"
    sandbox.register_payment(charge_id, 1000)
    return charge_id


@pytest.fixture
def customer(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> Customer:
    """A customer of the shared sandbox."""
    return Customer(client, sandbox, charge)


@pytest.fixture
def patient(own_sandbox: Sandbox, connect: Connect) -> Customer:
    """A customer with an own sandbox, so that the test may advance its clock."""
    own_sandbox.register_payment("ch_1", 1000)
    return Customer(connect(own_sandbox), own_sandbox, "ch_1")


@dataclass
class Receiver:
    """Stores the deliveries to a webhook endpoint. Refuses the first `failures` deliveries with a 500."""

    url: str = ""
    secret: str = "whsec_of_the_tests"
    failures: int = 0
    got: list[tuple[bytes, str]] = field(default_factory=list)

    def events(self, count: int, within_seconds: float = 10.0) -> list[stripe.Event]:
        """Wait for at least `count` different events and return all so far, in the order of their first delivery.

        An event whose answer was lost on the way is delivered again, as Stripe does: that is no second event.
        """
        wait_until(lambda: len(self._first_deliveries()) >= count, within_seconds)
        return list(self._first_deliveries().values())

    def deliveries(self) -> list[stripe.Event]:
        """Return the event of each delivery so far, verified."""
        return [stripe.Webhook.construct_event(body, signature, self.secret) for body, signature in list(self.got)]

    def _first_deliveries(self) -> dict[str, stripe.Event]:
        first: dict[str, stripe.Event] = {}
        for event in self.deliveries():
            first.setdefault(event.id, event)
        return first


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running webhook endpoint."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Store the delivery, or refuse it while `failures` is above zero."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if kept.failures > 0:
                kept.failures -= 1
                self.send_response(500)
            else:
                kept.got.append((body, self.headers["Stripe-Signature"]))
                self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield kept
    server.shutdown()
    thread.join(5)
    server.server_close()


def wait_until(true: Callable[[], bool], within_seconds: float = 10.0) -> None:
    """Wait until `true` returns True. Fail after `within_seconds`."""
    end = time.monotonic() + within_seconds
    while not true():
        assert time.monotonic() < end, "the condition was not true in time"
        time.sleep(0.01)
