"""The delays that wrong passwords cause, and for which sign-ins. The clock belongs to the test."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select
from tests.engine.conftest import World

from refund_worker.engine.access import password_attempts as tries_of
from refund_worker.engine.access.password_attempts import Tries
from refund_worker.engine.jobs.prune import prune
from refund_worker.store.access import console_users as store
from refund_worker.store.tables import console_tries

NOW = 1_800_000_000.0
HERE, ELSEWHERE = tries_of.of_sign_in("ivy", "192.0.2.1"), tries_of.of_sign_in("ivy", "192.0.2.2")


def wrong(connection: Connection, tries: Tries, times: int, now: float = NOW) -> None:
    """Count `times` wrong passwords for these attempts at `now`, in epoch seconds."""
    for _ in range(times):
        tries_of.count_wrong(connection, tries, now)


def test_five_are_free_and_then_the_wait_doubles_up_to_half_a_minute(world: World) -> None:
    def work(connection: Connection) -> list[float]:
        waits = []
        for _ in range(12):
            wrong(connection, HERE, 1)
            waits.append(tries_of.seconds_to_wait(connection, HERE, NOW))
        return waits

    assert world.context.database.run(work) == [0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]


def test_wait_ends_and_attempts_during_it_do_not_lengthen_it(world: World) -> None:
    def work(connection: Connection) -> list[float]:
        wrong(connection, HERE, 7)
        return [tries_of.seconds_to_wait(connection, HERE, NOW + passed) for passed in (0, 1, 1, 3.5, 4, 5)]

    assert world.context.database.run(work) == [4, 3, 3, 0.5, 0, 0]


def test_a_name_is_held_back_only_where_its_wrong_passwords_came_from(world: World) -> None:
    def work(connection: Connection) -> list[float]:
        wrong(connection, HERE, 50)
        others = (ELSEWHERE, tries_of.of_sign_in("omar", "192.0.2.1"), tries_of.of_session("a" * 64))
        return [tries_of.seconds_to_wait(connection, tries, NOW) for tries in others]

    assert world.context.database.run(work) == [0, 0, 0]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1"),
        ("64:ff9b::c000:201", "192.0.2.1"),
        ("2002:c000:201:5::1", "192.0.2.1"),
        ("2001:db8:0:1::5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::5", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
    ],
)
def test_ipv6_counts_by_network_and_ipv4_by_address_in_any_form(address: str, place: str) -> None:
    assert tries_of.place_of(address) == place


def test_name_guessed_from_many_addresses_gets_one_try_a_second(world: World) -> None:
    places = [tries_of.of_sign_in("ivy", f"203.0.113.{n}") for n in range(20)]

    def work(connection: Connection) -> None:
        for place in places[:-1]:
            wrong(connection, place, 5)
        assert tries_of.seconds_to_wait(connection, places[0], NOW + 5) == 0, "95 in all: not yet"
        wrong(connection, places[-1], 5, NOW + 5)
        assert tries_of.seconds_to_wait(connection, places[0], NOW + 5.25) == 0.75
        assert tries_of.seconds_to_wait(connection, places[0], NOW + 6) == 0
        assert tries_of.seconds_to_wait(connection, ELSEWHERE, NOW + 5.25) == 0, "nobody was wrong from there"
        wrong(connection, ELSEWHERE, 4, NOW + 5.25)
        assert tries_of.seconds_to_wait(connection, ELSEWHERE, NOW + 5.25) == 0, "nor has its five used up"

    world.context.database.run(work)


def test_live_session_that_keeps_guessing_waits_up_to_15_minutes(world: World) -> None:
    mine, other = tries_of.of_session("a" * 64), tries_of.of_session("b" * 64)

    def work(connection: Connection) -> list[float]:
        wrong(connection, mine, 30)
        return [tries_of.seconds_to_wait(connection, tries, NOW) for tries in (mine, other, HERE)]

    assert world.context.database.run(work) == [900, 0, 0]


def test_wrong_passwords_are_forgotten_after_a_day_or_right_one(world: World) -> None:
    day = tries_of.TRIES_FORGOTTEN_SECONDS

    def work(connection: Connection) -> None:
        wrong(connection, HERE, 40)
        assert tries_of.seconds_to_wait(connection, HERE, NOW + 29) == 1
        wrong(connection, HERE, 1, NOW + day + 1)
        assert tries_of.seconds_to_wait(connection, HERE, NOW + day + 1) == 0, "the first of a new count"
        wrong(connection, HERE, 4, NOW + day + 1)
        assert tries_of.seconds_to_wait(connection, HERE, NOW + day + 1) == 1
        tries_of.forget_own(connection, HERE)
        assert tries_of.seconds_to_wait(connection, HERE, NOW + day + 1) == 0

    world.context.database.run(work)


def test_pruning_deletes_only_attempt_counters_older_than_a_day(world: World) -> None:
    guessers = [tries_of.of_sign_in("anna", f"192.0.2.{n}") for n in range(5)]

    def guess(connection: Connection) -> None:
        for each in guessers:
            wrong(connection, each, 1, world.now)

    world.context.database.run(guess)
    world.pass_time(tries_of.TRIES_FORGOTTEN_SECONDS)
    prune(world.context)
    assert kept(world) == 6, "each, and the name"
    world.pass_time(1)
    prune(world.context)
    assert kept(world) == 0


def kept(world: World) -> int:
    """Return the number of stored attempt counters."""
    with world.database.read() as connection:
        return connection.execute(select(func.count()).select_from(console_tries)).scalar_one()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("ivy", "192.0.2.1"), ("IVY", "192.0.2.1"), True),
        (("ivy", "2001:db8:1:2::1"), ("ivy", "2001:db8:1:2:ffff::9"), True),
        (("ivy", "2001:db8:1:2::1"), ("ivy", "2001:db8:1:3::1"), False),
        (("ivy", "192.0.2.1"), ("ivy", "192.0.2.2"), False),
        (("ivy", "192.0.2.1"), ("ivy|192.0.2.1", "192.0.2.1"), False),
        (("i" * 101, "192.0.2.1"), ("i" * 102, "192.0.2.1"), False),
        (("ivy", "unknown"), ("ivy", "unknown"), True),
    ],
)
def test_whom_a_count_is_for(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    first, second = tries_of.of_sign_in(*one), tries_of.of_sign_in(*other)
    assert (first.own == second.own) is same
    assert len(first.own) < 200


def test_unlocking_forgets_all_attempts_of_only_that_user(world: World) -> None:
    others = [tries_of.of_sign_in(name, "192.0.2.1") for name in ("a-b", "axb", "a_b2", "a")]
    mine = [tries_of.of_sign_in("A_b", f"192.0.2.{n}") for n in range(3)] + [tries_of.of_session("c" * 64)]

    def work(connection: Connection) -> None:
        store.insert_user(connection, name="a_b", role="viewer", password_hash="-", now=NOW)
        store.insert_session(connection, "c" * 64, "a_b", NOW)
        for tries in (*others, *mine):
            wrong(connection, tries, 5)
        tries_of.forget_all_of(connection, "a_b")
        assert [tries_of.seconds_to_wait(connection, tries, NOW) for tries in mine] == [0, 0, 0, 0]
        assert [tries_of.seconds_to_wait(connection, tries, NOW) for tries in others] == [1, 1, 1, 1]
        assert store.tries_of(connection, "name:a_b") == (0, 0.0)

    world.context.database.run(work)


def test_two_wrong_passwords_at_once_are_counted_as_two(world: World) -> None:
    def work(connection: Connection) -> tuple[int, float]:
        for _ in range(2):
            store.count_try(connection, HERE.own, NOW, fresh_after=NOW - 10)
        return store.tries_of(connection, HERE.own)

    assert world.context.database.run(work) == (2, NOW)
