"""The sums for the charts equal the timelines: each event counts once, also with several counters or crashes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.engine_world import START, Died, World, withdrawal

from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered
from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.engine.jobs.daily_stats import (
    ASKED,
    BY_STATUS,
    FOUND,
    LATE,
    OLDEST,
    PAID,
    PAID_LATER_LOST,
    SENT_AGAIN,
    TO_ACCEPTED,
    TO_CONFIRMED,
    count_daily_stats,
    percentile,
)
from refund_worker.engine.refunds.accept import DryRun, request_refunds
from refund_worker.engine.refunds.replies import write_replies
from refund_worker.store.reporting import daily_stats
from refund_worker.times import day_of

TODAY = day_of(START)


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with one payment."""
    made = World(migrated_url)
    made.pay()
    yield made
    made.close()


def count(world: World) -> int:
    """Seal the events, add them to the daily sums, and return how many were counted."""
    sealer = Sealer()
    sealer.seal(world.context)  # on Postgres the first run only marks how far to go
    sealer.seal(world.context)
    return count_daily_stats(world.context)


def sums(world: World, *names: str) -> dict[tuple[str, int, str], int]:
    """Return the non-zero daily sums of these names."""
    with world.database.read() as connection:
        return {slot: value for slot, value in daily_stats.tallied(connection, names, 0).items() if value}


def test_refunds_are_counted_by_request_day_and_current_status(world: World) -> None:
    world.withdraw(10, "one")
    count(world)
    assert sums(world, BY_STATUS, ASKED) == {(BY_STATUS, TODAY, "queued"): 1, (ASKED, TODAY, "USD"): 100}
    world.pass_time(86_400)
    world.work()
    count(world)
    assert sums(world, BY_STATUS) == {(BY_STATUS, TODAY, "succeeded"): 1}, "by the day it was asked for"
    assert sums(world, PAID) == {(PAID, TODAY + 86_400, "USD"): 100}, "by the day the processor said so"


def test_crash_while_counting_neither_loses_nor_doubles_counts(world: World) -> None:
    world.withdraw(10, "one")
    world.work()
    sealer = Sealer()
    sealer.seal(world.context)
    sealer.seal(world.context)
    world.database.dies_before = 1
    with pytest.raises(Died):
        count_daily_stats(world.context)
    assert sums(world, BY_STATUS) == {}
    world.database.dies_after = 1
    with pytest.raises(Died):
        count_daily_stats(world.context)
    for _ in range(3):
        count(world)
    assert sums(world, BY_STATUS, PAID) == {(BY_STATUS, TODAY, "succeeded"): 1, (PAID, TODAY, "USD"): 100}


def test_a_line_that_is_not_sealed_yet_waits(world: World) -> None:
    """On Postgres an event with a lower number may still be committed."""
    world.withdraw(10, "one")
    assert count_daily_stats(world.context) == 0
    assert sums(world, BY_STATUS) == {}


def test_time_is_counted_from_request_to_first_and_final_status(world: World) -> None:
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw(10, "one")
    world.pass_time(5)
    world.work()
    world.pass_time(600)
    object_id = world.refund(refund_id).legs[0].processor_refund_id
    hear(world, refund_id, object_id, "succeeded")
    count(world)
    assert _seconds(world, TO_ACCEPTED) == pytest.approx(5, rel=0.1)
    assert _seconds(world, TO_CONFIRMED) == pytest.approx(605, rel=0.1)


def test_unanswered_send_that_paid_counts_as_prevented_duplicate(world: World) -> None:
    world.processor.script("ch_1", "pays_silently")
    world.withdraw(10, "one")
    world.work_for(100)
    count(world)
    prevented = sums(world, FOUND, SENT_AGAIN)
    assert sum(prevented.values()) == 1
    assert world.processor.paid_minor() == 100


def test_a_failure_after_success_is_late_and_its_money_is_told(world: World) -> None:
    refund_id = world.withdraw(10, "one")
    world.work()
    hear(world, refund_id, world.refund(refund_id).legs[0].processor_refund_id, "failed")
    count(world)
    assert sums(world, LATE, PAID_LATER_LOST) == {(LATE, TODAY, ""): 1, (PAID_LATER_LOST, TODAY, "USD"): 100}


def test_a_request_that_comes_again_is_counted_and_a_dry_run_is_not(world: World) -> None:
    for _ in range(3):
        world.withdraw(10, "one")
    request_refunds(world.context, [withdrawal(10, "one"), withdrawal(10, "one")])
    with world.database.read() as connection:
        DryRun().accept_requests(connection, world.context, [withdrawal(10, "one")])
        assert daily_stats.repeats_by_day(connection, 0) == {TODAY: 4}


def test_the_age_of_the_oldest_is_kept_at_its_highest_in_each_hour(world: World) -> None:
    world.withdraw(10, "one")
    for seconds in (60, 900):
        world.pass_time(seconds)
        count(world)
    world.work()
    count(world)
    hour = int(START // 3600) * 3600
    assert sums(world, OLDEST) == {(OLDEST, hour, ""): 960}


def test_a_percentile_is_right_to_within_a_tenth_and_nothing_has_none() -> None:
    assert percentile({}, 0.5) is None
    steps = {"10": 98, "60": 2}
    assert percentile(steps, 0.5) == pytest.approx(1.1**10)
    assert percentile(steps, 0.98) == pytest.approx(1.1**10)
    assert percentile(steps, 0.99) == pytest.approx(1.1**60)


def hear(world: World, refund_id: str, object_id: str | None, status: str) -> None:
    """Change the object's status at the processor and apply the reply to the refund."""
    assert object_id is not None
    refund_object = world.processor.become(object_id, status)
    leg_id = world.refund(refund_id).legs[0].leg_id
    evidence = [RecordedReply(refund_id, leg_id, None, Answered(refund_object))]
    world.database.run(lambda connection: write_replies(connection, world.context, evidence))


def _seconds(world: World, name: str) -> float | None:
    return percentile({label: value for (_, _, label), value in sums(world, name).items()}, 0.5)
