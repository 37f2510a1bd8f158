"""Limits in the database: shared by processes and brokers, effective against splitting, and closed on error."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import event
from tests.support.engine_world import World, assert_books_balance, withdrawal
from tests.web.client import settings_for

from refund_worker.domain.limits import Limits
from refund_worker.domain.refund import RefundRequest
from refund_worker.domain.state_machine import Action
from refund_worker.engine.intake.file_import import submit_requests, try_requests
from refund_worker.engine.intake.file_reader import read_refund_requests
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.refunds.approval_reasons import why_approval
from refund_worker.errors import ActionNotAllowed, ExceedsRefundable, RefundWorkerError, VelocityExceeded
from refund_worker.store.refunds import Filters, find_ids, load
from refund_worker.worker.publisher import make_publisher


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with one payment of 100.00 for 1,000 credits."""
    made = World(migrated_url)
    made.pay(amount_minor=10_000, credits=1_000)
    yield made
    made.close()


def limited(world: World, limits: Limits) -> World:
    """Set the limits of the world and return it."""
    world.context = replace(world.context, limits=limits)
    return world


def stored(world: World) -> int:
    """Return the number of refunds of customer "c"."""
    with world.database.read() as connection:
        return len(find_ids(connection, Filters(customer_id="c")))


def test_velocity_is_counted_in_the_database_for_all_processes(world: World, migrated_url: str) -> None:
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
    """Make all requests at once, each in its own transaction; return the sorted type names of the answers."""
    barrier = threading.Barrier(len(requests))

    def ask(request: RefundRequest) -> str:
        barrier.wait(30)
        (answer,) = request_refunds(world.context, [request])
        return type(answer).__name__

    with ThreadPoolExecutor(len(requests)) as pool:
        return sorted(pool.map(ask, requests))


@pytest.mark.parametrize("limits", [Limits(velocity_count=PASS), Limits(velocity_amount_minor=PASS * 100)])
@pytest.mark.parametrize("whose", ["actor", "customer"])
def test_simultaneous_requests_pass_exactly_up_to_the_limit(world: World, limits: Limits, whose: str) -> None:
    """One actor requests for many customers, which share no row; or many actors request for one customer."""
    limited(world, limits)
    for number in range(RACERS):
        world.pay(10 + number, customer_id=f"c{number}", amount_minor=1_000, credits=100)
    one_actor = [withdrawal(10, f"k{n}", customer_id=f"c{n}", actor="anna") for n in range(RACERS)]
    one_customer = [withdrawal(10, f"k{n}", actor=f"anna-{n}") for n in range(RACERS)]
    answers = at_once(world, one_actor if whose == "actor" else one_customer)
    assert answers == ["Accepted"] * PASS + ["VelocityExceeded"] * (RACERS - PASS)


def test_velocity_is_held_across_a_wiped_broker(world: World, redis_url: str) -> None:
    settings = settings_for(world.database.url.render_as_string(hide_password=False), BROKER_URL=redis_url)
    world.context = replace(world.context, limits=Limits(velocity_count=2), publish=make_publisher(settings))
    world.withdraw(1, "a")
    world.withdraw(1, "b")
    with redis.from_url(redis_url, socket_timeout=5) as broker:
        assert broker.dbsize() > 0, "the requests did not go by way of this broker"
        broker.flushall()
    with pytest.raises(VelocityExceeded):
        world.withdraw(1, "c")
    assert stored(world) == 2


@pytest.mark.parametrize("limits", [Limits(velocity_count=2), Limits(velocity_amount_minor=20)])
def test_velocity_refusal_says_when_a_request_is_accepted_again(world: World, limits: Limits) -> None:
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


def test_splitting_a_refund_does_not_avoid_approval_threshold(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=1_000))
    first, second = world.withdraw(100, "a"), world.withdraw(1, "b")
    world.work()
    assert world.refund(first).status == "succeeded"
    assert world.refund(second).status == "awaiting_approval"
    assert world.processor.paid_minor() == 1_000


def asked(world: World, key: str, credits: int, actor: str = "anna", **changes: Any) -> str:
    """Request a withdrawal and return its status, or the code of its refusal."""
    try:
        request = withdrawal(credits, key, actor=actor, **changes)
        return world.refund(world.request(request).refund_id).status
    except VelocityExceeded as refusal:
        return refusal.code


def test_several_payments_do_not_split_a_threshold(world: World) -> None:
    """Each refund uses another payment, and no payment's own total comes near the threshold."""
    limited(world, Limits(approval_threshold_minor=2_500))
    for number in (2, 3, 4):
        world.pay(number, amount_minor=1_000, credits=100)
    statuses = [asked(world, f"k{number}", 100) for number in range(3)]
    assert statuses == ["queued", "queued", "awaiting_approval"]


def test_the_legs_of_one_refund_are_added_up(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=2_500))
    for number in (2, 3, 4):
        world.pay(number, amount_minor=1_000, credits=100)
    over = world.refund(world.withdraw(251, "a"))
    assert (over.status, [leg.amount_minor for leg in over.legs]) == ("awaiting_approval", [1_000, 1_000, 510])


def test_charge_and_intent_of_one_payment_share_a_threshold(world: World) -> None:
    """The books do not show that both are one payment, so the total of the customer decides."""
    limited(world, Limits(approval_threshold_minor=1_500))
    world.pay(2, amount_minor=1_000, credits=100, processor_payment_id="ch_9")
    world.pay(3, amount_minor=1_000, credits=100, processor_payment_id="pi_9")
    assert [asked(world, "a", 100), asked(world, "b", 100)] == ["queued", "awaiting_approval"]
    with world.database.read() as connection:
        both = load(connection, find_ids(connection, Filters(customer_id="c")))
    assert sorted(leg.processor_payment_id for refund in both for leg in refund.legs) == ["ch_9", "pi_9"]


@pytest.mark.parametrize("limits", [Limits(velocity_count=1), Limits(velocity_amount_minor=500)], ids=["count", "sum"])
def test_what_a_person_took_back_counts_in_no_velocity_limit(world: World, limits: Limits) -> None:
    limited(world, limits)
    refund_id = world.withdraw(50, "a")
    with pytest.raises(VelocityExceeded):
        world.withdraw(50, "b")
    world.command(refund_id, Action.CANCEL)
    world.withdraw(50, "c")


@pytest.mark.parametrize("action", [Action.CANCEL, Action.REJECT])
def test_what_a_person_took_back_counts_in_no_approval_threshold(world: World, action: Action) -> None:
    limited(world, Limits(approval_threshold_minor=700))
    refund_id = world.withdraw(80, "a")
    assert world.refund(refund_id).status == "awaiting_approval"
    assert world.refund(world.withdraw(50, "b")).status == "awaiting_approval", "beside the first"
    for waiting in ("a", "b"):
        perform_action(
            world.context, world.withdraw(80 if waiting == "a" else 50, waiting), action, actor="op", reason="no"
        )
    assert world.refund(world.withdraw(60, "c")).status == "queued"


def test_another_currency_is_counted_for_itself(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=1_500))
    world.pay(2, amount_minor=1_000, credits=100, currency="EUR")
    assert asked(world, "a", 100, currency="EUR") == "queued"
    assert asked(world, "b", 150, currency="USD") == "queued"
    assert asked(world, "c", 1, currency="USD") == "awaiting_approval"


def test_keys_of_one_client_share_the_customers_velocity_limit(world: World) -> None:
    """Each key has its own limit. A customer has one limit for all keys."""
    limited(world, Limits(velocity_count=2))
    for number in (2, 3, 4):
        world.pay(number, customer_id=f"c{number}")
    keys = ("backend/a", "backend/b")
    assert [asked(world, "1", 1, keys[0]), asked(world, "2", 1, keys[1]), asked(world, "3", 1, keys[1])] == [
        "queued",
        "queued",
        "velocity_exceeded",
    ]
    assert asked(world, "4", 1, keys[0], customer_id="c2") == "queued"
    assert asked(world, "5", 1, keys[0], customer_id="c3") == "velocity_exceeded"
    assert asked(world, "6", 1, keys[1], customer_id="c3") == "queued"


def test_file_rows_count_for_the_submitter_not_the_requester(world: World, tmp_path: Path) -> None:
    limited(world, Limits(velocity_count=3))
    lines = ["idempotency_key,kind,to,customer_id,transaction_id,credits,reason,note,requested_by,requested_at"]
    for number in range(2, 7):
        world.pay(number, customer_id=f"c{number}")
        lines.append(f"k{number},withdrawal,source,c{number},,1,asked,,somebody-{number},")
    file = tmp_path / "requests.csv"
    file.write_text("\n".join(lines) + "\n")
    for round_trip in (try_requests, submit_requests):
        report = round_trip(world.context, read_refund_requests(file, client="cli", actor="cli:anna"))
        assert [(row.line, row.code) for row in report.rejected] == [(5, "velocity_exceeded"), (6, "velocity_exceeded")]
        assert report.accepted == 3


def test_what_waits_for_approval_is_reserved_like_everything_else(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=1_000))
    refund_id = world.withdraw(800, "a")
    assert world.refund(refund_id).status == "awaiting_approval"
    assert world.account.held == 800
    with pytest.raises(ExceedsRefundable):
        world.withdraw(201, "b")
    assert_books_balance(world.database)
    perform_action(world.context, refund_id, Action.APPROVE, actor="boss", reason="fine")
    world.work()
    assert world.processor.paid_minor() == 8_000


def test_batch_counts_what_waits_for_approval(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=1_000))
    first, second = request_refunds(world.context, [withdrawal(800, "a"), withdrawal(201, "b")])
    assert isinstance(first, Accepted)
    assert isinstance(second, ExceedsRefundable)


def test_two_approvals_at_once_count_once(world: World) -> None:
    limited(world, Limits(approval_threshold_minor=10))
    refund_id = world.withdraw(100)
    outcomes: list[str] = []

    def approve(name: str) -> None:
        try:
            perform_action(world.context, refund_id, Action.APPROVE, actor=name, reason="fine")
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


def test_facts_for_an_approval_skip_a_customers_earlier_refunds(world: World) -> None:
    # Ids begin with the time of the process, which is here the world's.
    now, numbers = int(world.now * 1000), count()
    world.context = replace(world.context, new_id=lambda prefix: f"{prefix}_{now:012x}{next(numbers):014x}")
    refund_id = world.withdraw(80, "a")
    with world.database.read() as connection:
        seen: list[str] = []
        event.listen(connection, "before_cursor_execute", lambda *given: seen.append(given[2]))
        (refund,) = load(connection, [refund_id])
        seen.clear()
        (found,) = why_approval(connection, [refund], Limits(approval_threshold_minor=1)).values()
    assert [total.total_minor for total in found.exceeding] == [800]
    assert ["refunds.refund_id >= " in query for query in seen if "JOIN refunds" in query] == [True]
