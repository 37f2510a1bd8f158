"""Decide about an unknown outcome at a processor that has no list of refunds: absence can never be proved there."""

from __future__ import annotations

from refund_worker.domain.decision import SendBlock
from refund_worker.domain.decision_builder import DecisionBuilder
from refund_worker.domain.handle_reply import conclude_not_found
from refund_worker.domain.legs import is_watched
from refund_worker.domain.refund import Leg
from refund_worker.domain.timing import backoff_seconds, may_replay, quiet_end


def wait_without_list(builder: DecisionBuilder, leg: Leg, block: SendBlock | None) -> None:
    """Decide about a leg that would be looked up, if that were possible.

    While a call may still take effect, the leg waits: a signed event may tell its outcome. While only a pause or the
    payment forbids the repeat under the same key, it waits for that. Afterwards a person decides.
    """
    end = quiet_end(leg, builder.policy)
    if leg.unanswered and block is not None:
        builder.update_leg(leg, next_at=block.until)
    elif leg.unanswered and not leg.lookup_required and may_replay(leg, builder.now, builder.policy):
        builder.update_leg(
            leg, next_at=builder.now + backoff_seconds(builder.policy, leg), retry_count=leg.retry_count + 1
        )
    elif leg.unanswered and builder.now < end:
        builder.update_leg(leg, next_at=end)
    elif is_watched(leg):
        builder.update_leg(leg, in_doubt=leg.doubt_once_answered, next_at=None)
    else:
        conclude_not_found(builder, leg, builder.now)
