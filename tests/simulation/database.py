"""The real store on a real SQLite in memory, with a gate at every statement, commit and rollback.

All processes share one connection. No process yields inside a transaction, just as SQLite has only one writer. The
production `Database` is used unchanged; SQLAlchemy's `do_connect` event gives it this connection.
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

# Highest number of simultaneous processes in one schedule.
PROCESSES_MAX = 1000


class Deadlock(sqlite3.OperationalError):
    """The error that Postgres raises for one of two transactions. `Database.run` then starts again."""

    sqlstate = "40P01"


class Gate(Protocol):
    """The hooks around each step. They may raise; before BEGIN and after COMMIT they may let other processes run."""

    def begin(self, writes: bool) -> None: ...
    def statement(self, sql: str) -> None: ...
    def executed(self, sql: str) -> None: ...
    def committing(self, connection: GatedConnection) -> None: ...
    def committed(self, changes: int) -> None: ...
    def inert(self) -> bool: ...


class GatedCursor(sqlite3.Cursor):
    """A cursor that calls the gate around each statement."""

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        """Run one statement through the gate."""
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
        """Run one statement for many rows through the gate."""
        connection: GatedConnection = self.connection  # type: ignore[assignment]
        gate = connection.gate
        if gate is None:
            return super().executemany(sql, rows)
        connection.before(gate, sql)
        connection.cursors.append(self)
        super().executemany(sql, rows)
        gate.executed(sql)
        return self


class GatedConnection(sqlite3.Connection):
    """A connection that calls the gate. `lost` is set after a lost connection: nothing works until the rollback."""

    gate: Gate | None = None
    lost = False
    changes = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursors: list[sqlite3.Cursor] = []  # cursors of the open transaction

    def cursor(self, factory: Any = GatedCursor) -> Any:
        """Return a cursor that calls the gate."""
        return super().cursor(factory)

    def create_function(self, *_arguments: Any, **_options: Any) -> None:
        """Do nothing.

        SQLAlchemy calls this for each new connection, and it would fail while a dead process has unread rows.
        """

    def before(self, gate: Gate, sql: str) -> None:
        """Call the gate before a statement, and lose the connection if the gate says so."""
        if self.lost:
            raise sqlite3.OperationalError("the connection is lost")
        try:
            gate.statement(sql)
        except sqlite3.OperationalError:
            self.lose()
            raise

    def lose(self) -> None:
        """Lose the connection: the server rolls back."""
        self.lost = True
        if self.in_transaction:
            super().rollback()

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        """Run the pool's set-up statements, except PRAGMA: this connection is already set up."""
        # The pool prepares each new connection; this one is already prepared.
        return self.raw(sql, parameters) if not sql.startswith("PRAGMA") else None

    def raw(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """Run a statement for the observer, without the gate."""
        return super().cursor(sqlite3.Cursor).execute(sql, parameters)

    def commit(self) -> None:
        """Commit through the gate."""
        if self.gate is None or not self.in_transaction:
            super().commit()
            return
        self.gate.committing(self)
        changes = self.total_changes - self.changes
        super().commit()
        self.cursors.clear()
        self.gate.committed(changes)

    def rollback(self) -> None:
        """Roll back, and make a lost connection usable again."""
        self.lost = False
        # Cursors that a dead process left open. Python's garbage collector would reset their cached statements at any
        # time, also while another process runs one of them: "bad parameter or other API misuse".
        for cursor in self.cursors:
            cursor.close()
        self.cursors.clear()
        if self.in_transaction:
            super().rollback()

    def close(self) -> None:
        """Roll back, because the connection itself is shared."""
        self.rollback()


@cache
def template() -> bytes:
    """Return the image of an empty, migrated database."""
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
    """The database of one operating system process.

    `fresh()` empties it, so all schedules share compiled statements.
    """

    def __init__(self) -> None:
        # Not ":memory:", because SQLAlchemy then uses another pool than in production. The file is never opened.
        # One pool serves all processes, so it needs a connection for each of them, even if many are frozen.
        self.database = Database("sqlite:///simulated.db", pool_size=PROCESSES_MAX)
        Path("simulated.db").unlink(missing_ok=True)  # a database makes its file for its owner alone
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
        """Replace the content by an empty, migrated database."""
        self.connection.gate = None
        self.connection.rollback()
        self.connection.deserialize(template())
        self.connection.raw("PRAGMA foreign_keys=ON")
        self.connection.raw("PRAGMA synchronous=OFF")


@cache
def simulated_database() -> SimulatedDatabase:
    """Return this process's database."""
    return SimulatedDatabase()
