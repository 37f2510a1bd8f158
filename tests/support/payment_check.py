"""Helpers for tests of the payment check: the processor's record of a payment, and the stopped refund."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.views import payment_objects
from tests.support.engine_world import WORD, World

TO_BE_DECIDED = (Action.RETRY, Action.RESOLVE)
HOUR = 3_600.0


def says(world: World, number: int = 1, **changes: Any) -> None:
    """Set the processor's record of the payment to `WORD` with `changes`."""
    world.processor.payments[f"ch_{number}"] = replace(WORD, **changes)


def paid_in(world: World, number: int = 1, **changes: Any) -> None:
    """Record a payment here, with the same amount and currency at the processor."""
    record = world.pay(number, **changes)
    says(world, number, captured_minor=record.amount_minor, currency=record.currency)


def shown(world: World, payment_id: str = "pay1") -> Any:
    """Return the payment as the API shows it."""
    with world.database.read() as connection:
        return payment_objects.payment(connection, world.context, payment_id)


def stopped(world: World, refund_id: str, code: str) -> str:
    """Check that the refund waits for a person because of its payment, and return its failure message.

    There must be one alarm with `code`, and no send.
    """
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, code)
    assert available_actions(refund) == TO_BE_DECIDED
    assert world.events(refund_id).count(code) == 1
    assert world.processor.sends == []
    assert refund.failure_message is not None
    return refund.failure_message
