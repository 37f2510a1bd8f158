"""The ledger's movements of money at one processor, and what our records say about the objects that moved it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, and_, func, select, tuple_

from refund_worker.batching import batched
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.ledger import EntryKind, processor_account
from refund_worker.store.database import IDS_AT_ONCE
from refund_worker.store.tables import claims, ledger_entries, ledger_transactions, legs, refund_objects

_t, _e, _l, _k, _o = (table.c for table in (ledger_transactions, ledger_entries, legs, claims, refund_objects))
_PAYOUTS = (EntryKind.PAYOUT, EntryKind.PAYOUT_REVERSAL)
_OF_CLAIMS = (EntryKind.OUTSIDE_REFUND, EntryKind.CHARGEBACK, EntryKind.REVERSAL)
_COMPARED = (ClaimKind.OUTSIDE_REFUND, ClaimKind.DISPUTE)

Place = tuple[float, int]


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that left the processor's account (below zero: that came back) for a leg or for the claim of an object."""

    minor: int
    currency: str
    leg_id: str | None = None
    claim_kind: ClaimKind | None = None
    object_id: str = ""


def movements(
    connection: Connection, processor: str, begin: float, end: float, after: Place | None, limit: int
) -> tuple[list[Movement], Place | None]:
    """Return the next movements in this time at the processor, and the place to go on after, or None at the end."""
    query = (
        select(_t.seq, _t.occurred_at, _t.transaction_id, _t.kind, _t.refers_to, _e.unit, _e.amount)
        .join(ledger_entries, _e.transaction_id == _t.transaction_id)
        .where(
            _e.account == processor_account(processor),
            _t.kind.in_((*_PAYOUTS, *_OF_CLAIMS)),
            _t.occurred_at >= begin,
            _t.occurred_at < end,
        )
        .order_by(_t.occurred_at, _t.seq)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(_t.occurred_at, _t.seq) > tuple_(*after))
    rows = connection.execute(query).mappings().all()
    of_claims = {_claim_id(row) for row in rows if row["kind"] in _OF_CLAIMS}
    its_claims = select(_k.claim_id, _k.kind, _k.object_id).where(_k.claim_id.in_(of_claims), _k.kind.in_(_COMPARED))
    named = {row[0]: (ClaimKind(row[1]), row[2]) for row in connection.execute(its_claims)}
    found = []
    for row in rows:
        minor, currency = -row["amount"], row["unit"]
        if row["kind"] in _PAYOUTS:
            found.append(Movement(minor, currency, leg_id=row["refers_to"]))
        elif _claim_id(row) in named:
            kind, object_id = named[_claim_id(row)]
            found.append(Movement(minor, currency, claim_kind=kind, object_id=object_id))
    last = (rows[-1]["occurred_at"], rows[-1]["seq"]) if len(rows) == limit else None
    return found, last


def _claim_id(row: RowMapping) -> str:
    claim_id: str = row["transaction_id"].rpartition("-")[0]
    return claim_id


def paid_of_legs(connection: Connection, processor: str, leg_ids: Collection[str]) -> dict[str, int]:
    """Return, by leg, the minor units that left the processor's account for it by now, less what came back."""
    found: dict[str, int] = {}
    query = (
        select(_t.refers_to, func.sum(_e.amount))
        .join(ledger_entries, _e.transaction_id == _t.transaction_id)
        .where(_e.account == processor_account(processor), _t.kind.in_(_PAYOUTS))
        .group_by(_t.refers_to)
    )
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        found |= {row[0]: -int(row[1]) for row in connection.execute(query.where(_t.refers_to.in_(chunk)))}
    return found


def legs_with_objects(
    connection: Connection, processor: str, leg_ids: Collection[str]
) -> dict[str, tuple[RowMapping, list[str]]]:
    """Return, by leg, (leg_id, refund_id, payment_id, status, amount_minor) and its refund objects at the processor."""
    rows: dict[str, tuple[RowMapping, list[str]]] = {}
    query = select(_l.leg_id, _l.refund_id, _l.payment_id, _l.status, _l.amount_minor)
    its_objects = select(_o.leg_id, _o.processor_refund_id).where(_o.processor == processor)
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        objects: defaultdict[str, list[str]] = defaultdict(list)
        for leg_id, object_id in connection.execute(
            its_objects.where(_o.leg_id.in_(chunk)).order_by(_o.processor_refund_id)
        ):
            objects[leg_id].append(object_id)
        found = connection.execute(query.where(_l.leg_id.in_(chunk))).mappings()
        rows |= {row["leg_id"]: (row, objects[row["leg_id"]]) for row in found}
    return rows


def claims_of(
    connection: Connection, processor: str, objects: Collection[tuple[ClaimKind, str]]
) -> dict[tuple[ClaimKind, str], RowMapping]:
    """Return, by (kind, object id), the claims that are recorded for these objects."""
    names = (_k.claim_id, _k.kind, _k.object_id, _k.payment_id, _k.phase, _k.amount_minor)
    query = select(*names, _k.explained_minor, _k.posted_minor, _k.linked_minor)
    found: dict[tuple[ClaimKind, str], RowMapping] = {}
    for chunk in batched(objects, IDS_AT_ONCE):
        ids = [object_id for _, object_id in chunk]
        which = and_(_k.processor == processor, _k.object_id.in_(ids), _k.kind.in_(_COMPARED))
        for row in connection.execute(query.where(which)).mappings():
            found[ClaimKind(row["kind"]), row["object_id"]] = row
    return found
