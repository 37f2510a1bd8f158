"""Store what this process has counted, every few seconds and when it stops."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from refund_worker.background import Background
from refund_worker.errors import Unavailable
from refund_worker.metrics import COUNTS
from refund_worker.store.database import Database
from refund_worker.store.reporting import metric_values

log = logging.getLogger(__name__)

# A process that is killed loses the counts of this time, and nothing else.
FLUSH_SECONDS = 5.0
# A page of metrics waits this long for the counts that another thread is storing.
OTHERS_SECONDS_MAX = 1.0


def flush(opened: Callable[[], AbstractContextManager[Database]]) -> Exception | None:
    """Store all counts. Return the error if the database could not take them; then they stay for the next time.

    Counts that another thread has taken are stored too, unless that takes longer than `OTHERS_SECONDS_MAX`.
    """
    is_alone = COUNTS.storing.acquire(timeout=OTHERS_SECONDS_MAX)
    try:
        return _store(opened)
    finally:
        if is_alone:
            COUNTS.storing.release()


def _store(opened: Callable[[], AbstractContextManager[Database]]) -> Exception | None:
    taken = COUNTS.take()
    if not taken:
        return None
    try:
        with opened() as database:
            database.run(lambda connection: metric_values.add(connection, taken))
    except Exception as error:  # noqa: BLE001 - monitoring must not stop the work
        COUNTS.put_back(taken)
        return error
    return None


class MetricFlusher(Background):
    """A thread that stores the counts of this process. Each process starts its own.

    `opened` opens the database for one storing; what it returns is closed afterwards. At the end the last counts are
    stored, unless the database did not answer the last time: a stop does not wait for it.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Database]], seconds: float = FLUSH_SECONDS) -> None:
        super().__init__("metric-flush", stop_seconds_max=seconds)
        self._opened, self._seconds = opened, seconds
        self._failing = False

    def run(self) -> None:
        """Store the counts periodically."""
        while not self.stopped.wait(self._seconds):
            self._flush()
        if not self._failing:
            self._flush()

    def _flush(self) -> None:
        error = flush(self._opened)
        if error is not None and not self._failing:
            level = logging.DEBUG if isinstance(error, Unavailable) else logging.WARNING
            log.log(level, "the metrics of this process are not stored: %s", type(error).__name__)
        self._failing = error is not None
