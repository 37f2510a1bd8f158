"""A person cancels at the processor: through the database, with lost answers and dead workers."""

from __future__ import annotations

import pytest
from tests.support.engine_world import Died, World

from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.errors import ActionNotAllowed


def waiting(world: World) -> str:
    """Return a refund that waits for the customer. A second payment could take its money too."""
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", "requires_action")
    refund_id = world.withdraw(50)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.PENDING
    return refund_id


def is_given_back(world: World, refund_id: str) -> bool:
    refund = world.refund(refund_id)
    assert [leg.status for leg in refund.legs] == [LegStatus.CANCELED]
    assert world.processor.paid_minor() == 0
    return (refund.status, refund.failure_code, world.account.available) == (
        RefundStatus.FAILED,
        "canceled_on_request",
        200,
    )


def test_cancel_asks_the_processor_and_gives_back(world: World) -> None:
    refund_id = waiting(world)
    refund = world.command(refund_id, Action.CANCEL)
    view = refund_view(refund)
    assert (view["status"], view["available_actions"]) == ("pending", [])
    assert "canceled" in view["legs"][0]["customer_text"]
    assert world.processor.canceled == []
    with pytest.raises(ActionNotAllowed):
        world.command(refund_id, Action.CANCEL)
    world.work()
    assert is_given_back(world, refund_id)
    assert world.processor.canceled == ["re_1"]
    kinds = world.events(refund_id)
    assert kinds.index("leg_cancel_asked") < kinds.index("leg_object_canceled")


@pytest.mark.parametrize("way", ["cancels_and_dies", "dies"])
def test_worker_that_dies_at_the_call_looks_before_it_calls_again(world: World, way: str) -> None:
    refund_id = waiting(world)
    world.command(refund_id, Action.CANCEL)
    world.processor.cancels.append(way)
    with pytest.raises(Died):
        world.work()
    world.processor.asked.clear()
    world.work_for(600)
    assert is_given_back(world, refund_id)
    assert world.processor.asked[0] == "re_1", "it is read first"
    assert len(world.processor.canceled) == (1 if way == "cancels_and_dies" else 2)


def test_lost_answer_is_looked_up(world: World) -> None:
    refund_id = waiting(world)
    world.command(refund_id, Action.CANCEL)
    world.processor.cancels.append("cancels_silently")
    world.work_for(600)
    assert is_given_back(world, refund_id)
    assert len(world.processor.canceled) == 1


def test_customer_who_acts_before_the_call_is_paid(world: World) -> None:
    refund_id = waiting(world)
    world.command(refund_id, Action.CANCEL)
    world.processor.become("re_1", "succeeded")
    world.work_for(600)
    refund = world.refund(refund_id)
    assert (refund.status, world.processor.paid_minor()) == (RefundStatus.SUCCEEDED, 500)
    assert "cancel_refused" in world.events(refund_id)
    with pytest.raises(ActionNotAllowed):
        world.command(refund_id, Action.CANCEL)


def test_expired_refund_tries_the_other_payment(world: World) -> None:
    refund_id = waiting(world)
    world.processor.become("re_1", "failed")
    world.work_for(600)
    refund = world.refund(refund_id)
    assert (refund.status, [leg.payment_id for leg in refund.legs]) == (RefundStatus.SUCCEEDED, ["pay2", "pay1"])
