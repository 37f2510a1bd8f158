"""Decide who owns a refund object at the processor. Only this module decides it.

The object's id decides first, if it is in our records: a mark that was edited out or copied at the processor then
changes nothing. Otherwise its marks decide: this installation's id and a leg that is known here. All other objects were
made by others, whatever marks they have. So were objects of one account that carry the marks of a leg over another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import Found, RefundObject
from refund_worker.domain.refund import Leg
from refund_worker.store import object_ownership as store
from refund_worker.store.installation import installation_id


@dataclass(frozen=True, slots=True)
class OwnedObject:
    """A refund object of ours, with its leg and attempt as our records have them, and the leg's refund.

    `linked_minor` is the part of its money that the leg has, if others made it and a person linked it.
    """

    refund_object: RefundObject
    leg_id: str
    refund_id: str
    linked_minor: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectsByOwner:
    """The objects of a list by owner; each part keeps the list's order.

    `forgotten` objects have this installation's id and a leg that is not known here: the database is an older backup,
    or a copy of it sends too. `outside` objects are all others, including another installation's. `linked` objects were
    made by others too, and a person linked them: they are among ours with the part that a leg has, and here whole.
    `installation` is this installation's id.
    """

    ours: tuple[OwnedObject, ...]
    forgotten: tuple[RefundObject, ...]
    outside: tuple[RefundObject, ...]
    linked: tuple[RefundObject, ...] = ()
    installation: str = ""

    @property
    def of_other_installations(self) -> tuple[RefundObject, ...]:
        """Return the objects that another installation of this program made: it compares them itself."""
        return tuple(t for t in self.outside if t.installation not in (None, self.installation))


def sort_by_owner(connection: Connection, processor: str, refund_objects: Iterable[RefundObject]) -> ObjectsByOwner:
    """Sort these objects of one processor by owner. Reads in batches: there may be hundreds of thousands."""
    refund_objects = tuple(refund_objects)
    if not refund_objects:
        return ObjectsByOwner((), (), ())
    me = installation_id(connection)
    by_id = store.legs_of_objects(connection, processor, [item.processor_refund_id for item in refund_objects])
    marked = {leg_id for item in refund_objects if (leg_id := _leg_by_mark(item, me))}
    by_mark = store.places_of_many_legs(connection, marked)
    ours: list[OwnedObject] = []
    forgotten: list[RefundObject] = []
    outside: list[RefundObject] = []
    linked: list[RefundObject] = []
    for refund_object in refund_objects:
        if booked := by_id.get(refund_object.processor_refund_id):
            recorded = _with_recorded_attempt(refund_object, booked)
            ours.append(OwnedObject(recorded, booked.leg_id, booked.refund_id, booked.linked_minor))
            linked += [refund_object] if booked.linked_minor else []
        elif (leg_id := _leg_by_mark(refund_object, me)) is None:
            outside.append(refund_object)
        elif leg_id not in by_mark:
            forgotten.append(refund_object)
        elif by_mark[leg_id].processor == processor:
            ours.append(OwnedObject(refund_object, leg_id, by_mark[leg_id].refund_id))
        else:  # a person who can make refunds at one account can copy our ids of another
            outside.append(refund_object)
    return ObjectsByOwner(tuple(ours), tuple(forgotten), tuple(outside), tuple(linked), me)


def _leg_by_mark(refund_object: RefundObject, installation: str) -> str | None:
    return refund_object.leg_id if refund_object.installation == installation else None


def _with_recorded_attempt(refund_object: RefundObject, booked: store.RecordedObject) -> RefundObject:
    attempt = booked.attempt
    if attempt is None and refund_object.leg_id == booked.leg_id:
        attempt = refund_object.attempt
    amount_minor = booked.linked_minor or refund_object.amount_minor
    return replace(refund_object, leg_id=booked.leg_id, attempt=attempt, amount_minor=amount_minor)


def not_as_asked(connection: Connection, ours: Iterable[OwnedObject]) -> tuple[RefundObject, ...]:
    """Return the objects that belong to a leg but have another amount or another payment than it asked for.

    They belong to it by its marks, or because their id is in our records. Their real owner is unknown, but money did go
    out over the payment that they name.
    """
    ours = tuple(ours)
    asked = store.asked_for(connection, {owned.leg_id for owned in ours})
    return tuple(
        owned.refund_object
        for owned in ours
        if not _is_what_was_asked_for(owned.refund_object, asked.get(owned.leg_id))
    )


def _is_what_was_asked_for(refund_object: RefundObject, asked: store.AskedFor | None) -> bool:
    if asked is None or (refund_object.amount_minor, refund_object.currency) != asked[:2]:
        return False
    return not refund_object.payment_refs or asked.processor_payment_id in refund_object.payment_refs


def found_for(connection: Connection, leg: Leg, refund_objects: Iterable[RefundObject]) -> Found:
    """Split a list of its payment's refunds for this leg: its own objects, and those that others made.

    Objects over other payments are left out: if a server ignores the filter, they must not count as refunds that others
    made over this payment. Amounts that a person named as their manual payment for a leg are accounted for. So are the
    refunds of others that are recorded as claims, and the amount that was recorded as returned before the payment was
    known here.
    """
    refund_objects = tuple(refund_objects)
    whose = {
        owned.refund_object.processor_refund_id: owned
        for owned in sort_by_owner(connection, leg.processor, refund_objects).ours
    }
    asked = store.asked_for(connection, {owned.leg_id for owned in whose.values()})
    own: list[RefundObject] = []
    others: list[RefundObject] = []
    for refund_object in refund_objects:
        owned = whose.get(refund_object.processor_refund_id)
        if owned is not None and owned.leg_id == leg.leg_id:
            own.append(owned.refund_object)
        elif refund_object.payment_refs and leg.processor_payment_id not in refund_object.payment_refs:
            continue
        # A leg's marks that were copied to another refund do not make that refund ours.
        elif owned is None or not _is_what_was_asked_for(refund_object, asked.get(owned.leg_id)):
            others.append(refund_object)
    if not others:
        return Found(tuple(own))
    before = store.returned_earlier(connection, leg.payment_id)
    by_hand = store.paid_manually(connection, leg.payment_id)
    named = {t.processor_refund_id for t in others if t.amount_minor <= by_hand.get(t.processor_refund_id, 0)}
    outside = tuple(item for item in others if item.processor_refund_id not in named)
    # A refund that was recorded after the leg's first intent may be this leg's money, whatever its date says.
    claimed = store.claimed_outside(connection, leg.payment_id, before=leg.first_intent_at)
    recorded = sum(claimed.get(item.processor_refund_id, 0) for item in outside)
    unnamed = sum(minor for name, minor in by_hand.items() if name not in named)
    return Found(tuple(own), outside, before + recorded + unnamed)
