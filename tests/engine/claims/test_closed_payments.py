"""Closed payments: nothing goes over them any more, and their unspent credits come off the balance."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.engine.claims.claim_worlds import balance_of, claims_of, entries_of, report
from tests.support.engine_world import World, assert_books_balance, credit_refund

from refund_worker.domain.refund import RefundStatus, To
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.errors import ActionNotAllowed, NoRefundablePayment, NotFound
from refund_worker.store import ledger


def close(world: World, payment_id: str = "pay1") -> None:
    """Close the payment, and check the books afterwards."""
    close_payment(world.context, payment_id, actor="op", reason="the debit failed")
    assert_books_balance(world.database)


def test_unspent_credits_come_off_once(world: World) -> None:
    world.pay()
    world.spend(credits=30)
    close(world)
    close(world)
    assert balance_of(world) == (0, 0)
    assert entries_of(world, "close") == [(-70, "pay1")]
    (claim,) = claims_of(world)
    assert (claim["credits"], claim["taken"], claim["rule"]) == (100, 70, "write_off")
    with world.database.read() as connection:
        (entry,) = ledger.transactions_by_id(connection, [f"{claim['claim_id']}-1"]).values()
    assert entry["actor"] == "op"


def test_its_id_is_free_for_a_new_record(world: World) -> None:
    world.pay(amount_minor=10)
    close(world)
    world.pay(payment_id="pay1-again")
    refund_id = world.withdraw(100)
    world.work()
    assert [leg.payment_id for leg in world.refund(refund_id).legs] == ["pay1-again"]
    assert (world.processor.paid_minor(), balance_of(world)) == (1_000, (0, 0))


def test_no_new_leg_goes_over_it(world: World) -> None:
    world.pay()
    world.spend("t", credits=100)
    close(world)
    world.pay(2, credits=10, amount_minor=100)
    with pytest.raises(NoRefundablePayment):
        world.request(credit_refund(100, to=To.SOURCE))


def test_unsent_leg_is_given_back_and_taken(world: World) -> None:
    world.pay()
    pause_processor(world.context, "stripe", actor="op", reason="later")
    refund_id = world.withdraw(100)
    close(world)
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert balance_of(world) == (0, 0)


def test_money_under_way_forbids_it(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "timeout")
    world.withdraw(50)
    world.work()
    with pytest.raises(ActionNotAllowed):
        close(world)
    assert claims_of(world) == []


def test_part_that_was_refunded_stays_refunded(world: World) -> None:
    world.pay()
    world.withdraw(40)
    world.work()
    report(world, world.refund_in_the_dashboard(100))
    close(world)
    assert [(claim["amount_minor"], claim["credits"]) for claim in claims_of(world)] == [(100, 10), (500, 50)]
    assert balance_of(world) == (0, 0)


@pytest.mark.parametrize("closed", ["before", "between", "after"])
def test_money_that_comes_back_is_the_closed_payments(world: World, closed: str) -> None:
    """A refund of others and one of ours fail: the closing takes their credits too."""
    world.pay()
    world.withdraw(30)
    world.work()
    item = world.refund_in_the_dashboard(400, status="pending")
    report(world, item)
    if closed == "before":
        close(world)
    report(world, replace(item, status="failed"))
    if closed == "between":
        close(world)
    (own,) = (name for name, made in world.processor.objects.items() if made.leg_id is not None)
    world.processor.become(own, "failed")
    sync_all(world.context, "stripe")
    world.work()
    if closed == "after":
        close(world)
    assert balance_of(world) == (0, 0)
    assert sum(claim["amount_minor"] for claim in claims_of(world) if claim["kind"] == "close") == 1_000
    assert_books_balance(world.database)


def test_unknown_payment_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        close(world)


def test_rest_of_a_queued_refund_goes_on_by_itself(world: World) -> None:
    world.pay(1)
    world.pay(2)
    refund_id = world.withdraw(150)
    close(world, "pay1")
    assert world.refund(refund_id).due_at == world.now, "its other leg is ready, and nothing else would wake it"
    world.work()
    assert world.refund(refund_id).status is RefundStatus.PARTIALLY_SUCCEEDED
    assert (world.processor.paid_minor(), balance_of(world)) == (1_000, (0, 0))
