"""Limits in the database: kept over processes and brokers, not got round by splitting, and closed when they break."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis
from tests.support.world import World, assert_books_balance, withdrawal
from tests.web.client import settings_for

from refund_worker.domain.limits import Limits
from refund_worker.domain.refund import RefundRequest
from refund_worker.domain.workflow import Action
from refund_worker.engine.intake import request_refunds
from refund_worker.engine.operations import command
from refund_worker.errors import ActionNotAllowed, ExceedsRefundable, RefundWorkerError, VelocityExceeded
from refund_worker.store.refunds import Filters, find_ids
from refund_worker.worker.wake import make_wake


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    made = World(migrated_url)
    made.pay(amount_minor=10_000, credits=1_000)
    yield made
    made.close()


def limited(world: World, limits: Limits) -> World:
    world.context = replace(world.context, limits=limits)
    return world


def stored(world: World) -> int:
    with world.database.read() as connection:
        return len(find_ids(connection, Filters(customer_id="c")))


def test_velocity_is_counted_in_the_database_whoever_takes_the_next_request_in(world: World, migrated_url: str) -> None:
    limits = Limits(velocity_count=2)
    limited(world, limits)
    world.withdraw(1, "a")
    another_process = World(migrated_url, limits=limits)
    another_process.withdraw(1, "b")
    for asked in (world, another_process):
        with pytest.raises(VelocityExceeded):
            asked.withdraw(1, "c")
    another_process.close()
    assert stored(world) == 2
    world.pass_time(limits.window_seconds + 1)
    world.withdraw(1, "c")
    assert stored(world) == 3


RACERS, PASS = 12, 4


def at_once(world: World, requests: Sequence[RefundRequest]) -> list[str]:
    """The kinds of the answers to requests that are all made at the same moment, each in a transaction of its own."""
    barrier = threading.Barrier(len(requests))

    def ask(request: RefundRequest) -> str:
        barrier.wait(30)
        (answer,) = request_refunds(world.context, [request])
        return type(answer).__name__

    with ThreadPoolExecutor(len(requests)) as pool:
        return sorted(pool.map(ask, requests))


@pytest.mark.parametrize("limits", [Limits(velocity_count=PASS), Limits(velocity_amount_minor=PASS * 100)])
@pytest.mark.parametrize("whose", ["actor", "customer"])
def test_of_many_at_the_same_moment_exactly_as_many_pass_as_the_limit_allows(
    world: World, limits: Limits, whose: str
) -> None:
    """An actor's requests for many customers meet in no row; a customer's, over one payment, come from many actors."""
    limited(world, limits)
    for number in range(RACERS):
        world.pay(10 + number, customer_id=f"c{number}", amount_minor=1_000, credits=100)
    one_actor = [withdrawal(10, f"k{n}", customer_id=f"c{n}", actor="anna") for n in range(RACERS)]
    one_customer = [withdrawal(10, f"k{n}", actor=f"anna-{n}") for n in range(RACERS)]
    answers = at_once(world, one_actor if whose == "actor" else one_customer)
    assert answers == ["Taken"] * PASS + ["VelocityExceeded"] * (RACERS - PASS)


def test_velocity_is_held_across_a_wiped_broker(world: World, redis_url: str) -> None:
    settings = settings_for(world.database.url.render_as_string(hide_password=False), BROKER_URL=redis_url)
    world.context = replace(world.context, limits=Limits(velocity_count=2), wake=make_wake(settings))
    world.withdraw(1, "a")
    world.withdraw(1, "b")
    with redis.from_url(redis_url, socket_timeout=5) as broker:
        assert broker.dbsize() > 0, "the requests did not go by way of this broker"
        broker.flushall()
    with pytest.raises(VelocityExceeded):
        world.withdraw(1, "c")
    assert stored(world) == 2


@pytest.mark.parametrize("limits", [Limits(velocity_count=2), Limits(velocity_amount_minor=20)])
def test_who_is_refused_hears_when_the_oldest_leaves_the_window_and_is_accepted_then(
    world: World, limits: Limits
) -> None:
    limited(world, limits)
    world.withdraw(1, "a")
    world.pass_time(1_000)
    world.withdraw(1, "b")
    world.pass_time(500)
    with pytest.raises(VelocityExceeded) as refused:
        world.withdraw(1, "c")
    assert refused.value.retry_after_seconds == 86_400 - 1_500
    world.pass_time(refused.value.retry_after_seconds - 1)
    with pytest.raises(VelocityExceeded) as refused:
        world.withdraw(1, "c")
    assert refused.value.retry_after_seconds == 1
    world.pass_time(2)
    assert world.withdraw(1, "c")


def test_splitting_does_not_get_round_the_threshold_and_nothing_of_it_is_sent(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=1_000))
    first, second = world.withdraw(100, "a"), world.withdraw(1, "b")
    world.work()
    assert world.refund(first).status == "succeeded"
    assert world.refund(second).status == "awaiting_approval"
    assert world.processor.paid_minor() == 1_000


def test_what_waits_for_approval_is_reserved_like_everything_else(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=1_000))
    refund_id = world.withdraw(800, "a")
    assert world.refund(refund_id).status == "awaiting_approval"
    assert world.account.held == 800
    with pytest.raises(ExceedsRefundable):
        world.withdraw(201, "b")
    assert_books_balance(world.database)
    command(world.context, refund_id, Action.APPROVE, actor="boss", reason="fine")
    world.work()
    assert world.processor.paid_minor() == 8_000


def test_two_approvals_at_once_count_once(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=10))
    refund_id = world.withdraw(100)
    outcomes: list[str] = []

    def approve(name: str) -> None:
        try:
            command(world.context, refund_id, Action.APPROVE, actor=name, reason="fine")
            outcomes.append("approved")
        except RefundWorkerError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=approve, args=[f"boss-{n}"]) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == sorted(["approved", ActionNotAllowed.code])
    assert world.events(refund_id).count("approved") <= 1
    world.work()
    assert world.processor.paid_minor() == 1_000


def test_a_limit_that_breaks_lets_nothing_through(world: World) -> None:
    broken = Limits(velocity_count=1, window_seconds="a day")  # type: ignore[arg-type]
    limited(world, broken)
    with pytest.raises(TypeError):
        world.request(withdrawal(10))
    assert stored(world) == 0
    assert world.account.held == 0
