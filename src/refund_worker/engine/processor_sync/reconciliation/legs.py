"""Compare paid legs for which our books have no object with the objects that the processor has for them."""

from __future__ import annotations

from collections.abc import Sequence

from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.reconciliation.compare import compare
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.reading import find_of_payment
from refund_worker.engine.refunds.object_ownership import sort_by_owner
from refund_worker.store.reporting.reconciliation import RecordedLeg


def compare_paid_legs(context: Context, processor: str, legs: Sequence[RecordedLeg]) -> tuple[Difference, ...]:
    """Return the differences of these legs: the processor has no object for a leg, or those that it has differ.

    Raises `ListDenied` or `NotListed` without an answer.
    """
    wanted = {leg.leg_id for leg in legs}
    replies = find_of_payment(context, processor, [(leg.processor_payment_id, leg.leg_id) for leg in legs])
    # Several legs can be over one payment, whose objects are then found several times.
    objects = {item.processor_refund_id: item for reply in replies for item in reply.objects}
    with context.database.read() as connection:
        ours = [o for o in sort_by_owner(connection, processor, objects.values()).ours if o.leg_id in wanted]
        found = compare(connection, processor, [owned.refund_object for owned in ours])
    with_object = {owned.leg_id for owned in ours}
    missing = tuple(_missing(leg) for leg in legs if leg.leg_id not in with_object)
    return (*found.differences, *missing)


def _missing(leg: RecordedLeg) -> Difference:
    return Difference(
        Kind.NOT_THERE,
        leg.leg_id,
        leg.amount_minor,
        0,
        leg_id=leg.leg_id,
        refund_id=leg.refund_id,
        payment_id=leg.payment_id,
        customer_id=leg.customer_id,
        currency=leg.currency,
        detail="the leg is paid, and our books have no object for it",
    )
