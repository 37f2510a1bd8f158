"""Two processes never wait for each other: the payees' rows are locked before those of payouts. Postgres only."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, func, select, text
from tests.support.payout_world import DAY, PayoutWorld

from refund_worker.engine.payouts.locking import lock_payouts
from refund_worker.engine.processor_sync.transfer_events import process_transfer_events
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.store.payouts import payees, payouts
from refund_worker.store.tables import payouts as payouts_table

pytestmark = pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
SECONDS = 20.0


def of_events(world: PayoutWorld, *hints: TransferHint) -> int:
    """Process events about these, in this order; return how many ended."""
    rows: list[Any] = [{"processor": "stripe", "event_id": f"evt_{number}", "tries": 0} for number in range(len(hints))]
    done = process_transfer_events(world.context, list(zip(rows, hints, strict=True)), (3, 3))
    return sum(outcome is not None for outcome in done.outcomes.values())


def hint_about(world: PayoutWorld, payout_id: str) -> TransferHint:
    """Return what an event says about the object of a payout's first leg, which is in our records."""
    return TransferHint(world.route.book[f"{payout_id}-1:1"].object_id, f"{payout_id}-1")


def payout_then_payee(world: PayoutWorld, payout_id: str) -> None:
    of_events(world, hint_about(world, payout_id), TransferHint("acct_p000", None, is_payee=True))


def end_of_a_pause(world: PayoutWorld, _payout_id: str) -> None:
    world.database.run(lambda connection: payouts.requeue_waiting_for(connection, "stripe", world.now))


def clock_that_went_back(world: PayoutWorld, _payout_id: str) -> None:
    world.database.run(lambda connection: payouts.requeue_written_after(connection, world.now - DAY, world.now))


def wait_until_another_waits(connection: Connection) -> None:
    """Return once another connection waits for a row that this one has locked."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))")
    end = time.monotonic() + SECONDS
    while not connection.execute(waiting).scalar():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("other", [payout_then_payee, end_of_a_pause, clock_that_went_back])
def test_payout_is_free_while_another_waits_for_its_payee(
    world: PayoutWorld, other: Callable[[PayoutWorld, str], None]
) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    with ThreadPoolExecutor(1) as pool:
        with world.database.write() as connection:
            payees.load(connection, ["p"], lock=True)
            running = pool.submit(other, world, payout_id)
            wait_until_another_waits(connection)
            free = select(payouts_table.c.payout_id).with_for_update(nowait=True)
            assert connection.execute(free).scalars().all() == [payout_id]
        running.result(SECONDS)
    assert world.payout(payout_id).due_at == world.now


def test_destinations_of_a_batch_are_locked_in_order(world: PayoutWorld) -> None:
    """The index by destination has the payees in another order than that of their ids."""
    world.add_payee("a")
    world.change_payee("p", destination_ref="acct_0000")
    with ThreadPoolExecutor(1) as pool:
        with world.database.write() as connection:
            payees.load(connection, ["a"], lock=True)
            hints = [TransferHint(ref, None, is_payee=True) for ref in ("acct_0000", "acct_a000")]
            running = pool.submit(of_events, world, *hints)
            wait_until_another_waits(connection)
            assert connection.execute(text("SELECT 1 FROM payees WHERE payee_id = 'p' FOR UPDATE NOWAIT")).scalar()
        assert running.result(SECONDS) == 2


def test_payouts_of_a_batch_of_events_are_locked_in_order(world: PayoutWorld) -> None:
    world.add_payee("q")
    ids = []
    for payee_id in ("p", "q"):
        world.earn(f"e{payee_id}", 5_000, payee_id=payee_id)
        ids.append(world.ask(key=payee_id, payee_id=payee_id))
        world.settle()
    first, last = sorted(ids)
    with ThreadPoolExecutor(1) as pool:
        with world.database.write() as connection:
            lock_payouts(connection, [first])
            hints = [hint_about(world, payout_id) for payout_id in (last, first)]
            running = pool.submit(of_events, world, *hints)
            wait_until_another_waits(connection)
            assert [payout.payout_id for payout in lock_payouts(connection, [last], skip=True).payouts] == [last]
        assert running.result(SECONDS) == 2
    with world.database.read() as connection:
        due = connection.execute(select(func.count()).where(payouts_table.c.due_at == world.now)).scalar()
    assert due == 2
