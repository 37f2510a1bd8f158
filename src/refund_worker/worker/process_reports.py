"""Reports to the database that this process is alive, for the pages and metrics of other machines.

The heartbeat file serves health checks on the same machine. This report needs the database, and never stops a process.
"""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.background import Background
from refund_worker.condition_log import ConditionLog
from refund_worker.errors import Unavailable
from refund_worker.metrics import COUNTS
from refund_worker.settings import PREFIX, Settings
from refund_worker.worker.heartbeat import WorkerKind

if TYPE_CHECKING:
    from refund_worker.store.database import Database

log = logging.getLogger(__name__)

REPORT_SECONDS = 10.0
CHECK_SECONDS = 0.5
# Seconds. A database that does not answer must not hold up the end of the process.
STOP_SECONDS_MAX = 3.0
# The alarm about another installation at the same broker comes again after this time.
TELL_SECONDS = 600.0
IDS_SHOWN = 5


class BeatPipe:
    """A pipe through which the worker's event loop shows its supervisor that it turns, and passes its counts on."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self.write_end, False)  # a full pipe must not stop the worker
        self._unread = b""

    def beaten(self) -> bool:
        """Return True if there was a beat since the last call. The worker's counts are added to ours."""
        with suppress(BlockingIOError):
            while read := os.read(self._read_end, 4096):
                self._unread += read
        *lines, self._unread = self._unread.split(b"\n")
        for name, labels, part, value in map(json.loads, filter(None, lines)):
            COUNTS.put_back({(name, tuple(labels), part): value})
        return b"" in lines

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read_end)
        os.close(self.write_end)


class ProcessReports(Background):
    """A thread that stores a row for this process, renewed while `is_alive` says that it works, and its counts.

    `is_alive` is called from this thread twice a second; `broker` returns what the process knows of its broker. At the
    end the row is deleted: a process that stopped in an orderly way is not missed.
    """

    def __init__(
        self,
        settings: Settings,
        kind: WorkerKind,
        queues: Sequence[str] = (),
        *,
        is_alive: Callable[[], bool],
        broker: Callable[[], str | None] = lambda: None,
        report_seconds: float = REPORT_SECONDS,
    ) -> None:
        super().__init__("process-reports", STOP_SECONDS_MAX)
        self._settings, self._is_alive, self._broker = settings, is_alive, broker
        self._marked_at = self._told_at = -math.inf
        self._report_seconds = report_seconds
        self._row: dict[str, Any] = {
            "process_id": secrets.token_hex(8),
            "kind": kind,
            "queues": ",".join(queues),
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "version": version("refund-worker"),
        }

    def run(self) -> None:
        """Report until stopped."""
        # Heavy: imported while the process already starts its work.
        from refund_worker.engine.jobs.metric_flush import MetricFlusher
        from refund_worker.runtime import open_database

        with MetricFlusher(lambda: closing(open_database(self._settings))):
            self._report_until_stopped()

    def _opened(self) -> Database:
        from refund_worker.runtime import open_database

        database = open_database(self._settings)
        if self._row["kind"] == "worker":  # a scheduler's sweep says it already
            database.on_failure = ConditionLog(log).hear
        return database

    def _report_until_stopped(self) -> None:
        database: Database | None = None
        reported_at: float | None = None
        lived = False
        while not self.stopped.wait(min(CHECK_SECONDS, self._report_seconds)):
            lived = self._is_alive() or lived
            due = reported_at is None or time.monotonic() - reported_at >= self._report_seconds
            if lived and due:
                database = database or self._opened()
                self._safely(database, self._report)
                self._safely(database, self._mark)
                reported_at, lived = time.monotonic(), False
        self._is_alive()  # reads the worker's last counts
        if database is not None:
            if reported_at is not None:
                self._safely(database, self._forget)
            database.close()

    def _report(self, database: Database) -> None:
        from refund_worker.store import processes
        from refund_worker.store.database import now
        from refund_worker.store.schema import ensure_schema

        ensure_schema(database)
        row = self._row | {"broker": self._broker()}
        database.run(lambda connection: processes.report(connection, row, now(connection)))

    def _mark(self, database: Database) -> None:
        """Mark our installation at the broker, once a minute, and raise an alarm if another one uses the same keys."""
        from refund_worker.store.installation import installation_id
        from refund_worker.worker.installation_marks import MARK_SECONDS, mark

        now = time.monotonic()
        if now - self._marked_at < MARK_SECONDS:
            return
        self._marked_at = now
        with database.read() as connection:
            me = installation_id(connection)
        others = mark(self._settings, me)
        if others and now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            raise_alarm(
                log,
                Alarm.ANOTHER_INSTALLATION,
                "another installation (%s) uses the queues of this one (%s): set %sBROKER_PREFIX in one of them",
                ", ".join(others[:IDS_SHOWN]),
                me,
                PREFIX,
            )

    def _forget(self, database: Database) -> None:
        from refund_worker.store import processes

        database.run(lambda connection: processes.forget(connection, self._row["process_id"]))

    def _safely(self, database: Database, act: Callable[[Database], None]) -> None:
        try:
            act(database)
        except Unavailable as error:
            log.debug("the report of this process is not stored: %s", error.message)
        except Exception as error:  # noqa: BLE001 - whatever happens to a report, the work goes on
            log.warning("the report of this process is not stored: %s", type(error).__name__)
