"""Check if sends are blocked, at the claim and again before each call.

A claimed refund may wait for a slot for as long as the rate limit requires, and the kill switch may change meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from refund_worker.domain.account_names import connected_of, platform_of
from refund_worker.domain.decision import Policy, SendBlock
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.store import processors
from refund_worker.store.installation import server_of
from refund_worker.store.processors import ALL, paused_processors

# A pause must act within five seconds. This is well below it, and costs each batch at most one read a second.
SWITCH_SECONDS = 1.0
STALE_SECONDS_MIN = 60.0


class KillSwitch:
    """The kill switch during a batch, read once a second. `began` is the time of the claim in monotonic seconds.

    Nothing counts as paused in the first second: the claim left out the processors that were paused. If the database
    cannot be read, or is another server than `server`, all sends are stopped: a promoted standby may lack the claim.
    """

    def __init__(self, context: Context, began: float, server: str | None) -> None:
        self._context, self._server = context, server
        self._read_at = began
        self._paused: Collection[str] = ()

    def stops(self, processor: str) -> bool:
        """Return True if nothing may be sent to the processor now."""
        now = self._context.monotonic()
        if now - self._read_at >= SWITCH_SECONDS:
            self._paused, self._read_at = self._read(), now
        return not {processor, platform_of(processor), ALL}.isdisjoint(self._paused)

    def _read(self) -> Collection[str]:
        try:
            with self._context.database.read() as connection:
                if server_of(connection) != self._server:
                    return (ALL,)
                return paused_processors(connection, self._context.clock(connection))
        except Unavailable:
            return (ALL,)


def stale_seconds(policy: Policy) -> float:
    """Return the maximum age of the last listing, in seconds.

    A restored backup that is younger sends no refund twice that it knows: frozen keys and the next listing cover the
    difference. A refund that was accepted since the backup, and is requested again, can be paid twice until then.
    """
    return max(STALE_SECONDS_MIN, policy.poll_seconds)


def stale_processors(connection: Connection, context: Context, now: float) -> frozenset[str]:
    """Return the processors that may have made refunds unknown here: nothing is sent there until they are listed.

    Their last listing is older than `stale_seconds`, or was on another database server, which a standby has replaced.
    Or a pause has ended since: a person may have paid manually during the pause. A processor that was never listed is
    not among them. `now` is in epoch seconds.
    """
    return processors.listed_before(connection, now - stale_seconds(context.policy), now)


def unsynced_processors(connection: Connection, context: Context, now: float, named: Collection[str]) -> frozenset[str]:
    """Return the processors among `named` for which a first send cannot rely on a listing, although sends continue.

    These are connected accounts that were not listed yet and, if `POLL_SECONDS` is less than a minute, all whose last
    listing is too old. Over these processors, each payment's own list is read before its first send.
    """
    connected = frozenset(name for name in named if connected_of(name))
    new = connected - processors.listed_ones(connection, connected) if connected else connected
    if context.policy.poll_seconds >= STALE_SECONDS_MIN:
        return new
    return new | processors.listed_before(connection, now - context.policy.poll_seconds, now)


def send_blocks(connection: Connection, context: Context, now: float, named: Collection[str]) -> dict[str, SendBlock]:
    """Return, by name, the blocks of those `named` processors to which nothing may be sent at `now` (epoch seconds).

    A block ends at the latest after `retry_max_seconds`: then the refunds that wait for it are checked again.
    """
    at_last = now + context.policy.retry_max_seconds
    stopped = processors.paused_processors(connection, now)
    stale = stale_processors(connection, context, now)
    holds = {}
    for name in named:
        if name in context.accounts and name not in context.processors:  # its credentials may be configured later
            holds[name] = SendBlock(at_last, lookups_allowed=False, refuses_calls=True)
        elif platform_of(name) in stopped or name in stopped or name in stale or processors.ALL in stopped:
            # A manual pause and a stale listing have no known end: the resume or the listing re-queues the refunds.
            open_ended = name in stale or processors.ALL in stopped
            ends = None if open_ended else stopped.get(platform_of(name), stopped.get(name))
            refused = stopped.get(platform_of(name)) is not None or stopped.get(name) is not None
            holds[name] = SendBlock(at_last if ends is None else min(ends, at_last), refuses_calls=refused)
    return holds
