"""A processor that says later what was held to be impossible: the books follow it, and nothing gets stuck."""

from __future__ import annotations

import pytest
from tests.domain.builders import an_object
from tests.support.world import World, assert_books_balance

from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.workflow import Action
from refund_worker.engine.evidence import Evidence, take_evidence
from refund_worker.errors import Refusal
from refund_worker.processors.base import AlreadyRefunded, Answered, Blocked, RefundObject


def tell(world: World, refund_id: str, thing: RefundObject) -> None:
    evidence = Evidence(refund_id, f"{refund_id}-1", None, Answered(thing))
    world.database.run(lambda connection: take_evidence(connection, world.context, [evidence]))
    assert_books_balance(world.database)


def given_up(world: World) -> str:
    """A refund that an operator reversed, although its send did pay."""
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "not now"))
    refund_id = world.withdraw(100, "a")
    world.work()
    world.command(refund_id, Action.RESOLVE)
    world.work()
    assert world.account.balance == 100
    return refund_id


def test_a_payment_that_is_used_twice_over_counts_as_full_until_both_uses_have_ended(world: World) -> None:
    first = given_up(world)
    second = world.withdraw(100, "b")
    its = an_object(leg_id=f"{first}-1", payment_refs=("ch_1",))
    tell(world, first, its)  # it did pay: now the one payment is taken twice
    assert world.refund(first).status is RefundStatus.SUCCEEDED
    world.processor.script("ch_1", AlreadyRefunded("nothing left"))
    world.work()
    world.command(second, Action.RESOLVE)
    world.work()
    assert_books_balance(world.database)
    with pytest.raises(Refusal):
        world.withdraw(100, "c")
    tell(world, first, an_object("failed", leg_id=f"{first}-1", payment_refs=("ch_1",)))
    world.work()
    assert world.refund(first).status is RefundStatus.FAILED
    assert world.account.balance == 100
    assert world.withdraw(100, "d")
