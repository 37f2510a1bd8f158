"""A person says how a payout ended: what happens to its transfer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.payout_world import DAY, TWO_STEPS, PayoutWorld

from refund_worker.domain.ledger import MANUAL
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.errors import ActionNotAllowed

Make = Callable[..., PayoutWorld]
CONNECTED = "processor:stripe/acct_p000"


def transferred(make_world: Make, *after: str) -> tuple[PayoutWorld, str]:
    """Return a world and its payout of 50.00 USD, whose transfer paid and whose payout failed twice at a bank."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "pending", "pending", *after]
    payout_id = world.ask()
    world.settle(60)
    for attempt in (1, 2):
        world.report(
            payout_id,
            world.route.set(
                f"{payout_id}-2:{attempt}",
                ObjectState.FAILED,
                failure_code="could_not_process",
                fault=Fault.PROCESSOR,
            ),
        )
        world.settle(2 * 3_600, step=600)
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "could_not_process",
    )
    assert world.accounts()[CONNECTED] == 5_000
    return world, payout_id


def test_manual_payment_takes_the_transfer_back(make_world: Make) -> None:
    """Else the payee has the money twice: once manually, and once at the own account with the processor."""
    world, payout_id = transferred(make_world, "succeeded")
    world.act_on(payout_id, "resolve", reference="wire-7")
    assert world.payout(payout_id).status == "returning"
    assert world.balance().in_flight_minor == 5_000
    world.settle(600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.times_paid) == ("paid", 1)
    assert [leg.status for leg in payout.legs] == ["succeeded", "succeeded", "succeeded"]
    assert world.route.sends()[-1] == f"{payout_id}-3:1"
    assert CONNECTED not in world.accounts()
    assert world.accounts()[MANUAL] == -5_000
    assert (world.balance().paid_minor, world.balance().payable_minor) == (5_000, 0)


def test_transfer_that_stays_is_a_persons_choice(make_world: Make) -> None:
    world, payout_id = transferred(make_world, "refused")
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_not_undone")
    assert world.payee_row().blocked_by == payout_id
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(600)
    assert world.payout(payout_id).status == "paid"
    assert "transfer_stands" in world.events(payout_id)
    assert world.accounts()[CONNECTED] == 5_000
    assert world.payee_row().blocked_by is None


def test_transfer_that_the_person_names_is_the_payment(make_world: Make) -> None:
    world, payout_id = transferred(make_world)
    world.act_on(payout_id, "resolve", reference="tr_1")
    world.settle(DAY, step=3_600)
    assert world.payout(payout_id).status == "paid"
    assert len(world.route.sends()) == 3
    assert not {CONNECTED, MANUAL} & world.accounts().keys()


def test_transfer_stays_while_its_payout_may_still_land(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "late", *["nothing"] * 500]
    payout_id = world.ask()
    world.settle(5_000, step=30)
    assert world.payout(payout_id).status == "needs_attention"
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.route.land()
    world.settle(DAY, step=600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "paid_twice")
    assert [leg.step for leg in payout.legs] == ["transfer", "payout"]
    world.act_on(payout_id, "retry")
    world.settle(DAY, step=600)
    assert [leg.step for leg in world.payout(payout_id).legs] == ["transfer", "payout"]


def test_object_that_failed_is_no_payment(make_world: Make) -> None:
    world, payout_id = transferred(make_world)
    with pytest.raises(ActionNotAllowed, match="tr_3 has paid nothing"):
        world.act_on(payout_id, "resolve", reference="tr_3")
