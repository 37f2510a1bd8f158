"""Whose a refund object at the processor is: the one place that decides it.

First by its id, where that stands in our books: a mark that was edited away or copied there changes nothing. Else by
its marks: this installation's id and a leg that is known here. All else others made, whatever it bears.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain.decision_builder import BY_HAND_PREFIX
from refund_worker.domain.processor_replies import Found, RefundObject
from refund_worker.domain.refund import Leg
from refund_worker.store import object_ownership as books
from refund_worker.store.installation import installation_id


@dataclass(frozen=True, slots=True)
class Owned:
    """`thing` with the leg and the attempt that our books name, and the leg's refund."""

    thing: RefundObject
    leg_id: str
    refund_id: str


@dataclass(frozen=True, slots=True)
class Sorted:
    """Whose the objects of a list are, each part in the list's order.

    `forgotten` bear this installation's id and a leg that is not known here: the database is an older backup, or a
    copy of it sends too. `foreign` are all others, another installation's among them. `installation` is this one's id.
    """

    ours: tuple[Owned, ...]
    forgotten: tuple[RefundObject, ...]
    foreign: tuple[RefundObject, ...]
    installation: str = ""

    @property
    def of_other_installations(self) -> tuple[RefundObject, ...]:
        """Those that another installation of this program made: it compares them itself."""
        return tuple(t for t in self.foreign if t.installation not in (None, self.installation))


def sorted_out(connection: Connection, processor: str, things: Iterable[RefundObject]) -> Sorted:
    """Whose each of these objects of one processor is. Reads in batches: there may be hundreds of thousands."""
    things = tuple(things)
    if not things:
        return Sorted((), (), ())
    me = installation_id(connection)
    by_id = books.legs_of_objects(connection, processor, [thing.processor_refund_id for thing in things])
    marked = {leg_id for thing in things if (leg_id := _leg_by_mark(thing, me))}
    by_mark = books.refunds_of_many_legs(connection, marked)
    ours: list[Owned] = []
    forgotten: list[RefundObject] = []
    foreign: list[RefundObject] = []
    for thing in things:
        if booked := by_id.get(thing.processor_refund_id):
            ours.append(Owned(_as_booked(thing, booked), booked.leg_id, booked.refund_id))
        elif (leg_id := _leg_by_mark(thing, me)) is None:
            foreign.append(thing)
        elif leg_id in by_mark:
            ours.append(Owned(thing, leg_id, by_mark[leg_id]))
        else:
            forgotten.append(thing)
    return Sorted(tuple(ours), tuple(forgotten), tuple(foreign), me)


def _leg_by_mark(thing: RefundObject, installation: str) -> str | None:
    return thing.leg_id if thing.installation == installation else None


def _as_booked(thing: RefundObject, booked: books.Booked) -> RefundObject:
    attempt = booked.attempt
    if attempt is None and thing.leg_id == booked.leg_id:
        attempt = thing.attempt
    return replace(thing, leg_id=booked.leg_id, attempt=attempt)


def not_as_asked(connection: Connection, ours: Iterable[Owned]) -> tuple[RefundObject, ...]:
    """Those that bear a leg's marks, or its id in our books, and are of another amount or over another payment.

    Nobody knows whose they are; that money went out over the payment that they name is sure.
    """
    ours = tuple(ours)
    asked = books.asked_for(connection, {owned.leg_id for owned in ours})
    return tuple(owned.thing for owned in ours if not _is_what_was_asked_for(owned.thing, asked.get(owned.leg_id)))


def _is_what_was_asked_for(thing: RefundObject, asked: books.AskedFor | None) -> bool:
    if asked is None or (thing.amount_minor, thing.currency) != asked[:2]:
        return False
    return not thing.payment_refs or asked.processor_payment_id in thing.payment_refs


def found_for(connection: Connection, leg: Leg, things: Iterable[RefundObject]) -> Found:
    """A list of its payment's refunds as this leg has to take it: its own objects, and what others made.

    A server that ignores the filter must not turn other payments' refunds into others' of this one. What a person named
    as their payment by hand for a leg is accounted for, and what was recorded as returned before the payment was known.
    """
    things = tuple(things)
    whose = {owned.thing.processor_refund_id: owned for owned in sorted_out(connection, leg.processor, things).ours}
    asked = books.asked_for(connection, {owned.leg_id for owned in whose.values()})
    own: list[RefundObject] = []
    others: list[RefundObject] = []
    for thing in things:
        owned = whose.get(thing.processor_refund_id)
        if owned is not None and owned.leg_id == leg.leg_id:
            own.append(owned.thing)
        elif thing.payment_refs and leg.processor_payment_id not in thing.payment_refs:
            continue
        # A leg's marks that were copied to another refund do not make that one ours.
        elif owned is None or not _is_what_was_asked_for(thing, asked.get(owned.leg_id)):
            others.append(thing)
    if not others:
        return Found(tuple(own))
    before = books.returned_before(connection, leg.payment_id)
    by_hand = books.paid_by_hand(connection, leg.payment_id, BY_HAND_PREFIX)
    named = {t.processor_refund_id for t in others if t.amount_minor <= by_hand.get(t.processor_refund_id, 0)}
    foreign = tuple(thing for thing in others if thing.processor_refund_id not in named)
    return Found(tuple(own), foreign, before + sum(minor for name, minor in by_hand.items() if name not in named))
