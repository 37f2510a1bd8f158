"""Charges and payment intents: lists, metadata, partial captures, bank debits that fail later, and their events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from tests.processors.sandbox.conftest import Receiver

Connect = Callable[..., stripe.StripeClient]


def types(receiver: Receiver, count: int) -> list[str]:
    """Return the types of the first `count` events."""
    return [event.type for event in receiver.events(count)]


def test_new_charge_shows_what_was_paid(own_sandbox: Sandbox, connect: Connect, receiver: Receiver) -> None:
    client = connect(own_sandbox)
    own_sandbox.send_webhooks_to(receiver.url, receiver.secret)
    made = own_sandbox.act(
        "new_charge",
        payment="pi_7",
        amount_minor=1200,
        currency="EUR",
        captured_minor=900,
        metadata={"user": "mia"},
        intent_metadata={"credits": "90"},
        customer="cus_1",
        customer_email="mia@example.org",
    )
    charge = client.v1.charges.retrieve("ch_7")
    assert charge.to_dict() == made
    assert set(made) <= set(stripe.Charge.__annotations__)
    assert (charge.amount, charge.amount_captured, charge.amount_refunded) == (1200, 900, 0)
    assert (charge.currency, charge.customer, charge.status, charge.paid) == ("eur", "cus_1", "succeeded", True)
    assert (charge.captured, charge.disputed, charge.livemode, charge.refunded) == (True, False, False, False)
    assert (charge.payment_intent, charge.metadata.to_dict()) == ("pi_7", {"user": "mia"})
    intent = client.v1.payment_intents.retrieve("pi_7", {"expand": ["latest_charge"]})
    assert set(intent.to_dict()) <= set(stripe.PaymentIntent.__annotations__)
    assert (intent.amount, intent.amount_received, intent.status) == (1200, 900, "succeeded")
    assert intent.metadata.to_dict() == {"credits": "90"}
    charged, paid = receiver.events(2)
    assert [charged.type, paid.type] == ["charge.succeeded", "payment_intent.succeeded"]
    assert (charged.data.object["id"], paid.data.object["id"]) == ("ch_7", "pi_7")
    assert client.v1.refunds.create({"payment_intent": "pi_7"}).amount == 900
    assert client.v1.charges.retrieve("ch_7").refunded is True
    assert own_sandbox.book()["totals"]["eur"] == {"captured": 900, "refunded": 900}


def test_new_charge_gets_an_id_and_takes_none_twice(sandbox: Sandbox, charge: str) -> None:
    first = sandbox.act("new_charge", amount_minor=5, currency="gbp")
    assert first["id"].startswith("ch_")
    assert sandbox.act("new_charge", amount_minor=5, currency="gbp")["id"] != first["id"]
    for taken in (charge, first["id"], "ch/1"):
        with pytest.raises(SandboxError, match="id is taken"):
            sandbox.act("new_charge", payment=taken, amount_minor=5, currency="gbp")
    with pytest.raises(SandboxError, match="currency must be three letters"):
        sandbox.act("new_charge", amount_minor=5, currency="pounds")


def test_charges_are_listed_by_time_intent_and_customer(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    for number, created in ((1, 400), (2, 100), (3, 300), (4, 200)):
        own_sandbox.register_payment(f"pi_{number}", 10 * number, created=created, customer=f"cus_{number % 2}")
    newest_first = ["ch_1", "ch_3", "ch_4", "ch_2"]

    def listed(params: stripe.params.ChargeListParams) -> list[str]:
        return [charge.id for charge in client.v1.charges.list(params).auto_paging_iter()]

    assert listed({"limit": 1}) == listed({}) == newest_first
    assert listed({"created": {"gte": 200, "lt": 400}, "limit": 1}) == ["ch_3", "ch_4"]
    assert listed({"payment_intent": "pi_4"}) == ["ch_4"]
    assert listed({"customer": "cus_0", "limit": 1}) == ["ch_4", "ch_2"]
    own_sandbox.restart()
    assert listed({"limit": 3}) == newest_first
    for wrong in ({"payment_intent": "pi_9"}, {"starting_after": "pi_1"}, {"charge": "ch_1"}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.charges.list(wrong)  # type: ignore[arg-type]


def test_payments_file_gives_each_charge_its_time(tmp_path: Path, connect: Connect) -> None:
    header = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
    file = tmp_path / "payments.csv"
    file.write_text(header + "p1,c1,stripe,ch_a,1250,GBP,1250,2010-12-01T08:26:00Z\n", "utf-8")
    with Sandbox(payments=file) as running:
        assert connect(running).v1.charges.retrieve("ch_a").created == 1291191960


# -- bank debits and authorizations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "status", "events"),
    [
        ("fails_after_seconds", "failed", ["charge.failed", "payment_intent.payment_failed"]),
        ("succeeds_after_seconds", "succeeded", ["charge.succeeded", "payment_intent.succeeded"]),
    ],
)
def test_pending_debit_ends_by_itself(
    own_sandbox: Sandbox, connect: Connect, receiver: Receiver, option: str, status: str, events: list[str]
) -> None:
    client = connect(own_sandbox)
    own_sandbox.send_webhooks_to(receiver.url, receiver.secret)
    debit: dict[str, Any] = {"amount_minor": 500, "currency": "usd", "payment_method": "us_bank_account"}
    own_sandbox.act("new_charge", payment="pi_1", status="pending", **debit, **{option: 86400})
    assert client.v1.payment_intents.retrieve("pi_1").status == "processing"
    refund = client.v1.refunds.create({"charge": "ch_1", "amount": 200})
    assert (refund.status, refund.pending_reason) == ("pending", "charge_pending")
    assert {"charge.pending", "payment_intent.processing"} < set(types(receiver, 4))
    own_sandbox.restart()
    own_sandbox.send_webhooks_to(receiver.url, receiver.secret)
    own_sandbox.advance_clock(86401)
    assert client.v1.charges.retrieve("ch_1").status == status
    assert client.v1.refunds.retrieve(refund.id).status == status
    count = 7 if status == "succeeded" else 8
    assert set(events) < set(types(receiver, count))


def test_charge_that_fails_late_is_worth_nothing(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("ch_1", 500, "USD")
    failed = own_sandbox.act("move_charge", payment="ch_1", status="failed", failure_code="account_closed")
    shown = client.v1.charges.retrieve("ch_1")
    assert shown.to_dict() == failed
    assert (shown.status, shown.paid, shown.amount_captured, shown.refunded) == ("failed", False, 0, False)
    assert shown.failure_code == "account_closed"
    assert own_sandbox.book()["totals"]["usd"] == {"captured": 0, "refunded": 0}
    with pytest.raises(stripe.InvalidRequestError, match="no successful charge to refund"):
        client.v1.refunds.create({"charge": "ch_1"})
    with pytest.raises(SandboxError, match="is failed"):
        own_sandbox.act("move_charge", payment="ch_1", status="failed")


def test_authorized_charge_is_refundable_once_captured(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver
) -> None:
    sandbox.register_payment("pi_hold", 800, captured_minor=0)
    with pytest.raises(stripe.InvalidRequestError, match="has not been captured"):
        client.v1.refunds.create({"payment_intent": "pi_hold"})
    intent = client.v1.payment_intents.retrieve("pi_hold")
    assert (intent.status, intent.amount_capturable, intent.amount_received) == ("requires_capture", 800, 0)
    assert client.v1.charges.retrieve("ch_hold").captured is False
    with pytest.raises(SandboxError, match="0 of 800 are captured"):
        sandbox.act("capture", payment="pi_hold", captured_minor=801)
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    assert sandbox.act("capture", payment="pi_hold", captured_minor=300)["amount_captured"] == 300
    assert types(receiver, 2) == ["charge.captured", "payment_intent.succeeded"]
    assert client.v1.refunds.create({"payment_intent": "pi_hold"}).amount == 300
    with pytest.raises(SandboxError, match="300 of 800 are captured"):
        sandbox.act("capture", payment="pi_hold")


# -- expand -----------------------------------------------------------------------------------------------------------


def test_whole_objects_can_be_asked_for(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("pi_1", 900, intent_metadata={"credits": "9"})
    own_sandbox.register_payment("ch_2", 100)
    listed = client.v1.charges.list({"expand": ["data.payment_intent", "data.balance_transaction"]}).data
    assert [getattr(each.payment_intent, "metadata", {}) and "credits" for each in listed] == [{}, "credits"]
    assert [getattr(each.balance_transaction, "net", None) for each in listed] == [100, 900]
    refund = client.v1.refunds.create({"charge": "ch_1", "amount": 5, "expand": ["charge.balance_transaction"]})
    assert isinstance(refund.charge, stripe.Charge)
    assert isinstance(refund.charge.balance_transaction, stripe.BalanceTransaction)
    assert client.v1.refunds.retrieve(refund.id).charge == "ch_1"  # the book keeps the id
    (moved,) = client.v1.balance_transactions.list({"source": refund.id, "expand": ["data.source"]}).data
    assert isinstance(moved.source, stripe.Refund)


@pytest.mark.parametrize("path", ["amount", "charge.amount", "data.payment_intent", "", "a.b.c.d.e"])
def test_other_property_cannot_be_expanded(client: stripe.StripeClient, charge: str, path: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge, "expand": [path]})
    assert (refused.value.http_status, refused.value.param) == (400, "expand")
    assert client.v1.refunds.list({"charge": charge}).data == []
