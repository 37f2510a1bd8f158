"""What is particular to Stripe at the servers that speak its API; the contract suite has the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.processors.contract import Client, found
from tests.processors.stripe_subjects import SandboxCharge, SandboxIntent, ThirdParty

from refund_worker.domain.processor_replies import Blocked, Misconfigured, Refused
from refund_worker.processors.stripe.paging import PAGE_SIZE

ALL = pytest.mark.parametrize("client", [SandboxCharge, SandboxIntent, ThirdParty], indirect=True)


@ALL
def test_amount_above_the_remaining_one_has_a_code_of_ours(client: Client) -> None:
    refused = client.send("1", client.body(client.subject.new_payment(5000), 5001))
    assert isinstance(refused, Refused), refused
    assert refused.code == "amount_exceeds_unrefunded"


@ALL
def test_dispute_has_the_code_of_stripe(client: Client) -> None:
    blocked = client.send("1", client.body(client.subject.new_payment(5000, disputed=True), 5000))
    assert isinstance(blocked, Blocked), blocked
    assert blocked.code == "charge_disputed"


@pytest.mark.parametrize("client", [SandboxIntent], indirect=True)
def test_refund_of_a_payment_intent_names_the_intent_and_its_charge(client: Client) -> None:
    payment_id = client.subject.new_payment(700)
    made = client.refund(payment_id, 700)
    assert payment_id in made.payment_refs
    assert len(made.payment_refs) == 2


@pytest.mark.parametrize("client", [SandboxCharge], indirect=True)
def test_repeating_pages_list_no_object_twice(client: Client) -> None:
    assert isinstance(client.subject, SandboxCharge)
    payment_id = client.subject.new_payment(5000)
    for attempt in range(1, PAGE_SIZE + 4):
        client.refund(payment_id, 1, attempt)
    match = {"path_kind": "list", "payment": payment_id}
    client.subject.sandbox.add_fault({"pages": "repeat"}, match=match, times=None)
    objects = found(client.find(payment_id)).objects
    assert len(objects) == len({each.processor_refund_id for each in objects}) == PAGE_SIZE + 3


@pytest.mark.parametrize("client", [ThirdParty], indirect=True)
def test_third_party_differs_from_stripe_only_as_it_is_known_to(client: Client) -> None:
    assert isinstance(client.send("pi", client.body("pi_any", 100)), Misconfigured), "it has no payment intents"
    unknown = client.subject.unknown_payment
    # It ignores the filter. The engine drops refunds of other payments anyway: `engine/refunds/object_ownership.py`.
    assert [each for each in found(client.find(unknown)).objects if unknown in each.payment_refs] == []
    made = client.refund(client.subject.new_payment(5000), 1000)
    assert made in found(client.run(client.adapter.recent(made.created_at + timedelta(days=1)))).objects
    assert isinstance(client.run(client.adapter.cancel(made.processor_refund_id)), Misconfigured)
