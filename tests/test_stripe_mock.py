"""The third-party server behaves as other tests assume: it records refunds, and replays by key."""

from __future__ import annotations

import httpx
import pytest

from tests.support import stripe_mock
from tests.support.stripe_mock import ThirdPartyMissing, ThirdPartyStripe


def refund(server: ThirdPartyStripe, key: str, charge_id: str, amount_minor: int) -> httpx.Response:
    return httpx.post(
        f"{server.base_url}/v1/refunds",
        data={"charge": charge_id, "amount": str(amount_minor)},
        headers={"Idempotency-Key": key},
        auth=(server.api_key, ""),
        timeout=10,
    )


def test_same_key_makes_one_refund_and_refuses_another_body(third_party_stripe: ThirdPartyStripe) -> None:
    charge_id = third_party_stripe.create_charge(1000)
    first = refund(third_party_stripe, f"key-{charge_id}", charge_id, 400)
    again = refund(third_party_stripe, f"key-{charge_id}", charge_id, 400)
    other = refund(third_party_stripe, f"key-{charge_id}", charge_id, 500)
    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 400)
    assert again.json()["id"] == first.json()["id"]
    assert [each["amount"] for each in third_party_stripe.refunds(charge_id)] == [400]


def test_more_than_was_paid_and_a_disputed_charge_are_refused(third_party_stripe: ThirdPartyStripe) -> None:
    charge_id = third_party_stripe.create_charge(1000)
    disputed_id = third_party_stripe.create_disputed_charge(1000)
    too_much = refund(third_party_stripe, f"key-{charge_id}", charge_id, 1001)
    disputed = refund(third_party_stripe, f"key-{disputed_id}", disputed_id, 1000)
    assert too_much.status_code == 400
    assert disputed.json()["error"]["code"] == "charge_disputed"
    assert third_party_stripe.refunds(charge_id) == []


def test_machine_without_node_gets_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ThirdPartyMissing, match="node is not installed"):
        stripe_mock.install()
