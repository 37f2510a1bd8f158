"""The gate of the simulated database: faults by rate, and the points where other processes run."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from tests.simulation.bank_records import HOUR
from tests.simulation.database import Deadlock, GatedConnection
from tests.simulation.faults import Faults
from tests.simulation.kernel import Died, Violation, World

# These tables are append-only (I4). The schema's triggers refuse changes too, but no code may even try.
FOR_EVER = tuple(f"{verb} {table}" for verb in ("UPDATE", "DELETE FROM") for table in ("ledger_", "events"))


class FaultyGate:
    """Draws the faults around each statement and commit."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        outages: list[tuple[float, float]],
    ) -> None:
        self.world = world
        self.faults = faults
        self.outages = outages
        self.on_commit: Callable[[int], None] = lambda _changes: None
        rates = faults.rates
        self.near_statements = any(
            rates.get(name)
            for name in ("die before a statement", "die after a statement", "connection lost in a transaction")
        )

    def begin(self, writes: bool) -> None:
        """Let other processes run first, for a moment or for hours."""
        self._inert()
        strikes, uniform = self.faults.strikes, self.world.random.uniform
        pause = uniform(0, 0.02)
        if strikes("slow"):
            pause = uniform(0, 3)
        if strikes("frozen"):
            pause = uniform(10, 12 * HOUR)
        self.world.sleep(pause)
        self._inert()
        if self.faults.on and any(start <= self.world.now < end for start, end in self.outages):
            self.faults.count("database outage")
            raise sqlite3.OperationalError("unable to open the database")
        if writes and strikes("locked"):
            raise sqlite3.OperationalError("database is locked")

    def statement(self, sql: str) -> None:
        """Check I4 and strike before the statement."""
        self._inert()
        if sql.startswith(FOR_EVER):
            raise Violation(f"I4 a statement changes what was written: {sql}")
        if not (self.near_statements and self.faults.on):
            return
        if self.faults.strikes("die before a statement"):
            self._die()
        if self.faults.strikes("connection lost in a transaction"):
            raise sqlite3.OperationalError("server closed the connection")

    def executed(self, sql: str) -> None:
        """Strike after the statement."""
        if self.near_statements and self.faults.on and self.faults.strikes("die after a statement"):
            self._die()

    def committing(self, connection: GatedConnection) -> None:
        """Strike before the commit."""
        self._inert()
        strikes = self.faults.strikes
        if strikes("die before the commit"):
            self._die()
        if strikes("deadlock"):
            connection.lose()
            raise Deadlock("deadlock detected")
        if strikes("commit unknown, not applied"):
            connection.lose()
            raise sqlite3.OperationalError("server closed the connection")

    def committed(self, changes: int) -> None:
        """Report the commit, and strike after it."""
        self.on_commit(changes)
        strikes = self.faults.strikes
        if strikes("die after the commit"):
            self._die()
        if strikes("commit unknown, applied"):
            raise sqlite3.OperationalError("server closed the connection")
        pause = self.world.random.uniform(0, 0.02)
        if strikes("frozen"):
            pause = self.world.random.uniform(10, 12 * HOUR)
        self.world.sleep(pause)
        self._inert()

    def inert(self) -> bool:
        """Return True if the running process is dead."""
        return self.world.running is not None and self.world.running.dead

    def _inert(self) -> None:
        if self.inert():
            raise Died

    def _die(self) -> None:
        process = self.world.running
        assert process is not None
        process.dead = True
        raise Died
