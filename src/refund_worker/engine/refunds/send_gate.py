"""The kill switch between claim and call: what was claimed may wait for its turn for as long as the rate limit says."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from refund_worker.domain.decision import Policy, SendBlock
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.processors import registry
from refund_worker.store import processors
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


STALE_SECONDS_MIN = 60.0


def stale_seconds(policy: Policy) -> float:
    """So old may the last look be; a backup that is younger differs by what frozen keys and the next look find."""
    return max(STALE_SECONDS_MIN, policy.poll_seconds)


def stale_processors(connection: Connection, context: Context, now: float) -> frozenset[str]:
    """Processors that may have made more than this database knows: nothing is sent there until someone has looked.

    While nothing was sent, a person may have paid by hand: so may those whose pause has ended since the last look.
    """
    return processors.listed_before(connection, now - stale_seconds(context.policy), now)


def unsynced_processors(connection: Connection, context: Context, now: float) -> frozenset[str]:
    """Processors whose last look is too old for a first send to rely on it, though sends go on.

    Only where `POLL_SECONDS` is less than a minute: each payment's own list is then read before its first send.
    """
    if context.policy.poll_seconds >= STALE_SECONDS_MIN:
        return frozenset()
    return processors.listed_before(connection, now - context.policy.poll_seconds, now)


def send_blocks(connection: Connection, context: Context, now: float, named: Collection[str]) -> dict[str, SendBlock]:
    """To which of these processors nothing may be sent, and when what waits for them is looked at again."""
    at_last = now + context.policy.retry_max_seconds
    stopped = processors.paused_processors(connection, now)
    stale = stale_processors(connection, context, now)
    holds = {}
    for name in named:
        if registry.is_registered(name) and name not in context.processors:  # its key may come
            holds[name] = SendBlock(at_last, look_ups=False)
        elif name in stopped or name in stale or processors.ALL in stopped:
            # By hand, or for want of a look: whoever ends that wakes them.
            ends = None if name in stale or processors.ALL in stopped else stopped[name]
            holds[name] = SendBlock(at_last if ends is None else min(ends, at_last))
    return holds
