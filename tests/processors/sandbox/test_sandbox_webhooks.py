"""Events arrive signed and are retried. Faults can lose, repeat, delay or reorder them."""

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
def subscriber(sandbox: Sandbox, receiver: Receiver) -> Receiver:
    """A receiver that gets the events of the shared sandbox."""
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    return receiver


def types(events: list[stripe.Event]) -> list[str]:
    """Return the types of the events, in order."""
    return [event.type for event in events]


def test_new_refund_sends_signed_events(client: stripe.StripeClient, subscriber: Receiver, charge: str) -> None:
    refund = client.v1.refunds.create({"charge": charge, "amount": 300, "metadata": {"leg_id": "l"}})
    created, charged = subscriber.events(2)
    assert types([created, charged]) == ["refund.created", "charge.refunded"]
    assert created.id.startswith("evt_")
    assert created.id != charged.id
    assert (created.livemode, created.api_version) == (False, "2026-10-28.endive")
    assert created.data.object["id"] == refund.id
    assert created.data.object["metadata"]["leg_id"] == "l"
    assert (charged.data.object["id"], charged.data.object["amount_refunded"]) == (charge, 300)
    assert "refunds" not in charged.data.object
    body, signature = subscriber.got[0]
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, signature, "whsec_another")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body + b" ", signature, subscriber.secret)


def test_late_failure_sends_an_update_and_a_failure_event(
    client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str
) -> None:
    refund = client.v1.refunds.create({"charge": charge})
    sandbox.advance_refund(refund.id, "failed", "expired_or_canceled_card")
    events = subscriber.events(4)
    assert types(events)[2:] == ["refund.updated", "refund.failed"]
    assert events[3].data.object["failure_reason"] == "expired_or_canceled_card"
    assert events[2].data.previous_attributes["status"] == "succeeded"


def test_cancellation_sends_only_an_update_event(
    client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str
) -> None:
    sandbox.add_fault({"lifecycle": [{"status": "requires_action"}]})
    refund = client.v1.refunds.create({"charge": charge})
    client.v1.refunds.cancel(refund.id)
    subscriber.events(3)
    client.v1.refunds.create({"charge": charge})  # its events come after all events of the cancellation
    assert types(subscriber.events(5))[2:] == ["refund.updated", "refund.created", "charge.refunded"]


def test_replay_sends_no_event(
    client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str
) -> None:
    for _ in range(3):
        refund = client.v1.refunds.create({"charge": charge}, {"idempotency_key": charge})
    subscriber.events(2)
    sandbox.advance_refund(refund.id, "failed", "declined")  # its events come after all events that a replay would send
    assert types(subscriber.events(4)) == ["refund.created", "charge.refunded", "refund.updated", "refund.failed"]


def test_failed_delivery_is_retried(client: stripe.StripeClient, subscriber: Receiver, charge: str) -> None:
    subscriber.failures = 3
    client.v1.refunds.create({"charge": charge})
    events = subscriber.events(2)
    assert sorted(types(events)) == ["charge.refunded", "refund.created"]
    assert subscriber.failures == 0


def test_events_for_a_receiver_that_is_down_arrive_later(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    sandbox.send_webhooks_to("http://127.0.0.1:9/nobody", receiver.secret)
    client.v1.refunds.create({"charge": charge})
    time.sleep(0.05)
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    assert len(receiver.events(2)) == 2


@pytest.mark.parametrize("waiting", [{"after_next": True}, {"delay_seconds": 0.2}], ids=lambda how: next(iter(how)))
def test_receiver_gets_no_event_from_before_another_was_removed(
    client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str, waiting: dict[str, object]
) -> None:
    # All events wait: one that is already on its way can still arrive.
    sandbox.add_fault({"webhook": waiting}, times=None)
    refund = client.v1.refunds.create({"charge": charge})
    sandbox.send_webhooks_to(None)
    sandbox.clear_faults()
    sandbox.send_webhooks_to(subscriber.url, subscriber.secret)
    sandbox.advance_refund(refund.id, "failed", "declined")  # its first event would release those that are held back
    time.sleep(0.4)
    assert types(subscriber.events(2)) == ["refund.updated", "refund.failed"]


def test_event_can_be_lost(client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str) -> None:
    sandbox.add_fault({"webhook": {"lose": True}}, match={"path_kind": "webhook", "event": "refund.created"})
    refund = client.v1.refunds.create({"charge": charge})
    # The later event shows that no other event was still in delivery.
    sandbox.advance_refund(refund.id, "failed")
    assert types(subscriber.events(2))[0] == "charge.refunded"
    assert "refund.created" not in types(subscriber.events(2))


def test_event_can_arrive_three_times_with_one_id(
    client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str
) -> None:
    sandbox.add_fault({"webhook": {"copies": 3}}, match={"path_kind": "webhook", "event": "refund.created"})
    client.v1.refunds.create({"charge": charge})
    assert types(subscriber.events(2)) == ["refund.created", "charge.refunded"]
    assert types(subscriber.deliveries()).count("refund.created") >= 3


def test_event_can_arrive_after_the_next_one(
    client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str
) -> None:
    sandbox.add_fault({"webhook": {"lose": True}}, match={"event": "charge.refunded"})
    sandbox.add_fault({"webhook": {"after_next": True}}, match={"event": "refund.created"})
    refund = client.v1.refunds.create({"charge": charge})
    sandbox.advance_refund(refund.id, "failed")
    events = subscriber.events(3)
    assert types(events) == ["refund.updated", "refund.created", "refund.failed"]
    assert events[1].data.object["status"] == "succeeded"  # stale: the status when the event was created


def test_event_can_be_late(client: stripe.StripeClient, sandbox: Sandbox, subscriber: Receiver, charge: str) -> None:
    sandbox.add_fault({"webhook": {"delay_seconds": 0.5}}, match={"event": "refund.created"})
    client.v1.refunds.create({"charge": charge})
    assert types(subscriber.events(1)) == ["charge.refunded"]
    assert types(subscriber.events(2))[1] == "refund.created"


def test_signature_equals_that_of_the_official_client() -> None:
    official = stripe.WebhookSignature.generate_signature_header('{"a":1}', "whsec_x", 1_700_000_000)
    assert signature_header("whsec_x", b'{"a":1}', 1_700_000_000) == official
