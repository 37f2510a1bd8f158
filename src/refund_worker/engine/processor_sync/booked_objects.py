"""Our records of refunds and disputes whose sums differ from the processor's balance transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.balance_transactions import Cause, Known
from refund_worker.domain.claims.claim import ClaimKind, Phase
from refund_worker.domain.state_machine import WITH_PROCESSOR
from refund_worker.store import payment_refs
from refund_worker.store.installation import installation_id
from refund_worker.store.object_ownership import RecordedObject
from refund_worker.store.reporting import booked
from refund_worker.store.reporting.compared_sums import Compared

_LEG = "leg:"
_CLAIM_OF = {Cause.REFUND: ClaimKind.OUTSIDE_REFUND, Cause.DISPUTE: ClaimKind.DISPUTE}
_CAUSE_OF = {kind: cause for cause, kind in _CLAIM_OF.items()}


@dataclass(frozen=True, slots=True)
class Booked:
    """One object, or all objects of a leg, and what is known about it.

    `may_be_asked`: the processor can be asked for its balance transactions of all time.
    """

    known: Known
    cause: Cause
    object_ids: tuple[str, ...]
    may_be_asked: bool = True
    refund_id: str | None = None
    claim_id: str | None = None
    payment_id: str | None = None


def key_of_leg(leg_id: str | None) -> str:
    """Return the key of all refund objects of a leg of ours."""
    return f"{_LEG}{leg_id}"


def key_of_claim(kind: ClaimKind, object_id: str, legs: Mapping[str, RecordedObject]) -> str:
    """Return the key of an object of others. One that a person linked to a refund of ours counts for its leg."""
    if kind is ClaimKind.OUTSIDE_REFUND and object_id in legs:
        return key_of_leg(legs[object_id].leg_id)
    return f"{_CAUSE_OF[kind]}:{object_id}"


def known_objects(connection: Connection, processor: str, rows: Sequence[Compared]) -> dict[str, Booked]:
    """Return, by key, what our records say about these objects now."""
    leg_ids = [row.key.removeprefix(_LEG) for row in rows if row.key.startswith(_LEG)]
    legs = booked.legs_with_objects(connection, processor, leg_ids)
    paid = booked.paid_of_legs(connection, processor, leg_ids)
    others = {row.key: _named(row.key) for row in rows if not row.key.startswith(_LEG)}
    asked = {(_CLAIM_OF[cause], object_id) for cause, object_id in others.values() if cause in _CLAIM_OF}
    linked = {(ClaimKind.OUTSIDE_REFUND, object_id) for _, objects in legs.values() for object_id in objects}
    claims = booked.claims_of(connection, processor, asked | linked)
    owners = payment_refs.payments_of_refs(connection, processor, {ref for row in rows for ref in row.refs})
    me = installation_id(connection)
    found = {}
    for row in rows:
        if row.key in others:
            cause, object_id = others[row.key]
            claim = claims.get((_CLAIM_OF[cause], object_id)) if cause in _CLAIM_OF else None
            if claim is None:
                found[row.key] = _unknown(cause, object_id, row, owners, row.installation not in (None, me))
            else:
                found[row.key] = _of_claim(cause, object_id, claim)
        else:
            leg_id = row.key.removeprefix(_LEG)
            leg, objects = legs[leg_id]
            rests = [claims[name] for object_id in objects if (name := (ClaimKind.OUTSIDE_REFUND, object_id)) in claims]
            found[row.key] = _of_leg(leg, objects, paid.get(leg_id, 0), rests)
    return found


def _named(key: str) -> tuple[Cause, str]:
    cause, _, object_id = key.partition(":")
    return Cause(cause), object_id


def _of_leg(leg: RowMapping, objects: Sequence[str], paid_minor: int, rests: Sequence[RowMapping]) -> Booked:
    """Return what is known about the objects of a leg. `rests` are claims: the leg has only a part of their money."""
    is_open = leg["status"] in WITH_PROCESSOR
    known = Known(
        posted_minor=paid_minor + sum(rest["posted_minor"] for rest in rests),
        open_minor=leg["amount_minor"] if is_open else 0,
    )
    return Booked(known, Cause.REFUND, tuple(objects), refund_id=leg["refund_id"], payment_id=leg["payment_id"])


def _of_claim(cause: Cause, object_id: str, claim: RowMapping) -> Booked:
    is_open = claim["phase"] in (Phase.HOLDING, Phase.SHOWN)
    known = Known(
        posted_minor=claim["posted_minor"],
        open_minor=claim["amount_minor"] - claim["explained_minor"] if is_open else 0,
        explained_minor=claim["explained_minor"],
        is_recorded=claim["payment_id"] is not None,
    )
    return Booked(known, cause, (object_id,), claim_id=claim["claim_id"], payment_id=claim["payment_id"])


def _unknown(cause: Cause, object_id: str, row: Compared, owners: Mapping[str, str], is_foreign: bool) -> Booked:
    """Return an object that is in none of our records. Without its payment it counts as one of ours: a person looks."""
    payment_id = next((owners[ref] for ref in row.refs if ref in owners), None)
    known = Known(is_recorded=payment_id is not None or not row.refs, is_foreign=is_foreign)
    return Booked(known, cause, (object_id,), may_be_asked=False, payment_id=payment_id)
