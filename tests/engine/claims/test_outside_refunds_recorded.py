"""Refunds that others made: recorded once, their credits come off the balance, and nothing is paid for them again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.engine.claims.claim_worlds import balance_of, claims_of, entries_of, report, with_rule
from tests.support.engine_world import DAY, POLICY, WORD, World, assert_books_balance

from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.pause import pause_processor


def test_outside_refund_takes_its_credits_once(world: World) -> None:
    world.pay()
    item = world.refund_in_the_dashboard(300)
    assert [report(world, item), report(world, item), report(world, item, item)] == [1, 0, 0]
    assert balance_of(world) == (70, 0)
    (claim,) = claims_of(world)
    assert (claim["credits"], claim["taken"], claim["customer_id"]) == (30, 30, "c")
    assert entries_of(world, "outside_refund") == [(-30, "pay1")]


def test_its_money_has_no_room_any_more(world: World) -> None:
    world.pay()
    report(world, world.refund_in_the_dashboard(300))
    refund_id = world.withdraw(None)
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, refund.credits, world.processor.paid_minor()) == (RefundStatus.SUCCEEDED, 70, 1_000)


@pytest.mark.parametrize("parts", [(333, 333, 334), (1, 999), (500, 1, 499), (125, 125, 750)])
def test_all_parts_take_exactly_all_credits(world: World, parts: tuple[int, ...]) -> None:
    world.pay(credits=7)
    for part in parts:
        report(world, world.refund_in_the_dashboard(part))
    assert balance_of(world) == (0, 0)
    assert sum(claim["credits"] for claim in claims_of(world)) == 7


def test_own_refund_between_outside_ones_leaves_nothing(world: World) -> None:
    world.pay(amount_minor=999, credits=7)
    report(world, world.refund_in_the_dashboard(100))
    world.withdraw(3)
    world.work()
    own = world.processor.paid_minor() - 100
    report(world, world.refund_in_the_dashboard(999 - 100 - own))
    assert balance_of(world) == (0, 0)
    assert_books_balance(world.database)


def test_pending_holds_and_failure_gives_back(world: World) -> None:
    world.pay()
    item = world.refund_in_the_dashboard(400, status="pending")
    report(world, item)
    assert balance_of(world) == (100, 40)
    report(world, replace(item, status="succeeded"))
    assert balance_of(world) == (60, 0)
    report(world, replace(item, status="failed"))
    assert balance_of(world) == (100, 0)
    (claim,) = claims_of(world)
    assert entries_of(world, "reversal") == [(40, f"{claim['claim_id']}-1")]


def test_late_report_of_an_older_status_changes_nothing(world: World) -> None:
    world.pay()
    item = world.refund_in_the_dashboard(400, status="failed")
    report(world, item)
    for status in ("succeeded", "pending", None, "requires_action"):
        report(world, replace(item, status=status))
    assert balance_of(world) == (100, 0)


@pytest.mark.parametrize(
    ("rule", "balance", "taken", "debt"), [("write_off", 0, 40, 0), ("person", 0, 40, 0), ("debt", -60, 100, 60)]
)
def test_spent_credits_are_the_shortfall(world: World, rule: str, balance: int, taken: int, debt: int) -> None:
    with_rule(world, rule)
    world.pay()
    world.spend(credits=60)
    report(world, world.refund_in_the_dashboard(1_000))
    (claim,) = claims_of(world)
    assert (claim["credits"], claim["taken"], claim["debt"], claim["rule"]) == (100, taken, debt, rule)
    assert balance_of(world) == (balance, 0)
    world.pay(2)
    assert world.account.balance == balance + 100
    assert world.account.payable == balance + 100, "a debt is paid first, a write-off changes nothing"


def test_written_off_credits_are_not_taken_of_a_later_purchase(world: World) -> None:
    world.pay()
    world.spend(credits=60)
    report(world, world.refund_in_the_dashboard(600))
    world.pay(2)
    report(world, world.refund_in_the_dashboard(400))
    assert balance_of(world) == (60, 0), "40 more for the second part, nothing for the first"


def test_unsent_leg_goes_over_another_payment(world: World) -> None:
    world.pay(2, captured_at=1.0)
    world.pay(1, captured_at=2.0)
    pause_processor(world.context, "stripe", actor="op", reason="later")
    refund_id = world.withdraw(100)
    report(world, world.refund_in_the_dashboard(1_000, 1))
    first, second = world.refund(refund_id).legs
    assert (first.payment_id, str(first.status), first.failure_code) == ("pay1", "canceled", "refunded_elsewhere")
    assert (second.payment_id, second.amount_minor, second.replaces) == ("pay2", 1_000, first.leg_id)
    assert balance_of(world) == (0, 0)


@pytest.mark.parametrize("part", [1_000, 200])
def test_unsent_leg_without_another_payment_is_given_back_first(world: World, part: int) -> None:
    world.pay()
    pause_processor(world.context, "stripe", actor="op", reason="later")
    refund_id = world.withdraw(100)
    report(world, world.refund_in_the_dashboard(part))
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert balance_of(world) == (100 - part // 10, 0)


def test_refused_leg_lets_the_claim_take_what_it_lacked(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "timeout", Refused("expired_or_canceled_card", "the card is closed"))
    refund_id = world.withdraw(100)
    world.work()
    report(world, world.refund_in_the_dashboard(1_000))
    (claim,) = claims_of(world)
    assert (claim["credits"], balance_of(world)) == (0, (0, 0)), "the leg in flight takes all of the payment"
    world.work_for(POLICY.key_life_seconds)
    assert world.command(refund_id, Action.RESOLVE).status is RefundStatus.REVERSING
    world.work()
    (claim,) = claims_of(world)
    assert (claim["taken"], claim["debt"], balance_of(world)) == (100, 0, (0, 0))


def test_payment_recorded_later_matches_what_came_before(world: World) -> None:
    world.pay(2)
    item = world.refund_in_the_dashboard(300, 1)
    report(world, item)
    (claim,) = claims_of(world)
    assert (claim["payment_id"], claim["customer_id"], claim["credits"]) == (None, None, 0)
    world.pay(1)
    assert_books_balance(world.database)
    (claim,) = claims_of(world)
    assert (claim["payment_id"], claim["taken"], balance_of(world)) == ("pay1", 30, (170, 0))


def test_refunded_before_explains_the_oldest_objects(world: World) -> None:
    world.pay(refunded_minor=300)
    for age, part in ((50, 200), (40, 100), (30, 100)):
        report(world, world.refund_in_the_dashboard(part, created_at=datetime.fromtimestamp(world.now - age, UTC)))
    assert [claim["credits"] for claim in claims_of(world) if claim["kind"] == "outside_refund"] == [0, 0, 10]
    assert balance_of(world) == (60, 0)


def test_refund_recorded_during_a_send_stops_it(world: World) -> None:
    """The database's clock may be wrong by a day: then the refund seems older than the leg's first intent."""
    world.pay()
    world.processor.script("ch_1", "timeout")
    refund_id = world.withdraw(50)
    world.work()
    yesterday = datetime.fromtimestamp(world.now - DAY, UTC)
    report(world, world.refund_in_the_dashboard(500, created_at=yesterday))
    world.pass_time(POLICY.lease_seconds * 2)
    world.work_for(POLICY.quiet_seconds * 2)
    assert world.refund(refund_id).failure_code == "refunded_elsewhere"
    assert world.processor.paid_minor() == 500


@pytest.mark.parametrize(("others", "status"), [(False, RefundStatus.CANCELED), (True, RefundStatus.AWAITING_APPROVAL)])
def test_refund_before_its_approval_leaves_the_payment(world: World, others: bool, status: RefundStatus) -> None:
    world.context = replace(world.context, limits=Limits(approval_threshold_minor=0))
    world.pay(1, captured_at=2.0)
    if others:
        world.pay(2, captured_at=1.0)
    refund_id = world.withdraw(100)
    report(world, world.refund_in_the_dashboard(1_000))
    refund = world.refund(refund_id)
    assert (refund.status, [leg.payment_id for leg in refund.legs]) == (status, ["pay1", "pay2"][: 1 + others])
    assert balance_of(world) == ((100, 100) if others else (0, 0))


def test_refund_of_another_installation_counts_only_over_our_payments(world: World) -> None:
    world.pay(1)
    theirs = {"installation": "inst_other", "leg_id": "rf_x-1", "attempt": 1}
    report(world, world.refund_in_the_dashboard(100, 1, **theirs), world.refund_in_the_dashboard(100, 2, **theirs))
    report(world, world.refund_in_the_dashboard(100, 3))
    assert [claim["payment_id"] for claim in claims_of(world)] == ["pay1", None]


def test_money_that_the_processors_record_showed_counts_once(world: World) -> None:
    world.processor.reads_payments = True
    world.processor.payments["ch_1"] = replace(WORD, refunded_minor=300)
    world.pay()
    stopped = world.withdraw(100)
    world.work()
    assert world.refund(stopped).failure_code == "refunded_elsewhere"
    report(world, world.refund_in_the_dashboard(300))
    assert balance_of(world) == (70, 0), "the stopped refund gave its credits back first"
    assert world.refund(world.withdraw(None, "k2")).credits == 70
