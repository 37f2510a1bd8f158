"""When a key may be sent again, when a sent call cannot land any more, and how long to wait before the next try."""

from __future__ import annotations

import zlib

from refund_worker.domain.decision import Policy
from refund_worker.domain.refund import Refund
from refund_worker.domain.send_state import SendState

# A clock that is put right by less changes no decision: a key's life is hours shorter than the processor's own.
CLOCK_SLACK_SECONDS = 60.0
# A pending object is polled less and less often, but at least once a day.
POLL_SECONDS_MAX = 86_400.0
# Where only events tell outcomes and the adapter names no limit, one must come within this time.
REPORT_SECONDS = 5 * 86_400.0


def key_lives(leg: SendState, now: float, policy: Policy) -> bool:
    """Return True while the key's first send is younger than our limit on its use.

    `may_replay` asks for more: the repeat must also arrive in time. After the limit a second refund could only be made
    under a new key, so even an empty list is not enough for one. `lookup_required` forbids a repeat after the clock
    went back.
    """
    return leg.first_sent_at is not None and now - leg.first_sent_at < policy.key_use_seconds(leg.processor)


def lands_by(leg: SendState, sent_at: float, policy: Policy) -> float:
    """Return the epoch second after which a send cannot land any more; `sent_at` is the time of its recorded intent.

    Its call may have begun at any time within the lease.
    """
    return sent_at + policy.lease_seconds + policy.quiet_seconds_of(leg.processor)


def quiet_end(leg: SendState, policy: Policy) -> float:
    """Return the epoch second after which no call made for the leg can land any more."""
    return lands_by(leg, leg.last_sent_at or 0, policy)


def key_outlives_what_may_land(leg: SendState, policy: Policy) -> bool:
    """Return True if every copy of a call that may still arrive meets the answer stored under the leg's key.

    Then a replayed refusal is the outcome of all copies: the one that was executed first was refused, and the rest are
    replays.
    """
    if leg.lookup_required or leg.first_sent_at is None:  # the key's age is unknown, or its stored answer is an error
        return False
    return quiet_end(leg, policy) <= leg.first_sent_at + policy.key_use_seconds(leg.processor)


def may_replay(leg: SendState, now: float, policy: Policy) -> bool:
    """Return True if the current key may be sent again.

    Even the latest possible arrival must fall within the time for which the processor keeps the key.
    """
    if leg.first_sent_at is None or not key_lives(leg, now, policy):
        return False
    return lands_by(leg, now, policy) <= leg.first_sent_at + policy.rules_of(leg.processor).key_seconds


def report_due_at(leg: SendState, policy: Policy, created_at: float) -> float:
    """Return the epoch second at which the event about the leg's object is overdue.

    A leg that was never sent is paid by a refund that a person linked: it is as old as its own refund, which was made
    at `created_at`.
    """
    return (leg.last_sent_at or created_at) + (policy.rules_of(leg.processor).report_seconds or REPORT_SECONDS)


def clock_went_back(refund: Refund, now: float) -> bool:
    """Return True if the refund was written in the future: the database's clock went back since."""
    return refund.updated_at > now + CLOCK_SLACK_SECONDS


def at_most(time: float | None, limit: float) -> float | None:
    """Return the earlier of the two times. No time stays None."""
    return None if time is None else min(time, limit)


def backoff_seconds(policy: Policy, leg: SendState) -> float:
    """Return the wait before the next try: exponential, capped, and spread by ±25%.

    The spread depends on the leg alone, so that a run can be repeated.
    """
    spread = zlib.crc32(f"{leg.leg_id}/{leg.retry_count}".encode()) % 1000 / 2000 + 0.75
    base = min(policy.retry_base_seconds, policy.retry_max_seconds)
    seconds: float = min(base * 2.0 ** min(leg.retry_count, 30), policy.retry_max_seconds)
    return seconds * spread
