"""The workers and schedulers that report that they are alive, and the meaning of their silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.metrics import SWEEP_SECONDS
from refund_worker.store import processes
from refund_worker.store.reporting import metric_values


@dataclass(frozen=True, slots=True)
class Process:
    """One worker or scheduler; `age` is the number of seconds since its last report."""

    kind: str
    queues: tuple[str, ...]
    host: str
    pid: int
    version: str
    broker: str | None
    started_at: float
    seen_at: float
    age: float

    @property
    def alive(self) -> bool:
        """Return True if it has reported recently."""
        silent = processes.SILENT_SECONDS
        return self.age <= silent.get(self.kind, max(silent.values()))


@dataclass(frozen=True, slots=True)
class Health:
    """All processes that have reported, and the problems that follow from them, as sentences for people."""

    processes: Sequence[Process]
    problems: Sequence[str]

    def alive(self, kind: str) -> list[Process]:
        """Return the processes of this kind that are alive."""
        return [each for each in self.processes if each.kind == kind and each.alive]

    @property
    def broker(self) -> str | None:
        """Return the state of the broker as the schedulers that are alive see it, None without one."""
        return next((each.broker for each in self.alive("scheduler") if each.broker), None)


def has_ever_run(connection: Connection) -> bool:
    """Return True if a worker or scheduler has ever run here. One that was stopped in order leaves only its counts."""
    return bool(processes.reports(connection) or metric_values.counted(connection, SWEEP_SECONDS.name))


def process_health(connection: Connection, now: float) -> Health:
    """Return the health of the workers and schedulers that use this database."""
    found = []
    for row in processes.reports(connection):
        values = {name: row[name] for name in ("kind", "host", "pid", "version", "broker", "started_at", "seen_at")}
        queues = tuple(row["queues"].split(",")) if row["queues"] else ()
        found.append(Process(**values, queues=queues, age=max(0.0, now - row["seen_at"])))
    health = Health(found, ())
    return Health(found, _problems(health))


def _problems(health: Health) -> list[str]:
    if not health.processes:
        return []  # a new database, or one that only processes of an older version use
    problems = []
    if not health.alive("scheduler"):
        problems.append(
            "No scheduler is running: nothing is retried or polled, no webhook is processed, and refunds whose message "
            "is lost wait. Start one: refund-worker scheduler"
        )
    elif health.broker == "unreachable":
        problems.append(
            "The scheduler cannot reach the broker, so it processes the refunds itself, more slowly. Check the broker."
        )
    if not health.alive("worker") and health.broker not in ("unreachable", "none"):
        problems.append("No worker is running: no refund is sent. Start one: refund-worker worker")
    working = {queue for each in health.alive("worker") for queue in each.queues}
    named = {queue for each in health.processes for queue in each.queues}
    if health.alive("worker"):
        problems += [f"No running worker serves the queue {queue}." for queue in sorted(named - working)]
    return problems
