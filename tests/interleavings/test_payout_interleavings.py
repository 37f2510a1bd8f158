"""Two operations on the payouts of one payee, stopped before every statement, commit and call; up to one preemption.

On Postgres, where any statement can run between any two of the other, and on SQLite, where one writer waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import psycopg
import pytest

from refund_worker.domain.payouts.transfers import TransferReply, TransfersReply
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.actions import cancel_unsent_payouts
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.errors import RefundWorkerError
from refund_worker.store.tables import payouts as payouts_table
from tests.interleavings.stepper import Actor, Turns, listen, stop_before
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.payout_world import DAY, PayoutWorld
from tests.support.scripted_route import ScriptedRoute

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]

EARNED = 5_000


@dataclass
class SteppedRoute(ScriptedRoute):
    """A scripted route at whose calls the other operation may run."""

    async def send(self, key: str, body: str) -> TransferReply:
        """Stop, then send."""
        stop_before("SEND")
        return await super().send(key, body)

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Stop, then list."""
        stop_before("FIND")
        return await super().find(key, body, sent_since)

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """Stop, then fetch."""
        stop_before("FETCH")
        return await super().fetch(object_id, body)


class Scene:
    """One payee of the world with a payout in some state. Each schedule has a payee of its own."""

    count = 0

    def __init__(self, world: PayoutWorld, kind: str) -> None:
        Scene.count += 1
        self.world, self.payee_id = world, f"q{Scene.count}"
        world.route.script = []
        world.add_payee(self.payee_id)
        world.earn(f"earning-{self.payee_id}", EARNED, payee_id=self.payee_id)
        self.keys = 0
        self.payout_id = ""
        if kind != "nothing asked":
            self.payout_id = self.ask(3_000)
        if kind == "two queued":
            self.ask(1_000)
        if kind in ("pending", "paid", "with a person", "no answer"):
            first = {"with a person": ["unknown"], "no answer": ["late"]}.get(kind, ["pending"])
            world.route.script = list(first)
            world.step()
        if kind == "paid":
            world.report(self.payout_id, world.route.set(self.key, ObjectState.SUCCEEDED))
        if kind == "pending":
            world.route.set(self.key, ObjectState.SUCCEEDED)
            world.now += 1_000
        if kind == "no answer":
            world.now += 30

    @property
    def key(self) -> str:
        """Return the key of the first attempt."""
        return f"{self.payout_id}-1:1"

    def ask(self, amount: int) -> str:
        """Ask for a payout."""
        self.keys += 1
        return self.world.ask(amount, f"{self.payee_id}-{self.keys}", payee_id=self.payee_id)

    def do(self, what: str) -> None:
        """Do one operation. A refusal is one of its good ends."""
        world = self.world
        try:
            match what:
                case "work":
                    process_due_payouts(world.context, self._ids())
                case "ask for all":
                    self.ask(EARNED - 1_000)
                case "report paid":
                    world.report(self.payout_id, world.route.set(self.key, ObjectState.SUCCEEDED))
                case "report failed":
                    world.report(self.payout_id, world.route.set(self.key, ObjectState.FAILED, failure_code="x"))
                case "change destination":
                    self._change_destination()
                case "resolve paid":
                    world.act_on(self.payout_id, "resolve", reference="wire-1")
                case _:
                    world.act_on(self.payout_id, what)
        except RefundWorkerError:
            pass

    def _ids(self) -> list[str]:
        with self.world.database.read() as connection:
            query = payouts_table.select().where(payouts_table.c.payee_id == self.payee_id)
            return [row["payout_id"] for row in connection.execute(query).mappings()]

    def _change_destination(self) -> None:
        world = self.world
        world.change_payee(self.payee_id, destination_id=f"{self.payee_id}-2", destination_changed_at=world.now)
        world.database.run(lambda c: cancel_unsent_payouts(c, world.context, self.payee_id, "bob"))

    def check(self) -> None:
        """Check the money, now and when everything has landed and days have passed."""
        self._check_sums()
        self.world.route.land()
        ids = self._ids()
        for _ in range(6):
            while process_due_payouts(self.world.context, ids):
                pass
            self.world.now += DAY / 3
        self._check_sums()
        live = [
            item
            for key, item in self.world.route.book.items()
            if key.startswith(tuple(f"{each}-" for each in ids))
            and item.state not in (ObjectState.FAILED, ObjectState.CANCELED)
        ]
        assert len({item.leg_id for item in live}) == len(live), "a leg is paid twice"
        assert sum(item.amount_minor for item in live) <= EARNED, "the payee gets more than was earned"

    def _check_sums(self) -> None:
        world, flying, paid, taken = self.world, 0, 0, 0
        for each in self._ids():
            payout = world.payout(each)
            if payout.is_ended_unpaid:
                continue
            is_paid = payout.status in ("paid", "settled")
            paid += payout.amount_minor * is_paid
            flying += payout.amount_minor * (not is_paid)
            taken += payout.amount_minor * payout.ledger_posted
            assert payout.return_count - max(0, payout.times_paid - 1) <= 1, "the amount is given back twice"
        balance = world.balance(self.payee_id)
        assert (balance.in_flight_minor, balance.paid_minor) == (flying, paid)
        assert balance.net_minor >= 0, "more is taken than was earned"
        assert world.accounts().get(f"payee:{self.payee_id}", 0) == EARNED - taken


MEETINGS = (
    ("nothing asked", "ask for all", "ask for all"),
    ("queued", "work", "work"),
    ("queued", "work", "cancel"),
    ("queued", "work", "change destination"),
    ("queued", "work", "ask for all"),
    ("two queued", "work", "work"),
    ("pending", "report paid", "work"),
    ("pending", "report paid", "report failed"),
    ("paid", "report failed", "report failed"),
    ("paid", "report failed", "work"),
    ("no answer", "work", "resolve paid"),
    ("with a person", "retry", "retry"),
    ("with a person", "retry", "resolve"),
)


@pytest.fixture
def stepped(migrated_url: str) -> Iterator[tuple[PayoutWorld, Callable[[int], bool] | None]]:
    """Return a world whose statements and calls are stops, and who asks if a backend waits for a lock."""
    world = PayoutWorld(migrated_url)
    route = SteppedRoute(lambda: world.now)
    world.route = route
    world.context = replace(world.context, routes={"stripe": route})
    listen(world.database.engine)
    if world.database.engine.dialect.name == "sqlite":
        yield world, None
    else:
        url = world.database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as asking:
            yield world, lambda backend: _waits(asking, backend)
    world.close()


def _waits(asking: psycopg.Connection[Any], backend: int) -> bool:
    row = asking.execute("SELECT cardinality(pg_blocking_pids(%s))", (backend,)).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("meeting", MEETINGS, ids=lambda each: ": ".join((each[0], " and ".join(each[1:]))))
def test_no_preemption_changes_the_money_of_a_payee(
    meeting: tuple[str, str, str],
    stepped: tuple[PayoutWorld, Callable[[int], bool] | None],
) -> None:
    world, waits = stepped
    every = 2 if waits is None else 2 if meeting == MEETINGS[0] else 11
    done = 0
    for operations in dict.fromkeys((meeting[1:], meeting[:0:-1])):
        switches: list[tuple[int, ...]] = [()]
        while switches:
            at = switches.pop(0)
            possible = _run(world, meeting[0], operations, at, waits)
            done += 1
            if not at:
                switches = [(step,) for step in possible[::every]]
                if meeting == MEETINGS[1] and waits is not None:
                    # One has chosen what is due and locked nothing; the other has claimed it, and calls.
                    switches += [(step, step + later) for step in (2, 3, 4) for later in range(9, 25, 3)]
    assert done > 1, "too few preemptions for a meaningful test"


def _run(
    world: PayoutWorld,
    scene_name: str,
    operations: tuple[str, ...],
    at: tuple[int, ...],
    waits: Callable[[int], bool] | None,
) -> list[int]:
    """Run the two operations in a new scene, switched before these steps; return the steps at which that matters."""
    scene = Scene(world, scene_name)
    first, second = (Actor(what, partial(scene.do, what)) for what in operations)
    turns = Turns((first, second), at, waits)
    turns.run()
    for actor in (first, second):
        if actor.failure is not None:
            raise AssertionError(f"{scene_name}: {operations} switched at {at}") from actor.failure
    scene.check()
    return turns.possible
