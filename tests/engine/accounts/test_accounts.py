"""Payments, spends, corrections and "Delete", each recorded once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.engine_world import World, credit_refund, withdrawal

from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct, reverse_transaction
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.errors import (
    ActionNotAllowed,
    AlreadyRecorded,
    BalanceSpent,
    InsufficientBalance,
    KeyReused,
    MoneyMoved,
    NotFound,
    NotReversible,
    UnknownCustomer,
    UnknownTransaction,
)
from refund_worker.store.accounts import find_customer


def correction(world: World, credits: int, key: str = "k", reason: str = "goodwill") -> str:
    """Record a correction of `credits` for customer "c" and return its transaction id."""
    row, _ = correct(
        world.context,
        customer_id="c",
        credits=credits,
        reason=reason,
        client="default",
        idempotency_key=key,
        actor="anna",
    )
    return str(row["transaction_id"])


def test_the_same_payment_again_changes_nothing(world: World) -> None:
    record = world.pay()
    assert record_payments(world.context, [record, record]) == [Recorded(new=False)] * 2
    assert world.account.balance == 100


@pytest.mark.parametrize(
    "change", [{"credits": 99}, {"amount_minor": 1}, {"currency": "EUR"}, {"customer_id": "x"}, {"captured_at": 9.0}]
)
def test_a_payment_with_a_known_id_and_another_body_is_refused(world: World, change: dict[str, object]) -> None:
    record = world.pay()
    (answer,) = record_payments(world.context, [replace(record, **change)])  # type: ignore[arg-type]
    assert isinstance(answer, AlreadyRecorded)
    assert world.account.balance == 100
    with world.database.read() as connection:
        assert find_customer(connection, "x") is None, "an empty account was left behind"


def test_one_payment_of_the_processor_is_not_recorded_under_two_ids(world: World) -> None:
    record = world.pay()
    other = replace(record, payment_id="other")
    third = replace(record, payment_id="third", processor_payment_id="ch_3")
    answers = record_payments(world.context, [other, third, replace(third, payment_id="fourth")])
    assert [type(a) for a in answers] == [AlreadyRecorded, Recorded, AlreadyRecorded]
    assert world.account.balance == 200


def test_spend_sent_again_changes_nothing_and_changed_is_refused(world: World) -> None:
    world.pay()
    record = world.spend("t", 50)
    answers = record_spends(world.context, [record, replace(record, credits=49), replace(record, description="x")])
    assert answers[0] == Recorded(new=False)
    assert [type(a) for a in answers[1:]] == [AlreadyRecorded, AlreadyRecorded]
    assert world.account.balance == 50


def test_spends_are_taken_in_order_until_the_balance_is_used_up(world: World) -> None:
    world.pay()
    record = world.spend("t0", 10)
    batch = [replace(record, transaction_id=f"t{n}", credits=40) for n in range(1, 5)]
    answers = record_spends(world.context, [*batch, replace(record, transaction_id="x", customer_id="nobody")])
    assert [type(a) for a in answers] == [
        Recorded,
        Recorded,
        InsufficientBalance,
        InsufficientBalance,
        UnknownCustomer,
    ]
    assert world.account.balance == 10


def test_a_spend_cannot_take_the_id_of_another_kind_of_transaction(world: World) -> None:
    world.pay()
    record = world.spend("t", 1)
    (answer,) = record_spends(world.context, [replace(record, transaction_id="purchase-pay1")])
    assert isinstance(answer, AlreadyRecorded)


def test_a_correction_under_the_same_key_is_made_once(world: World) -> None:
    world.pay()
    first = correction(world, 30)
    assert correction(world, 30) == first
    assert world.account.balance == 130
    with pytest.raises(KeyReused) as refusal:
        correction(world, 31)
    assert refusal.value.fields == ("credits",)
    with pytest.raises(KeyReused) as refusal:
        correction(world, 30, reason="other")
    assert refusal.value.fields == ("reason",)
    assert correction(world, 30, "k2") != first


def test_a_correction_takes_no_more_than_is_available(world: World) -> None:
    world.pay()
    world.withdraw(60, "w")
    with pytest.raises(InsufficientBalance):
        correction(world, -41)
    correction(world, -40)
    with pytest.raises(NotFound):
        correct(world.context, customer_id="x", credits=1, reason="", client="c", idempotency_key="k", actor="anna")


def test_deleting_correction_twice_moves_credits_once(world: World) -> None:
    world.pay()
    made = correction(world, 30)
    entry = reverse_transaction(world.context, made, actor="anna")
    again = reverse_transaction(world.context, made, actor="bert")
    assert entry == again
    assert (entry["kind"], entry["credits"], entry["refers_to"]) == ("reversal", -30, made)
    assert world.account.balance == 100


def test_deleting_credits_that_are_spent_is_refused(world: World) -> None:
    world.pay()
    made = correction(world, 30)
    world.spend("t", 101)
    with pytest.raises(BalanceSpent):
        reverse_transaction(world.context, made, actor="anna")
    assert world.account.balance == 29


def test_deleting_credit_refund_takes_credits_and_allows_new_one(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    refund_id = world.request(credit_refund(50)).refund_id
    world.work()
    entry = reverse_transaction(world.context, f"{refund_id}-credit", actor="anna")
    assert reverse_transaction(world.context, f"{refund_id}-credit", actor="anna") == entry
    assert world.account.balance == 50
    assert world.request(credit_refund(50, "again"))


def test_what_was_asked_of_a_processor_can_not_be_deleted(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    refund_id = world.request(credit_refund(20, to=To.SOURCE)).refund_id
    world.work()
    with pytest.raises(MoneyMoved):
        reverse_transaction(world.context, f"{refund_id}-credit", actor="anna")
    assert world.account.balance == 50


@pytest.mark.parametrize("what", ["purchase-pay1", "t"])
def test_purchases_and_spends_can_not_be_deleted(world: World, what: str) -> None:
    world.pay()
    world.spend("t", 50)
    with pytest.raises(NotReversible):
        reverse_transaction(world.context, what, actor="anna")


def test_deleting_what_is_not_there_says_so(world: World) -> None:
    with pytest.raises(NotFound):
        reverse_transaction(world.context, "nothing", actor="anna")


def test_correction_in_payout_can_be_deleted_only_after_cancel(world: World) -> None:
    world.pay()
    made = correction(world, -30)
    payout = world.request(withdrawal(None, "w", transaction_id=made)).refund_id
    with pytest.raises(ActionNotAllowed):
        reverse_transaction(world.context, made, actor="anna")
    world.command(payout, Action.CANCEL)
    assert reverse_transaction(world.context, made, actor="anna")["credits"] == 30
    assert world.account.balance == 100
    with pytest.raises(UnknownTransaction):
        world.request(withdrawal(None, "w2", transaction_id=made))


def test_a_correction_that_was_paid_out_can_not_be_deleted(world: World) -> None:
    world.pay()
    made = correction(world, -30)
    payout = world.request(withdrawal(None, "w", transaction_id=made)).refund_id
    world.work()
    assert world.refund(payout).status is RefundStatus.SUCCEEDED
    assert (world.account.balance, world.processor.paid_minor()) == (70, 300)
    with pytest.raises(MoneyMoved):
        reverse_transaction(world.context, made, actor="anna")


def test_what_the_worker_gave_back_was_not_deleted_by_anybody(world: World) -> None:
    """The worker reverses a withdrawal that could not be paid. This is no "Delete" of it, nor of a correction."""
    world.pay()
    world.processor.script("ch_1", Refused("expired_or_canceled_card", "no"), Refused("expired_or_canceled_card", "no"))
    refund_id = world.withdraw(50)
    world.work()
    with pytest.raises(NotReversible):
        reverse_transaction(world.context, f"{refund_id}-withdrawal", actor="anna")
    made = correction(world, -100)
    world.request(withdrawal(None, "payout", transaction_id=made))
    world.work()
    with pytest.raises(MoneyMoved):
        reverse_transaction(world.context, made, actor="anna")
    assert world.account.balance == 100


def test_credit_of_other_clients_refund_is_not_found_to_delete(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    refund_id = world.request(credit_refund(20, client="shop")).refund_id
    world.work()
    with pytest.raises(NotFound):
        reverse_transaction(world.context, f"{refund_id}-credit", actor="anna", client="desk")
    assert world.account.balance == 70
    reverse_transaction(world.context, f"{refund_id}-credit", actor="anna", client="shop")
    assert world.account.balance == 50
