"""A fault in our set-up fails no refund, and an empty balance ends none: the real engine, the real adapter, a sandbox.

The cases are `faults/refunds.md` 2, 9 and 14: before, each of these refunds ended `failed` with its credits back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.engine_world import World, withdrawal

from refund_worker.domain.decision_builder import BLOCKED_TRIES
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.processor_sync.pause import resume_processor
from refund_worker.engine.refunds.replies import write_replies
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.adapter import StripeProcessor
from refund_worker.store.processors import status_of_processors
from refund_worker.store.tables import events

PEOPLE = ("cus1", "cus2", "cus3")
UNKNOWN_PARAMETER = {
    "status": 400,
    "code": "parameter_unknown",
    "message": "Received unknown parameter: idempotency_key",
    "param": "idempotency_key",
    "type": "invalid_request_error",
}
CHARGED_BACK = {"status": 400, "message": "Charge has been charged back; cannot issue a refund."}


class Deployment:
    """A world whose processor is the Stripe adapter, connected to a sandbox."""

    def __init__(self, world: World, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.loop = asyncio.new_event_loop()
        self.adapter = StripeProcessor("sk_test_refusals", base=sandbox.url, timeout_seconds=20)
        self.world = world
        world.context = replace(world.context, processors={"stripe": self.adapter}, run=self.loop.run_until_complete)

    def close(self) -> None:
        """Close the adapter and its event loop."""
        self.loop.run_until_complete(self.adapter.close())
        self.loop.close()

    def pay(self, number: int, customer_id: str) -> None:
        """Record a payment of 1,000 minor units here and at the sandbox."""
        self.world.pay(number, customer_id=customer_id)
        self.sandbox.register_payment(f"ch_{number}", 1_000, currency="usd")

    def withdraw(self, customer_id: str, credits: int = 100, key: str = "k") -> str:
        """Request a withdrawal and return the refund's id."""
        return self.world.request(withdrawal(credits, f"{key}-{customer_id}", customer_id=customer_id)).refund_id

    def break_with(self, refuse: Any) -> None:
        """Make the sandbox refuse every create request with `refuse`."""
        self.sandbox.add_fault({"refuse": refuse}, match={"path_kind": "create"}, times=None)

    def amounts(self) -> list[int]:
        """Return the amounts of the refunds at the sandbox that are not failed or canceled, in minor units."""
        return [each["amount"] for each in self.sandbox.refunds() if each["status"] not in ("failed", "canceled")]

    def alarms(self) -> list[str]:
        """Return the kinds of all events that are alarms."""
        with self.world.database.read() as connection:
            return list(connection.execute(select(events.c.kind).where(events.c.alarm)).scalars())

    def stopped_by(self) -> str | None:
        """Return the code of the pause of "stripe", or None without such a code."""
        with self.world.database.read() as connection:
            rows = {row["name"]: row for row in status_of_processors(connection)}
        return rows["stripe"]["code"] if "stripe" in rows else None


@pytest.fixture
def deployment(world: World) -> Iterator[Deployment]:
    """Yield a deployment with a running sandbox."""
    with Sandbox() as sandbox:
        made = Deployment(world, sandbox)
        yield made
        made.close()


def test_unknown_parameter_pauses_with_one_alarm_until_fixed(
    deployment: Deployment,
) -> None:
    world = deployment.world
    for number, customer in enumerate(PEOPLE):
        deployment.pay(2 * number, customer)
        deployment.pay(2 * number + 1, customer)
    deployment.break_with(UNKNOWN_PARAMETER)
    refunds = [deployment.withdraw(customer) for customer in PEOPLE]
    world.work_for(1_000)
    seen = [world.refund(refund_id) for refund_id in refunds]
    assert {refund.status for refund in seen} == {RefundStatus.SENDING}, "nothing failed"
    assert [len(refund.legs) for refund in seen] == [1, 1, 1], "and no other payment is tried"
    assert deployment.stopped_by() == "parameter_unknown"
    assert deployment.alarms() == ["processor_paused"]
    assert deployment.amounts() == []

    deployment.sandbox.clear_faults()
    assert resume_processor(world.context, "stripe")
    world.work_for(1)
    assert {world.refund(refund_id).status for refund_id in refunds} == {RefundStatus.SUCCEEDED}
    assert deployment.amounts() == [1_000, 1_000, 1_000]


def test_lost_answer_before_unknown_parameter_is_paid_once(deployment: Deployment) -> None:
    world = deployment.world
    deployment.pay(1, "c")
    deployment.sandbox.add_fault({"reset": "after"}, match={"path_kind": "create", "nth": 1})
    deployment.break_with(UNKNOWN_PARAMETER)
    refund_id = deployment.withdraw("c")
    world.work_for(20_000)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert deployment.amounts() == [1_000]


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ({"status": 402, "code": "a_code_of_next_year", "message": "no"}, "a_code_of_next_year: no"),
        (CHARGED_BACK, f"invalid_request_error: {CHARGED_BACK['message']}"),
    ],
)
def test_unknown_refusal_needs_a_person_and_moves_nothing(
    deployment: Deployment, refuse: dict[str, Any], message: str
) -> None:
    world = deployment.world
    deployment.pay(1, "c")
    deployment.pay(2, "c")
    deployment.break_with(refuse)
    refund_id = deployment.withdraw("c")
    world.work_for(5_000)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "unknown_refusal")
    assert refund.failure_message == message
    assert {Action.RETRY, Action.RESOLVE} <= set(available_actions(refund))
    assert (len(refund.legs), world.account.balance, deployment.amounts()) == (1, 100, [])
    assert deployment.stopped_by() is None, "one record never stops the others"
    assert deployment.alarms() == ["leg_blocked"]

    deployment.sandbox.clear_faults()
    world.command(refund_id, Action.RETRY)
    world.work_for(10)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.refund(refund_id).legs[0].attempt == 2, "a new key: the old one would repeat the refusal"
    assert deployment.amounts() == [1_000]


def test_credits_after_unknown_refusal_return_only_by_a_person(deployment: Deployment) -> None:
    world = deployment.world
    deployment.pay(1, "c")
    deployment.break_with({"status": 400, "code": "a_code_of_next_year"})
    refund_id = deployment.withdraw("c")
    world.work_for(86_400)
    assert world.account.balance == 0
    world.command(refund_id, Action.RESOLVE)
    world.work_for(1)
    assert (world.refund(refund_id).status, world.account.balance) == (RefundStatus.FAILED, 100)


@pytest.mark.parametrize("by_a_person", [True, False])
@pytest.mark.parametrize("first", ["failed", "pending"])
def test_object_failed_for_funds_blocks_until_a_top_up(deployment: Deployment, first: str, by_a_person: bool) -> None:
    world = deployment.world
    deployment.pay(1, "c")
    deployment.pay(2, "c")
    steps = [{"status": first, **({"failure_reason": "insufficient_funds"} if first == "failed" else {})}]
    deployment.sandbox.add_fault({"lifecycle": steps}, match={"path_kind": "create"})
    refund_id = deployment.withdraw("c")
    world.work()
    if first == "pending":
        assert world.refund(refund_id).status is RefundStatus.PENDING
        (made,) = deployment.sandbox.refunds()
        deployment.sandbox.advance_refund(made["id"], "failed", "insufficient_funds")
        world.work_for(150)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "insufficient_funds")
    assert (len(refund.legs), world.account.balance, deployment.amounts()) == (1, 100, [])
    assert deployment.alarms() == ["leg_unfunded"]
    assert (refund.legs[0].status, refund.legs[0].attempts) == (LegStatus.BLOCKED, 1)
    assert {Action.RETRY, Action.RESOLVE} <= set(available_actions(refund))

    if by_a_person:
        world.command(refund_id, Action.RETRY)
    world.work_for(10 if by_a_person else 1_000)
    paid = world.refund(refund_id)
    assert (paid.status, paid.legs[0].attempt, paid.legs[0].attempts) == (RefundStatus.SUCCEEDED, 2, 2)
    assert deployment.amounts() == [1_000]


def test_balance_that_stays_empty_alarms_once_and_needs_a_person(
    deployment: Deployment,
) -> None:
    world = deployment.world
    deployment.pay(1, "c")
    steps = [{"status": "failed", "failure_reason": "insufficient_funds"}]
    deployment.sandbox.add_fault({"lifecycle": steps}, match={"path_kind": "create"}, times=None)
    refund_id = deployment.withdraw("c")
    world.work_for(200 * world.context.policy.retry_max_seconds)
    assert world.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert len(deployment.sandbox.refunds()) == BLOCKED_TRIES + 1
    assert deployment.alarms() == ["leg_unfunded"]


def test_succeeded_refund_failing_for_funds_is_a_late_failure(
    deployment: Deployment,
) -> None:
    world = deployment.world
    deployment.pay(1, "c")
    refund_id = deployment.withdraw("c")
    world.work()
    (made,) = deployment.sandbox.refunds()
    deployment.sandbox.advance_refund(made["id"], "failed", "insufficient_funds")
    leg = world.refund(refund_id).legs[0]
    told = deployment.loop.run_until_complete(deployment.adapter.fetch(made["id"]))
    evidence = [RecordedReply(refund_id, leg.leg_id, None, told)]
    world.database.run(lambda connection: write_replies(connection, world.context, evidence))
    world.work_for(1_000)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.FAILED, "insufficient_funds")
    assert (world.account.balance, deployment.amounts()) == (100, [])
