"""Replies of a processor that several tests of the engine use, and the way of a webhook's object to its refund."""

from __future__ import annotations

from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered, Blocked, RefundObject, Refused, Unanswered
from refund_worker.engine.refunds.replies import write_replies
from tests.support.engine_world import World

ERROR = Unanswered("HTTP 500", server_error=True)
EMPTY = Blocked("balance_insufficient", "not now")
REFUSED = Refused("expired_or_canceled_card", "no")
TOO_MUCH = Refused("amount_exceeds_unrefunded", "more than is left", more_than_left=True)


def tell(world: World, refund_id: str, refund_object: RefundObject) -> None:
    """Apply an object to its refund, as after a webhook event."""
    assert refund_object.leg_id is not None
    evidence = RecordedReply(refund_id, refund_object.leg_id, None, Answered(refund_object))
    world.database.run(lambda connection: write_replies(connection, world.context, [evidence]))
