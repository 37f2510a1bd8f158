"""Claims: what others take of payments, read and written under the lock of the customer whose payment it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, bindparam, case, func, or_, select, update

from refund_worker.batching import batched
from refund_worker.domain.claims.claim import DECIDED_AS_OUTSIDE, LIVE, Claim, ClaimKind, Phase, ShortfallRule
from refund_worker.domain.claims.shares import ClaimedPayment
from refund_worker.domain.state_machine import TO_BE_SENT, UNPAID_FINAL
from refund_worker.store.accounts import surviving
from refund_worker.store.database import IDS_AT_ONCE, insert_into
from refund_worker.store.object_ownership import IS_PAID_MANUALLY, paid_manually_over
from refund_worker.store.payment_refs import named_payment
from refund_worker.store.tables import claim_refs, claims, legs, payments

_FIELDS = [field.name for field in fields(Claim)]
_CLAIM = [claims.c[name] for name in _FIELDS]
_LIVE = claims.c.phase.in_(sorted(LIVE))


def _claim(row: RowMapping) -> Claim:
    values: dict[str, Any] = dict(row)
    values["kind"], values["phase"] = ClaimKind(values["kind"]), Phase(values["phase"])
    values["rule"] = ShortfallRule(values["rule"]) if values["rule"] else None
    return Claim(**values)


def _row(claim: Claim) -> dict[str, Any]:
    return {name: getattr(claim, name) for name in _FIELDS}


def _read(connection: Connection, query: Select[Any]) -> list[Claim]:
    return [_claim(row) for row in connection.execute(query).mappings()]


def find_claim(connection: Connection, claim_id: str, *kinds: ClaimKind) -> Claim | None:
    """Return the claim if it is of one of these kinds, otherwise None."""
    found = _read(connection, select(*_CLAIM).where(claims.c.claim_id == claim_id, claims.c.kind.in_(kinds)))
    return found[0] if found else None


def earlier_refunds(connection: Connection, customer_ids: Collection[str]) -> list[Claim]:
    """Return what was refunded before payments of these customers were recorded, in the order of recording."""
    c = claims.c
    query = select(*_CLAIM).where(c.customer_id.in_(customer_ids), c.kind == ClaimKind.EARLIER_REFUND)
    return _read(connection, query.order_by(c.claim_id))


def claims_of_objects(
    connection: Connection, processor: str, kind: ClaimKind, object_ids: Iterable[str]
) -> dict[str, Claim]:
    """Return, by object id, the claims of this kind that are recorded for these objects of the processor."""
    found: dict[str, Claim] = {}
    where = and_(claims.c.processor == processor, claims.c.kind == kind)
    for chunk in batched(object_ids, IDS_AT_ONCE):
        query = select(*_CLAIM).where(where, claims.c.object_id.in_(chunk))
        found |= {claim.object_id: claim for claim in _read(connection, query)}
    return found


def claims_on(connection: Connection, payment_ids: Collection[str]) -> dict[str, list[Claim]]:
    """Return the claims on these payments by payment id, each list in the order of recording."""
    found: defaultdict[str, list[Claim]] = defaultdict(list)
    query = select(*_CLAIM).where(claims.c.payment_id.in_(payment_ids)).order_by(claims.c.claim_id)
    for claim in _read(connection, query):
        found[claim.payment_id or ""].append(claim)
    return found


def payments_to_settle(
    connection: Connection, customer_ids: Collection[str], payment_ids: Collection[str]
) -> list[str]:
    """Return the payments with live claims that are among `payment_ids`, or that lack credits of these customers."""
    c = claims.c
    lacking = and_(c.customer_id.in_(customer_ids), c.credits > c.held + c.taken)
    query = select(c.payment_id).where(_LIVE, or_(c.payment_id.in_(payment_ids), lacking)).distinct()
    return [payment_id for payment_id in connection.execute(query.order_by(c.payment_id)).scalars() if payment_id]


def disputes_to_fetch(connection: Connection, processor: str, ended_since: float, limit: int) -> list[str]:
    """Return the ids of disputes that have not ended, or were lost since then (epoch seconds)."""
    c = claims.c
    lately_lost = and_(c.phase == Phase.TAKEN, c.updated_at > ended_since)
    may_change = or_(c.phase.in_((Phase.HOLDING, Phase.SHOWN)), lately_lost)
    query = select(c.object_id).where(c.kind == ClaimKind.DISPUTE, c.processor == processor, may_change)
    return list(connection.execute(query.order_by(c.updated_at).limit(limit)).scalars())


def insert_claims(connection: Connection, new: Sequence[Claim]) -> None:
    """Insert claims that are not recorded yet; one whose object is recorded already is left as it is."""
    if new:
        connection.execute(insert_into(connection, claims).on_conflict_do_nothing(), [_row(claim) for claim in new])


def insert_refs(connection: Connection, refs: Iterable[tuple[str, str, str]]) -> None:
    """Store (processor, ref, claim id): the processor's names for the payment of a claim.

    A claim without a payment has them until the payment is recorded, and the closing of a payment keeps them.
    """
    rows = [{"processor": processor, "ref": ref, "claim_id": claim_id} for processor, ref, claim_id in refs]
    if rows:
        connection.execute(insert_into(connection, claim_refs).on_conflict_do_nothing(), rows)


def names_at_closing(connection: Connection, payment_ids: Collection[str]) -> dict[str, set[tuple[str, str]]]:
    """Return, by payment id, the (processor, ref) names that closed payments had until they were closed."""
    r, c = claim_refs.c, claims.c
    query = select(c.payment_id, r.processor, r.ref).join(claims, c.claim_id == r.claim_id)
    found: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for chunk in batched(sorted(payment_ids), IDS_AT_ONCE):
        rows = connection.execute(query.where(c.kind == ClaimKind.CLOSE, c.payment_id.in_(chunk)))
        for payment_id, processor, ref in rows:
            found[payment_id].add((processor, ref))
    return found


def unmatched_claims(connection: Connection, processor: str, refs: Collection[str]) -> dict[str, list[Claim]]:
    """Return, by ref, the claims without a payment that name one of these payments of the processor."""
    r = claim_refs.c
    query = (
        select(r.ref, *_CLAIM)
        .join(claims, claims.c.claim_id == r.claim_id)
        .where(r.processor == processor, claims.c.payment_id.is_(None))
        .order_by(claims.c.claim_id)
    )
    found: defaultdict[str, list[Claim]] = defaultdict(list)
    for chunk in batched(sorted(refs), IDS_AT_ONCE):
        for row in connection.execute(query.where(r.ref.in_(chunk))).mappings():
            values = dict(row)
            found[values.pop("ref")].append(_claim(values))  # type: ignore[arg-type]
    return found


_UPDATE = (
    update(claims)
    .where(claims.c.claim_id == bindparam("id"))
    .values({name: bindparam(name) for name in _FIELDS if name != "claim_id"})
)


def write_claims(connection: Connection, changed: Iterable[Claim]) -> None:
    """Write claims as they are now."""
    rows = [_row(claim) | {"id": claim.claim_id} for claim in changed]
    if rows:
        connection.execute(_UPDATE, rows)


def write_link(connection: Connection, claim_id: str, refund_id: str | None, linked_minor: int) -> None:
    """Write the refund of ours that a claim is linked to, and how much of its money that refund has."""
    values = {"refund_id": refund_id, "linked_minor": linked_minor}
    connection.execute(update(claims).where(claims.c.claim_id == claim_id).values(**values))


_takes_money = and_(
    legs.c.payment_id == payments.c.payment_id, *(legs.c.status != status for status in sorted(UNPAID_FINAL))
)


def _sum_of_legs(column: Any) -> Any:
    return select(func.coalesce(func.sum(column), 0)).where(_takes_money).correlate(payments).scalar_subquery()


_CLAIMED_PAYMENTS = select(
    payments.c.payment_id,
    payments.c.customer_id,
    payments.c.processor,
    payments.c.currency,
    payments.c.amount_minor,
    payments.c.captured_minor,
    payments.c.credits,
    payments.c.created_at.label("recorded_at"),
    payments.c.refunded_minor,
    _sum_of_legs(legs.c.payment_credits).label("leg_credits"),
    _sum_of_legs(legs.c.amount_minor).label("leg_minor"),
).where(payments.c.payment_id.in_(bindparam("payment_ids", expanding=True)))


def claimed_payments(connection: Connection, payment_ids: Collection[str]) -> list[ClaimedPayment]:
    """Return these payments with what legs take of them, by id. Call it under the customers' locks."""
    rows = connection.execute(_CLAIMED_PAYMENTS, {"payment_ids": list(payment_ids)}).mappings().all()
    named = paid_manually_over(connection, payment_ids)
    found = []
    for row in rows:
        values = dict(row)
        captured = values.pop("captured_minor")
        if captured is not None:
            values["amount_minor"] = min(values["amount_minor"], captured)
        values |= {name: int(values[name]) for name in ("leg_credits", "leg_minor")}  # Postgres sums to a decimal
        found.append(ClaimedPayment(**values, named_minor=named.get(values["payment_id"], {})))
    return sorted(found, key=lambda payment: payment.payment_id)


@dataclass(frozen=True, slots=True)
class ClaimedRoom:
    """The sums of the live claims on one payment: minor units, credits, outside refunds alone, and open disputes.

    `returned_minor` is the part of the payment's `refunded_minor` that is gone no longer, summed over all its claims.
    """

    payment_id: str
    minor: int
    credits: int
    outside_minor: int
    returned_minor: int
    open_disputes: int


def write_room(connection: Connection, room: ClaimedRoom) -> None:
    """Write the sums of the claims on a payment.

    Refunds of others that are recorded now are no longer among those that only the processor's own record shows.
    """
    p = payments.c
    more = room.outside_minor - p.outside_minor
    left = case((more <= 0, p.word_outside), (p.word_outside > more, p.word_outside - more), else_=0)
    connection.execute(
        update(payments)
        .where(p.payment_id == room.payment_id)
        .values(
            claimed_minor=room.minor,
            claimed_credits=room.credits,
            outside_minor=room.outside_minor,
            returned_minor=room.returned_minor,
            open_disputes=room.open_disputes,
            word_outside=left,
        )
    )


def refunds_with_unsent_legs(connection: Connection, payment_id: str) -> list[str]:
    """Return the ids of refunds with a leg over this payment for which no intent to send was committed yet."""
    query = select(legs.c.refund_id).where(
        legs.c.payment_id == payment_id, legs.c.status.in_(sorted(TO_BE_SENT)), legs.c.first_intent_at.is_(None)
    )
    return sorted(set(connection.execute(query).scalars()))


def refunds_over(connection: Connection, payment_id: str) -> list[str]:
    """Return the ids of refunds with a leg over this payment that may have paid, may pay or waits to."""
    query = select(legs.c.refund_id).where(
        legs.c.payment_id == payment_id, *(legs.c.status != status for status in sorted(UNPAID_FINAL))
    )
    return sorted(set(connection.execute(query).scalars()))


def named_elsewhere(connection: Connection, claim: Claim, refund_id: str) -> int:
    """Return the minor units of the claim's object that pay other refunds than this one, by the words of persons."""
    query = select(func.coalesce(func.sum(legs.c.amount_minor), 0)).where(
        *_names_object(claim.payment_id, claim.object_id), legs.c.refund_id != refund_id
    )
    linked = claim.linked_minor if claim.refund_id not in (None, refund_id) else 0
    return int(connection.execute(query).scalar_one()) + linked


def refunds_named(connection: Connection, payment_id: str, object_id: str) -> list[str]:
    """Return the ids of refunds with a leg over this payment that a person called paid by the object."""
    query = select(legs.c.refund_id).where(*_names_object(payment_id, object_id))
    return sorted(set(connection.execute(query).scalars()))


def _names_object(payment_id: Any, object_id: Any) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of legs over this payment that a person called paid by the object; columns or values."""
    return legs.c.payment_id == payment_id, legs.c.manual_reference == object_id, IS_PAID_MANUALLY


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFilters:
    """A choice of claims of one kind."""

    kind: ClaimKind
    limit: int
    after: str | None = None
    customer_id: str | None = None
    payment_id: str | None = None
    condition: str | None = None  # an API status of outside refunds, or the processor's of disputes

    def one_more(self) -> ClaimFilters:
        """Return the same filters for one row more, which says if another page follows."""
        return replace(self, limit=self.limit + 1)


def list_claims(connection: Connection, filters: ClaimFilters) -> list[Claim]:
    """Return the claims that pass the filters, the newest first, at most `limit`."""
    c = claims.c
    query = select(*_CLAIM).where(_LISTED[filters.kind]).order_by(c.claim_id.desc()).limit(filters.limit)
    if filters.customer_id is not None:
        query = query.where(c.customer_id == surviving(filters.customer_id))
    if filters.payment_id is not None:
        query = query.where(c.payment_id == named_payment(filters.payment_id))
    if filters.after is not None:
        query = query.where(c.claim_id < filters.after)
    if filters.condition is not None:
        is_outside = filters.kind is ClaimKind.OUTSIDE_REFUND
        query = query.where(_CONDITIONS[filters.condition] if is_outside else c.object_status == filters.condition)
    elif filters.kind is ClaimKind.OUTSIDE_REFUND:
        query = query.where(~_EXPLAINED)
    return _read(connection, query)


_c = claims.c
_LINKED = _c.refund_id.is_not(None)
_TO_DECIDE = and_(_c.phase == Phase.TAKEN, _c.rule == ShortfallRule.PERSON, _c.credits > _c.held + _c.taken)
_names = and_(*_names_object(_c.payment_id, _c.object_id))
# A person named the object as the manual payment of a leg: it counts for that leg, as one that is linked.
_NAMED = and_(
    _c.kind == ClaimKind.OUTSIDE_REFUND,
    _LIVE,
    ~_TO_DECIDE,
    select(legs.c.leg_id).where(_names).correlate(claims).exists(),
)
_MATCHED = and_(_c.payment_id.is_not(None), ~_LINKED, ~_NAMED)
# An object that `refunded_minor` of its payment explains whole is no news: it is not listed.
_EXPLAINED = and_(_c.kind == ClaimKind.OUTSIDE_REFUND, _MATCHED, _LIVE, _c.explained_minor >= _c.amount_minor)
_LISTED = {
    ClaimKind.OUTSIDE_REFUND: or_(
        _c.kind == ClaimKind.OUTSIDE_REFUND, and_(_c.kind.in_(DECIDED_AS_OUTSIDE), _TO_DECIDE)
    ),
    ClaimKind.DISPUTE: _c.kind == ClaimKind.DISPUTE,
}
_CONDITIONS = {
    "unmatched": and_(_c.payment_id.is_(None), ~_LINKED),
    "linked": or_(_LINKED, _NAMED),
    "failed": and_(_MATCHED, _c.phase == Phase.RELEASED),
    "pending": and_(_MATCHED, _c.phase == Phase.HOLDING, ~_EXPLAINED),
    "needs_decision": and_(_MATCHED, _TO_DECIDE),
    "posted": and_(_MATCHED, _c.phase == Phase.TAKEN, ~_TO_DECIDE, ~_EXPLAINED),
}


def refunds_that_name(connection: Connection, claim_ids: Collection[str]) -> dict[str, str]:
    """Return, by claim id, the refund of a leg for which a person named the claim's object as the manual payment."""
    query = (
        select(_c.claim_id, func.min(legs.c.refund_id)).join(legs, _names).where(~_LINKED, _NAMED).group_by(_c.claim_id)
    )
    found: dict[str, str] = {}
    for chunk in batched(claim_ids, IDS_AT_ONCE):
        found |= {row[0]: row[1] for row in connection.execute(query.where(_c.claim_id.in_(chunk)))}
    return found
