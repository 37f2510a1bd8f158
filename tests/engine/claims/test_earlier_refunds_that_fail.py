"""A refund that `refunded_minor` counts fails later, or pays a refund of ours: that money and its credits come back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import text
from tests.engine.claims.claim_worlds import (
    assert_sums_hold,
    balance_of,
    claims_of,
    dispute,
    entries_of,
    report,
    report_disputes,
    with_rule,
)
from tests.support.engine_world import World
from tests.support.replies import EMPTY

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.state_machine import Action
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.views.payment_objects import payment
from refund_worker.errors import ActionNotAllowed, ExceedsRefundable
from refund_worker.store import schema

PERSON, DEBT, WRITE_OFF = ShortfallRule.PERSON, ShortfallRule.DEBT, ShortfallRule.WRITE_OFF


def pending(world: World, minor: int) -> RefundObject:
    """Return a refund that was made in the dashboard and has not ended; it is reported."""
    made = world.refund_in_the_dashboard(minor, status="pending")
    report(world, made)
    return made


def fail(world: World, made: RefundObject) -> int:
    """Let the refund fail at the processor, and report it."""
    world.processor.objects[made.processor_refund_id] = replace(made, status="failed")
    return report(world, replace(made, status="failed"))


def left_of(world: World) -> tuple[int, int, int]:
    """Return (refunded_minor, left_minor, credits_left) of the payment as people see it."""
    with world.database.read() as connection:
        shown = payment(connection, world.context, "pay1")
    return shown["refunded_minor"], shown["left_minor"], shown["credits_left"]


@pytest.mark.parametrize("status", ["pending", "succeeded"])
def test_its_credits_and_its_room_come_back(world: World, status: str) -> None:
    world.pay(refunded_minor=300)
    made = replace(pending(world, 300), status=status)
    report(world, made)
    assert (balance_of(world), left_of(world)) == ((70, 0), (300, 700, 70))
    assert fail(world, made) == 1
    assert (balance_of(world), left_of(world)) == ((100, 0), (0, 1_000, 100))
    assert fail(world, made) == 0
    world.withdraw(100)
    world.work()
    assert (world.processor.paid_minor(), left_of(world)) == (1_000, (0, 0, 0))
    with world.database.read() as connection:
        assert payment(connection, world.context, "pay1")["taken_minor"] == 1_000
    assert balance_of(world) == (0, 0)
    assert_sums_hold(world)


def test_its_reversal_names_the_first_entry(world: World) -> None:
    world.pay(refunded_minor=300)
    fail(world, pending(world, 300))
    (first,) = [claim["claim_id"] for claim in claims_of(world) if claim["kind"] == "earlier_refund"]
    assert entries_of(world, "outside_refund") == [(-30, "pay1")]
    assert entries_of(world, "reversal") == [(30, f"{first}-1")]


def test_only_the_part_that_failed_comes_back(world: World) -> None:
    world.pay(credits=101, refunded_minor=300)
    report(world, world.refund_in_the_dashboard(200))
    made = pending(world, 100)
    assert balance_of(world) == (71, 0)
    fail(world, made)
    assert (balance_of(world), left_of(world)) == ((81, 0), (200, 800, 81))
    report(world, world.refund_in_the_dashboard(800))
    assert (balance_of(world), left_of(world)) == ((0, 0), (200, 0, 0))
    assert_sums_hold(world)


def test_of_a_larger_refund_each_part_comes_back_once(world: World) -> None:
    world.pay(refunded_minor=300)
    made = pending(world, 500)
    assert balance_of(world) == (70, 20)
    fail(world, made)
    assert (balance_of(world), left_of(world)) == ((100, 0), (0, 1_000, 100))


def test_refund_that_failed_before_it_was_known_changes_nothing(world: World) -> None:
    world.pay(refunded_minor=300)
    fail(world, world.refund_in_the_dashboard(300))
    assert (balance_of(world), left_of(world)) == ((70, 0), (300, 700, 70))


@pytest.mark.parametrize(("seconds", "named", "balance"), [(0, "cheque", 90), (301, "cheque", 60), (0, "its id", 60)])
def test_refund_of_before_the_upgrade_gives_back_its_part_too(
    world: World, seconds: float, named: str, balance: int
) -> None:
    world.pay(refunded_minor=300)
    refund_id = world.withdraw(10)
    world.processor.script("ch_1", EMPTY)
    world.work()
    world.pass_time(seconds)
    made = pending(world, 300)
    reference = made.processor_refund_id if named == "its id" else named
    world.command(refund_id, Action.RESOLVE, reference)
    with world.database.write() as connection:
        # An earlier version explained each object, whenever it was made.
        connection.execute(text("UPDATE claims SET explained_minor = 300 WHERE kind = 'outside_refund'"))
        command.downgrade(schema.alembic_config(connection), "0031")
    schema.upgrade(world.database)
    fail(world, made)
    assert balance_of(world)[0] == balance


def test_refund_made_after_the_recording_is_no_earlier_one(world: World) -> None:
    world.pay(refunded_minor=300)
    world.pass_time(CLOCK_DIFFERENCE_SECONDS + 1)
    made = pending(world, 200)
    assert (balance_of(world), left_of(world)) == ((70, 20), (300, 500, 50))
    fail(world, made)
    assert (balance_of(world), left_of(world)) == ((70, 0), (300, 700, 70))


def test_later_refund_takes_a_share_of_its_own(world: World) -> None:
    world.pay(refunded_minor=300)
    fail(world, pending(world, 300))
    report(world, world.refund_in_the_dashboard(300))
    assert (balance_of(world), left_of(world)) == ((70, 0), (0, 700, 70))


@pytest.mark.parametrize(("rule", "before", "after"), [(WRITE_OFF, 0, 10), (DEBT, -20, 10), (PERSON, 0, 10)])
def test_of_spent_credits_only_those_taken_come_back(
    world: World, rule: ShortfallRule, before: int, after: int
) -> None:
    with_rule(world, rule)
    world.pay(refunded_minor=300)
    made = pending(world, 300)
    world.spend(credits=90)
    assert balance_of(world) == (before, 0)
    fail(world, made)
    assert balance_of(world) == (after, 0)
    assert_sums_hold(world)


@pytest.mark.parametrize(("rule", "after"), [(WRITE_OFF, 0), (DEBT, -10), (PERSON, 0)])
def test_smaller_share_of_spent_credits_is_as_from_the_first(world: World, rule: ShortfallRule, after: int) -> None:
    with_rule(world, rule)
    world.pay(refunded_minor=300)
    report(world, world.refund_in_the_dashboard(200))
    made = pending(world, 100)
    world.spend(credits=90)
    fail(world, made)
    (claim,) = [claim for claim in claims_of(world) if claim["kind"] == "earlier_refund"]
    assert (balance_of(world), claim["credits"], claim["taken"] - claim["debt"]) == ((after, 0), 20, 10)
    assert_sums_hold(world)


def test_nothing_is_left_to_decide_when_all_came_back(world: World) -> None:
    with_rule(world, PERSON)
    world.pay(refunded_minor=300)
    made = pending(world, 300)
    world.spend(credits=90)
    fail(world, made)
    (claim,) = [claim for claim in claims_of(world) if claim["kind"] == "earlier_refund"]
    values = {"kind": ClaimKind.OUTSIDE_REFUND, "decision": DEBT, "actor": "kim", "reason": "old"}
    with pytest.raises(ActionNotAllowed):
        decide_claim(world.context, claim["claim_id"], **values)  # type: ignore[arg-type]


def test_closed_payment_takes_what_came_back(world: World) -> None:
    world.pay(refunded_minor=300)
    made = pending(world, 300)
    close_payment(world.context, "pay1", actor="kim", reason="recorded wrong")
    fail(world, made)
    (closing,) = [claim for claim in claims_of(world) if claim["kind"] == "close"]
    assert (balance_of(world), closing["amount_minor"]) == ((0, 0), 1_000)
    assert_sums_hold(world)


@pytest.mark.parametrize("minor", [300, 500])
def test_linked_refund_counts_once(world: World, minor: int) -> None:
    world.pay(refunded_minor=300)
    report(world, world.refund_in_the_dashboard(minor))
    refund_id = world.withdraw(30)
    (outside,) = [claim for claim in claims_of(world) if claim["kind"] == "outside_refund"]
    link_outside_refund(world.context, outside["claim_id"], refund_id=refund_id, actor="kim", reason="the same")
    assert world.refund(refund_id).status == "succeeded"
    assert balance_of(world) == (100 - minor // 10, 0)
    assert left_of(world)[1:] == (1_000 - minor, 100 - minor // 10)
    assert_sums_hold(world)


def test_the_room_that_came_back_is_refunded(world: World) -> None:
    world.pay(refunded_minor=300)
    made = pending(world, 300)
    with pytest.raises(ExceedsRefundable):
        world.withdraw(71)
    fail(world, made)
    world.withdraw(100)
    world.work()
    assert world.processor.paid_minor() == 1_000


@pytest.mark.parametrize(("spent", "disputed", "balance"), [(50, 500, 0), (0, 1_000, 50)])
def test_link_leaves_the_earlier_part_to_no_other_claim(world: World, spent: int, disputed: int, balance: int) -> None:
    world.pay(refunded_minor=300)
    refund_id = world.withdraw(10)
    report(world, world.refund_in_the_dashboard(500))
    if spent:
        world.spend(credits=spent)
    report_disputes(world, dispute(world, "lost", disputed))
    (outside,) = [claim for claim in claims_of(world) if claim["kind"] == "outside_refund"]
    link_outside_refund(world.context, outside["claim_id"], refund_id=refund_id, actor="kim", reason="the same")
    report_disputes(world, dispute(world, "lost", disputed, money_returned=True))
    assert balance_of(world) == (balance, 0)
    assert_sums_hold(world)
