"""A restored backup lacks the processor's latest refunds: no refund is paid twice, and a person is notified."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.engine_world import POLICY, ScriptedProcessor, World, assert_books_balance
from tests.support.reruns import rerun_at

from refund_worker.domain.processor_replies import Unanswered
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.sync import OVERLAP_SECONDS, RESTORED, RecentSync, sync_all, sync_recent
from refund_worker.engine.refunds.send_gate import stale_seconds
from refund_worker.errors import Unavailable
from refund_worker.store import processors

DAYS = 3 * 86_400
Restore = Callable[[], World]


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield an empty world whose processor was listed once."""
    made = World(migrated_url)
    sync_recent(made.context, "stripe")
    yield made
    made.close()


@pytest.fixture
def back_up(world: World, migrated_url: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], Restore]]:
    """Yield a function that backs up the database and returns `restore`.

    `restore()` opens the backup days later, when the processor no longer knows the idempotency keys.
    """
    opened: list[World] = []
    made: list[str] = []

    def copy(url: str) -> str:
        if world.database.is_sqlite:
            made.append(f"{url}-{len(made)}")
            shutil.copyfile(url.removeprefix("sqlite:///"), made[-1].removeprefix("sqlite:///"))
        else:
            made.append(request.getfixturevalue("postgres_server").copy(url))
        return made[-1]

    def keep() -> Restore:
        world.close()  # closing the last connection writes everything into the SQLite file; the next use opens it again
        kept = copy(migrated_url)

        def restore() -> World:
            again = World(copy(kept), processors={"stripe": world.processor})
            again.processor = world.processor
            again.processor._by_key.clear()
            again.now = world.now + DAYS
            opened.append(again)
            return again

        return restore

    yield keep
    for each in opened:
        each.close()
    if not world.database.is_sqlite:
        for url in made:
            request.getfixturevalue("postgres_server").drop(url)


def pause_of(world: World) -> dict[str, Any]:
    """Return the stored status of the only processor."""
    with world.database.read() as connection:
        (row,) = processors.status_of_processors(connection)
    return dict(row)


def test_refund_sent_after_backup_is_adopted_before_any_send(world: World, back_up: Callable[[], Restore]) -> None:
    world.pay()
    refund_id = world.withdraw(50)
    restore = back_up()
    world.work()
    assert world.processor.paid_minor() == 500

    restored = restore()
    sends = len(restored.processor.sends)
    # The workers run before the first listing.
    restored.work()
    assert len(restored.processor.sends) == sends
    assert sync_recent(restored.context, "stripe") == 0
    restored.work()

    assert len(restored.processor.sends) == sends
    assert restored.processor.paid_minor() == 500
    assert restored.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert pause_of(restored)["paused_by"] is None
    assert_books_balance(restored.database)


def test_alarm_of_a_restored_backup_comes_once_after_a_rerun(
    world: World, back_up: Callable[[], Restore], caplog: pytest.LogCaptureFixture
) -> None:
    world.pay()
    restore = back_up()
    world.withdraw(50, "k1")
    world.work()
    restored = restore()
    with rerun_at(restored.database, "INSERT INTO processors") as failed:
        assert sync_recent(restored.context, "stripe") == 1
    assert failed
    assert [record.alarm for record in caplog.records if hasattr(record, "alarm")] == [RESTORED]


def test_refund_unknown_to_backup_stops_sends_until_resumed(world: World, back_up: Callable[[], Restore]) -> None:
    world.pay()
    restore = back_up()
    forgotten = world.withdraw(50, "k1")
    world.work()

    restored = restore()
    # The caller repeats the request under the same key, which the restored database does not contain.
    again = restored.withdraw(50, "k1")
    assert again != forgotten
    assert sync_recent(restored.context, "stripe") == 1
    restored.work_for(POLICY.retry_max_seconds)
    assert restored.processor.paid_minor() == 500
    paused = pause_of(restored)
    assert (paused["code"], paused["paused_by"]) == (RESTORED, "refund-worker")
    assert f"{forgotten}-1" in paused["reason"]

    # The pause remains, and further listings raise no second alarm.
    since = paused["paused_at"]
    assert sync_recent(restored.context, "stripe") == 0
    assert pause_of(restored)["paused_at"] == since
    assert restored.refund(again).status is RefundStatus.QUEUED

    # A person decides about that payment: the new request may be the refund that was already paid.
    assert resume_processor(restored.context, "stripe")
    restored.work()
    assert restored.refund(again).failure_code == "refunded_elsewhere"
    assert restored.refund(again).legs[0].blocked_by == ("re_1",)
    restored.command(again, Action.RETRY)
    restored.work()
    assert restored.refund(again).status is RefundStatus.SUCCEEDED
    assert sync_recent(restored.context, "stripe") == 0
    assert pause_of(restored)["paused_by"] is None


def test_unknown_refunds_made_after_a_person_resumed_stop_it_again(
    world: World, back_up: Callable[[], Restore]
) -> None:
    world.pay()
    restore = back_up()
    world.withdraw(50, "k1")
    world.work()
    restored = restore()
    sync_recent(restored.context, "stripe")
    resume_processor(restored.context, "stripe")

    (refund_object,) = restored.processor.objects.values()
    newer = replace(
        refund_object,
        processor_refund_id="re_9",
        leg_id="rf_other-1",
        created_at=refund_object.created_at + timedelta(days=4),
    )
    restored.processor.objects["re_9"] = newer
    assert sync_recent(restored.context, "stripe") == 1
    assert pause_of(restored)["code"] == RESTORED


def test_unknown_refund_listed_late_stops_sends_at_full_listing(world: World, back_up: Callable[[], Restore]) -> None:
    world.pay()
    restore = back_up()
    world.withdraw(50, "k1")
    world.work()
    made = dict(world.processor.objects)
    restored = restore()
    restored.processor.objects.clear()  # the processor's list lags
    assert sync_recent(restored.context, "stripe") == 0
    restored.pass_time(2 * OVERLAP_SECONDS)
    restored.processor.objects.update(made)
    assert sync_all(restored.context, "stripe") == 0  # the list changes nothing for the refunds that are known here
    assert pause_of(restored)["code"] == RESTORED
    since = pause_of(restored)["paused_at"]
    sync_all(restored.context, "stripe")
    assert pause_of(restored)["paused_at"] == since, "a person is told once"


def test_full_listing_of_known_refunds_pauses_and_frees_no_sends(world: World) -> None:
    world.pay()
    world.withdraw(50)
    world.work()
    world.pass_time(stale_seconds(POLICY) + 1)
    sync_all(world.context, "stripe")
    assert pause_of(world)["paused_by"] is None
    later = world.withdraw(20, "k2")
    world.work()
    assert world.refund(later).status is RefundStatus.QUEUED, "only a look lets things go on"


def test_refunds_that_others_made_at_the_processor_stop_nothing(world: World) -> None:
    world.pay()
    world.withdraw(50)
    world.work()
    (refund_object,) = world.processor.objects.values()
    world.processor.objects["re_8"] = replace(refund_object, processor_refund_id="re_8", leg_id=None, attempt=None)
    assert sync_recent(world.context, "stripe") == 0
    assert pause_of(world)["paused_by"] is None


def test_timely_listing_allows_sends_and_late_one_requeues_them(world: World) -> None:
    world.pay()
    first = world.withdraw(20, "k1")
    world.pass_time(stale_seconds(POLICY) - 1)
    world.work()
    assert world.refund(first).status is RefundStatus.SUCCEEDED

    second = world.withdraw(20, "k2")
    world.pass_time(2)
    world.work()
    assert world.refund(second).status is RefundStatus.QUEUED
    sync_recent(world.context, "stripe")
    world.work()
    assert world.refund(second).status is RefundStatus.SUCCEEDED


class SlowList(ScriptedProcessor):
    """A processor whose list takes 10 s to read, while a worker does a round of work."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def recent(self, created_gte: Any) -> Any:
        """Let time pass and a worker work, then return the list."""
        self.world.pass_time(10)
        await asyncio.get_running_loop().run_in_executor(None, self.world.work)
        return await super().recent(created_gte)


def test_what_was_put_off_while_a_look_was_under_way_is_woken_by_it(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(20)
    world.pass_time(stale_seconds(POLICY) - 5)  # the last listing becomes stale while the next one runs
    sync_recent(replace(world.context, processors={"stripe": SlowList(world)}), "stripe")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_listing_is_immediate_if_sends_wait_and_else_periodic(world: World) -> None:
    seconds, lookout = [0.0], RecentSync()
    context = replace(world.context, monotonic=lambda: seconds[0])

    def looked() -> bool:
        world.pass_time(1)
        seconds[0] += 1
        lookout.sync_when_due(context, "stripe")
        with world.database.read() as connection:
            return processors.last_listing(connection, "stripe")[0] == world.now

    assert [looked() for _ in range(42)] == [at % 20 == 0 for at in range(42)], "a fifth of POLL_SECONDS"
    pause_processor(context, "stripe", actor="op", reason="fire")
    assert [looked() for _ in range(3)] == [False] * 3
    resume_processor(context, "stripe", actor="op")
    assert [looked() for _ in range(3)] == [True, False, False]


def test_unanswered_listing_is_not_retried_sooner_for_sends(world: World) -> None:
    seconds, lookout = [0.0], RecentSync()
    silent = replace(world.context, processors={"stripe": SilentList()}, monotonic=lambda: seconds[0])
    tried = []
    world.pass_time(stale_seconds(POLICY) + 1)
    for second in range(42):
        seconds[0] = float(second)
        try:
            lookout.sync_when_due(silent, "stripe")
        except Unavailable:
            tried.append(second)
    assert tried == [0, 20, 40]


def test_refund_postponed_while_listing_is_recorded_is_requeued(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(20)
    world.refund_in_the_dashboard(1, 2)
    world.pass_time(stale_seconds(POLICY) + 1)
    run, rounds = world.database.run, iter(range(100))

    def with_a_worker_in_between(work: Callable[..., Any]) -> Any:
        if next(rounds) == 1:  # round 0 queues the waiting refunds, round 1 marks outside refunds
            world.work()
        return run(work)

    world.database.run = with_a_worker_in_between  # type: ignore[method-assign]
    sync_recent(world.context, "stripe")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


class SilentList(ScriptedProcessor):
    """A processor that never answers a request for its list."""

    async def recent(self, created_gte: Any) -> Any:
        """Return that the request timed out."""
        return Unanswered("timeout")


def test_a_list_that_can_not_be_read_proves_nothing(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(20)
    world.pass_time(stale_seconds(POLICY) + 1)
    with pytest.raises(Unavailable):
        sync_recent(replace(world.context, processors={"stripe": SilentList()}), "stripe")
    world.work()
    assert world.processor.sends == []
    assert world.refund(refund_id).status is RefundStatus.QUEUED


def test_where_nobody_ever_looked_nothing_is_held_back(migrated_url: str) -> None:
    fresh = World(migrated_url)
    fresh.pay()
    refund_id = fresh.withdraw(20)
    fresh.pass_time(DAYS)
    fresh.work()
    assert fresh.refund(refund_id).status is RefundStatus.SUCCEEDED
    sync_recent(fresh.context, "stripe")
    fresh.pass_time(DAYS)
    later = fresh.withdraw(20, "k2")
    fresh.work()
    assert fresh.refund(later).status is RefundStatus.QUEUED
    fresh.close()


def test_refunds_of_other_installation_on_account_stop_nothing(world: World) -> None:
    world.pay()
    world.withdraw(50)
    world.work()
    (refund_object,) = world.processor.objects.values()
    stranger = replace(refund_object, processor_refund_id="re_7", leg_id="rf_other-1", installation="inst_other")
    world.processor.objects["re_7"] = stranger
    assert sync_recent(world.context, "stripe") == 0
    assert pause_of(world)["paused_by"] is None
