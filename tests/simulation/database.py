"""The real store on a real SQLite, in memory, with a gate at every statement, commit and rollback.

All processes share one connection: no process gives way inside a transaction, just as SQLite's one writer does not.
The production `Database` is used as it is; SQLAlchemy's `do_connect` event hands it this connection.
"""

from __future__ import annotations

import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import event

from refund_worker.store.database import Database
from refund_worker.store.schema import ensure_schema

# At once in one schedule.
PROCESSES_MAX = 1000


class Deadlock(sqlite3.OperationalError):
    """What a Postgres says to the loser of two; `Database.run` begins again."""

    sqlstate = "40P01"


class Gate(Protocol):
    """What happens around each step; it may raise, and before BEGIN and after COMMIT it may let others run."""

    def begin(self, writes: bool) -> None: ...
    def statement(self, sql: str) -> None: ...
    def executed(self, sql: str) -> None: ...
    def committing(self, connection: GatedConnection) -> None: ...
    def committed(self, changes: int) -> None: ...
    def inert(self) -> bool: ...


class GatedCursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = ()) -> Any:
        connection: GatedConnection = self.connection  # type: ignore[assignment]
        gate = connection.gate
        if gate is None or sql.startswith("PRAGMA"):
            return super().execute(sql, parameters)
        if sql.startswith("BEGIN"):
            gate.begin(sql != "BEGIN")
            super().execute(sql)
            connection.changes = connection.total_changes
            return self
        connection.before(gate, sql)
        connection.cursors.append(self)
        super().execute(sql, parameters)
        gate.executed(sql)
        return self

    def executemany(self, sql: str, rows: Any) -> Any:
        connection: GatedConnection = self.connection  # type: ignore[assignment]
        gate = connection.gate
        if gate is None:
            return super().executemany(sql, rows)
        connection.before(gate, sql)
        super().executemany(sql, rows)
        gate.executed(sql)
        return self


class GatedConnection(sqlite3.Connection):
    """`lost` is set when the server has gone in mid-transaction: nothing works until the rollback."""

    gate: Gate | None = None
    lost = False
    changes = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursors: list[sqlite3.Cursor] = []  # of the transaction that is open

    def cursor(self, factory: Any = GatedCursor) -> Any:
        return super().cursor(factory)

    def create_function(self, *_arguments: Any, **_options: Any) -> None:
        """Asked for at each new connection; fails while a dead process's rows are unread."""

    def before(self, gate: Gate, sql: str) -> None:
        if self.lost:
            raise sqlite3.OperationalError("the connection is lost")
        try:
            gate.statement(sql)
        except sqlite3.OperationalError:
            self.lose()
            raise

    def lose(self) -> None:
        """The server rolls back by itself."""
        self.lost = True
        if self.in_transaction:
            super().rollback()

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        # The pool's preparation of a new connection; this one was prepared once and for all.
        return self.raw(sql, parameters) if not sql.startswith("PRAGMA") else None

    def raw(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """For the onlookers: no gate."""
        return super().cursor(sqlite3.Cursor).execute(sql, parameters)

    def commit(self) -> None:
        if self.gate is None or not self.in_transaction:
            super().commit()
            return
        self.gate.committing(self)
        changes = self.total_changes - self.changes
        super().commit()
        self.cursors.clear()
        self.gate.committed(changes)

    def rollback(self) -> None:
        self.lost = False
        for cursor in self.cursors:  # what a dead process had not read to its end
            cursor.close()
        self.cursors.clear()
        if self.in_transaction:
            super().rollback()

    def close(self) -> None:
        self.rollback()


@cache
def template() -> bytes:
    """An empty, migrated database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        database = Database(f"sqlite:///{path}")
        ensure_schema(database)
        database.close()
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=DELETE")
        image = connection.serialize()
        connection.close()
    return image


class SimulatedDatabase:
    """One for each system process: `fresh()` empties it, so that compiled statements are kept over all schedules."""

    def __init__(self) -> None:
        # Not ":memory:", for which SQLAlchemy takes another pool than in production; nothing is ever opened there.
        # One pool stands for those of all processes: it must have a place for each of them, however many are frozen.
        self.database = Database("sqlite:///simulated.db", pool_size=PROCESSES_MAX)
        self.connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, factory=GatedConnection, cached_statements=512
        )

        @event.listens_for(self.database.engine, "do_connect")
        def _connect(*_arguments: object) -> GatedConnection:
            return self.connection

        self.fresh()
        with self.database.read():
            pass

    def fresh(self) -> None:
        self.connection.gate = None
        self.connection.rollback()
        self.connection.deserialize(template())
        self.connection.raw("PRAGMA foreign_keys=ON")
        self.connection.raw("PRAGMA synchronous=OFF")


@cache
def simulated_database() -> SimulatedDatabase:
    return SimulatedDatabase()
