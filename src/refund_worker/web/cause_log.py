"""Log why the database cannot be used, because the answers over HTTP do not say it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

WARN_SECONDS = 60.0
CAUSES_MAX = 100


class CauseLog:
    """Logs each cause at most once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[str, float] = {}

    def hear(self, cause: str) -> None:
        """Log this cause, unless it was logged in the last minute."""
        now = self._clock()
        if now - self._logged_at.get(cause, -WARN_SECONDS) >= WARN_SECONDS:
            if len(self._logged_at) >= CAUSES_MAX:
                self._logged_at.clear()
            self._logged_at[cause] = now
            log.warning("%s", cause)
