"""The database clock moves back by a day: no refund waits for a day, and none is paid twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from tests.support.engine_world import Died, World
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import Denied, SearchReply
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.engine.jobs.clock_rollback import handle_clock_rollback
from refund_worker.engine.processor_sync import pause
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.engine.refunds.circuit import denials, open_circuits
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.refunds.send_gate import stale_processors
from refund_worker.settings import Settings
from refund_worker.store import processors
from refund_worker.worker.scheduler import jobs_of

DAY = 86_400.0


def test_dead_workers_refund_is_looked_up_after_clock_rollback(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_and_dies")
    refund_id = world.withdraw(60)
    with pytest.raises(Died):
        process_due(world.context)
    world.pass_time(-DAY)
    world.processor.forget_keys()
    assert world.work() == 0, "its lease lies a day ahead"
    assert handle_clock_rollback(world.context) == 1
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == len(world.processor.objects) == 1
    assert "clock_went_back" in world.events(refund_id)


def test_unanswered_send_is_not_repeated_after_clock_rollback(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw(60)
    world.work()
    assert world.refund(refund_id).legs[0].status is LegStatus.UNKNOWN
    world.pass_time(-DAY)
    world.processor.forget_keys()
    handle_clock_rollback(world.context)
    world.work_for(DAY + 600)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 1


def test_worker_whose_lease_rollback_ended_writes_nothing(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)

    def set_back() -> None:
        world.pass_time(-DAY)
        assert handle_clock_rollback(world.context) == 1

    world.processor.while_sending = set_back
    process_due(world.context)
    assert world.refund(refund_id).legs[0].status is LegStatus.SENDING
    world.processor.while_sending = lambda: None
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 1


def test_an_answer_that_came_before_anybody_noticed_is_taken(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    world.processor.while_sending = lambda: world.pass_time(-DAY)
    process_due(world.context)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_program_s_pause_ends_and_a_persons_stays(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", Denied("authentication_error", "bad key"))
    refund_id = world.withdraw(60)
    world.work()
    pause.pause_processor(world.context, "manual", actor="otto", reason="audit")
    world.pass_time(-DAY)
    handle_clock_rollback(world.context)
    with world.database.read() as connection:
        assert processors.paused_processors(connection, world.now) == {"manual": None}
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_renewed_pause_of_the_program_ends_too(world: World) -> None:
    """It began before the time to which the clock goes back."""
    began = world.now
    while world.now < began + DAY:
        with world.database.write() as connection:
            open_circuits(connection, denials([("stripe", Denied("http_401", "bad key"))]), world.now)
        world.pass_time(200)
    world.pay()
    world.withdraw(20)
    world.now = began + 10
    handle_clock_rollback(world.context)
    with world.database.read() as connection:
        assert processors.paused_processors(connection, world.now) == {}


def refuse_the_key(world: World) -> None:
    with world.database.write() as connection:
        open_circuits(connection, denials([("stripe", Denied("http_401", "bad key"))]), world.now)


def test_circuit_that_no_refund_waits_for_ends_too(world: World) -> None:
    """A refused list opens it. No refund is written meanwhile."""
    refuse_the_key(world)
    world.pass_time(-DAY)
    handle_clock_rollback(world.context)
    with world.database.read() as connection:
        assert processors.paused_processors(connection, world.now) == {}
    assert handle_clock_rollback(world.context) == 0


def test_circuit_of_these_minutes_stays_open(world: World) -> None:
    world.pay()
    world.withdraw(20)
    world.pass_time(-DAY)
    refuse_the_key(world)
    assert handle_clock_rollback(world.context) == 1
    with world.database.read() as connection:
        assert processors.paused_processors(connection, world.now) == {"stripe": world.now + 300}


def test_refused_key_alarms_although_the_last_alarm_is_in_the_future(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_the_key(world)
    world.pass_time(-10 * DAY)
    handle_clock_rollback(world.context)
    caplog.clear()
    refuse_the_key(world)
    refuse_the_key(world)
    assert [record.alarm for record in caplog.records if hasattr(record, "alarm")] == ["sending_stopped"]


class DatedLists(ScriptedProcessor):
    """A processor that keeps the times since which its refunds were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.since: list[float] = []

    async def recent(self, created_gte: datetime) -> SearchReply:
        """List, and keep the time."""
        self.since.append(created_gte.timestamp())
        return await super().recent(created_gte)


def test_list_in_the_future_is_stale_and_the_next_covers_all(world: World) -> None:
    """Its age is unknown: the database may be a backup on a machine with a wrong clock."""
    processor = DatedLists()
    context = replace(world.context, processors={"stripe": processor})
    sync_recent(context, "stripe")
    world.pass_time(-DAY)
    with world.database.read() as connection:
        assert stale_processors(connection, context, world.now) == {"stripe"}
    sync_recent(context, "stripe")
    assert processor.since[-1] <= world.now - 30 * DAY
    with world.database.read() as connection:
        assert stale_processors(connection, context, world.now) == frozenset()


def test_while_the_clock_goes_on_nobody_is_woken(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw(60)
    world.work()
    version = world.refund(refund_id).version
    assert handle_clock_rollback(world.context) == 0
    world.pass_time(DAY)
    assert handle_clock_rollback(world.context) == 0
    assert world.refund(refund_id).version == version


def test_the_scheduler_heeds_the_clock_from_its_start() -> None:
    assert [job.at_once for job in jobs_of(Settings()) if job.work is handle_clock_rollback] == [True]
