"""A question to the processor about one payout: it records what is there, and sends nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.payout_world import PayoutWorld
from tests.support.scripted_route import ScriptedRoute

from refund_worker.domain.payouts.payout import Payout
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.context import NoLimit
from refund_worker.engine.processor_sync.sync_payout import sync_payout
from refund_worker.engine.processor_sync.sync_refund import Access
from refund_worker.errors import NotFound, ProcessorUnavailable

Make = Callable[..., PayoutWorld]


def ask(world: PayoutWorld, payout_id: str, **options: str) -> Payout:
    routes: dict[str, ScriptedRoute] = {"stripe": world.route}
    return sync_payout(world.context, Access(dict, NoLimit, lambda: routes), payout_id, **options)  # type: ignore[arg-type]


def test_new_state_is_recorded_at_once(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    assert ask(world, payout_id).status == "paid"
    assert world.route.sends() == [f"{payout_id}-1:1"]


def test_settled_payout_that_came_back_is_found(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    ask(world, payout_id)
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    assert ask(world, payout_id).status == "returned"
    assert world.balance().payable_minor == 5_000


def test_lost_answer_is_found_without_sending_again(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["error"]
    payout_id = world.ask()
    world.step()
    assert world.payout(payout_id).legs[0].status == "unknown"
    assert ask(world, payout_id).status == "pending"
    assert len(world.route.sends()) == 1


def test_unsent_payout_asks_nothing(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    assert ask(world, payout_id).status == "queued"
    assert world.route.calls == []


def test_silent_processor_changes_nothing(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    world.route.down = True
    with pytest.raises(ProcessorUnavailable):
        ask(world, payout_id)
    assert world.payout(payout_id).status == "pending"


def test_another_clients_payout_is_not_found(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    with pytest.raises(NotFound):
        ask(world, payout_id, client="other")
