"""The test suite of a toy backend: an example for users of `refund_worker.testing`, and the proof that it works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe
from standardwebhooks import WebhookVerificationError

from refund_worker.client import ApiError, Client
from refund_worker.errors import ExceedsRefundable
from refund_worker.testing import RefundWorker, refund_worker
from tests.support.receiver import Receiver
from tests.testing_kit.toy_backend import ToyBackend

__all__ = ["refund_worker"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def worker(tmp_path: Path, receiver: Receiver) -> Iterator[RefundWorker]:
    with RefundWorker(tmp_path, notify_url=receiver.url) as running:
        running.add_payment("cust-1", amount_minor=2_000, credits=200)
        yield running


@pytest.fixture
def backend(worker: RefundWorker) -> Iterator[ToyBackend]:
    with worker.http("requester") as api, Client(api.url, api.key) as client:
        yield ToyBackend(client, worker.notify_secret)


def test_fixture_pays_a_customer_out(refund_worker: RefundWorker) -> None:
    refund_worker.add_payment("cust-1", amount_minor=2_000, credits=200)
    refund_id = refund_worker.request("cust-1", credits=50)
    assert refund_worker.refund(refund_id)["status"] == "queued"
    refund_worker.settle()
    assert refund_worker.refund(refund_id)["status"] == "succeeded"
    assert refund_worker.customer("cust-1")["balance"] == 150
    assert refund_worker.paid_minor() == 500


def test_over_refund_is_refused_and_pays_nothing(refund_worker: RefundWorker) -> None:
    refund_worker.add_payment("cust-1", amount_minor=2_000, credits=200)
    refund_worker.add_spend("cust-1", credits=50, transaction_id="chat")
    with pytest.raises(ExceedsRefundable):
        refund_worker.request("cust-1", kind="credit_refund", transaction_id="chat", credits=51)
    refund_worker.settle()
    assert refund_worker.paid_minor() == 0


def test_processor_that_fails_once_is_retried_and_pays_once(refund_worker: RefundWorker) -> None:
    refund_worker.add_payment("cust-1", amount_minor=2_000, credits=200)
    refund_worker.sandbox.add_fault({"rate_limit": {}}, match={"path_kind": "create"}, times=1)
    refund_id = refund_worker.request("cust-1", credits=50)
    refund_worker.settle()
    assert refund_worker.refund(refund_id)["status"] == "succeeded"
    assert len(refund_worker.sandbox.refunds()) == 1


def test_unsettled_refund_fails_the_test_in_limited_time(refund_worker: RefundWorker) -> None:
    refund_worker.add_payment("cust-1", amount_minor=2_000, credits=200)
    refund_worker.sandbox.add_fault({"rate_limit": {}}, match={"path_kind": "create"}, times=None)
    refund_worker.request("cust-1", credits=50)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="sending"):
        refund_worker.settle(seconds_max=0.5)
    assert time.monotonic() - began < 10


def test_two_clicks_on_cancel_pay_once_and_update_the_order(
    worker: RefundWorker, backend: ToyBackend, receiver: Receiver
) -> None:
    assert backend.cancel_order("A-1", "cust-1", 50) == backend.cancel_order("A-1", "cust-1", 50)
    assert backend.orders == {"A-1": "queued"}
    worker.settle()
    for received in (*receiver.received, *reversed(receiver.received)):  # in any order, and each of them twice
        backend.receive(received.headers, received.body)
    assert backend.orders == {"A-1": "succeeded"}
    assert worker.paid_minor() == 500


def test_forged_notification_changes_no_order(worker: RefundWorker, backend: ToyBackend, receiver: Receiver) -> None:
    backend.cancel_order("A-1", "cust-1", 50)
    worker.settle()
    # Deliveries of one refund may arrive in any order, so the genuine one is selected by its content.
    genuine = next(received for received in receiver.received if b"queued" in received.body)
    with pytest.raises(WebhookVerificationError):
        backend.receive(genuine.headers, genuine.body.replace(b"queued", b"failed"))
    assert backend.orders == {"A-1": "queued"}


def test_over_refund_through_the_client_has_its_code(worker: RefundWorker, backend: ToyBackend) -> None:
    with pytest.raises(ApiError) as refused:
        backend.cancel_order("A-2", "cust-1", 1_000)
    assert refused.value.code == "exceeds_refundable"
    assert not refused.value.retryable
    assert backend.orders == {}


def test_stripe_event_is_verified_with_the_stripe_library(worker: RefundWorker, backend: ToyBackend) -> None:
    backend.stripe_secret = "whsec_toy"
    with Receiver() as endpoint:
        worker.sandbox.send_webhooks_to(endpoint.url, backend.stripe_secret)
        backend.cancel_order("A-1", "cust-1", 50)
        worker.settle()
        deadline = time.monotonic() + 20
        while not endpoint.received and time.monotonic() < deadline:
            time.sleep(0.01)
        worker.sandbox.send_webhooks_to(None)
    received = endpoint.received[0]
    backend.receive_stripe(received.headers, received.body)
    assert backend.stripe_events
    with pytest.raises(stripe.SignatureVerificationError):
        backend.receive_stripe(received.headers, received.body + b" ")
