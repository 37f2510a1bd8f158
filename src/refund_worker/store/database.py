"""The database: engine, transactions and its clock. What differs between SQLite and Postgres hides here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from weakref import ref

from sqlalchemy import Connection, Engine, Select, Table, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from refund_worker.errors import Unavailable, UnsafeSavepoint

# How long a writer waits for another one before the caller gets 503.
BUSY_SECONDS = 30
# Postgres ends what takes longer: a statement, a wait for a lock, a transaction whose process stands still.
STATEMENT_SECONDS, LOCK_SECONDS, IDLE_SECONDS = 30, 10, 30
# How long anybody waits for one of this process's connections, and for a server that is not there.
POOL_SECONDS = 5.0
CONNECT_SECONDS = 5
# A server that has vanished is noticed after so long, also in the middle of a wait for it (libpq's words).
TCP = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
# With recursive triggers a row that is replaced is deleted by the rules, so that its delete trigger is asked.
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "recursive_triggers=ON")
# Deadlocks and serialisation failures are the database's way of saying "again, please".
TRIES = 5
RETRY_STATES = frozenset({"40001", "40P01"})
# Not operational errors by their class, but they pass: a server that only reads (a standby just now, or a disk that
# somebody protects), and a transaction that stood still for too long.
PASSING_STATES = frozenset({"25006", "25P03"})
# Ids of one statement: fewer than either database takes as parameters.
IDS_AT_ONCE = 5_000

T = TypeVar("T")
_WRITE = "refund_worker_write"
_BEGUN = "refund_worker_begun"


class Database:
    """One engine, made after the fork. `write()` and `read()` are the only ways to a transaction."""

    def __init__(self, url: str, *, pool_size: int = 5, pool_seconds: float = POOL_SECONDS) -> None:
        """Up to twice `pool_size` connections; who gets none within `pool_seconds` hears `Unavailable`."""
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        pool = {"pool_size": pool_size, "max_overflow": pool_size, "pool_timeout": pool_seconds}
        self.engine = _sqlite_engine(url, pool) if self.is_sqlite else _postgres_engine(url, pool)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: on SQLite it takes the lock at once. Raises `Unavailable` where it can't."""
        with (
            _as_unavailable(),
            self.engine.connect() as connection,
            connection.execution_options(**{_WRITE: True}).begin(),
        ):
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with _as_unavailable(), self.engine.connect() as connection, connection.begin():
            yield connection

    def run(self, work: Callable[[Connection], T]) -> T:
        """`work` in a write transaction, run again from the start after a deadlock or a serialisation failure."""
        for _ in range(TRIES - 1):
            try:
                with self.write() as connection:
                    return work(connection)
            except TryAgain:
                continue
        with self.write() as connection:
            return work(connection)

    def close(self) -> None:
        self.engine.dispose()


class TryAgain(Unavailable):
    """The database asked for the whole transaction again (deadlock, serialisation failure)."""


def now(connection: Connection) -> float:
    """The database's own clock, in seconds since the epoch: leases and schedules never mix two machines' clocks."""
    if connection.dialect.name == "sqlite":
        value = connection.exec_driver_sql("SELECT (julianday('now') - 2440587.5) * 86400.0").scalar_one()
    else:
        value = connection.exec_driver_sql(
            "SELECT extract(epoch FROM clock_timestamp())::double precision"
        ).scalar_one()
    return float(value)


def locked(connection: Connection, query: Select[Any], *, skip: bool = False) -> Select[Any]:
    """The query with row locks, where the database has them; an SQLite writer has the whole file.

    Without the key: rows that refer to these take a lock of their own on it in the order of their insertion, and keys
    never change.
    """
    return query if connection.dialect.name == "sqlite" else query.with_for_update(skip_locked=skip, key_share=True)


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that knows ON CONFLICT; both databases spell it alike, SQLAlchemy has one for each."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def begin_for_real(connection: Connection) -> None:
    """Have the transaction of somebody else's engine begin in the database too, before a savepoint in it is released.

    Unless told otherwise Python's SQLite driver says BEGIN only before the first write. A savepoint that comes earlier
    is the outermost, and its release is a commit, whatever the caller does afterwards. Raises `UnsafeSavepoint` where
    the caller has set such a savepoint himself.
    """
    if not connection.in_transaction():
        connection.begin()
    if connection.dialect.name != "sqlite":
        return
    driver = connection.connection.driver_connection
    assert driver is not None  # it is what has just begun
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


def _begins_late(driver: Any) -> bool:
    """Whether the driver itself decides when to say BEGIN (sqlite3 calls it the legacy way; all of Python 3.11 is)."""
    return driver.isolation_level is not None and getattr(driver, "autocommit", -1) == -1


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Turn "not now" of either database into `Unavailable`; nothing was written then. Text and SQL stay inside."""
    try:
        yield
    except PoolTimeout:
        raise Unavailable("all database connections are busy: try again") from None
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in RETRY_STATES:
            raise TryAgain("the database is busy: try again") from error
        passes = state in PASSING_STATES or error.connection_invalidated
        if passes or (isinstance(error, OperationalError) and not _is_our_fault(error)):
            raise Unavailable("the database can't be used just now: try again") from error
        raise


def _is_our_fault(error: OperationalError) -> bool:
    """A missing table or column is not an outage."""
    return "no such" in str(error.orig)


def _postgres_engine(url: str, pool: Mapping[str, Any]) -> Engine:
    limits = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    options = " ".join(f"-c {name}={seconds}s" for name, seconds in limits.items())
    arguments = {"options": options, "connect_timeout": CONNECT_SECONDS, **TCP}
    return create_engine(url, **pool, pool_pre_ping=True, connect_args=arguments, hide_parameters=True)


def _sqlite_engine(url: str, pool: Mapping[str, Any]) -> Engine:
    path = make_url(url).database
    in_a_file = bool(path) and path != ":memory:"
    if path and in_a_file:
        Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
    arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False}
    # Customers' texts are not for a log, and an error quotes its statement's parameters.
    engine = create_engine(url, **(pool if in_a_file else {}), connect_args=arguments, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _prepare(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in PRAGMAS:
            dbapi_connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A reader that turns writer in mid-transaction can only fail: writers say so at once.
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def ping(database: Database) -> None:
    """Raises `Unavailable` when the database does not answer."""
    with database.read() as connection:
        connection.execute(text("SELECT 1"))
