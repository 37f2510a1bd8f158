"""Figures for monitoring, from indexes that stay small: finished refunds are not counted, however many there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError, OperationalError

from refund_worker.domain.refund import UNDER_WAY
from refund_worker.domain.state_machine import TO_BE_SENT
from refund_worker.errors import Unavailable
from refund_worker.store.database import Database
from refund_worker.store.tables import events, inbox, legs, metric_values, outbox, payments, processors, refunds


def count_in(connection: Connection, statuses: Collection[str]) -> dict[str, int]:
    """Return the number of refunds in each of these statuses."""
    query = select(refunds.c.status, func.count()).where(refunds.c.status.in_(statuses)).group_by(refunds.c.status)
    return dict.fromkeys(statuses, 0) | {row[0]: row[1] for row in connection.execute(query)}


def oldest_in(connection: Connection, statuses: Collection[str]) -> float | None:
    """Return when the oldest refund in these statuses was accepted (epoch seconds), or None.

    Ids sort by time, so the index finds it.
    """
    r = refunds.c
    one = refunds.alias()  # an alias: a subquery of the same table would refer to the outer row
    oldest = [
        select(one.c.refund_id).where(one.c.status == status).order_by(one.c.refund_id).limit(1).scalar_subquery()
        for status in statuses
    ]
    at: float | None = connection.execute(select(func.min(r.created_at)).where(r.refund_id.in_(oldest))).scalar()
    return at


def count_due(connection: Connection, now: float) -> int:
    """Return how many refunds wait for a worker at `now`."""
    return connection.execute(select(func.count()).where(refunds.c.due_at <= now)).scalar_one()


def count_to_be_sent(connection: Connection) -> dict[str, int]:
    """Return, by processor, how many unfinished refunds have a leg that is still to be sent there."""
    r = refunds.c
    query = (
        select(legs.c.processor, func.count(legs.c.refund_id.distinct()))
        .join(refunds, r.refund_id == legs.c.refund_id)
        .where(r.status.in_(UNDER_WAY), r.due_at.is_not(None), legs.c.status.in_(TO_BE_SENT))
        .group_by(legs.c.processor)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def count_waiting_events(connection: Connection) -> int:
    """Return how many webhook events are not processed yet."""
    return connection.execute(select(func.count()).where(inbox.c.taken_at.is_(None))).scalar_one()


def is_known_processor(connection: Connection, name: str) -> bool:
    """Return True if a payment names this processor or it was ever paused or listed."""
    paid = select(payments.c.payment_id).where(payments.c.processor == name).limit(1)
    switch = select(processors.c.name).where(processors.c.name == name)
    return connection.execute(paid).first() is not None or connection.execute(switch).first() is not None


def oldest_waiting_event(connection: Connection) -> float | None:
    """Return when the oldest webhook event that is not processed yet was received (epoch seconds), or None."""
    at: float | None = connection.execute(
        select(inbox.c.received_at).where(inbox.c.taken_at.is_(None)).order_by(inbox.c.received_at).limit(1)
    ).scalar()
    return at


def count_notifications(connection: Connection) -> dict[str, int]:
    """Return how many notifications wait for a delivery (`waiting`), and how many have no further try (`given_up`)."""
    o = outbox.c
    waiting = connection.execute(select(func.count()).where(o.next_at.is_not(None))).scalar_one()
    given_up = connection.execute(select(func.count()).where(o.given_up_at.is_not(None))).scalar_one()
    return {"waiting": waiting, "given_up": given_up}


def oldest_unsealed(connection: Connection, sealed_up_to: int) -> float | None:
    """Return the time of the first timeline event after `sealed_up_to` (its `seq`), or None if all are sealed."""
    e = events.c
    at: float | None = connection.execute(select(e.at).where(e.seq > sealed_up_to).order_by(e.seq).limit(1)).scalar()
    return at


def can_write(database: Database) -> bool:
    """Return True if the database accepts writes: it is no standby, not read-only, and its disk takes a lock."""
    try:
        if database.is_sqlite:
            return _file_takes_writes(database)
        with database.write() as connection:
            read_only = connection.execute(select(func.current_setting("transaction_read_only"))).scalar_one()
            return bool(read_only == "off")
    except (Unavailable, DBAPIError):
        return False


def _file_takes_writes(database: Database) -> bool:
    """Return True if a write that changes no row succeeds, or only has to wait for another one: it does not wait."""
    with database.read() as connection:
        before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        try:
            connection.execute(metric_values.update().where(metric_values.c.name == "").values(value=0))
        except OperationalError as error:
            code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            return bool(code & 0xFF == sqlite3.SQLITE_BUSY)
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {before}")
    return True
