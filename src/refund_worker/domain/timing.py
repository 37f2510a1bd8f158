"""When a key may be sent again, when a sent call can no longer land, and how long to wait before the next try."""

from __future__ import annotations

import zlib

from refund_worker.domain.decision import Policy
from refund_worker.domain.refund import Leg, Refund

# A clock that is put right by less changes no decision: a key's life is hours shorter than the processor's own.
CLOCK_SLACK_SECONDS = 60.0
# A pending object is polled less and less often, but at least once a day.
POLL_SECONDS_MAX = 86_400.0


def key_lives(leg: Leg, now: float, policy: Policy) -> bool:
    """Return True while the key may be sent again. `lookup_required` forbids it after the clock was set back."""
    return leg.first_sent_at is not None and now - leg.first_sent_at < policy.key_use_seconds(leg.processor)


def lands_by(sent_at: float, policy: Policy) -> float:
    """When a send whose intent is dated so can land no more: its call may have begun at any time within the lease."""
    return sent_at + policy.lease_seconds + policy.quiet_seconds


def quiet_end(leg: Leg, policy: Policy) -> float:
    """When no call that was made for the leg can land any more, in epoch seconds."""
    return lands_by(leg.last_sent_at or 0, policy)


def key_outlives_what_may_land(leg: Leg, policy: Policy) -> bool:
    """Whether every copy of a call that may still arrive meets the answer that is stored under the leg's key.

    Then a replayed refusal is the fate of all of them: what was executed first was refused, and the rest are replays.
    """
    if leg.lookup_required or leg.first_sent_at is None:  # the key's age is unknown, or its stored answer is an error
        return False
    return quiet_end(leg, policy) <= leg.first_sent_at + policy.key_use_seconds(leg.processor)


def may_replay(leg: Leg, now: float, policy: Policy) -> bool:
    """Whether the current key may be sent again: what lands as late as can be must meet a key that is still known."""
    if leg.first_sent_at is None or not key_lives(leg, now, policy):
        return False
    return lands_by(now, policy) <= leg.first_sent_at + policy.rules_of(leg.processor).key_seconds


def clock_went_back(refund: Refund, now: float) -> bool:
    """Whether the refund was written at a time that has not come yet: somebody has set the database's clock back."""
    return refund.updated_at > now + CLOCK_SLACK_SECONDS


def at_most(time: float | None, limit: float) -> float | None:
    return None if time is None else min(time, limit)


def backoff_seconds(policy: Policy, leg: Leg) -> float:
    """Exponential, capped, and spread by ±25% in a way that depends on the leg alone, so that a run can be repeated."""
    spread = zlib.crc32(f"{leg.leg_id}/{leg.retry_count}".encode()) % 1000 / 2000 + 0.75
    base = min(policy.retry_base_seconds, policy.retry_max_seconds)
    seconds: float = min(base * 2.0 ** min(leg.retry_count, 30), policy.retry_max_seconds)
    return seconds * spread
