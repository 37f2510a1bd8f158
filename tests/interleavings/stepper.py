"""Run two operations step by step: each is a thread that stops before every statement, commit and call.

Only one of them runs at a time. If it waits for the other's lock, the other continues. On SQLite the holder of the only
write lock is known; on Postgres the server is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Engine, event

# Postgres is asked about lock waits after this time without a step; then the limit for a whole schedule.
LOOK_SECONDS = 0.002
SCHEDULE_SECONDS = 30.0

_here = threading.local()


class Hangs(Exception):
    """Neither operation can continue."""


class Actor:
    """One operation. `pending` is the step it has stopped before; `connections` counts its open connections."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self.name = name
        self.work = work
        self.turns: Turns
        self.pending = ""
        self.finished = False
        self.in_statement = False
        self.waits_for_lock = False
        self.connections = 0
        self.backend = 0  # the Postgres process of its connection
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Run the operation in this thread."""
        _here.actor = self
        try:
            self.work()
        except BaseException as error:
            self.failure = error
        finally:
            del _here.actor
            self.turns.end(self)


class Turns:
    """Runs two actors, the first one first, and switches before each step with a number in `switch_at`.

    Steps count from 1 while neither has ended. `possible` has the steps at which a switch could have changed anything.
    """

    def __init__(
        self,
        actors: tuple[Actor, Actor],
        switch_at: Collection[int],
        waits_for_lock: Callable[[int], bool] | None,
    ) -> None:
        self.actors = actors
        self.switch_at = switch_at
        self._waits_for_lock = waits_for_lock  # by backend; on SQLite it is absent, because `_writer` is known
        self._writer: Actor | None = None
        self._changed = threading.Condition()
        self._turn: Actor | None = None
        self.steps = 0
        self.possible: list[int] = []
        self.trace: list[tuple[int, str, str]] = []
        for actor in actors:
            actor.turns = self

    def run(self) -> None:
        """Run both actors to their ends. Raise `Hangs` if that takes too long."""
        threads = [threading.Thread(target=actor.run, daemon=True) for actor in self.actors]
        for thread in threads:
            thread.start()
        with self._changed:
            self._changed.wait_for(lambda: all(actor.pending for actor in self.actors), SCHEDULE_SECONDS)
            self._turn = self.actors[0]
            self._changed.notify_all()
            looks = 0
            while not all(actor.finished for actor in self.actors):
                steps = len(self.trace)
                self._changed.wait(LOOK_SECONDS)
                looks = looks + 1 if len(self.trace) == steps else 0
                if looks:
                    self._look_for_a_lock()
                if looks * LOOK_SECONDS > SCHEDULE_SECONDS:
                    raise Hangs(f"neither goes on: {self.trace[-4:]}")
        for thread in threads:
            thread.join()

    def _look_for_a_lock(self) -> None:
        actor = self._turn
        if actor is None or self._waits_for_lock is None or not actor.in_statement:
            return
        other = self._other(actor)
        if other.finished or other.waits_for_lock or not self._waits_for_lock(actor.backend):
            return
        actor.waits_for_lock = True
        self._give(other)

    def _other(self, actor: Actor) -> Actor:
        return self.actors[1] if actor is self.actors[0] else self.actors[0]

    def _give(self, actor: Actor) -> None:
        self._turn = actor
        self._changed.notify_all()

    def _await(self, actor: Actor) -> None:
        self._changed.wait_for(lambda: self._turn is actor)

    # --- called by actors at their stops -----------------------------------------------------------------------------

    def stop(self, actor: Actor, what: str) -> None:
        """Stop the actor before `what`. The other one may run first."""
        other = self._other(actor)
        with self._changed:
            actor.pending = what
            self._changed.notify_all()
            self._await(actor)
            if not other.finished:
                self.steps += 1
                if not self._would_only_wait(other):
                    self.possible.append(self.steps)
                    if self.steps in self.switch_at:
                        self._give(other)
                        self._await(actor)
            while what == _BEGIN and self._writer is other:
                self._give(other)
                self._await(actor)
            if what == _BEGIN:
                self._writer = actor
            self.trace.append((self.steps, actor.name, what))

    def _would_only_wait(self, other: Actor) -> bool:
        return other.pending == _BEGIN and self._writer is self._other(other)

    def executed(self, actor: Actor) -> None:
        """Note that a statement has returned. An actor that waited for a lock must wait until it is selected again."""
        with self._changed:
            actor.in_statement = False
            actor.waits_for_lock = False
            self._await(actor)

    def let_go(self, actor: Actor) -> None:
        """Release the write lock at the end of the transaction."""
        with self._changed:
            if self._writer is actor:
                self._writer = None

    def end(self, actor: Actor) -> None:
        """Finish this actor and let the other one run."""
        with self._changed:
            actor.finished = True
            actor.pending = actor.pending or "end"
            self._give(self._other(actor))


_BEGIN = "BEGIN IMMEDIATE"


def stop_before(what: str) -> Actor | None:
    """Stop the actor of this thread before a step, and return it, or return None outside of a schedule."""
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None:
        actor.turns.stop(actor, what)
    return actor


def listen(engine: Engine) -> None:
    """Make every statement and commit on this engine a stop, for threads that are actors."""

    @event.listens_for(engine, "before_cursor_execute")
    def _before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        actor = stop_before(_BEGIN if statement.startswith(_BEGIN) else statement)
        if actor is not None:
            actor.in_statement = True

    @event.listens_for(engine, "after_cursor_execute")
    def _after(*_all: Any) -> None:
        _executed()

    @event.listens_for(engine, "handle_error")
    def _failed(_context: Any) -> None:
        _executed()

    @event.listens_for(engine, "commit")
    def _commit(_connection: Any) -> None:
        stop_before("COMMIT")

    @event.listens_for(engine, "checkout")
    def _checkout(dbapi_connection: Any, _record: Any, _proxy: Any) -> None:
        actor: Actor | None = getattr(_here, "actor", None)
        if actor is not None:
            actor.connections += 1
            actor.backend = dbapi_connection.info.backend_pid if hasattr(dbapi_connection, "info") else 0

    @event.listens_for(engine, "checkin")
    def _checkin(_dbapi_connection: Any, _record: Any) -> None:
        actor: Actor | None = getattr(_here, "actor", None)
        if actor is not None:
            actor.connections -= 1
            actor.turns.let_go(actor)


def _executed() -> None:
    actor: Actor | None = getattr(_here, "actor", None)
    if actor is not None and actor.in_statement:
        actor.turns.executed(actor)
