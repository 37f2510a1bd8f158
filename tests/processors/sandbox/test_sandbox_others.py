"""Refunds made in the dashboard, early fraud warnings, and refunds that wait for the customer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox, SandboxError
from refund_worker.processors.sandbox.fraud_warnings import FRAUD_TYPES

if TYPE_CHECKING:
    from tests.processors.sandbox.conftest import Receiver

Connect = Callable[..., stripe.StripeClient]
DAY_SECONDS = 86400


def plain(value: Any) -> Any:
    """Return a value of the official client as plain JSON."""
    return value.to_dict() if isinstance(value, stripe.StripeObject) else value


def card_of(refund: Any) -> dict[str, Any]:
    """Return the card in the refund's destination."""
    details = plain(refund["destination_details"])
    assert details["type"] == "card"
    card: dict[str, Any] = plain(details["card"])
    return card


# -- the dashboard ----------------------------------------------------------------------------------------------------


def test_dashboard_refund_has_no_key_and_sends_events(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    made = sandbox.act("dashboard_refund", payment=charge, amount_minor=300)
    created, charged = receiver.events(2)
    assert [created.type, charged.type] == ["refund.created", "charge.refunded"]
    assert created.data.object["id"] == made["id"]
    assert (charged.data.object["id"], charged.data.object["amount_refunded"]) == (charge, 300)
    assert (made["status"], made["metadata"], made["reason"]) == ("succeeded", {}, None)
    (in_book,) = [refund for refund in sandbox.refunds() if refund["id"] == made["id"]]
    assert in_book["idempotency_key"] is None
    assert client.v1.refunds.list({"charge": charge}).data[0].to_dict() == made
    assert client.v1.refunds.create({"charge": charge}).amount == 700


def test_dashboard_refund_can_fail_later_and_lose_its_metadata(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    pending = sandbox.act("dashboard_refund", payment=charge, amount_minor=300, status="pending")
    assert (pending["status"], pending["pending_reason"]) == ("pending", "processing")
    ours = client.v1.refunds.create({"charge": charge, "amount": 100, "metadata": {"leg_id": "leg-1"}})
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    failed = sandbox.act("move_refund", refund=pending["id"], status="failed", failure_reason="declined")
    assert (failed["failure_reason"], failed["pending_reason"]) == ("declined", None)
    assert failed["failure_balance_transaction"].startswith("txn_")
    sandbox.act("edit_refund", refund=ours.id, metadata={})
    heard = receiver.events(3)
    assert sorted(event.type for event in heard) == ["refund.failed", "refund.updated", "refund.updated"]
    (edited,) = [event for event in heard if event.data.object["id"] == ours.id]
    assert plain(edited.data.previous_attributes["metadata"]) == {"leg_id": "leg-1"}
    assert client.v1.refunds.retrieve(ours.id)["metadata"].to_dict() == {}
    canceled = sandbox.act("dashboard_refund", payment=charge, amount_minor=50, status="requires_action")
    assert sandbox.act("move_refund", refund=canceled["id"], status="canceled")["status"] == "canceled"
    assert client.v1.charges.retrieve(charge).amount_refunded == 100


def test_dashboard_refund_follows_stripes_rules(sandbox: Sandbox, charge: str) -> None:
    with pytest.raises(SandboxError, match="greater than unrefunded"):
        sandbox.act("dashboard_refund", payment=charge, amount_minor=1001)
    sandbox.act("open_dispute", payment=charge)
    with pytest.raises(SandboxError, match="is disputed"):
        sandbox.act("dashboard_refund", payment=charge)


def test_dashboard_refund_of_the_past_is_listed_in_its_place(client: stripe.StripeClient, own_sandbox: Sandbox) -> None:
    own_sandbox.register_payment("ch_1", 1000)
    made = [
        own_sandbox.act("dashboard_refund", payment="ch_1", amount_minor=1, created=second)["id"]
        for second in (3000, 1000, 2000)
    ]
    listed = stripe.StripeClient("sk_test_x", base_addresses={"api": own_sandbox.url}).v1.refunds.list({"limit": 2})
    assert [refund.id for refund in listed.auto_paging_iter()] == [made[0], made[2], made[1]]


# -- early fraud warnings ---------------------------------------------------------------------------------------------


def test_fraud_warning_is_actionable_until_refund_or_dispute(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    made = sandbox.act("fraud_warning", payment=charge, fraud_type="made_with_lost_card")
    (event,) = receiver.events(1)
    assert (event.type, event.data.object.to_dict()) == ("radar.early_fraud_warning.created", made)
    assert set(made) <= set(stripe.radar.EarlyFraudWarning.__annotations__)
    shown = client.v1.radar.early_fraud_warnings.retrieve(made["id"])
    assert (shown.id[:6], shown.charge, shown.fraud_type) == ("issfr_", charge, "made_with_lost_card")
    assert shown.actionable is True
    client.v1.refunds.create({"charge": charge, "amount": 999})
    assert client.v1.radar.early_fraud_warnings.retrieve(made["id"]).actionable is True
    client.v1.refunds.create({"charge": charge, "amount": 1})
    assert client.v1.radar.early_fraud_warnings.retrieve(made["id"]).actionable is False


def test_fraud_warnings_are_listed_by_payment_and_time(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    for payment in ("pi_1", "ch_2"):
        own_sandbox.register_payment(payment, 1000)
    first = own_sandbox.act("fraud_warning", payment="pi_1", created=100)["id"]
    second = own_sandbox.act("fraud_warning", payment="ch_2", created=200)["id"]
    own_sandbox.act("open_dispute", payment="ch_2")

    def listed(params: stripe.params.radar.EarlyFraudWarningListParams) -> list[str]:
        return [warning.id for warning in client.v1.radar.early_fraud_warnings.list(params).data]

    assert listed({}) == [second, first]
    assert listed({"payment_intent": "pi_1"}) == listed({"charge": "ch_1"}) == [first]
    assert listed({"created": {"gte": 101}}) == [second]
    assert [each.actionable for each in client.v1.radar.early_fraud_warnings.list().data] == [False, True]
    own_sandbox.restart()
    assert listed({}) == [second, first]


def test_unknown_kind_of_fraud_is_refused(sandbox: Sandbox, charge: str) -> None:
    with pytest.raises(SandboxError, match=r"fraud_type must be one of: .*made_with_stolen_card"):
        sandbox.act("fraud_warning", payment=charge, fraud_type="theft")
    assert len(FRAUD_TYPES) == 7


# -- the customer must act --------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(own_sandbox: Sandbox, connect: Connect, receiver: Receiver) -> stripe.Refund:
    """A refund that waits for its customer for one hour. The receiver gets the later events."""
    own_sandbox.register_payment("ch_1", 1000, customer_must_act=True, payment_method="konbini", action_seconds=3600)
    refund = connect(own_sandbox).v1.refunds.create(
        {"charge": "ch_1", "amount": 400, "instructions_email": "mia@example.org"}
    )
    own_sandbox.send_webhooks_to(receiver.url, receiver.secret)
    return refund


def test_refund_names_the_mail_and_when_it_expires(waiting: stripe.Refund) -> None:
    assert (waiting.status, waiting.instructions_email) == ("requires_action", "mia@example.org")
    assert (waiting.balance_transaction, waiting.destination_details) == (None, None)
    assert waiting.next_action is not None
    assert waiting.next_action.type == "display_details"
    details = waiting.next_action.display_details
    assert details is not None
    assert details.email_sent.email_sent_to == "mia@example.org"
    assert details.expires_at == details.email_sent.email_sent_at + 3600
    assert details.email_sent.email_sent_at >= waiting.created


def test_customer_who_acts_gets_the_money(
    own_sandbox: Sandbox, connect: Connect, receiver: Receiver, waiting: stripe.Refund
) -> None:
    pending = own_sandbox.act("customer_acts", refund=waiting.id, after_seconds=60)
    assert (pending["status"], pending["pending_reason"]) == ("pending", "processing")
    assert pending["next_action"] is None
    assert pending["balance_transaction"].startswith("txn_")
    own_sandbox.advance_clock(3700)  # also past the expiry, which no longer counts
    done = connect(own_sandbox).v1.refunds.retrieve(waiting.id)
    assert (done.status, done.pending_reason) == ("succeeded", None)
    assert [event.type for event in receiver.events(2)] == ["refund.updated", "refund.updated"]
    with pytest.raises(SandboxError, match="this one is succeeded"):
        own_sandbox.act("customer_acts", refund=waiting.id)


def test_customer_who_does_not_act_lets_the_refund_expire(
    own_sandbox: Sandbox, connect: Connect, receiver: Receiver, waiting: stripe.Refund
) -> None:
    own_sandbox.advance_clock(3590)
    assert own_sandbox.refunds()[0]["status"] == "requires_action"
    own_sandbox.restart()
    own_sandbox.send_webhooks_to(receiver.url, receiver.secret)
    own_sandbox.advance_clock(15)
    (failed,) = own_sandbox.refunds()
    assert (failed["status"], failed["failure_reason"]) == ("failed", "unknown")
    assert failed["failure_balance_transaction"] is None  # no money had left
    assert [event.type for event in receiver.events(2)] == ["refund.updated", "refund.failed"]
    assert connect(own_sandbox).v1.refunds.create({"charge": "ch_1"}).amount == 1000


def test_cancel_ends_the_wait_of_the_customer(
    own_sandbox: Sandbox, connect: Connect, receiver: Receiver, waiting: stripe.Refund
) -> None:
    client = connect(own_sandbox)
    assert client.v1.refunds.cancel(waiting.id).status == "canceled"
    own_sandbox.advance_clock(7200)
    assert client.v1.refunds.retrieve(waiting.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.cancel(waiting.id)
    other = client.v1.refunds.create({"charge": "ch_1", "amount": 5})
    client.v1.test_helpers.refunds.expire(other.id)
    assert own_sandbox.refunds()[1]["status"] == "failed"
    types = [event.type for event in receiver.events(5)]
    assert types.count("refund.updated") == 2


def test_mail_goes_to_the_payments_address_without_instructions(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    sandbox.add_fault({"lifecycle": [{"status": "requires_action"}]}, match={"payment": charge})
    refund = client.v1.refunds.create({"charge": charge})
    assert refund["next_action"]["display_details"]["email_sent"]["email_sent_to"] == "customer@example.com"
    assert sandbox.act("expire_refund", refund=refund.id)["status"] == "failed"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge, "instructions_email": "nobody"})
    assert refused.value.param == "instructions_email"


# -- the trace reference ----------------------------------------------------------------------------------------------


def test_reference_is_available_three_days_after_the_success(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("ch_1", 1000)
    own_sandbox.add_fault({"lifecycle": [{"status": "pending"}, {"status": "succeeded", "after_seconds": DAY_SECONDS}]})
    late = client.v1.refunds.create({"charge": "ch_1", "amount": 100})
    early = client.v1.refunds.create({"charge": "ch_1", "amount": 100})
    assert card_of(late) == {"reference_status": "pending", "type": "pending"}
    expected = {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}
    assert card_of(early) == expected
    own_sandbox.advance_clock(3 * DAY_SECONDS)
    own_sandbox.restart()
    reference = card_of(client.v1.refunds.retrieve(early.id))["reference"]
    assert (len(reference), reference.isdigit()) == (23, True)
    assert card_of(client.v1.refunds.retrieve(late.id)) == expected
    own_sandbox.advance_clock(DAY_SECONDS)
    assert card_of(client.v1.refunds.retrieve(late.id))["reference_status"] == "available"
    assert card_of(client.v1.refunds.retrieve(early.id))["reference"] == reference


def test_reference_comes_with_an_event_and_can_be_chosen(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    refund = client.v1.refunds.create({"charge": charge})
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    sandbox.act("show_reference", refund=refund.id, reference="74850120752")
    (event,) = receiver.events(1)
    assert (event.type, card_of(event.data.object)["reference"]) == ("refund.updated", "74850120752")
    assert event.data.previous_attributes["destination_details"]["card"]["reference_status"] == "pending"


def test_reversal_and_other_methods_have_their_own_destination(client: stripe.StripeClient, sandbox: Sandbox) -> None:
    sandbox.register_payment("ch_reversed", 100, refund_type="reversal")
    sandbox.register_payment("ch_swish", 100, payment_method="swish")
    reversal = client.v1.refunds.create({"charge": "ch_reversed"})
    assert card_of(reversal) == {"reference_status": "unavailable", "type": "reversal"}
    other = client.v1.refunds.create({"charge": "ch_swish"})
    assert plain(other["destination_details"]) == {
        "type": "swish",
        "swish": {"reference": None, "reference_status": "pending"},
    }


def test_rule_can_set_fields_of_the_refund(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    details = {"type": "card", "card": {"type": "refund", "reference": "123", "reference_status": "available"}}
    steps = [{"status": "pending", "pending_reason": "insufficient_funds", "set": {"destination_details": details}}]
    sandbox.add_fault({"lifecycle": steps}, match={"payment": charge})
    refund = client.v1.refunds.create({"charge": charge})
    assert (refund.pending_reason, plain(refund["destination_details"])) == ("insufficient_funds", details)
    with pytest.raises(SandboxError, match="lifecycle"):
        sandbox.add_fault({"lifecycle": [{"status": "pending", "set": {"amount": 1}}]})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"captured_minor": 1001}, "captured_minor must not exceed"),
        ({"metadata": {"a": 1}}, "metadata must be"),
        ({"refund_type": ["refund"]}, "refund_type must be refund, reversal or pending"),
        ({"customer_must_act": "yes"}, "customer_must_act must be true or false"),
    ],
)
def test_wrong_option_of_a_payment_is_named(sandbox: Sandbox, option: dict[str, Any], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        sandbox.register_payment("ch_wrong", 1000, **option)
    assert "ch_wrong" not in {payment["id"] for payment in sandbox.book()["payments"]}
