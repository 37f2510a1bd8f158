"""Compare some of the processor's refund objects with our books. Only reads; the same findings for the same records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection

from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import LIVE_OBJECT_STATES, LegStatus
from refund_worker.domain.state_machine import FINAL_LEGS
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.others import outside_differences
from refund_worker.engine.refunds.object_ownership import OwnedObject, sort_by_owner
from refund_worker.store.reporting import reconciliation as store
from refund_worker.store.reporting.reconciliation import ObjectRow, RecordedLeg

_NO_TIME = datetime.fromtimestamp(0, UTC)
Lines = dict[tuple[str, str], tuple[int, int]]  # (ours, theirs) in minor units, by leg and currency


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of a comparison. `suspects` are the objects on which the differences rely."""

    differences: tuple[Difference, ...] = ()
    suspects: frozenset[str] = frozenset()
    lines: Lines = field(default_factory=dict)
    foreign: int = 0
    other_installations: int = 0
    resolved: int = 0


def compare(
    connection: Connection,
    processor: str,
    listed: Sequence[RefundObject],
    missing: Collection[str] = (),
    found_before: Mapping[str, Collection[str]] | None = None,
) -> Findings:
    """Compare these objects, and those recorded ones that are `missing` at the processor, with our books.

    `found_before` are objects of ours that our books do not have and that were found earlier, by leg.
    """
    whose = sort_by_owner(connection, processor, listed)
    recorded = sort_by_owner(connection, processor, map(_stand_in, sorted(missing))).ours if missing else ()
    leg_ids = {owned.leg_id for owned in (*whose.ours, *recorded)}
    books = _Books(
        legs=store.recorded_legs(connection, leg_ids),
        objects=_by_leg(store.recorded_objects(connection, processor, leg_ids)),
        money=_money_by_leg(connection, leg_ids),
        resolved=store.resolved_objects(
            connection, processor, [o.refund_object.processor_refund_id for o in (*whose.ours, *recorded)]
        ),
        listed={item.processor_refund_id: item for item in listed},
        missing=frozenset(missing),
        found_before=found_before or {},
    )
    judged = _Judge(books)
    for owned in whose.ours:
        judged.hear(owned)
    for owned in recorded:
        judged.miss(owned)
    for leg_id in sorted(leg_ids):
        judged.conclude(leg_id)
    for refund_object in whose.forgotten:
        judged.hear_forgotten(refund_object)
    elsewhere = {item.processor_refund_id for item in whose.of_other_installations}
    foreign = [item for item in whose.outside if item.processor_refund_id not in elsewhere]
    outside = outside_differences(connection, processor, foreign)
    return Findings(
        differences=(*judged.differences, *outside),
        suspects=frozenset({*judged.suspects, *(each.object_id for each in outside)}),
        lines=judged.lines,
        foreign=len(foreign),
        other_installations=len(elsewhere),
        resolved=len(books.resolved),
    )


def _stand_in(object_id: str) -> RefundObject:
    """Return an object with this id alone, so that its owner can be found."""
    return RefundObject(object_id, None, 0, "", (), None, None, None, _NO_TIME)


def _by_leg(rows: Iterable[ObjectRow]) -> dict[str, list[ObjectRow]]:
    grouped: defaultdict[str, list[ObjectRow]] = defaultdict(list)
    for row in rows:
        grouped[row.leg_id].append(row)
    return grouped


def _money_by_leg(connection: Connection, leg_ids: Iterable[str]) -> dict[str, dict[str, int]]:
    grouped: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (leg_id, currency), minor in store.money_by_leg(connection, leg_ids).items():
        grouped[leg_id][currency] = minor
    return grouped


@dataclass(frozen=True, slots=True)
class _Books:
    """The records that our books have about the legs of these objects, and the objects themselves."""

    legs: Mapping[str, RecordedLeg]
    objects: Mapping[str, list[ObjectRow]]
    money: Mapping[str, Mapping[str, int]]  # by leg and currency
    resolved: frozenset[str]
    listed: Mapping[str, RefundObject]
    missing: frozenset[str]
    found_before: Mapping[str, Collection[str]]

    def recorded(self, leg_id: str, object_id: str) -> ObjectRow | None:
        """Return our record of the object, or None."""
        return next((row for row in self.objects.get(leg_id, ()) if row.object_id == object_id), None)

    def live_ids(self, leg_id: str) -> set[str]:
        """Return ids of the leg's objects that may pay, as the processor lists them, or else as recorded."""
        ids = {
            row.object_id
            for row in self.objects.get(leg_id, ())
            if row.object_id not in self.missing
            and row.object_id not in self.listed
            and row.state in LIVE_OBJECT_STATES
        }
        return ids | set(self.found_before.get(leg_id, ()))


class _Judge:
    """Collects the differences, leg by leg."""

    def __init__(self, books: _Books) -> None:
        self.books = books
        self.differences: list[Difference] = []
        self.suspects: set[str] = set()
        self.lines: Lines = {}
        self._live: defaultdict[str, set[str]] = defaultdict(set)
        self._unrecorded: defaultdict[str, list[RefundObject]] = defaultdict(list)
        self._concerned: set[str] = set()  # legs that differ

    def hear(self, owned: OwnedObject) -> None:
        """Compare an object of ours with its leg."""
        refund_object, leg = owned.refund_object, self.books.legs[owned.leg_id]
        object_id = refund_object.processor_refund_id
        self._count_ours(leg, object_id)
        is_named = leg.paid_by == MANUAL_PREFIX + object_id
        if object_id in self.books.resolved or is_named:
            return
        if refund_object.status == "succeeded":
            self._add(leg.leg_id, refund_object.currency, theirs=refund_object.amount_minor)
        if leg.status not in FINAL_LEGS:
            return
        is_live = refund_object.status in LIVE_OBJECT_STATES
        if is_live and not self._is_as_asked(leg, refund_object):
            return
        if is_live:
            self._live[leg.leg_id].add(object_id)
        known = self.books.recorded(leg.leg_id, object_id)
        if known is None:
            self._unrecorded[leg.leg_id].append(refund_object)
        elif known.status != refund_object.status:
            self._differ(leg, Kind.STATUS, known.status or "none", refund_object.status or "none", refund_object)

    def _is_as_asked(self, leg: RecordedLeg, refund_object: RefundObject) -> bool:
        """Return False, and note the difference, if the object is not what the leg asked for."""
        if refund_object.currency != leg.currency:
            self._differ(leg, Kind.CURRENCY, leg.currency, refund_object.currency, refund_object)
        elif refund_object.amount_minor != leg.amount_minor:
            self._differ(leg, Kind.AMOUNT, leg.amount_minor, refund_object.amount_minor, refund_object)
        elif refund_object.payment_refs and leg.processor_payment_id not in refund_object.payment_refs:
            where = "over another payment: " + " ".join(refund_object.payment_refs)
            self._differ(leg, Kind.AMOUNT, leg.amount_minor, refund_object.amount_minor, refund_object, where)
        else:
            return True
        return False

    def miss(self, owned: OwnedObject) -> None:
        """Note a recorded object that the processor does not have."""
        leg, object_id = self.books.legs[owned.leg_id], owned.refund_object.processor_refund_id
        self._count_ours(leg, object_id)
        known = self.books.recorded(leg.leg_id, object_id)
        if known is None or known.state not in LIVE_OBJECT_STATES or leg.status not in FINAL_LEGS:
            return
        if object_id in self.books.resolved or leg.paid_by == MANUAL_PREFIX + object_id:
            return
        self._differ(leg, Kind.NOT_THERE, known.amount_minor, 0, object_id=object_id)

    def hear_forgotten(self, refund_object: RefundObject) -> None:
        """Note an object with our marks whose leg our books do not have: they are an older backup, or a copy."""
        leg_id, object_id = refund_object.leg_id or "", refund_object.processor_refund_id
        if refund_object.status == "succeeded":
            self._add(leg_id, refund_object.currency, theirs=refund_object.amount_minor)
        self.suspects.add(object_id)
        self.differences.append(
            Difference(
                Kind.NOT_RECORDED,
                leg_id,
                0,
                refund_object.amount_minor,
                object_id,
                currency=refund_object.currency,
                detail=f"{refund_object.status}; no leg of this id is in our books",
            )
        )

    def conclude(self, leg_id: str) -> None:
        """Compare all objects of the leg together, and the leg with the ledger."""
        leg = self.books.legs[leg_id]
        unrecorded = self._unrecorded[leg_id]
        self._conclude_objects(leg, unrecorded)
        if unrecorded or leg_id in self._concerned or leg.status not in FINAL_LEGS or not self._is_payer_here(leg):
            return
        by_processor = leg.status == LegStatus.SUCCEEDED and not (leg.paid_by or "").startswith(MANUAL_PREFIX)
        expected = {leg.currency: leg.amount_minor} if by_processor and leg.amount_minor else {}
        booked = {unit: minor for unit, minor in self.books.money.get(leg_id, {}).items() if minor}
        if booked != expected:
            sums = ", ".join(f"{minor} {unit}" for unit, minor in sorted(booked.items())) or "nothing"
            detail = f"the ledger has {sums} for a leg that is {leg.status}"
            self._differ(leg, Kind.LEDGER, booked.get(leg.currency, 0), expected.get(leg.currency, 0), detail=detail)

    def _conclude_objects(self, leg: RecordedLeg, unrecorded: Sequence[RefundObject]) -> None:
        here = self._live[leg.leg_id]
        live = here | self.books.live_ids(leg.leg_id) if here else set()
        by_hand = leg.status == LegStatus.SUCCEEDED and (leg.paid_by or "").startswith(MANUAL_PREFIX)
        if here and len(live) + by_hand > 1:
            named = " ".join(sorted(live)) + (f" {leg.paid_by}" if by_hand else "")
            self.suspects |= live
            self._differ(leg, Kind.REFUNDED_TWICE, 1, len(live) + by_hand, detail=named)
            unrecorded = [item for item in unrecorded if item.processor_refund_id not in live]
        for item in unrecorded:
            self._differ(leg, Kind.NOT_RECORDED, 0, item.amount_minor, item, f"{item.status}")

    # --- small steps -------------------------------------------------------------------------------------------------

    def _is_payer_here(self, leg: RecordedLeg) -> bool:
        return leg.paid_by in self.books.listed or leg.paid_by in self.books.missing

    def _count_ours(self, leg: RecordedLeg, object_id: str) -> None:
        """Add the ledger's money of the leg, once: with the object that pays the leg."""
        if leg.paid_by == object_id:
            for currency, minor in self.books.money.get(leg.leg_id, {}).items():
                self._add(leg.leg_id, currency, ours=minor)

    def _add(self, leg_id: str, currency: str, *, ours: int = 0, theirs: int = 0) -> None:
        before = self.lines.get((leg_id, currency), (0, 0))
        self.lines[leg_id, currency] = (before[0] + ours, before[1] + theirs)

    def _differ(
        self,
        leg: RecordedLeg,
        kind: Kind,
        ours: int | str,
        theirs: int | str,
        refund_object: RefundObject | None = None,
        detail: str = "",
        object_id: str = "",
    ) -> None:
        if refund_object is not None:
            object_id = refund_object.processor_refund_id
        if object_id:
            self.suspects.add(object_id)
        self._concerned.add(leg.leg_id)
        self.differences.append(
            Difference(
                kind=kind,
                subject=leg.leg_id,
                ours=ours,
                theirs=theirs,
                object_id=object_id,
                leg_id=leg.leg_id,
                refund_id=leg.refund_id,
                payment_id=leg.payment_id,
                customer_id=leg.customer_id,
                currency=leg.currency,
                detail=detail,
            )
        )
