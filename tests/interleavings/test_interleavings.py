"""Two operations on one refund or payment, stopped before every statement, commit and call; up to one preemption.

`make interleavings` runs every pair in every scene, with two preemptions too.
"""

from __future__ import annotations

import pytest

from tests.interleavings.pair_run import Place
from tests.interleavings.scenes import OPERATIONS, Operation
from tests.interleavings.schedules import BY_NAME, MEETINGS, PAIRS, Meeting, Tally, run_meeting
from tests.support.migrated import migrate, migrated_sqlite_url, sqlite_template
from tests.support.servers import PostgresDatabases

__all__ = ["migrated_sqlite_url", "sqlite_template"]

PARTS = 8
EVERY_SINGLE_ON_SQLITE = 8
# The pairs that compete for one row run on Postgres, where any statement can run between any two of the other.
COMPETING = (
    ("nothing asked", "the same request", "the same request"),
    ("nothing asked", "another request", "the same request"),
    ("nothing asked", "a batch", "the same request"),
    ("nothing asked", "another request", "a spend"),
    ("queued", "work", "work"),
    ("queued", "work", "work past the lease"),
    ("queued", "work", "cancel"),
    ("queued", "merge", "work"),
    ("no answer, not paid", "work past the key's life", "pause"),
    ("pending", "webhook", "work"),
    ("failed late", "webhook", "watch"),
    ("awaiting approval", "approve", "cancel"),
    ("with a person", "retry", "resolve by reversal"),
    ("credited", "delete a credit refund", "delete a credit refund"),
    ("credited", "delete a credit refund", "a spend"),
    ("credited", "pay out a correction", "delete a correction"),
    ("declining", "work", "another request"),
)
EVERY_SINGLE_ON_POSTGRES = 5


def one_scene_for_each_pair() -> list[Meeting]:
    """Return one meeting for each pair. Over the pairs the scenes alternate."""
    of_pair: dict[object, list[Meeting]] = {}
    for meeting in MEETINGS:
        of_pair.setdefault(meeting.pair, []).append(meeting)
    return [meetings[number % len(meetings)] for number, meetings in enumerate(of_pair.values())]


@pytest.mark.parametrize("part", range(PARTS))
def test_no_preemption_changes_the_money_or_the_end_on_sqlite(part: int, migrated_sqlite_url: str) -> None:
    meetings = one_scene_for_each_pair()
    assert len(meetings) == len(PAIRS)
    tally = _run(migrated_sqlite_url, meetings[part::PARTS], EVERY_SINGLE_ON_SQLITE)
    assert not tally.failures, "\n".join(tally.failures)
    assert tally.schedules > 2 * len(meetings) / PARTS, "too few preemptions for a meaningful test"


@pytest.mark.parametrize("part", range(3))
def test_no_preemption_of_competing_pairs_matters_on_postgres(part: int, postgres_server: PostgresDatabases) -> None:
    url = postgres_server.create(migrate)
    meetings = [Meeting(scene, (BY_NAME[first], BY_NAME[second])) for scene, first, second in COMPETING[part::3]]
    tally = _run(url, meetings, EVERY_SINGLE_ON_POSTGRES)
    postgres_server.drop(url)
    assert not tally.failures, "\n".join(tally.failures)


def _run(url: str, meetings: list[Meeting], every_single: int) -> Tally:
    tally = Tally()
    place = Place(url)
    try:
        for meeting in meetings:
            tally.add(run_meeting(place, meeting, every_single))
    finally:
        place.close()
    return tally


def test_each_operation_has_an_effect_in_one_of_its_scenes(migrated_sqlite_url: str) -> None:
    """An operation that is always refused, for example because of a misspelled name, would test nothing."""
    place = Place(migrated_sqlite_url)
    nothing = Operation("nothing", (), lambda _world: "nothing")
    outcomes = {one.name: [place.meet(scene, (one, nothing)).said[0] for scene in one.scenes] for one in OPERATIONS}
    place.close()
    assert [name for name, texts in outcomes.items() if all(text.startswith("refused") for text in texts)] == []


def test_operation_stops_before_every_statement_commit_and_call(migrated_sqlite_url: str) -> None:
    place = Place(migrated_sqlite_url)
    work, seal = BY_NAME["work"], BY_NAME["reconcile"]
    place.meet("queued", (work, seal))
    place.close()
    stops = [what.split()[0] for _, who, what in place.trace if who == "first"]
    assert stops.count("BEGIN") == stops.count("COMMIT") == 2
    assert stops.index("COMMIT") < stops.index("send") < len(stops) - 1 - stops[::-1].index("BEGIN")
    assert {"SELECT", "UPDATE", "INSERT"} <= set(stops)


def test_operation_that_waits_for_a_lock_lets_the_other_run(postgres_server: PostgresDatabases) -> None:
    url = postgres_server.create(migrate)
    place = Place(url)
    another = BY_NAME["another request"]
    alone = place.meet("nothing asked", (another, another))
    serial = [who for _, who, _ in place.trace]
    assert serial == sorted(serial)
    assert alone.said == ("taken", "replayed")
    # The first has locked the customer's row at its commit: the second begins, waits, and the first ends.
    met = place.meet("nothing asked", (another, another), (alone.steps,))
    who = [name for _, name, _ in place.trace]
    assert who.index("second") < len(who) - 1 - who[::-1].index("first")
    assert met.said == ("taken", "replayed")
    place.close()
    postgres_server.drop(url)
