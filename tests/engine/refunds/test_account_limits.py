"""An account without refunds: no request, preview, payable amount or fallback uses its payments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.engine_world import POLICY, STRIPE, ScriptedProcessor, World, assert_books_balance, withdrawal

from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.accounts.payable import payable_parts
from refund_worker.engine.refunds.preview import preview

OFF = "closed"


@pytest.fixture
def world(migrated_sqlite_url: str) -> Iterator[World]:
    """Return a world whose customer has two equal payments; the newer one is at an account without refunds."""
    processor, closed = ScriptedProcessor(), ScriptedProcessor(OFF)
    made = World(
        migrated_sqlite_url,
        processors={"stripe": processor, OFF: closed},
        policy=replace(POLICY, processors={"stripe": STRIPE, OFF: replace(STRIPE, refunds_on=False)}),
    )
    made.processor = processor
    made.pay(1)
    made.pay(2, processor=OFF)
    yield made
    assert closed.sends == []
    assert_books_balance(made.database)
    made.close()


def test_request_goes_over_the_other_account(world: World) -> None:
    assert world.request_or_code(101, "too much") == "no_refundable_payment"
    refund = world.refund(world.withdraw(None))
    assert [(leg.processor, leg.credits) for leg in refund.legs] == [("stripe", 100)]
    world.work()
    assert world.refund(refund.refund_id).status is RefundStatus.SUCCEEDED


def test_preview_and_payable_amount_count_the_other_account_alone(world: World) -> None:
    shown = preview(world.context, withdrawal(None))
    assert (shown["maximum_credits"], [leg["processor"] for leg in shown["legs"]]) == (100, ["stripe"])
    with world.database.read() as connection:
        (part,) = payable_parts(connection, "c", 200, world.context.policy)
    assert (part.credits, part.amount_minor) == (100, 1_000)


def test_money_that_a_payment_refused_goes_to_the_balance(world: World) -> None:
    world.processor.script("ch_1", Refused("declined", "no"))
    refund_id = world.withdraw(100)
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, len(refund.legs), world.account.balance) == (RefundStatus.FAILED, 1, 200)
