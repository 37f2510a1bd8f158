"""Try a call about a leg again, look for what it made, or start a new attempt: the same for refunds and for payouts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from refund_worker.domain.decision import PAUSE_SECONDS, Policy
from refund_worker.domain.legs import UNREACHABLE, L, clear_unreachable, fresh_attempt
from refund_worker.domain.processor_replies import Denied, NotSent
from refund_worker.domain.refund import Doubt
from refund_worker.domain.send_state import SendState
from refund_worker.domain.state_machine import LegOutcome
from refund_worker.domain.timing import backoff_seconds, quiet_end

# After this many tries an unreachable processor needs a person's attention. The tries continue.
BACKOFFS_BEFORE_ATTENTION = 12
# Limit of the backoff for look-ups that are answered and find nothing yet: they are no sign of an outage.
BACKOFFS_WHILE_ANSWERED = 8


class LegBuilder(Protocol[L]):
    """A decision in the making about a refund or a payout, as far as it concerns the calls for one leg."""

    @property
    def now(self) -> float: ...
    @property
    def calls_policy(self) -> Policy: ...
    def update_leg(self, leg: L, *args: Any, **changes: Any) -> L: ...
    def transition_leg(self, leg: L, outcome: LegOutcome, *args: Any, **changes: Any) -> L: ...


def was_asked(reply: object) -> bool:
    """Return True if the call began: only then is the missing result a sign that the processor cannot be reached."""
    return not isinstance(reply, NotSent) or reply.attempted


def attention_without_answer(leg: SendState) -> str | None:
    """Return why a person is alerted about a leg whose call got no answer, or None while no alert is needed."""
    return leg.attention_code or (UNREACHABLE if leg.retry_count >= BACKOFFS_BEFORE_ATTENTION else None)


def wait_for_access(builder: LegBuilder[L], leg: L, denied: Denied) -> None:
    """Send again later. Nothing was created or refused: the leg continues once the set-up is repaired."""
    seconds = min(PAUSE_SECONDS, builder.calls_policy.retry_max_seconds)
    if denied.maybe_kept:
        # The old key may repeat this answer for ever. A new key needs a look-up just before it.
        in_doubt = Doubt.of(unanswered=leg.unanswered, lookup_required=True, refusal=leg.refusal)
        leg = replace(leg, in_doubt=in_doubt)
        retry_later(builder, leg, LegOutcome.NO_ANSWER, denied.code, seconds=seconds)
    else:
        retry_unexecuted(builder, leg, denied.code, seconds)


def retry_unexecuted(
    builder: LegBuilder[L], leg: L, reason: str, seconds: float | None, *, counts: bool = True
) -> None:
    """Send again later. This send was not executed; an earlier one of the same attempt may have been."""
    outcome = LegOutcome.NO_ANSWER if leg.unanswered else LegOutcome.NOT_EXECUTED
    retry_later(builder, leg, outcome, reason, seconds=seconds, counts=counts)


def retry_later(
    builder: LegBuilder[L],
    leg: L,
    outcome: LegOutcome,
    reason: str,
    *,
    seconds: float | None = None,
    counts: bool = True,
) -> None:
    """Try again after the backoff, but not before `seconds`.

    `counts` is True if this is one more sign that the processor cannot be reached, so that the next wait is longer.
    """
    pause = backoff_seconds(builder.calls_policy, leg)
    waits = replace(leg, retry_count=leg.retry_count + counts)
    builder.transition_leg(
        waits,
        outcome,
        reason=reason,
        next_at=builder.now + max(pause, seconds or 0),
        failure_message=reason,
        attention_code=attention_without_answer(waits),
    )


def allow_sending(builder: LegBuilder[L], leg: L, asked_at: float) -> L:
    """Let the leg be sent. It keeps its place in the queue: at the queue's end the list would be too old again."""
    return builder.update_leg(leg, listed_at=asked_at, next_at=min(builder.now, leg.next_at or builder.now))


def schedule_lookup(builder: LegBuilder[L], leg: L) -> None:
    """Look the leg up soon, since most late effects land soon, and once more when the quiet window has passed."""
    waits = replace(clear_unreachable(leg), retry_count=min(leg.retry_count + 1, BACKOFFS_WHILE_ANSWERED))
    soon = builder.now + backoff_seconds(builder.calls_policy, waits)
    builder.update_leg(waits, next_at=min(soon, quiet_end(leg, builder.calls_policy)))


def start_again(builder: LegBuilder[L], leg: L, asked_at: float) -> None:
    """Start a new attempt. This needs proof that nothing of the last one exists, and that nothing can land any more."""
    fresh = fresh_attempt(replace(leg, in_doubt=None))
    absent = builder.transition_leg(
        fresh, LegOutcome.NOT_FOUND, reason="looked up: nothing exists", attention_code=None
    )
    allow_sending(builder, absent, asked_at)
