"""A reconciliation that is stopped anywhere and continued, by any process, gives the same report."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.engine.processor_sync.reconciled import LEGS, begin, finished, report, stored
from tests.engine.processor_sync.reconciling_process import write_records
from tests.support.engine_world import Died, World
from tests.support.migrated import migrate
from tests.support.planted_shop import Shop
from tests.support.servers import PostgresDatabases

from refund_worker.domain.processor_replies import Unanswered
from refund_worker.engine.processor_sync.listing import NotListed
from refund_worker.engine.processor_sync.reconciliation import run
from refund_worker.store import reconciliations as store

KILLS_MIN = 2
CALLS_MAX = 25  # before a kill


@pytest.mark.parametrize("when", ["dies_before", "dies_after", "dies_while_listing"])
def test_killed_anywhere_and_continued_it_gives_the_same_report(shop: Shop, when: str) -> None:
    shop.plant_all(3)
    undisturbed = report(shop, finished(shop))
    started, deaths = begin(shop), 0
    for point in range(1, 200):
        if kill(shop, started, when, 1 + point % 3):
            deaths += 1
            shop.world.pass_time(run.LEASE_SECONDS + 1)  # the lease of the dead process ends
        if stored(shop, started)["ended_at"] is not None:
            break
    assert deaths > 3
    assert report(shop, started) == undisturbed


def kill(shop: Shop, started: str, when: str, point: int) -> bool:
    """Run pieces until the process dies at this transaction or page; return True if it died."""

    pages_left = point + 1

    def die() -> None:
        nonlocal pages_left
        pages_left -= 1
        if pages_left == 0:
            raise Died

    if when == "dies_while_listing":
        shop.processor.while_listing = die
    else:
        setattr(shop.world.database, when, point)
    try:
        while run.run_piece(shop.world.context, started):
            pass
    except Died:
        return True
    finally:
        shop.world.database.dies_before = shop.world.database.dies_after = 0
        shop.processor.while_listing = lambda: None
    return False


def test_processes_killed_at_random_leave_the_same_report(
    postgres_server: PostgresDatabases, tmp_path: Path, small_pieces: None
) -> None:
    """Real processes on a real Postgres: each one is killed after a random number of calls."""
    url = postgres_server.create(migrate)
    world = World(url)
    shop = Shop(world, LEGS // 2)
    shop.plant_all(7)
    records = tmp_path / "records"
    write_records(shop.processor, records)
    undisturbed = report(shop, finished(shop))
    started, chosen, kills = begin(shop), random.Random(12), 0
    while stored(shop, started)["ended_at"] is None:
        arguments = (url, str(records), started, str(world.now))
        kills += killed_after(chosen.randint(5, CALLS_MAX), arguments)
        world.pass_time(run.LEASE_SECONDS + 1)
    assert kills >= KILLS_MIN
    assert report(shop, started) == undisturbed
    world.close()
    postgres_server.drop(url)


def killed_after(characters: int, arguments: tuple[str, ...]) -> bool:
    """Start a process and kill it when it has shown so many calls and pieces; return False if it ended before."""
    command = (sys.executable, "-m", "tests.engine.processor_sync.reconciling_process", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while characters and process.stdout.read(1):
            characters -= 1
        if characters:
            assert process.wait(60) == 0
            return False
        process.kill()
    return True


# --- a lost lease -----------------------------------------------------------------------------------------------------


def while_listing(shop: Shop, act: Callable[[], object]) -> None:
    """Let the lease of the first worker end while it reads its first page, and another worker act then."""

    def end_lease() -> None:
        shop.processor.while_listing = lambda: None
        shop.world.pass_time(run.LEASE_SECONDS + 1)
        with ThreadPoolExecutor(1) as another:  # this thread's event loop is in use
            another.submit(act).result()

    shop.processor.while_listing = end_lease


def taken_by_another(shop: Shop, started: str) -> None:
    """Take the reconciliation as another worker does, which is then in the middle of its piece."""
    now = shop.world.now
    shop.world.database.run(
        lambda connection: store.claim(connection, now, token="another", until=now + run.LEASE_SECONDS, only=started)
    )


def test_a_worker_that_lost_its_lease_stores_nothing(shop: Shop) -> None:
    shop.plant_all(3)
    started = begin(shop)
    during = []

    def take() -> None:
        taken_by_another(shop, started)
        during.append(stored(shop, started))

    while_listing(shop, take)
    run.run_piece(shop.world.context, started)
    (row,) = during
    assert row["lease_token"] == "another"
    assert stored(shop, started) == row


def test_a_worker_without_an_answer_leaves_the_lease_of_another(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    started = begin(shop)

    async def page(*_: object) -> Unanswered:
        shop.world.pass_time(run.LEASE_SECONDS + 1)
        taken_by_another(shop, started)
        return Unanswered("timeout")

    monkeypatch.setattr(shop.processor, "page", page)
    with pytest.raises(NotListed):
        run.run_piece(shop.world.context, started)
    row = stored(shop, started)
    assert (row["lease_token"], row["problem"]) == ("another", None)


@pytest.mark.parametrize("pieces", [1, 3, 1_000])
def test_two_workers_on_one_reconciliation_give_the_same_report(shop: Shop, pieces: int) -> None:
    """The second takes over in the middle of a piece and stores so many; the first then returns from its call."""
    shop.plant_all(3)
    undisturbed = report(shop, finished(shop))
    started = begin(shop)

    def go_on() -> None:
        for _ in range(pieces):
            run.run_piece(shop.world.context, started)

    while_listing(shop, go_on)
    run.run_piece(shop.world.context, started)
    assert report(shop, finished(shop, started)) == undisturbed


def test_a_second_process_does_not_work_on_the_same_reconciliation(shop: Shop) -> None:
    begin(shop)
    others: list[str | None] = []
    shop.processor.while_listing = lambda: others.append(run.run_piece(shop.world.context))
    assert run.run_piece(shop.world.context) is not None
    assert set(others) == {None}
