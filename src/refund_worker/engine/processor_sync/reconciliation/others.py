"""Compare the refunds and disputes that others made with our records of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind, replaces_status
from refund_worker.domain.processor_replies import DisputeObject, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.store import claims, object_ownership, payment_refs, payments


def outside_differences(
    connection: Connection, processor: str, refund_objects: Sequence[RefundObject]
) -> list[Difference]:
    """Return the refunds of others over our payments that are not recorded, or recorded in an older status.

    A refund that a person named as their manual payment is no difference. Neither is a refund without a recorded
    payment: it belongs to other business on the account.
    """
    if not refund_objects:
        return []
    ids = [item.processor_refund_id for item in refund_objects]
    recorded = claims.claims_of_objects(connection, processor, ClaimKind.OUTSIDE_REFUND, ids)
    refs = {ref for item in refund_objects for ref in item.payment_refs}
    owners = payment_refs.payments_of_refs(connection, processor, refs)
    customers = _customers(connection, owners.values())
    named: Counter[str] = Counter()
    for known in sorted(set(owners.values())):
        named.update(object_ownership.paid_manually(connection, known))
    found = []
    for item in refund_objects:
        payment_id = next((owners[ref] for ref in item.payment_refs if ref in owners), None)
        claim = recorded.get(item.processor_refund_id)
        ours = _recorded_status(claim, item)
        if payment_id is None or ours is None or named[item.processor_refund_id] >= item.amount_minor:
            continue
        found.append(
            Difference(
                Kind.OUTSIDE_REFUND,
                item.processor_refund_id,
                ours,
                item.amount_minor if ours == 0 else item.status or "none",
                item.processor_refund_id,
                payment_id=payment_id,
                customer_id=customers.get(payment_id),
                currency=item.currency,
                detail=f"{item.status}, made {item.created_at:%Y-%m-%d %H:%M} UTC",
            )
        )
    return found


def _recorded_status(claim: Claim | None, item: RefundObject) -> str | int | None:
    """Return the recorded status if it is older, 0 if nothing is recorded, or None if there is no difference."""
    if claim is None:
        return None if item.status in UNPAID_OBJECT_STATES else 0
    return (claim.object_status or "none") if replaces_status(claim.object_status, item.status) else None


def dispute_differences(connection: Connection, processor: str, disputes: Sequence[DisputeObject]) -> list[Difference]:
    """Return the disputes over our payments that are not recorded, or recorded in another status."""
    if not disputes:
        return []
    recorded = claims.claims_of_objects(
        connection, processor, ClaimKind.DISPUTE, [item.dispute_id for item in disputes]
    )
    owners = payment_refs.payments_of_refs(
        connection, processor, {ref for item in disputes for ref in item.payment_refs}
    )
    customers = _customers(connection, owners.values())
    found = []
    for item in disputes:
        payment_id = next((owners[ref] for ref in item.payment_refs if ref in owners), None)
        claim = recorded.get(item.dispute_id)
        if payment_id is None or (claim is not None and claim.object_status == item.status):
            continue
        found.append(
            Difference(
                Kind.DISPUTE,
                item.dispute_id,
                "not recorded" if claim is None else claim.object_status or "none",
                item.status or "none",
                item.dispute_id,
                payment_id=payment_id,
                customer_id=customers.get(payment_id),
                currency=item.currency,
                detail=f"{item.amount_minor} {item.currency}: {item.reason or 'no reason given'}",
            )
        )
    return found


def _customers(connection: Connection, payment_ids: Iterable[str]) -> dict[str, str]:
    found = payments.payments_by_id(connection, sorted(set(payment_ids)))
    return {payment_id: record.customer_id for payment_id, record in found.items()}
