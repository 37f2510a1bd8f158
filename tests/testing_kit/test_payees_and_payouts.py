"""Payees, earnings and payouts in a user's own test suite."""

from __future__ import annotations

import pytest

from refund_worker.client import Client
from refund_worker.errors import InsufficientEarnings
from refund_worker.testing import RefundWorker, refund_worker

__all__ = ["refund_worker"]


@pytest.fixture
def worker(refund_worker: RefundWorker) -> RefundWorker:
    refund_worker.add_payee("maria")
    refund_worker.add_earning("maria", amount_minor=5_000)
    return refund_worker


def test_person_pays_and_the_balance_is_paid_out(worker: RefundWorker) -> None:
    payout_id = worker.request_payout("maria", amount_minor=3_000)
    worker.settle()
    assert worker.payout(payout_id)["status"] == "needs_attention"
    (balance,) = worker.payee("maria")["balances"]
    assert (balance["payable_minor"], balance["in_flight_minor"]) == (2_000, 3_000)
    with worker.http() as api, Client(api.url, api.key) as client:
        paid = client.resolve_payout(payout_id, reason="paid", outcome="paid_manually", reference="desk 7")
    assert paid["status"] == "paid"
    (balance,) = worker.payee("maria")["balances"]
    assert (balance["paid_minor"], balance["in_flight_minor"]) == (3_000, 0)


def test_more_than_the_earnings_is_refused(worker: RefundWorker) -> None:
    with pytest.raises(InsufficientEarnings):
        worker.request_payout("maria", amount_minor=5_001)


def test_refunded_spend_claws_the_earning_back(worker: RefundWorker) -> None:
    worker.add_payment("cust-1", amount_minor=2_000, credits=200)
    worker.add_spend("cust-1", credits=100, transaction_id="chat")
    worker.add_earning("maria", amount_minor=600, transaction_id="chat")
    worker.request("cust-1", kind="credit_refund", to="balance", transaction_id="chat", credits=50)
    worker.settle()
    (balance,) = worker.payee("maria")["balances"]
    assert (balance["clawed_back_minor"], balance["payable_minor"]) == (300, 5_300)


def test_withdrawal_pays_a_payee_what_no_payment_takes_back(worker: RefundWorker) -> None:
    worker.add_payment("cust-1", amount_minor=2_000, credits=200)
    worker.add_payee("cust-1", customer_id="cust-1")
    refusal = {"status": 400, "code": "expired_or_canceled_card"}
    worker.sandbox.add_fault({"refuse": refusal}, match={"path_kind": "create"}, times=None)
    refund_id = worker.request("cust-1", to="payout", payee_id="cust-1", credits=50)
    worker.settle()
    first, second = worker.refund(refund_id)["legs"]
    assert (first["status"], second["status"]) == ("failed", "pending")
    payout = worker.payout(second["processor_refund_id"] or "")
    assert (payout["payee_id"], payout["amount_minor"], payout["status"]) == ("cust-1", 500, "needs_attention")


def test_calls_of_the_client(worker: RefundWorker) -> None:
    with worker.http() as api, Client(api.url, api.key) as client:
        assert client.preview_payout(payee_id="maria")["payable_minor"] == 5_000
        payout = client.create_payout(payee_id="maria", currency="GBP", amount_minor=1_000, idempotency_key="k")
        assert client.payout(payout["id"]) == payout
        assert [each["id"] for each in client.payouts(payee_id="maria")] == [payout["id"]]
        assert client.payout_events(payout["id"])[0]["what"] == "payout_accepted"
        assert client.sync_payout(payout["id"])["status"] == "queued"
        assert client.cancel_payout(payout["id"], reason="not yet", version=1)["status"] == "canceled"
