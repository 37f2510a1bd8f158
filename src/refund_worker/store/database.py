"""The database: engine, transactions and its clock. Most differences between SQLite and Postgres are handled here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import ref

from sqlalchemy import Connection, Engine, FromClause, Select, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool

from refund_worker.errors import Unavailable, UnsafeSavepoint
from refund_worker.store import postgres
from refund_worker.store.connection_errors import cause_of, is_permission_denied

# Seconds for which a writer waits for another one before the caller gets 503.
BUSY_SECONDS = 30
# Seconds of waiting for a connection of this process's pool.
POOL_SECONDS = 5.0
# recursive_triggers: only with it does SQLite run the delete trigger for a row that REPLACE deletes.
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "recursive_triggers=ON")
# SQLSTATEs of deadlocks and serialisation failures: the database asks to run the transaction again.
TRIES = 5
RETRY_STATES = frozenset({"40001", "40P01"})
# SQLSTATEs that are temporary, although SQLAlchemy does not class them as operational errors: a read-only server (a
# standby, or a write-protected disk), and a transaction that was idle for too long.
PASSING_STATES = frozenset({postgres.READ_ONLY_STATE, "25P03"})
# Ids of one statement: fewer than either database takes as parameters.
IDS_AT_ONCE = 5_000

UNUSABLE = "the database cannot be used just now: try again"
READ_ONLY = "the database only allows reading just now, as a standby does: try again"

T = TypeVar("T")
_WRITE = "refund_worker_write"
_AFTER_COMMIT = "refund_worker_after_commit"
_BEGUN = "refund_worker_begun"


class Database:
    """One engine, created after the fork. `write()` and `read()` are the only ways to open a transaction."""

    def __init__(
        self,
        url: str,
        *,
        schema: str = "public",
        pool_size: int = 5,
        more: int | None = None,
        pool_seconds: float = POOL_SECONDS,
    ) -> None:
        """Make the engine. `schema` holds our tables on Postgres.

        `pool_size` connections are kept, and `more` (by default as many again) are opened while they are needed. A
        caller that gets none within `pool_seconds` gets `Unavailable`. Raises `BadSettings` for a parameter of the URL
        that Postgres does not know.
        """
        self.url = postgres.parsed_url(url)
        self.schema = schema
        # Called with the cause of each failure: a web process logs it, because its answers must not show it.
        self.on_failure: Callable[[str], None] = lambda _cause: None
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        more = pool_size if more is None else more
        pool = {"pool_size": pool_size, "max_overflow": more, "pool_timeout": pool_seconds}
        self.engine = _sqlite_engine(url, pool) if self.is_sqlite else postgres.make_engine(self.url, schema, pool)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes; on SQLite it takes the write lock at once.

        Raises `Unavailable` if the database cannot be used or is locked for too long.
        """
        acts: list[Callable[[], object]] = []
        with (
            self._as_unavailable(),
            self.engine.connect() as connection,
            connection.execution_options(**{_WRITE: True, _AFTER_COMMIT: acts}).begin(),
        ):
            yield connection
        for act in acts:
            act()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads. Raises `Unavailable` if the database does not answer."""
        with self._as_unavailable(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def read_anywhere(self) -> Iterator[Connection]:
        """Open a transaction that only reads, also on a server that only reads, whose rows may be old.

        It has a connection of its own, so that none is kept to such a server. Raises the same error as `read`.
        """
        if self.is_sqlite:
            with self.read() as connection:
                yield connection
            return
        engine = postgres.make_engine(self.url, self.schema, {"poolclass": NullPool}, anywhere=True)
        with self._as_unavailable(), engine.connect() as connection, connection.begin():
            yield connection

    def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a write transaction; after a deadlock or serialisation failure run it again from the start.

        It is tried at most `TRIES` times. Raises `Unavailable` after the last.
        """
        for _ in range(TRIES - 1):
            try:
                with self.write() as connection:
                    return work(connection)
            except TryAgain:
                continue
        with self.write() as connection:
            return work(connection)

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()

    @contextmanager
    def _as_unavailable(self) -> Iterator[None]:
        """Convert temporary errors of both databases to `Unavailable`; nothing was written then.

        Its message names neither the SQL nor its parameters, and its `cause` is for operators only.
        """
        try:
            yield
        except PoolTimeout:
            raise Unavailable("all database connections are busy: try again") from None
        except DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state in RETRY_STATES:
                raise TryAgain("the database is busy: try again") from error
            passes = state in PASSING_STATES or error.connection_invalidated or is_permission_denied(error)
            if passes or (isinstance(error, OperationalError) and not _is_our_fault(error)):
                message = READ_ONLY if state == postgres.READ_ONLY_STATE else UNUSABLE
                cause = f"the database cannot be used: {cause_of(error, self.url)}"
                self.on_failure(cause)
                raise Unavailable(message, cause=cause) from error
            raise


class TryAgain(Unavailable):
    """The database asks to run the whole transaction again after a deadlock or serialisation failure."""


def after_commit(connection: Connection, act: Callable[[], object]) -> None:
    """Call `act` once this transaction of `Database.write` is committed, and never if it is rolled back.

    In a caller's own transaction it is never called, because this program does not see the commit.
    """
    acts = connection.get_execution_options().get(_AFTER_COMMIT)
    if acts is not None:
        acts.append(act)


def now(connection: Connection) -> float:
    """Return the database's clock in epoch seconds.

    Leases and schedules use only this clock, so that the clocks of different machines are never mixed.
    """
    if connection.dialect.name == "sqlite":
        value = connection.exec_driver_sql("SELECT (julianday('now') - 2440587.5) * 86400.0").scalar_one()
    else:
        value = connection.exec_driver_sql(
            "SELECT extract(epoch FROM clock_timestamp())::double precision"
        ).scalar_one()
    return float(value)


def locked(
    connection: Connection, query: Select[Any], *, skip: bool = False, of: FromClause | None = None
) -> Select[Any]:
    """Return the query with row locks on Postgres; with `skip` it skips rows that others have locked.

    With `of`, only the rows of this table are locked.

    SQLite needs none: a writer locks the whole file. The key is not locked (`key_share`): rows that refer to these rows
    take their own lock on the key in the order of their insertion, and keys never change.
    """
    return (
        query if connection.dialect.name == "sqlite" else query.with_for_update(skip_locked=skip, key_share=True, of=of)
    )


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that supports ON CONFLICT. Both databases spell it alike; SQLAlchemy has a class for each."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def begin_for_real(connection: Connection) -> None:
    """Begin the transaction of a caller's engine in the database too, before a savepoint in it is released.

    By default Python's SQLite driver says BEGIN only before the first write. A savepoint set before that is the
    outermost one, and its release is a commit, whatever the caller does afterwards. Raises `UnsafeSavepoint` if the
    caller has set such a savepoint.
    """
    if not connection.in_transaction():
        connection.begin()
    if connection.dialect.name != "sqlite":
        return
    driver = connection.connection.driver_connection
    assert driver is not None  # the transaction has just begun on it
    root = connection.get_transaction()
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if root is not None:
            connection.info[_BEGUN] = ref(root)
    elif connection.in_nested_transaction() and _begins_late(driver):
        begun = connection.info.get(_BEGUN)
        if begun is None or begun() is not root:
            raise UnsafeSavepoint(
                "this savepoint may be the outermost, which SQLite commits when it is released: ask for the refund "
                "before the savepoint, or have your engine say BEGIN itself, as SQLAlchemy's page on SQLite shows"
            )


@contextmanager
def in_schema(connection: Connection, schema: str) -> Iterator[None]:
    """Let the statements of the block find our tables in a caller's transaction, and then the caller's own again.

    Use it inside a savepoint: the end of a failed one restores the caller's search_path. SQLite has no schemas.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    set_path = text("SELECT current_setting('search_path'), set_config('search_path', :path, true)")
    before, _ = connection.execute(set_path, {"path": f'"{schema}"'}).one()
    yield
    connection.execute(set_path, {"path": before})


def _begins_late(driver: Any) -> bool:
    """Return True if the driver decides when to say BEGIN: sqlite3's legacy mode, the only one in Python 3.11."""
    return driver.isolation_level is not None and getattr(driver, "autocommit", -1) == -1


def _is_our_fault(error: OperationalError) -> bool:
    """Return True for a missing table or column: that is not an outage."""
    return "no such" in str(error.orig)


def _make_private(path: Path) -> None:
    """Create a missing database file for its owner alone. SQLite gives its log and index the same rights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # if it exists, its rights are its owner's choice; SQLite reports every other error
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _sqlite_engine(url: str, pool: Mapping[str, Any]) -> Engine:
    path = make_url(url).database
    in_a_file = bool(path) and path != ":memory:"
    if path and in_a_file:
        _make_private(Path(path).expanduser())
    arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    # Errors quote the parameters of their statement; customers' texts must not get into a log.
    engine = create_engine(url, **(pool if in_a_file else {}), connect_args=arguments, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in PRAGMAS:
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader that starts to write in mid-transaction can only fail, so writers take the lock at BEGIN.
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def ping(database: Database) -> None:
    """Send a trivial query. Raises `Unavailable` if the database does not answer."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
