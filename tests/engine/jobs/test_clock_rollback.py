"""The database clock moves back by a day: no refund waits for a day, and none is paid twice."""

from __future__ import annotations

import pytest
from tests.support.engine_world import Died, World

from refund_worker.domain.processor_replies import Denied
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.engine.jobs.clock_rollback import handle_clock_rollback
from refund_worker.engine.processor_sync import pause
from refund_worker.engine.refunds.circuit import denials, open_circuits
from refund_worker.engine.refunds.process import process_due
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
