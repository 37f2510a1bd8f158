"""Events arrive signed, retried, and as lost, doubled, late or out of order as the faults want them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.sandbox.webhooks import signature_header

if TYPE_CHECKING:
    from tests.processors.sandbox.conftest import Receiver


@pytest.fixture
def told(sandbox: Sandbox, receiver: Receiver) -> Receiver:
    """A receiver that the shared sandbox sends to."""
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    return receiver


def types(events: list[stripe.Event]) -> list[str]:
    return [event.type for event in events]


def test_a_refund_is_told_of_with_signed_events(client: stripe.StripeClient, told: Receiver, charge: str) -> None:
    refund = client.v1.refunds.create({"charge": charge, "amount": 300, "metadata": {"leg_id": "l"}})
    created, charged = told.events(2)
    assert types([created, charged]) == ["refund.created", "charge.refunded"]
    assert created.id.startswith("evt_")
    assert created.id != charged.id
    assert (created.livemode, created.api_version) == (False, "2026-10-28.endive")
    assert created.data.object["id"] == refund.id
    assert created.data.object["metadata"]["leg_id"] == "l"
    assert (charged.data.object["id"], charged.data.object["amount_refunded"]) == (charge, 300)
    assert "refunds" not in charged.data.object
    body, signature = told.got[0]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, signature, "whsec_another")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body + b" ", signature, told.secret)


def test_a_late_failure_is_told_of_as_update_and_failure(
    client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str
) -> None:
    refund = client.v1.refunds.create({"charge": charge})
    sandbox.advance_refund(refund.id, "failed", "expired_or_canceled_card")
    events = told.events(4)
    assert types(events)[2:] == ["refund.updated", "refund.failed"]
    assert events[3].data.object["failure_reason"] == "expired_or_canceled_card"
    assert events[2].data.previous_attributes["status"] == "succeeded"


def test_a_cancellation_is_told_of_only_as_an_update(
    client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str
) -> None:
    sandbox.add_fault({"lifecycle": [{"status": "requires_action"}]})
    refund = client.v1.refunds.create({"charge": charge})
    client.v1.refunds.cancel(refund.id)
    told.events(3)
    client.v1.refunds.create({"charge": charge})  # its events come behind all that the cancellation has
    assert types(told.events(5))[2:] == ["refund.updated", "refund.created", "charge.refunded"]


def test_a_replay_tells_nothing_again(
    client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str
) -> None:
    for _ in range(3):
        refund = client.v1.refunds.create({"charge": charge}, {"idempotency_key": charge})
    told.events(2)
    sandbox.advance_refund(refund.id, "failed", "declined")  # its events come behind all that a replay would have
    assert types(told.events(4)) == ["refund.created", "charge.refunded", "refund.updated", "refund.failed"]


def test_a_delivery_that_fails_is_tried_again(client: stripe.StripeClient, told: Receiver, charge: str) -> None:
    told.failures = 3
    client.v1.refunds.create({"charge": charge})
    events = told.events(2)
    assert sorted(types(events)) == ["charge.refunded", "refund.created"]
    assert told.failures == 0


def test_a_receiver_that_is_away_gets_its_events_when_it_is_back(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    sandbox.send_webhooks_to("http://127.0.0.1:9/nobody", receiver.secret)
    client.v1.refunds.create({"charge": charge})
    time.sleep(0.05)
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    assert len(receiver.events(2)) == 2


def test_an_event_can_be_lost(client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str) -> None:
    sandbox.add_fault({"webhook": {"lose": True}}, match={"path_kind": "webhook", "event": "refund.created"})
    refund = client.v1.refunds.create({"charge": charge})
    # What is told afterwards shows that nothing else was on its way.
    sandbox.advance_refund(refund.id, "failed")
    assert types(told.events(2))[0] == "charge.refunded"
    assert "refund.created" not in types(told.events(2))


def test_an_event_can_come_three_times_with_one_id(
    client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str
) -> None:
    sandbox.add_fault({"webhook": {"copies": 3}}, match={"path_kind": "webhook", "event": "refund.created"})
    client.v1.refunds.create({"charge": charge})
    events = told.events(4)
    assert types(events) == ["refund.created"] * 3 + ["charge.refunded"]
    assert len({event.id for event in events}) == 2


def test_an_event_can_come_after_the_next_one(
    client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str
) -> None:
    sandbox.add_fault({"webhook": {"lose": True}}, match={"event": "charge.refunded"})
    sandbox.add_fault({"webhook": {"after_next": True}}, match={"event": "refund.created"})
    refund = client.v1.refunds.create({"charge": charge})
    sandbox.advance_refund(refund.id, "failed")
    events = told.events(3)
    assert types(events) == ["refund.updated", "refund.created", "refund.failed"]
    assert events[1].data.object["status"] == "succeeded"  # stale, as it was when it happened


def test_an_event_can_be_late(client: stripe.StripeClient, sandbox: Sandbox, told: Receiver, charge: str) -> None:
    sandbox.add_fault({"webhook": {"delay_seconds": 0.5}}, match={"event": "refund.created"})
    client.v1.refunds.create({"charge": charge})
    assert types(told.events(1)) == ["charge.refunded"]
    assert types(told.events(2))[1] == "refund.created"


def test_a_signature_is_the_one_the_official_client_makes() -> None:
    official = stripe.WebhookSignature.generate_signature_header('{"a":1}', "whsec_x", 1_700_000_000)
    assert signature_header("whsec_x", b'{"a":1}', 1_700_000_000) == official
