"""A refund that causes an internal error: it alone is quarantined and shown to a person, whatever the error is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.support.engine_world import POLICY, START, ScriptedProcessor, World

from refund_worker.domain.processor_replies import Answered, RefundObject, Reply
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.engine.processor_sync.sync import sync_all, sync_recent
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.refunds.quarantine import SYSTEMIC_FAILURES_MIN
from refund_worker.engine.refunds.send_gate import stale_seconds
from refund_worker.store import inbox, processors
from refund_worker.store.tables import legs, refunds

UNSTORABLE = "declined \ud800"  # half a character: no database can store it
HOUR = 3_600


class Garbling(ScriptedProcessor):
    """A processor that returns text that cannot be stored for the objects in `garbled`.

    Our adapters never return such text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.garbled: set[str] = set()

    def said(self, refund_object: RefundObject) -> RefundObject:
        """Return the object, with an unstorable failure code if it is in `garbled`."""
        return (
            replace(refund_object, failure_code=UNSTORABLE)
            if refund_object.processor_refund_id in self.garbled
            else refund_object
        )

    async def send(self, key: str, body: str) -> Reply:
        """Send, and return the reply with the object as `said` gives it."""
        reply = await super().send(key, body)
        return replace(reply, object=self.said(reply.object)) if isinstance(reply, Answered) else reply

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return the object as `said` gives it."""
        return Answered(self.said(self.objects[processor_refund_id]))


@pytest.fixture
def garbling(world: World) -> Garbling:
    """Return the processor of a world with two payments; the refund of the older payment becomes re_1."""
    world.processor = Garbling()
    world.context = replace(
        world.context, processors={"stripe": world.processor}, policy=replace(POLICY, retry_max_seconds=HOUR)
    )
    for number in (1, 2):
        world.pay(number)
    return world.processor


def two_withdrawals(world: World) -> tuple[str, str]:
    """Request two withdrawals, one second apart, and return their ids."""
    first = world.withdraw(key="k1")
    world.pass_time(1)
    return first, world.withdraw(key="k2")


def test_unstorable_answer_loses_no_answer_of_other_refunds(world: World, garbling: Garbling) -> None:
    broken, sound = two_withdrawals(world)
    garbling.garbled = {"re_1"}
    assert process_due(world.context) == 2
    assert world.refund(sound).status is RefundStatus.SUCCEEDED
    assert world.refund(broken).status is RefundStatus.SENDING
    assert world.events(broken).count("internal_error") == 1
    assert world.refund(broken).failure_code == "internal_error"

    sends = len(garbling.sends)
    world.work_for(HOUR - 1)
    assert len(garbling.sends) == sends, "it is looked at again only after the longest wait"
    garbling.garbled = set()
    world.work_for(2 * HOUR)
    assert world.refund(broken).status is RefundStatus.SUCCEEDED
    assert garbling.paid_minor() == 2_000


def test_a_row_that_can_not_be_read_holds_up_no_other(world: World, garbling: Garbling) -> None:
    broken, sound = two_withdrawals(world)
    with world.database.write() as connection:
        connection.execute(update(legs).where(legs.c.refund_id == broken).values(status="of a later version"))
    assert process_due(world.context) == 2
    assert world.refund(sound).status is RefundStatus.SUCCEEDED
    assert process_due(world.context) == 0, "it is not tried again at once"
    assert world.events(broken).count("internal_error") == 1
    with world.database.write() as connection:
        connection.execute(update(legs).where(legs.c.refund_id == broken).values(status="planned"))
    world.work_for(2 * HOUR)
    assert world.refund(broken).status is RefundStatus.SUCCEEDED
    assert garbling.paid_minor() == 2_000


def test_unstorable_object_in_a_listing_holds_up_nothing_else(world: World, garbling: Garbling) -> None:
    broken, failed = two_withdrawals(world)
    sync_recent(world.context, "stripe")
    world.work()
    world.pass_time(stale_seconds(world.context.policy) + 1)
    for name in ("re_1", "re_2"):
        garbling.become(name, "failed")
    kept = garbling.objects["re_1"]
    garbling.objects["re_1"] = replace(kept, failure_code=UNSTORABLE)
    for _ in range(10):  # a listing every minute
        sync_recent(world.context, "stripe")
        world.pass_time(60)
    world.work()
    assert world.refund(failed).status is RefundStatus.FAILED
    assert world.refund(broken).status is RefundStatus.SUCCEEDED, "nothing is known of it yet"
    assert world.refund(broken).failure_code is None
    assert world.events(broken).count("internal_error") == 1, "a person is told once, not at every look"
    with world.database.read() as connection:
        listed_at, _ = processors.last_listing(connection, "stripe")
    assert listed_at is not None
    assert listed_at > world.now - 100

    world.pass_time(HOUR)
    sync_recent(world.context, "stripe")
    assert world.events(broken).count("internal_error") == 2, "and again while it lasts"
    garbling.objects["re_1"] = kept
    sync_recent(world.context, "stripe")
    world.work()
    assert world.refund(broken).status is RefundStatus.FAILED


def test_webhook_event_with_unstorable_answer_holds_up_no_other(world: World, garbling: Garbling) -> None:
    broken, failed = two_withdrawals(world)
    world.work()
    for name in ("re_1", "re_2"):
        garbling.become(name, "failed")
        body = json.dumps({"data": {"object": {"object": "refund", "id": name, "metadata": {}}}})
        with world.database.write() as connection:
            inbox.insert_event(connection, "stripe", f"evt_{name}", "refund.failed", body, world.now)
    garbling.garbled = {"re_1"}
    assert webhook_inbox.process_inbox(world.context) == 1
    world.work()
    assert world.refund(failed).status is RefundStatus.FAILED
    assert world.refund(broken).status is RefundStatus.SUCCEEDED
    garbling.garbled = set()
    for _ in range(HOUR):
        world.pass_time(1)
        if webhook_inbox.process_inbox(world.context):
            break
    world.work()
    assert world.refund(broken).status is RefundStatus.FAILED
    assert world.now < START + HOUR


def test_unstorable_object_in_full_sync_delays_no_other_leg(world: World, garbling: Garbling) -> None:
    """The first payment is refunded and the answer for the second is missing. Every full sync fails on the first."""
    garbling.script("ch_1", "timeout")
    refund_id = world.withdraw(150)
    process_due(world.context)
    paid = garbling.objects["re_1"]
    garbling.objects["re_1"] = replace(paid, status="failed", failure_code=UNSTORABLE)
    for _ in range(20):  # more rounds than the longest wait allows
        sync_all(world.context, "stripe")
        world.work_for(HOUR / 5)
    assert len({json.loads(body)["processor_payment_id"] for _, body in garbling.sends}) == 2
    assert len(garbling.sends) > 2, "the other leg is sent again"
    assert world.refund(refund_id).due_at is None
    assert 3 <= world.events(refund_id).count("internal_error") <= 5, "once an hour"


def test_where_nothing_at_all_goes_through_nobody_is_put_aside(world: World, garbling: Garbling) -> None:
    refund_ids = [world.withdraw(1, f"k{number}") for number in range(SYSTEMIC_FAILURES_MIN)]
    garbling.garbled = {f"re_{number + 1}" for number in range(SYSTEMIC_FAILURES_MIN)}
    with pytest.raises(UnicodeError):
        process_due(world.context)
    assert [world.events(refund_id).count("internal_error") for refund_id in refund_ids] == [0] * SYSTEMIC_FAILURES_MIN
    garbling.garbled = set()
    world.work_for(HOUR / 2)
    assert {world.refund(refund_id).status for refund_id in refund_ids} == {RefundStatus.SUCCEEDED}
    assert len(garbling.objects) == SYSTEMIC_FAILURES_MIN


def test_a_refund_that_another_worker_holds_meanwhile_is_left_to_it(world: World, garbling: Garbling) -> None:
    """A worker frozen past its lease fails on an answer. The current holder of the refund is not interrupted."""
    refund_id = world.withdraw()

    def meanwhile() -> None:
        garbling.while_sending = lambda: None
        world.pass_time(world.context.policy.lease_seconds + 1)
        with world.database.write() as connection:
            held = {"lease_token": "another's", "lease_until": world.now + 60}
            connection.execute(update(refunds).where(refunds.c.refund_id == refund_id).values(**held))
            connection.execute(update(legs).where(legs.c.refund_id == refund_id).values(status="of a later version"))

    garbling.while_sending = meanwhile
    process_due(world.context)
    with world.database.read() as connection:
        row = connection.execute(select(refunds).where(refunds.c.refund_id == refund_id)).mappings().one()
    assert (row["lease_token"], row["failure_code"]) == ("another's", None)
    with world.database.write() as connection:
        connection.execute(update(legs).where(legs.c.refund_id == refund_id).values(status="sending"))
