"""Idempotency keys work as they do at Stripe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox

Connect = Callable[..., stripe.StripeClient]


def key(name: str) -> Any:
    """Return the request options with this idempotency key."""
    return {"idempotency_key": name}


def ids_of(sandbox: Sandbox, charge: str) -> list[str]:
    """Return the ids of the charge's refunds in the book."""
    return [refund["id"] for refund in sandbox.refunds() if refund["charge"] == charge]


def was_replayed(refund: stripe.Refund) -> bool:
    """Return True if the answer was a stored one."""
    assert refund.last_response is not None
    return refund.last_response.headers.get("Idempotent-Replayed") == "true"


def test_same_key_replays_the_first_answer_without_a_second_refund(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    first = client.v1.refunds.create({"charge": charge, "amount": 300}, key(charge))
    sandbox.advance_refund(first.id, "failed")
    again = client.v1.refunds.create({"charge": charge, "amount": 300}, key(charge))
    assert (again.id, again.status) == (first.id, "succeeded")  # the stored status, not the current one
    assert was_replayed(again)
    assert not was_replayed(first)
    assert ids_of(sandbox, charge) == [first.id]


def test_two_keys_create_two_equal_refunds(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    one = client.v1.refunds.create({"charge": charge, "amount": 300}, key(charge + "-1"))
    two = client.v1.refunds.create({"charge": charge, "amount": 300}, key(charge + "-2"))
    assert ids_of(sandbox, charge) == [one.id, two.id]


def test_same_key_with_other_parameters_is_an_idempotency_error(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    first = client.v1.refunds.create({"charge": charge, "amount": 300}, key(charge))
    with pytest.raises(stripe.IdempotencyError) as refused:
        client.v1.refunds.create({"charge": charge, "amount": 301}, key(charge))
    assert refused.value.http_status == 400
    assert ids_of(sandbox, charge) == [first.id]


def test_same_key_at_another_endpoint_is_an_idempotency_error(client: stripe.StripeClient, charge: str) -> None:
    refund = client.v1.refunds.create({"charge": charge}, key(charge))
    with pytest.raises(stripe.IdempotencyError):
        client.v1.refunds.update(refund.id, {"metadata": {"a": "b"}}, key(charge))
    unchanged = client.v1.refunds.retrieve(refund.id)
    assert unchanged.metadata is not None
    assert unchanged.metadata.to_dict() == {}


def test_key_belongs_to_its_account(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    client.v1.refunds.create({"charge": charge, "amount": 1}, key(charge))
    sandbox.register_payment(charge, 1000, account="acct_other")
    client.v1.refunds.create({"charge": charge, "amount": 2}, {**key(charge), "stripe_account": "acct_other"})
    assert len(ids_of(sandbox, charge)) == 2


def test_executed_refusal_is_stored_under_its_key(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    full = client.v1.refunds.create({"charge": charge})

    def is_refused() -> None:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.refunds.create({"charge": charge, "amount": 5}, key(charge))
        assert refused.value.code == "charge_already_refunded"

    is_refused()
    sandbox.advance_refund(full.id, "failed")
    is_refused()  # the amount is refundable again, but the key replays its answer
    assert client.v1.refunds.create({"charge": charge, "amount": 5}, key(charge + "-new")).amount == 5


def test_key_of_more_than_255_characters_is_refused(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"charge": charge}, key("k" * 256))
    assert ids_of(sandbox, charge) == []
    client.v1.refunds.create({"charge": charge}, key((charge + "k" * 255)[:255]))


def test_key_in_use_is_a_conflict_that_is_not_stored(sandbox: Sandbox, connect: Connect, charge: str) -> None:
    sandbox.add_fault({"delay_seconds": 0.8}, match={"payment": charge})
    first: list[stripe.Refund] = []
    slow = connect(sandbox, timeout=10)
    thread = threading.Thread(target=lambda: first.append(slow.v1.refunds.create({"charge": charge}, key(charge))))
    thread.start()
    time.sleep(0.3)
    client = connect(sandbox)
    with pytest.raises(stripe.APIError) as busy:
        client.v1.refunds.create({"charge": charge}, key(charge))
    assert busy.value.http_status == 409
    assert busy.value.error is not None
    assert busy.value.error.code == "idempotency_key_in_use"
    with pytest.raises(stripe.IdempotencyError):
        client.v1.refunds.create({"charge": charge, "amount": 1}, key(charge))
    thread.join(10)
    again = client.v1.refunds.create({"charge": charge}, key(charge))
    assert again.id == first[0].id
    assert was_replayed(again)
    assert ids_of(sandbox, charge) == [again.id]


def test_expired_key_creates_a_new_refund(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("ch_1", 1000)
    first = client.v1.refunds.create({"charge": "ch_1", "amount": 10}, key("k"))
    own_sandbox.advance_clock(24 * 3600 - 60)
    assert client.v1.refunds.create({"charge": "ch_1", "amount": 10}, key("k")).id == first.id
    own_sandbox.advance_clock(61)
    second = client.v1.refunds.create({"charge": "ch_1", "amount": 10}, key("k"))
    assert not was_replayed(second)
    assert ids_of(own_sandbox, "ch_1") == [first.id, second.id]


def test_key_life_can_be_set(own_sandbox: Sandbox, connect: Connect) -> None:
    own_sandbox.change_faults({"key_life_seconds": 100})
    own_sandbox.register_payment("ch_1", 1000)
    client = connect(own_sandbox)
    client.v1.refunds.create({"charge": "ch_1", "amount": 10}, key("k"))
    own_sandbox.advance_clock(101)
    client.v1.refunds.create({"charge": "ch_1", "amount": 10}, key("k"))
    assert len(ids_of(own_sandbox, "ch_1")) == 2
