"""The reports of workers and schedulers that they are alive, which processes on other machines can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select

from refund_worker.store.database import insert_into
from refund_worker.store.tables import worker_processes

# Seconds of silence after which a process counts as ended. It reports every ten seconds; a scheduler that works itself
# may be busy for a minute.
SILENT_SECONDS: Mapping[str, float] = {"worker": 45.0, "scheduler": 150.0}
# The row of a process that was replaced goes this much earlier, so that it is never missed.
REPLACED_EARLIER_SECONDS = 15.0


def report(connection: Connection, row: Mapping[str, Any], now: float) -> None:
    """Store that this process is alive at `now`.

    The row has process_id, kind, queues, host, pid, version and broker. A process that ran earlier under the same
    process number on the same host has ended if it is silent, and its row goes. If it is not, it is another container
    with the same host name.
    """
    p = worker_processes.c
    silent = p.seen_at < now - SILENT_SECONDS[row["kind"]] + REPLACED_EARLIER_SECONDS
    same = (p.kind == row["kind"], p.host == row["host"], p.pid == row["pid"], p.process_id != row["process_id"])
    earlier = (*same, silent)
    connection.execute(delete(worker_processes).where(*earlier))
    insert = insert_into(connection, worker_processes).values(**row, started_at=now, seen_at=now)
    renewed = {"seen_at": now, "broker": row["broker"]}
    connection.execute(insert.on_conflict_do_update(index_elements=["process_id"], set_=renewed))


def forget(connection: Connection, process_id: str) -> None:
    """Delete the row of a process that stops in an orderly way."""
    connection.execute(delete(worker_processes).where(worker_processes.c.process_id == process_id))


def reports(connection: Connection) -> list[RowMapping]:
    """Return the rows of all processes, by kind, those that reported most recently first."""
    p = worker_processes.c
    query = select(worker_processes).order_by(p.kind, p.seen_at.desc(), p.process_id)
    return list(connection.execute(query).mappings())


def delete_silent(connection: Connection, before: float, limit: int) -> int:
    """Delete at most `limit` processes that have not reported since `before`; return how many.

    The last report of each kind stays: it says since when there is no such process.
    """
    p, same_kind = worker_processes.c, worker_processes.alias()
    last = select(func.max(same_kind.c.seen_at)).where(same_kind.c.kind == p.kind).scalar_subquery()
    old = select(p.process_id).where(p.seen_at < before, p.seen_at < last).order_by(p.seen_at).limit(limit)
    ids = list(connection.execute(old).scalars())
    return connection.execute(delete(worker_processes).where(p.process_id.in_(ids))).rowcount if ids else 0
