"""Record the acts of others on payments: one function for refund objects and one for disputes.

Webhooks, the sync, reconciliation and imports all end here. Reports are joined by object, so their order, loss and
repetition do not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind, phase_of_dispute, phase_of_refund, replaces_status
from refund_worker.domain.processor_replies import DisputeObject, RefundObject
from refund_worker.engine.claims.recording import explained_whole, record_claims, record_explained
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.object_ownership import sort_by_owner
from refund_worker.store import claims, payment_refs, payments
from refund_worker.store.installation import installation_id, outside_since


@dataclass(frozen=True, slots=True)
class Sighting:
    """One report of an object: what a claim for it would be, and the processor's names for its payment.

    `only_ours`: it is recorded only over a payment that we know, because another installation made it.
    """

    claim: Claim
    refs: tuple[str, ...]
    only_ours: bool = False

    def owner(self, owners: Mapping[str, str]) -> str | None:
        """Return the payment of the object, by `owners`: the payments of the processor's names."""
        return next((owners[ref] for ref in self.refs if ref in owners), None)


def record_outside_refunds(
    context: Context, processor: str, refund_objects: Iterable[RefundObject], *, since: float | None = None
) -> int:
    """Record the refunds among these that others made; return how many are new or have changed.

    One that a person linked counts for its leg, and its claim learns its end too: a part of it may have stayed outside.
    Refunds of our own are left out, and so are those with marks of this installation and an unknown leg: they are
    missing in a restored backup. `since` (epoch seconds) replaces the time before which refunds are not recorded
    without a person. An older one is recorded only if `refunded_minor` of its payment explains all of it. It takes
    nothing then, and its part of that amount explains no other refund.
    """
    with context.database.read() as connection:
        earliest = outside_since(connection, context.policy.outside_since) if since is None else since
        me = installation_id(connection)
        whose = sort_by_owner(connection, processor, refund_objects)
        now = context.clock(connection)
    sightings = [
        Sighting(_outside_refund(context, processor, item, now), item.payment_refs, item.installation not in (None, me))
        for item in (*whose.outside, *whose.linked)
    ]
    old = [sighting for sighting in sightings if sighting.claim.object_created_at < earliest]
    number, passed = _record_old(context, processor, old, earliest) if old else (0, frozenset())
    news = [sighting for sighting in sightings if sighting.claim.object_id not in passed]
    return number + _record(context, processor, ClaimKind.OUTSIDE_REFUND, news, _newer_refund)


def _record_old(
    context: Context, processor: str, sightings: Sequence[Sighting], since: float
) -> tuple[int, frozenset[str]]:
    """Record those of these refunds from before `since` that `refunded_minor` explains.

    Return how many are new, and the ids of all that were not recorded before: nothing else is to be done about them.
    """
    ids = [sighting.claim.object_id for sighting in sightings]
    with context.database.read() as connection:
        recorded = claims.claims_of_objects(connection, processor, ClaimKind.OUTSIDE_REFUND, ids)
        found = _by_payment_with_refunds(connection, processor, sightings)
        new = {
            payment_id: explained_whole(connection, payment_id, left, since)
            for payment_id, its in found.items()
            if (left := [claim for claim in its if claim.object_id not in recorded])
        }
    for payment_id, its in sorted(new.items()):
        if its:
            record_explained(context, payment_id, its, since)
    return sum(len(its) for its in new.values()), frozenset(ids) - recorded.keys()


def _by_payment_with_refunds(
    connection: Connection, processor: str, sightings: Iterable[Sighting]
) -> dict[str, list[Claim]]:
    """Return the claims of these sightings by payment, for payments that were recorded with a `refunded_minor`."""
    sightings = list(sightings)
    owners = payment_refs.payments_of_refs(connection, processor, {ref for s in sightings for ref in s.refs})
    known = payments.payments_by_id(connection, set(owners.values()))
    found: defaultdict[str, list[Claim]] = defaultdict(list)
    for sighting in sightings:
        payment = known.get(sighting.owner(owners) or "")
        if payment is not None and payment.refunded_minor and payment.currency == sighting.claim.currency:
            found[payment.payment_id].append(sighting.claim)
    return found


def _outside_refund(context: Context, processor: str, item: RefundObject, now: float) -> Claim:
    return Claim(
        claim_id=context.new_id("cl"),
        kind=ClaimKind.OUTSIDE_REFUND,
        processor=processor,
        object_id=item.processor_refund_id,
        amount_minor=item.amount_minor,
        currency=item.currency,
        object_status=item.status,
        phase=phase_of_refund(item.status),
        object_created_at=item.created_at.timestamp(),
        recorded_at=now,
        updated_at=now,
    )


def _newer_refund(before: Claim, reported: Claim) -> Claim | None:
    if not replaces_status(before.object_status, reported.object_status):
        return None
    return replace(before, object_status=reported.object_status, phase=reported.phase)


def record_disputes(context: Context, processor: str, disputes: Iterable[DisputeObject]) -> int:
    """Record these disputes as the processor has them now; return how many are new or have changed.

    The caller fetches each dispute: an event about it may be old.
    """
    disputes = list(disputes)
    with context.database.read() as connection:
        now = context.clock(connection)
    sightings = [Sighting(_dispute(context, processor, item, now), item.payment_refs) for item in disputes]
    return _record(context, processor, ClaimKind.DISPUTE, sightings, _newer_dispute)


def _dispute(context: Context, processor: str, item: DisputeObject, now: float) -> Claim:
    return Claim(
        claim_id=context.new_id("cl"),
        kind=ClaimKind.DISPUTE,
        processor=processor,
        object_id=item.dispute_id,
        amount_minor=item.amount_minor,
        currency=item.currency,
        object_status=item.status,
        phase=phase_of_dispute(item.status, money_returned=item.money_returned),
        reason=item.reason,
        due_by=item.due_by.timestamp() if item.due_by else None,
        object_created_at=item.created_at.timestamp(),
        recorded_at=now,
        updated_at=now,
    )


def _newer_dispute(before: Claim, reported: Claim) -> Claim | None:
    changed = replace(
        before,
        object_status=reported.object_status,
        phase=reported.phase,
        reason=reported.reason,
        due_by=reported.due_by,
        amount_minor=reported.amount_minor,
    )
    return None if changed == before else changed


Merge = Callable[[Claim, Claim], Claim | None]


def _record(context: Context, processor: str, kind: ClaimKind, sightings: Sequence[Sighting], newer: Merge) -> int:
    with context.database.read() as connection:
        news = _news(connection, processor, kind, sightings, newer)
    known = {payment_id: its for payment_id, its in news.items() if payment_id is not None}
    for payment_id, its in sorted(known.items()):
        record_claims(context, payment_id, [sighting.claim for sighting in its], newer)
    unmatched = [sighting for sighting in news.get(None, []) if not sighting.only_ours]
    if unmatched:
        context.database.run(lambda connection: _record_unmatched(connection, unmatched, newer))
    return sum(len(its) for its in known.values()) + len(unmatched)


def _news(
    connection: Connection, processor: str, kind: ClaimKind, sightings: Sequence[Sighting], newer: Merge
) -> dict[str | None, list[Sighting]]:
    """Return the sightings that say something new, by the payment that we know for them."""
    recorded = claims.claims_of_objects(connection, processor, kind, [s.claim.object_id for s in sightings])
    owners = payment_refs.payments_of_refs(connection, processor, {ref for s in sightings for ref in s.refs})
    currencies = {p.payment_id: p.currency for p in payments.payments_by_id(connection, set(owners.values())).values()}
    found: defaultdict[str | None, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        payment_id = sighting.owner(owners)
        if payment_id is not None and currencies[payment_id] != sighting.claim.currency:
            payment_id = None  # its share of the credits cannot be computed: a person sees it as unmatched
        before = recorded.get(sighting.claim.object_id)
        is_matched_anew = before is not None and before.payment_id is None and payment_id is not None
        if before is None or is_matched_anew or newer(before, sighting.claim) is not None:
            found[before.payment_id if before is not None and before.payment_id else payment_id].append(sighting)
    return found


def _record_unmatched(connection: Connection, sightings: Iterable[Sighting], newer: Merge) -> None:
    """Store objects over payments that we do not know. Nothing follows from them until the payment is recorded."""
    for sighting in sightings:
        reported = sighting.claim
        stored = claims.claims_of_objects(connection, reported.processor, reported.kind, [reported.object_id])
        before = stored.get(reported.object_id)
        if before is None:
            claims.insert_claims(connection, [reported])
            claims.insert_refs(connection, ((reported.processor, ref, reported.claim_id) for ref in sighting.refs))
        elif (changed := newer(before, reported)) is not None and before.payment_id is None:
            claims.write_claims(connection, [replace(changed, updated_at=reported.updated_at)])
