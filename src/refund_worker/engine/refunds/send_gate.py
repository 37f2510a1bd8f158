"""The kill switch between claim and call: what was claimed may wait for its turn for as long as the rate limit says."""

from __future__ import annotations

from collections.abc import Collection

from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.store.processors import ALL, paused_processors

# Well within the five seconds in which a pause must act, and no more than a read a second for each batch.
SWITCH_SECONDS = 1.0


class KillSwitch:
    """As the claim found it at `began`, read again once a second. Who can't be asked is taken for a no."""

    def __init__(self, context: Context, began: float) -> None:
        self._context = context
        self._read_at = began
        self._paused: Collection[str] = ()

    def stops(self, processor: str) -> bool:
        """Whether nothing may be sent to it now."""
        now = self._context.monotonic()
        if now - self._read_at >= SWITCH_SECONDS:
            self._paused, self._read_at = self._read(), now
        return processor in self._paused or ALL in self._paused

    def _read(self) -> Collection[str]:
        try:
            with self._context.database.read() as connection:
                return paused_processors(connection, self._context.clock(connection))
        except Unavailable:
            return (ALL,)
