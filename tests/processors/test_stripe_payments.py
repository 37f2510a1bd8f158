"""The Stripe adapter reads payments, from an answer alone and from the sandbox over the network."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from refund_worker.domain.processor_replies import (
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    PaymentRead,
    PaymentReading,
    PaymentReply,
    PaymentUnreadable,
    Unanswered,
)
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.adapter import StripeProcessor
from refund_worker.processors.stripe.payments import charge_reading, intent_reading, names_of_payment
from refund_worker.processors.wire import Unreadable

CHARGE: dict[str, Any] = {
    "id": "ch_1",
    "object": "charge",
    "amount": 5_000,
    "amount_captured": 4_000,
    "amount_refunded": 1_000,
    "captured": True,
    "currency": "eur",
    "disputed": False,
    "livemode": True,
}
INTENT: dict[str, Any] = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 5_000,
    "amount_received": 4_000,
    "currency": "eur",
    "latest_charge": "ch_1",
    "livemode": True,
}
PAYMENT = PaymentReading(captured_minor=4_000, currency="EUR", live=True, disputed=False, refunded_minor=1_000)


def test_charge_gives_captured_and_refunded_amounts() -> None:
    assert charge_reading(CHARGE, "ch_1") == PAYMENT


@pytest.mark.parametrize(
    ("changes", "captured"),
    [({"amount_captured": 0, "captured": False}, 0), ({"captured": False}, 0), ({"captured": True}, 5_000)],
)
def test_older_charge_is_captured_in_full_or_not_at_all(changes: dict[str, Any], captured: int) -> None:
    old = {name: value for name, value in CHARGE.items() if name != "amount_captured"}
    assert charge_reading(old | changes, "ch_1").captured_minor == captured


@pytest.mark.parametrize(
    "wrong",
    [
        {"object": "refund"},
        {"id": "ch_2"},
        {"amount_captured": "4000"},
        {"amount_captured": 4_000.0},
        {"amount_captured": True},
        {"amount_captured": -1},
        {"amount_captured": 10**13},
        {"amount_captured": None},
        {"amount_refunded": None},
        {"amount_refunded": "0"},
        {"currency": None},
        {"currency": "euro"},
        {"currency": ["eur"]},
    ],
    ids=str,
)
def test_malformed_charge_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        charge_reading(CHARGE | wrong, "ch_1")


@pytest.mark.parametrize("amount", [True, -1, "5", 1.5, None], ids=str)
def test_malformed_amount_is_named_in_the_error(amount: object) -> None:
    with pytest.raises(Unreadable, match="a payment whose amount_captured is not a whole number of minor units"):
        charge_reading(CHARGE | {"amount_captured": amount}, "ch_1")


@pytest.mark.parametrize("nothing", [None, [], "charge", 1], ids=str)
def test_json_that_is_no_object_is_unreadable(nothing: object) -> None:
    with pytest.raises(Unreadable):
        charge_reading(nothing, "ch_1")
    with pytest.raises(Unreadable):
        intent_reading(nothing, "pi_1")


def test_livemode_or_dispute_that_is_no_boolean_is_none() -> None:
    word = charge_reading(CHARGE | {"livemode": "false", "disputed": 0}, "ch_1")
    assert (word.live, word.disputed) == (None, None)


def test_payment_intent_is_read_from_its_charge() -> None:
    assert intent_reading(INTENT | {"latest_charge": CHARGE}, "pi_1") == (PAYMENT, None)
    assert intent_reading(INTENT, "pi_1") == (PaymentReading(4_000, "EUR", True), "ch_1")
    assert intent_reading(INTENT | {"latest_charge": None}, "pi_1") == (PaymentReading(4_000, "EUR", True), None)
    with pytest.raises(Unreadable):
        intent_reading(INTENT | {"id": "pi_2"}, "pi_1")


# --- over the network -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with a charge, a payment intent and a disputed charge."""
    with Sandbox() as running:
        running.register_payment("ch_1", 5_000, "EUR")
        running.register_payment("pi_1", 5_000, "EUR")
        running.register_payment("ch_disputed", 5_000, "EUR", disputed=True)
        yield running


def read(sandbox: Sandbox, payment_id: str, *, key: str = "sk_test_reading", timeout: float = 10) -> PaymentReply:
    """Read the payment from the sandbox over a new adapter."""

    async def ask() -> PaymentReply:
        adapter = StripeProcessor(key, base=sandbox.url, timeout_seconds=timeout)
        try:
            return await adapter.find_payment(payment_id)
        finally:
            await adapter.close()

    return asyncio.run(ask())


def failing(sandbox: Sandbox, payment_id: str, do: dict[str, Any], **options: Any) -> PaymentReply:
    """Read the payment while the sandbox has this fault."""
    kind = "payment_intent" if payment_id.startswith("pi_") else "charge"
    sandbox.add_fault(do, match={"path_kind": kind}, times=None)
    try:
        return read(sandbox, payment_id, **options)
    finally:
        sandbox.clear_faults()


@pytest.mark.parametrize("payment_id", ["ch_1", "pi_1"])
def test_payment_is_read(sandbox: Sandbox, payment_id: str) -> None:
    said = PaymentReading(captured_minor=5_000, currency="EUR", live=False, disputed=False, refunded_minor=0)
    reply = read(sandbox, payment_id)
    assert isinstance(reply, PaymentRead)
    assert reply.reading == said
    assert payment_id in reply.payment_refs


@pytest.mark.parametrize("data", [CHARGE | {"payment_intent": "pi_1"}, INTENT | {"latest_charge": "ch_1"}])
def test_charge_and_intent_name_each_other(data: dict[str, Any]) -> None:
    assert sorted(names_of_payment(data)) == ["ch_1", "pi_1"]
    other = "payment_intent" if data["object"] == "charge" else "latest_charge"
    assert sorted(names_of_payment(data | {other: {"id": data[other]}})) == ["ch_1", "pi_1"]
    for other in (None, "", 7, {}, "no id"):
        assert len(names_of_payment(data | {"payment_intent": other, "latest_charge": other})) == 1


def test_dispute_is_reported(sandbox: Sandbox) -> None:
    reply = read(sandbox, "ch_disputed")
    assert isinstance(reply, PaymentRead)
    assert reply.reading.disputed is True


@pytest.mark.parametrize("payment_id", ["ch_1", "pi_1"])
@pytest.mark.parametrize(
    "do",
    [
        {"refuse": "path_missing"},
        {"refuse": {"status": 404, "message": "Not found", "code": "resource_missing"}},
        {"refuse": {"status": 405, "message": "no"}},
        {"forbidden": True},
    ],
    ids=str,
)
def test_server_or_key_that_cannot_read_payments_is_no_error(
    sandbox: Sandbox, payment_id: str, do: dict[str, Any]
) -> None:
    assert isinstance(failing(sandbox, payment_id, do), PaymentUnreadable)


def test_server_that_cannot_expand_is_no_error(sandbox: Sandbox) -> None:
    do = {"refuse": {"status": 400, "message": "no", "code": "parameter_unknown", "param": "expand"}}
    assert isinstance(failing(sandbox, "pi_1", do), PaymentUnreadable)


@pytest.mark.parametrize(
    ("do", "kind"),
    [
        ({"unauthorized": True}, Denied),
        ({"rate_limit": {"retry_after_seconds": 3}}, Busy),
        ({"server_error": {"status": 500}}, Unanswered),
        ({"truncate": True}, Unanswered),
        ({"reset": "mid_body"}, Unanswered),
        ({"answer": {"amount_captured": "5000"}}, Unanswered),
        ({"answer": {"id": "ch_other"}}, Unanswered),
    ],
    ids=str,
)
def test_failed_read_is_reported_like_any_other_call(sandbox: Sandbox, do: dict[str, Any], kind: type[Any]) -> None:
    assert isinstance(failing(sandbox, "ch_1", do), kind)


@pytest.mark.parametrize("payment_id", ["ch_nobody", "pi_nobody"])
def test_missing_payment_is_not_taken_for_a_missing_path(sandbox: Sandbox, payment_id: str) -> None:
    reply = read(sandbox, payment_id)
    assert isinstance(reply, Misconfigured)
    assert reply.code == "resource_missing"


def test_malformed_payment_id_is_not_sent(sandbox: Sandbox) -> None:
    assert isinstance(read(sandbox, "ch_a/../../refunds"), Misconfigured)


def test_read_is_limited_in_time(sandbox: Sandbox) -> None:
    assert isinstance(failing(sandbox, "ch_1", {"delay_seconds": 5}, timeout=0.5), Unanswered | NotSent)
