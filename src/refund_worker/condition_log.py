"""Log a condition, such as a read-only database, once for each episode, with the runbook's entry."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from refund_worker.alarms import Condition, condition_of_database, warn_of

# Seconds: the silence after which an episode of a cause has ended, and the pause before it is logged again meanwhile.
EPISODE_SECONDS = 60.0
REMIND_SECONDS = 600.0
CAUSES_MAX = 100


class ConditionLog:
    """Logs each cause once while it lasts, and again every ten minutes."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        # cause → (the time of its last occurrence, the time of its last line in the log)
        self._at: dict[str, tuple[float, float]] = {}

    def hear(
        self, cause: str, line: str | None = None, condition: Condition | None = None, **fields: str | None
    ) -> None:
        """Log `line` (by default the cause itself), unless this episode of the cause is in the log already.

        Without a `condition` the cause is one of the database. `fields` are more fields of the line.
        """
        now = self._clock()
        heard_at, logged_at = self._at.get(cause, (-EPISODE_SECONDS, -REMIND_SECONDS))
        is_new = now - heard_at >= EPISODE_SECONDS or now - logged_at >= REMIND_SECONDS
        if len(self._at) >= CAUSES_MAX:
            self._at.clear()
        self._at[cause] = now, now if is_new else logged_at
        if is_new:
            warn_of(self._log, condition or condition_of_database(cause), "%s", line or cause, **fields)
