"""`audit verify` names refunds that waited for a person or were cancelled, and that a direct edit sent anyway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text
from tests.engine.audit.test_hash_chain import findings, seal
from tests.engine.claims.claim_worlds import claims_of
from tests.engine.refunds.test_contradictions import made_lately
from tests.support.engine_world import START, World

from refund_worker.domain.decision import Event
from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.audit.hash_chain import Finding, verify
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.processor_sync.pause import resume_processor
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.store import timeline


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with two payments; refunds above 1.00 need the approval of a second person."""
    made = World(migrated_url, limits=Limits(approval_threshold_minor=100))
    made.pay()
    made.pay(2)
    yield made
    made.close()


def push(world: World, held: int = 50) -> None:
    """Edit the database so that the refunds are sent.

    The edit also holds the credits again that cancelling the refunds had released.
    """
    with world.database.write() as connection:
        connection.execute(text("UPDATE refunds SET status = 'queued', due_at = 0"))
        connection.execute(text("UPDATE legs SET status = 'planned', settled = false, next_at = 0"))
        connection.execute(text("UPDATE customers SET held = :held"), {"held": held})


def sends(world: World) -> list[int]:
    """Return the numbers of the events that record a send."""
    with world.database.read() as connection:
        return [*connection.execute(text("SELECT seq FROM events WHERE kind = 'leg_sent' ORDER BY seq")).scalars()]


@pytest.mark.parametrize(
    ("action", "status"),
    [(None, "awaiting_approval"), (Action.REJECT, "rejected"), (Action.CANCEL, "canceled")],
)
def test_what_nobody_let_go_and_went_out_is_named(world: World, action: Action | None, status: str) -> None:
    refund_id = world.withdraw(50)
    if action is not None:
        world.command(refund_id, action)
    seal(world)
    assert findings(world) == []
    push(world)
    world.work()
    assert world.processor.paid_minor() == 500, "that the money is gone is what this is about"
    assert findings(world) == [], "it is not sealed yet"
    seal(world)
    first, *_ = sends(world)
    assert Finding("events", first, first, f"sent while {status}: {refund_id}") in findings(world)


def test_an_approval_written_down_behind_the_send_does_not_cover_it(world: World) -> None:
    refund_id = world.withdraw(50)
    push(world)
    world.work()
    with world.database.write() as connection:
        approved = Event("refund_approved", "boss", from_status="awaiting_approval", to_status="queued")
        timeline.insert_events(connection, [(refund_id, approved)], START)
    seal(world)
    (seq,) = sends(world)
    assert findings(world) == [Finding("events", seq, seq, f"sent while awaiting_approval: {refund_id}")]


def test_another_refunds_approval_does_not_cover_it(world: World) -> None:
    let_go, refund_id = world.withdraw(50, "a"), world.withdraw(50, "b")
    world.command(let_go, Action.APPROVE)
    push(world, held=100)
    world.work()
    seal(world)
    assert [found.what for found in findings(world)] == [f"sent while awaiting_approval: {refund_id}"]


def test_send_for_a_linked_refund_that_was_never_approved_is_named(world: World) -> None:
    world.context = replace(world.context, policy=replace(world.context.policy, outside_since=0.0))
    row, _ = correct(
        world.context, customer_id="c", credits=-80, reason="by hand", client="x", idempotency_key="k", actor="op"
    )
    record_outside_refunds(world.context, "stripe", [world.refund_in_the_dashboard(300)])
    (claim,) = claims_of(world)
    link_outside_refund(
        world.context, claim["claim_id"], transaction_id=row["transaction_id"], actor="op", reason="the same"
    )
    seal(world)
    (linked,) = claims_of(world)
    assert findings(world) == []
    with world.database.write() as connection:
        sent = Event("leg_sent", "refund-worker", leg_id=f"{linked['refund_id']}-2", to_status="sending")
        timeline.insert_events(connection, [(linked["refund_id"], sent)], START)
    seal(world)
    assert [found.what for found in findings(world)] == [f"sent while unapproved: {linked['refund_id']}"]


def test_approved_retried_and_rerouted_sends_give_no_finding(world: World) -> None:
    world.processor.script("ch_2", Refused("charge_expired", "no"), Refused("charge_expired", "no"))
    small, large = world.withdraw(10, "small"), world.withdraw(50, "large")
    world.command(large, Action.APPROVE)
    world.command(world.withdraw(20, "no"), Action.REJECT)
    world.work()
    assert [world.refund(each).status for each in (small, large)] == [RefundStatus.SUCCEEDED] * 2
    assert len(sends(world)) >= 3
    seal(world)
    assert findings(world) == []


def test_refund_sent_before_backup_was_restored_is_no_finding(world: World) -> None:
    refund_id = world.withdraw(50)
    refund_object = made_lately(world, payment=world.refund(refund_id).legs[0].processor_payment_id)
    refund_object = replace(refund_object, leg_id=f"{refund_id}-1", amount_minor=500, status="pending")
    world.processor.objects[refund_object.processor_refund_id] = refund_object
    sync_all(world.context, "stripe")
    world.processor.become(refund_object.processor_refund_id, "failed")
    sync_all(world.context, "stripe")
    resume_processor(world.context, "stripe", actor="op", reason="looked at")
    world.work()
    assert len(sends(world)) == 1, "over the other payment"
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    seal(world)
    assert findings(world) == []


def test_among_the_latest_seals_only_their_own_sends_are_looked_at(world: World) -> None:
    refund_id = world.withdraw(50)
    push(world)
    world.work()
    seal(world)
    latest = verify(world.context, latest=10).findings
    assert [found.what for found in latest] == [f"sent while awaiting_approval: {refund_id}"]
    world.withdraw(1, "later")
    seal(world)
    assert verify(world.context, latest=1).whole
    assert not verify(world.context).whole
