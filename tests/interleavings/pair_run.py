"""One schedule of two operations in a scene on a real database, and the checks that must pass after every schedule."""

from __future__ import annotations

import copy
import logging
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import psycopg
from sqlalchemy import Engine, event, func, select

from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import RefundObject, Reply, SearchReply
from refund_worker.domain.state_machine import Action
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.processor_sync import pause, sync, webhook_inbox
from refund_worker.engine.refunds import actions
from refund_worker.errors import RefundWorkerError
from refund_worker.store import tables
from refund_worker.store.database import Database
from tests.interleavings.scenes import SCENES, THRESHOLD_MINOR, Operation
from tests.interleavings.stepper import Actor, Turns, listen, stop_before
from tests.support.engine_world import ScriptedProcessor, World, assert_books_balance

VOID = ("failed", "canceled")
ENDS = ("succeeded", "partially_succeeded", "failed", "rejected", "canceled")
DAY = 86_400.0


class Broken(Exception):
    """A promise was broken. The text begins with the promise's name."""


# --- the processor ---------------------------------------------------------------------------------------------------


class StoppingProcessor(ScriptedProcessor):
    """A processor that stops before each call and records sends that break a promise."""

    def __init__(self) -> None:
        super().__init__()
        self.room = {"ch_1": 1_000, "ch_2": 1_000}
        self.broken: list[str] = []

    def _stop(self, what: str) -> None:
        actor = stop_before(what)
        if actor is not None and actor.connections:
            self.broken.append(f"I13 a transaction is open during {what}")

    async def send(self, key: str, body: str) -> Reply:
        """Stop, then send."""
        self._stop(f"send {key}")
        return await super().send(key, body)

    def _make(self, key: str, body: str, order: RefundInstruction, status: str) -> RefundObject:
        made = super()._make(key, body, order, status)
        standing = [item for item in self.objects.values() if item.status not in VOID]
        if sum(item.leg_id == made.leg_id for item in standing) > 1:
            self.broken.append(f"I1 {made.leg_id} has two refunds that stand")
        its = sum(t.amount_minor for t in standing if t.payment_refs == made.payment_refs)
        if its > self.room[order.processor_payment_id]:
            self.broken.append(f"I2 {order.processor_payment_id} has given back {its}")
        return made

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Stop, then read the refund object."""
        self._stop(f"fetch {processor_refund_id}")
        return await super().fetch(processor_refund_id)

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Stop, then list the payment's refunds."""
        self._stop(f"find {leg_id}")
        return await super().find(processor_payment_id, leg_id)

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Stop, then list the recent refunds."""
        self._stop("recent")
        return await super().recent(created_gte)


# --- the databases ---------------------------------------------------------------------------------------------------


class Copies(Protocol):
    """Stores the database's content by name and restores it, while the engine's connections stay open."""

    def keep(self, name: str) -> None: ...
    def put_back(self, name: str) -> None: ...
    def waits_for_lock(self, backend: int) -> bool: ...
    def close(self) -> None: ...


class SqliteCopies:
    """Copies of an SQLite file, in memory."""

    def __init__(self, engine: Engine) -> None:
        assert engine.url.database is not None
        self._file = sqlite3.connect(engine.url.database, isolation_level=None, check_same_thread=False)
        self._kept: dict[str, sqlite3.Connection] = {}
        self.keep("empty")

        @event.listens_for(engine, "connect")
        def _fast(dbapi_connection: Any, _record: Any) -> None:
            dbapi_connection.execute("PRAGMA synchronous=OFF")

    def keep(self, name: str) -> None:
        """Store the current content by name."""
        self._kept[name] = sqlite3.connect(":memory:", check_same_thread=False)
        self._file.backup(self._kept[name])

    def put_back(self, name: str) -> None:
        """Restore the content."""
        self._kept[name].backup(self._file)

    def waits_for_lock(self, backend: int) -> bool:
        """Fail, because on SQLite the holder of the write lock is known."""
        raise NotImplementedError("known without asking")

    def close(self) -> None:
        """Close all copies."""
        for connection in (self._file, *self._kept.values()):
            connection.close()


class PostgresCopies:
    """Copies of a Postgres database, one schema for each scene.

    Triggers and foreign keys are off while one is restored.
    """

    def __init__(self, engine: Engine) -> None:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(url, autocommit=True)
        # Deadlocks are detected at once.
        self._connection.execute(f"ALTER DATABASE \"{engine.url.database}\" SET deadlock_timeout = '5ms'")
        self._scripts: dict[str, str] = {}
        self.keep("empty")

    def keep(self, name: str) -> None:
        """Store the current content by name."""
        schema = f"kept_{len(self._scripts)}"
        self._connection.execute(f"CREATE SCHEMA {schema}".encode())
        names = [table.name for table in tables.metadata.sorted_tables]
        for table in names:
            self._connection.execute(f"CREATE TABLE {schema}.{table} AS TABLE public.{table}".encode())
        put_back = [f"DELETE FROM {table}" for table in names]
        put_back += [f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {schema}.{table}" for table in names]
        self._scripts[name] = "; ".join(["BEGIN", "SET LOCAL session_replication_role = replica", *put_back, "COMMIT"])

    def put_back(self, name: str) -> None:
        """Restore the content."""
        self._connection.execute(self._scripts[name].encode())

    def waits_for_lock(self, backend: int) -> bool:
        """Return True if this backend waits for a lock."""
        row = self._connection.execute("SELECT pg_blocking_pids(%s) <> '{}'", (backend,)).fetchone()
        return row is not None and bool(row[0])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


# --- a place to run schedules ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Met:
    """The result of two operations: their outcomes, the final state, and the steps at which a switch could matter."""

    said: tuple[str, str]
    ended: object
    steps: int
    possible: tuple[int, ...]

    @property
    def with_a_person(self) -> bool:
        """True if a refund is left to a person."""
        return "needs_attention" in str(self.ended)


class Place:
    """A migrated database at `url`, restored to a scene for each schedule. Close it at the end."""

    def __init__(self, url: str) -> None:
        self.world = World(url)
        self.database: Database = self.world.database
        engine = self.database.engine
        self._copies: Copies = SqliteCopies(engine) if self.database.is_sqlite else PostgresCopies(engine)
        listen(engine)
        self.flag = "" if self.database.is_sqlite else "--database postgres "
        self.trace: list[tuple[int, str, str]] = []  # the last schedule's steps
        self._scenes: dict[str, tuple[StoppingProcessor, float, dict[str, int]]] = {}
        self._numbers: Counter[str] = Counter()

    def close(self) -> None:
        """Close the copies and the world."""
        self._copies.close()
        self.world.close()

    def set_the_scene(self, name: str) -> World:
        """Restore the scene, which is created once, and return its world."""
        if name not in self._scenes:
            self._copies.put_back("empty")
            logging.disable(logging.CRITICAL)
            self._context(StoppingProcessor(), name)
            self.world.now = 1_800_000_000.0
            self._numbers.clear()
            SCENES[name](self.world)
            logging.disable(logging.NOTSET)
            self._scenes[name] = (self.world.processor, self.world.now, dict(self._numbers))  # type: ignore[assignment]
            self._copies.keep(name)
        processor, self.world.now, numbers = self._scenes[name]
        self._numbers = Counter(numbers)
        self._context(copy.deepcopy(processor), name)
        self._copies.put_back(name)
        return self.world

    def _context(self, processor: StoppingProcessor, scene: str) -> None:
        world = self.world
        world.processor = processor
        world.context = replace(
            world.context,
            processors={"stripe": processor},
            limits=Limits(approval_threshold_minor=THRESHOLD_MINOR if scene == "awaiting approval" else None),
            new_id=self._new_id,
            monotonic=lambda: world.now,
        )

    def _new_id(self, prefix: str) -> str:
        self._numbers[prefix] += 1
        return f"{prefix}_{self._numbers[prefix]}"

    def meet(self, scene: str, pair: tuple[Operation, Operation], switch_at: Collection[int] = ()) -> Met:
        """Run the two operations; the first one begins. Raise `Broken` or `Hangs`."""
        world = self.set_the_scene(scene)
        said = ["", ""]

        def actor(index: int, name: str) -> Actor:
            def work() -> None:
                try:
                    said[index] = pair[index].work(world)
                except RefundWorkerError as refused:
                    said[index] = f"refused: {refused.code}"

            return Actor(name, work)

        actors = (actor(0, "first"), actor(1, "second"))
        ask = None if self.database.is_sqlite else self._copies.waits_for_lock
        turns = Turns(actors, frozenset(switch_at), ask)
        self.trace = turns.trace
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            turns.run()
            for one in actors:
                if one.failure is not None:
                    raise Broken(f"{one.name} fell over: {type(one.failure).__name__}: {one.failure}") from one.failure
            ended = self._settle(world, sealed=any(one.name == "seal" for one in pair))
        finally:
            logging.disable(disabled)
        return Met((said[0], said[1]), ended, turns.steps, tuple(turns.possible))

    def _settle(self, world: World, sealed: bool) -> object:
        """Check the books, let time pass until nothing is open, check again, and return the final state."""
        _check_books(world)
        pause.resume_processor(world.context, "stripe")
        for refund_object in list(world.processor.objects.values()):
            if refund_object.status == "pending":
                world.processor.become(refund_object.processor_refund_id, "succeeded")
        for row in self._refunds():
            if row["status"] == "awaiting_approval":
                actions.perform_action(world.context, row["refund_id"], Action.APPROVE, actor="olga", reason="because")
        for _ in range(3):
            sync.sync_recent(world.context, "stripe")  # as the scheduler does every minute
            webhook_inbox.process_inbox(world.context)
            world.work_for(DAY)
            if all(row["status"] in (*ENDS, "needs_attention") for row in self._refunds()):
                break
            _expire(world.processor)
        _check_books(world)
        return self._check_ends(world, sealed)

    def _refunds(self) -> list[dict[str, Any]]:
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(select(tables.refunds)).mappings()]

    def _check_ends(self, world: World, sealed: bool) -> object:
        refunds = self._refunds()
        for row in refunds:
            if row["status"] not in (*ENDS, "needs_attention"):
                raise Broken(f"L1 {row['refund_id']} is still {row['status']}")
        with self.database.read() as connection:
            _check_timelines(connection.execute(select(tables.events).order_by(tables.events.c.seq)).mappings())
            legs = connection.execute(select(tables.legs)).mappings().all()
            on_account = tables.ledger_entries.c.account.startswith("processor:")
            ledger = connection.execute(select(func.sum(tables.ledger_entries.c.amount)).where(on_account)).scalar_one()
            captured = connection.execute(select(func.sum(tables.payments.c.amount_minor))).scalar_one()
        _check_money(world.processor, legs)
        if captured - ledger != world.processor.paid_minor():
            raise Broken(
                f"L2 {captured - ledger} paid out in the ledger, {world.processor.paid_minor()} at the processor"
            )
        if sealed and not hash_chain.verify(world.context).whole:
            raise Broken("L9 the chain is not whole")
        ends = sorted((row["client"], row["idempotency_key"], row["status"], row["credits"]) for row in refunds)
        return ends, world.account.balance, world.account.available, world.processor.paid_minor()


def _expire(processor: ScriptedProcessor) -> None:
    """End the refunds that the customer has not acted on. Until they expire they rightly stay pending."""
    for refund_object in list(processor.objects.values()):
        if refund_object.status == "requires_action":
            processor.become(refund_object.processor_refund_id, "failed")


def _check_books(world: World) -> None:
    if world.processor.broken:  # type: ignore[attr-defined]
        raise Broken(world.processor.broken[0])  # type: ignore[attr-defined]
    try:
        assert_books_balance(world.database)
    except AssertionError as error:
        raise Broken(f"I3 {str(error).splitlines()[0]}") from None


def _check_money(processor: ScriptedProcessor, legs: Any) -> None:
    """Check I1 and L2: a leg counts as paid if and only if one refund object or a person has paid it."""
    paid: Counter[str] = Counter()
    for refund_object in processor.objects.values():
        if refund_object.status == "succeeded" and refund_object.leg_id:
            paid[refund_object.leg_id] += refund_object.amount_minor
    for leg in legs:
        by_hand = str(leg["processor_refund_id"]).startswith("manual:")
        ours = leg["amount_minor"] if leg["status"] == "succeeded" and not by_hand else 0
        if ours != paid[leg["leg_id"]]:
            raise Broken(f"L2 {leg['leg_id']} ({leg['status']}): {ours} by our books, {paid[leg['leg_id']]} by theirs")


def _check_timelines(events: Any) -> None:
    """Check I5: each change starts from the status where the previous one ended. A lost update shows as a gap."""
    at: defaultdict[tuple[str, str | None], str | None] = defaultdict(lambda: None)
    for row in events:
        if row["refund_id"] is None:  # a pause or resume of a processor
            continue
        if row["kind"] == "internal_error":  # the engine survives, but the error itself is the finding
            raise Broken(f"L1 this program broke on {row['refund_id']}")
        name = (row["refund_id"], row["leg_id"])
        if row["from_status"] is not None and at[name] not in (None, row["from_status"]):
            raise Broken(f"I5 {name} was {at[name]} and went from {row['from_status']} to {row['to_status']}")
        at[name] = row["to_status"] or at[name]
