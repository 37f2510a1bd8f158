"""Postgres: an engine that works through any pooler, finds our schema, and leaves a server that only reads.

A pooler in transaction mode gives each transaction another session of the server. So nothing is prepared on the server,
nothing is a start-up option, and each transaction begins with its own time limits and its own schema. That costs no
round trip: it is one message with the BEGIN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError

from refund_worker.errors import BadSettings

DRIVER = "postgresql+psycopg"
# Postgres ends a statement, a wait for a lock, or an idle transaction after these seconds.
STATEMENT_SECONDS, LOCK_SECONDS, IDLE_SECONDS = 30, 10, 30
CONNECT_SECONDS = 5
# A server that has disappeared is noticed after these times, also during a wait for it (names of libpq). A new primary
# must be found within 15 seconds.
TCP = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
# A standby, or a server or database that was set to allow only reading.
READ_ONLY_STATE = "25006"
# Tells the two apart, for operators: (is it a standby, is the setting on, what has set it).
WHY_READ_ONLY = (
    "SELECT pg_is_in_recovery(), setting, source FROM pg_settings WHERE name = 'default_transaction_read_only'"
)
# Parameters that drivers and platforms add to a URL, and that change nothing here: nothing is ever prepared.
IGNORED = ("prepare_threshold", "pgbouncer")
# A connection for replication runs no SQL.
REFUSED = frozenset({"replication"})
SEVERAL = ("host", "port")
URL_NAME = "REFUND_WORKER_DATABASE_URL"
_SEVERAL_HOSTS = re.compile(
    r"(?P<before>postgresql[^:]*://(?:[^:/]*(?::[^@]*)?@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>.*)", re.DOTALL
)


def make_engine(url: URL, schema: str, pool: Mapping[str, Any], *, anywhere: bool = False) -> Engine:
    """Return the engine. `schema` holds our tables; `pool` are SQLAlchemy's arguments of a pool.

    With `anywhere` it only reads, also on a server that only reads.

    Raises `BadSettings` if the URL has a parameter that Postgres does not know.
    """
    defaults = {"connect_timeout": CONNECT_SECONDS, **TCP}
    arguments = {name: value for name, value in defaults.items() if name not in url.query}
    try:
        engine = create_engine(
            # Before SQLAlchemy 2.1, postgresql:// without a driver means psycopg2.
            url.set(drivername=DRIVER).difference_update_query(IGNORED),
            **pool,
            pool_pre_ping=True,
            connect_args={**arguments, "prepare_threshold": None, "autocommit": True},
            use_native_hstore=False,
            hide_parameters=True,
        )
    except ArgumentError:
        raise BadSettings(f"{URL_NAME}: port must be in digits, one for each host or one for all") from None
    driver = engine.dialect.loaded_dbapi
    _check(engine, driver)
    beginning = partial(_begin_anywhere if anywhere else _begin, driver, _beginning(schema))
    engine.dialect.do_begin = beginning  # type: ignore[method-assign]
    event.listen(engine, "handle_error", _leave_read_only_server)
    return engine


def parsed_url(url: str) -> URL:
    """Return the parts of a database's URL, in which Postgres may have several hosts: `h1:5432,h2:5432`.

    Of several hosts the one that accepts writes is used.
    """
    several = _SEVERAL_HOSTS.fullmatch(url)
    if several is None:
        return make_url(url)
    parts = make_url(several["before"] + several["after"])
    query = {"host": tuple(several["hosts"].split(",")), "target_session_attrs": "read-write"} | dict(parts.query)
    return parts.set(query=query)


def _check(engine: Engine, driver: Any) -> None:
    """Check what libpq would not: it never sees a parameter that the Python driver cannot read."""
    known = {option.keyword.decode() for option in driver.pq.Conninfo.get_defaults()} - REFUSED
    for name, value in engine.url.query.items():
        if name not in known:
            raise BadSettings(f"{URL_NAME}: {name} is no parameter of a Postgres connection: correct or remove it")
        if name not in SEVERAL and not isinstance(value, str):
            raise BadSettings(f"{URL_NAME}: {name} is set more than once: keep one")
    seconds = engine.url.query.get("connect_timeout") or "0"
    if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", str(seconds)):
        raise BadSettings(f"{URL_NAME}: connect_timeout must be seconds in digits, such as 5")


def _beginning(schema: str) -> str:
    """Return the statements that begin a transaction; the last one says if the server only reads."""
    limits = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    settings = "; ".join(f"SET LOCAL {name} = '{seconds}s'" for name, seconds in limits.items())
    return f'BEGIN; {settings}; SET LOCAL search_path = "{schema}"; SHOW transaction_read_only'


def _begin(driver: Any, beginning: str, dbapi_connection: Any) -> None:
    """Begin a transaction. Raises the error of a write to a read-only server if the server only reads.

    A demoted primary would otherwise answer reads with old data, and keep our connections for ever.
    """
    with dbapi_connection.cursor() as cursor:
        cursor.execute(beginning)
        while cursor.nextset():
            pass
        (answer,) = cursor.fetchone()
    if answer == "on":
        raise driver.errors.ReadOnlySqlTransaction("the server accepts no writes: it is a standby, or set to read only")


def _begin_anywhere(_driver: Any, beginning: str, dbapi_connection: Any) -> None:
    """Begin a transaction that cannot write, on any server."""
    with dbapi_connection.cursor() as cursor:
        cursor.execute(beginning.replace("BEGIN", "BEGIN READ ONLY", 1))


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Count a read-only server as a lost connection: SQLAlchemy then discards all connections of the pool."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_STATE:
        context.is_disconnect = True
