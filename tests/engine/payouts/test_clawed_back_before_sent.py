"""Earnings that are clawed back before a payout of them is sent: it pays what is left, or it is canceled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.engine_world import credit_refund
from tests.support.payees import earn
from tests.support.payout_world import DAY, TWO_STEPS, PayoutWorld

from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.payee import BalanceDelta
from refund_worker.domain.payouts.transfers import Step
from refund_worker.domain.refund import ObjectState, To
from refund_worker.engine.accounts.corrections import reverse_transaction
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.store.payouts import payees

Make = Callable[..., PayoutWorld]


def claw_back(world: PayoutWorld, minor: int, payee_id: str = "p") -> None:
    """Take a part of the payee's earnings back."""
    change = {(payee_id, "USD"): BalanceDelta(clawed_back_minor=minor)}
    world.database.run(lambda c: payees.change_balances(c, change))


def paid(world: PayoutWorld) -> list[int]:
    """Return the amounts that the processor has."""
    return sorted(item.amount_minor for item in world.route.book.values())


@pytest.mark.parametrize("steps", [(Step.PAYOUT,), TWO_STEPS])
def test_unsent_payout_pays_only_what_is_left(make_world: Make, steps: tuple[Step, ...]) -> None:
    world = make_world(steps=steps)
    world.earn("e1", 5_000)
    payout_id = world.ask()
    claw_back(world, 500)
    assert world.balance().debt_minor == 500
    for _ in steps:
        world.settle(DAY, step=3_600)
        world.route.set(world.route.sends()[-1], ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.amount_minor) == ("paid", 4_500)
    assert {*paid(world)} == {leg.amount_minor for leg in payout.legs} == {4_500}
    assert (world.balance().paid_minor, world.balance().debt_minor, world.balance().payable_minor) == (4_500, 0, 0)
    assert "payout_reduced" in world.events(payout_id)


@pytest.mark.parametrize(("clawed", "minimum"), [(5_000, None), (4_100, {"USD": 1_000})])
def test_payout_is_canceled_if_too_little_is_left(
    make_world: Make, clawed: int, minimum: dict[str, int] | None
) -> None:
    world = make_world(policy_options={"minimum_minor": minimum} if minimum else {})
    world.earn("e1", 5_000)
    payout_id = world.ask()
    claw_back(world, clawed)
    world.settle(DAY)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code, payout.due_at) == ("canceled", "earnings_clawed_back", None)
    assert world.route.sends() == []
    assert (world.balance().in_flight_minor, world.balance().debt_minor) == (0, 0)
    assert world.balance().payable_minor == 5_000 - clawed


def test_least_amount_is_still_paid(make_world: Make) -> None:
    world = make_world(policy_options={"minimum_minor": {"USD": 1_000}})
    world.earn("e1", 5_000)
    world.ask()
    claw_back(world, 4_000)
    world.settle()
    assert paid(world) == [1_000]


def test_reduced_amount_is_in_steps_of_the_route(world: PayoutWorld) -> None:
    """The part below a step stays in the balance."""
    policy = world.context.payout_policy
    rules = {name: replace(each, steps={"USD": 100}) for name, each in policy.calls.processors.items()}
    calls = replace(policy.calls, processors=rules)
    world.context = replace(world.context, payout_policy=replace(policy, calls=calls))
    world.earn("e1", 5_000)
    world.ask()
    claw_back(world, 550)
    world.settle()
    assert paid(world) == [4_400]
    assert (world.balance().debt_minor, world.balance().payable_minor) == (0, 50)


def test_several_unsent_payouts_are_reduced_by_the_debt_once(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    ids = [world.ask(2_000, "k1"), world.ask(2_000, "k2"), world.ask(1_000, "k3")]
    claw_back(world, 1_500)
    world.settle()
    assert sum(world.payout(payout_id).amount_minor for payout_id in ids) == 3_500
    assert (world.balance().in_flight_minor, world.balance().debt_minor) == (3_500, 0)


def test_debt_of_an_earlier_payout_is_taken_first(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.ask(key="k1")
    world.settle()
    world.route.set(world.route.sends()[0], ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    world.earn("e2", 2_000)
    world.change_payee(paused_by="ann", pause_reason="x")
    second = world.ask(key="k2")
    claw_back(world, 1_200)
    world.change_payee(paused_by=None)
    world.settle(DAY, step=3_600)
    assert world.payout(second).amount_minor == 800
    assert world.balance().debt_minor == 0


def test_sent_payout_keeps_its_amount_and_leaves_a_debt(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    claw_back(world, 500)
    world.settle(DAY, step=3_600)
    assert (world.payout(payout_id).amount_minor, paid(world)) == (5_000, [5_000])
    assert world.balance().debt_minor == 500


def test_approved_payout_pays_what_is_left(make_world: Make) -> None:
    world = make_world(limits=Limits(approval_threshold_minor=1_000))
    world.earn("e1", 5_000)
    payout_id = world.ask()
    claw_back(world, 500)
    world.settle(DAY, step=3_600)
    assert (world.payout(payout_id).status, world.payout(payout_id).amount_minor) == ("awaiting_approval", 5_000)
    world.act_on(payout_id, "approve")
    world.settle()
    assert paid(world) == [4_500]


def test_payout_that_waits_through_a_pause_is_reduced(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    pause_processor(world.context, "stripe", actor="ann", reason="x")
    world.ask()
    world.settle(DAY, step=3_600)
    claw_back(world, 500)
    resume_processor(world.context, "stripe", actor="ann", reason="x")
    world.settle(DAY, step=3_600)
    assert paid(world) == [4_500]


def test_refunded_spend_reduces_a_held_payout_at_once(make_world: Make) -> None:
    """Deleting the refund makes the rest payable again. It is asked for by another payout."""
    world = make_world(cooldown_seconds=DAY)
    world.pay()
    world.spend()
    earn(world, payee_id="p", available_at=0.0)
    payout_id = world.ask()
    world.settle()
    assert world.payout(payout_id).hold_code == "destination_cooldown"
    refund_id = world.request(credit_refund(20, "k", To.BALANCE)).refund_id
    world.work()
    world.settle()
    held = world.payout(payout_id)
    assert (held.status, held.amount_minor, world.balance().debt_minor) == ("held", 300, 0)
    reverse_transaction(world.context, f"{refund_id}-credit", actor="ann", reason="a mistake")
    assert world.balance().payable_minor == 200
    world.settle(DAY, step=3_600)
    assert paid(world) == [300]


def test_repeated_request_finds_the_reduced_payout(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask(5_000)
    claw_back(world, 500)
    world.settle()
    assert world.ask(5_000) == payout_id
    assert paid(world) == [4_500]
