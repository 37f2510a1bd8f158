"""Payouts with their legs: insert, claim, load, and write decisions, always in bulk. Times are epoch seconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    case,
    or_,
    select,
    tuple_,
    update,
)

from refund_worker.domain.payouts.decision import PayoutDecision
from refund_worker.domain.payouts.payout import (
    PAYOUT_BEGUN,
    PAYOUT_PAID,
    PAYOUT_UNPOSTED,
    RETURN_CHECK_SECONDS,
    KnownTransfer,
    Payout,
    PayoutLeg,
    PayoutSource,
    PayoutStatus,
)
from refund_worker.domain.payouts.transfers import Fault, Method, Step
from refund_worker.domain.refund import Doubt, LegStatus, ObjectState, RefusalKind
from refund_worker.domain.state_machine import AWAITING_SEND, TO_BE_SENT
from refund_worker.errors import LostRace
from refund_worker.store.database import locked
from refund_worker.store.tables import payees, payout_legs, payouts, transfer_objects

_LEG_COLUMNS = tuple(column.name for column in payout_legs.columns)
_COLUMNS = tuple(column.name for column in payouts.columns if column.name != "body")
# Fields of a leg that are stored in columns of other names.
_IN_DOUBT = ("unanswered", "lookup_required", "refusal")
_LEG_CHANGES = tuple(
    name
    for name in _LEG_COLUMNS
    if name not in ("leg_id", "payout_id", "number", "step", "processor", "currency", "undoes")
)
_CHANGES = (
    *("status", "version", "updated_at", "ledger_posted", "given_back", "return_count", "times_paid", "paid_at"),
    *("settles_at", "hold_code", "hold_until", "failure_code", "failure_message", "fault", "act_by", "lost_minor"),
    *("due_at", "lease_until", "lease_token", "amount_minor"),
)
assert set(_COLUMNS) == {field.name for field in fields(Payout)} - {"legs"}, "each field of a payout has its column"

# Built once, because each claim and each answer runs them.
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_PAYOUTS = select(payouts).where(payouts.c.payout_id.in_(_IDS)).order_by(payouts.c.payout_id)
_PAYEES_OF = select(payouts.c.payout_id, payouts.c.payee_id).where(payouts.c.payout_id.in_(_IDS))
_LEGS = (
    select(payout_legs).where(payout_legs.c.payout_id.in_(_IDS)).order_by(payout_legs.c.payout_id, payout_legs.c.number)
)
_OBJECTS = (
    select(
        transfer_objects.c.leg_id,
        transfer_objects.c.object_id,
        transfer_objects.c.state,
        transfer_objects.c.attempt,
        transfer_objects.c.returned_minor,
    )
    .join(payout_legs, transfer_objects.c.leg_id == payout_legs.c.leg_id)
    .where(payout_legs.c.payout_id.in_(_IDS))
    .order_by(transfer_objects.c.created_at, transfer_objects.c.object_id)
)


def insert_payouts(connection: Connection, accepted: Sequence[tuple[Payout, str]]) -> None:
    """Insert new payouts with their legs, each with the body of its request.

    Raises `IntegrityError` if an idempotency key is taken.
    """
    if not accepted:
        return
    connection.execute(
        payouts.insert(), [{name: getattr(p, name) for name in _COLUMNS} | {"body": body} for p, body in accepted]
    )
    connection.execute(payout_legs.insert(), [_leg_row(leg) for p, _ in accepted for leg in p.legs])


def find_by_keys(connection: Connection, client: str, keys: Collection[str]) -> dict[str, RowMapping]:
    """Return `payout_id` and `body` by idempotency key, for the client's keys that are taken."""
    p = payouts.c
    query = select(p.idempotency_key, p.payout_id, p.body).where(p.client == client, p.idempotency_key.in_(keys))
    return {row["idempotency_key"]: row for row in connection.execute(query).mappings()}


def claimable(
    connection: Connection, now: float, limit: int, only: Collection[str] | None = None, bulk: bool | None = None
) -> list[str]:
    """Return ids of payouts that are due and not leased, the urgent first.

    Their rows are not locked: the payees' rows are locked first, and `load` locks then.
    """
    p = payouts.c
    free = or_(p.lease_until.is_(None), p.lease_until <= now)
    query = select(p.payout_id).where(p.due_at <= now, free).order_by(p.priority, p.due_at).limit(limit)
    if only is not None:
        query = query.where(p.payout_id.in_(only))
    if bulk is not None:
        query = query.where(p.priority == (1 if bulk else 0))
    return list(connection.execute(query).scalars())


def is_payout_id(subject_id: str) -> bool:
    """Return True if the id is that of a payout, and not of a refund."""
    return subject_id.startswith("po_")


def payees_of(connection: Connection, payout_ids: Collection[str]) -> dict[str, str]:
    """Return the payee of each of these payouts that exist, by payout_id. Locks nothing: a payee never changes."""
    if not payout_ids:
        return {}
    return {row[0]: row[1] for row in connection.execute(_PAYEES_OF, {"ids": sorted(payout_ids)})}


def load(
    connection: Connection, payout_ids: Collection[str], *, lock: bool = False, skip: bool = False
) -> list[Payout]:
    """Return the payouts with their legs and known transfer objects, by id.

    With `lock` their rows are locked; with `skip` those that others have locked are left out.
    """
    if not payout_ids:
        return []
    query = locked(connection, _PAYOUTS, skip=skip) if lock else _PAYOUTS
    rows = connection.execute(query, {"ids": sorted(payout_ids)}).mappings().all()
    found = {"ids": [row["payout_id"] for row in rows]}
    objects: dict[str, list[KnownTransfer]] = defaultdict(list)
    unknown: dict[str, list[str]] = defaultdict(list)
    for leg_id, object_id, state, attempt, returned_minor in connection.execute(_OBJECTS, found):
        if state is None:
            unknown[leg_id].append(object_id)
        else:
            objects[leg_id].append(KnownTransfer(object_id, ObjectState(state), attempt, returned_minor))
    legs: dict[str, list[PayoutLeg]] = defaultdict(list)
    for row in connection.execute(_LEGS, found).mappings():
        leg_id = row["leg_id"]
        legs[row["payout_id"]].append(_leg(row, objects.get(leg_id, ()), unknown.get(leg_id, ())))
    return [_payout(row, legs.get(row["payout_id"], ())) for row in rows]


def _leg(row: RowMapping, objects: Iterable[KnownTransfer], unknown: Iterable[str]) -> PayoutLeg:
    values = {name: row[name] for name in _LEG_COLUMNS if name not in _IN_DOUBT}
    values["step"], values["status"] = Step(row["step"]), LegStatus(row["status"])
    values["fault"] = Fault(row["fault"]) if row["fault"] else None
    in_doubt = Doubt.of(
        unanswered=row["unanswered"],
        lookup_required=row["lookup_required"],
        refusal=RefusalKind(row["refusal"]) if row["refusal"] else None,
    )
    return PayoutLeg(**values, in_doubt=in_doubt, objects=tuple(objects), unknown_objects=tuple(unknown))


def _payout(row: RowMapping, legs: Iterable[PayoutLeg]) -> Payout:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    values["status"], values["source"] = PayoutStatus(row["status"]), PayoutSource(row["source"])
    values["method"] = Method(row["method"])
    values["fault"] = Fault(row["fault"]) if row["fault"] else None
    return Payout(**values, legs=tuple(legs))


def _leg_row(leg: PayoutLeg) -> dict[str, Any]:
    return {name: getattr(leg, name) for name in _LEG_COLUMNS}


def write_payouts(connection: Connection, decisions: Sequence[PayoutDecision]) -> None:
    """Write the changed payouts and legs. Raises `LostRace` if a payout has changed since the decision about it."""
    if not decisions:
        return
    rows = [
        {"id": before.payout_id, "left": before.version, **{name: getattr(after, name) for name in _CHANGES}}
        for before, after in ((d.before, d.after) for d in decisions)
        if before is not None
    ]
    if connection.execute(_UPDATE, rows).rowcount != len(rows):
        raise LostRace("another process changed a payout in the meantime: load it and try again")
    old = {leg.leg_id: leg for d in decisions if d.before for leg in d.before.legs}
    legs = [leg for d in decisions for leg in d.after.legs]
    if new := [_leg_row(leg) for leg in legs if leg.leg_id not in old]:
        connection.execute(payout_legs.insert(), new)
    changed = [leg for leg in legs if leg.leg_id in old and leg != old[leg.leg_id]]
    if changed:
        connection.execute(
            _UPDATE_LEG, [{"id": leg.leg_id} | {name: getattr(leg, name) for name in _LEG_CHANGES} for leg in changed]
        )


def open_payouts(connection: Connection, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the id of the payout that is begun and neither paid nor ended, by (payee_id, currency).

    Call it under the payees' locks. Held and unapproved payouts are not begun.
    """
    p = payouts.c
    query = (
        select(p.payee_id, p.currency, p.payout_id)
        .where(tuple_(p.payee_id, p.currency).in_(sorted(pairs)), p.status.in_(PAYOUT_BEGUN), p.ledger_posted)
        .order_by(p.payout_id.desc())
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)} if pairs else {}


def requeue_held(connection: Connection, payee_ids: Collection[str], now: float) -> None:
    """Make the held payouts of these payees, who are locked, due now: what held them may have ended."""
    if payee_ids:
        p = payouts.c
        held = p.payee_id.in_(sorted(payee_ids)) & (p.status == PayoutStatus.HELD) & (p.due_at > now)
        connection.execute(update(payouts).where(held).values(due_at=now, version=p.version + 1))


def unsent_of(connection: Connection, payee_id: str) -> list[str]:
    """Return the ids of the payee's payouts that may be unsent: not posted yet, or with a first step to be sent."""
    p = payouts.c
    unsent = p.status.in_((*PAYOUT_UNPOSTED, PayoutStatus.SENDING, PayoutStatus.NEEDS_ATTENTION))
    query = select(p.payout_id).where(p.payee_id == payee_id, unsent).order_by(p.payout_id)
    return list(connection.execute(query).scalars())


def requeue_waiting_for(connection: Connection, processor: str | None, now: float) -> None:
    """Make due now the payouts that were postponed while the processor, or all of them (None), was paused."""
    p, g = payouts.c, payout_legs.c
    ids = _lock(connection, p.due_at > now if processor is None else (p.due_at > now) & (p.processor == processor))
    if not ids:
        return
    put_off = g.payout_id.in_(ids) & g.status.in_(AWAITING_SEND) & (g.next_at > now)
    connection.execute(update(payout_legs).where(put_off).values(next_at=now, listed_at=None))
    connection.execute(update(payouts).where(p.payout_id.in_(ids)).values(due_at=now, version=p.version + 1))


def requeue_legs(
    connection: Connection, leg_ids: Mapping[str, str], still: ColumnElement[bool], now: float
) -> Sequence[str]:
    """Let these legs be tried now, those for which `still` is true under the lock: the payout of each, by leg_id.

    The processor is asked before each send. Return the ids of the payouts.
    """
    if not leg_ids:
        return ()
    p, g = payouts.c, payout_legs.c
    ids = _lock(connection, p.payout_id.in_(sorted(set(leg_ids.values()))))
    its = g.leg_id.in_(sorted(leg_ids)) & still
    connection.execute(update(payout_legs).where(its).values(next_at=now, held=True, listed_at=None))
    later = p.payout_id.in_(ids) & or_(p.due_at.is_(None), p.due_at > now)
    connection.execute(update(payouts).where(later).values(due_at=now, version=p.version + 1))
    return ids


def _lock(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """Lock the payees of these payouts and then the payouts, as all do; return the payouts' ids."""
    p = payouts.c
    whose = select(payees.c.payee_id).where(payees.c.payee_id.in_(select(p.payee_id).where(which)))
    whom = list(connection.execute(locked(connection, whose.order_by(payees.c.payee_id))).scalars())
    query = select(p.payout_id).where(which, p.payee_id.in_(whom)).order_by(p.payout_id)
    return list(connection.execute(locked(connection, query)).scalars())


def written_after(connection: Connection, at: float) -> bool:
    """Return True if an unfinished payout was written after `at` (epoch seconds)."""
    p = payouts.c
    query = select(p.payout_id).where(p.due_at.is_not(None), p.updated_at > at).limit(1)
    return connection.execute(query).first() is not None


def requeue_written_after(connection: Connection, at: float, now: float) -> int:
    """Make due, without a lease, all unfinished payouts that were written after `at`; return how many."""
    p = payouts.c
    ids = _lock(connection, p.due_at.is_not(None) & (p.updated_at > at))
    free = {"due_at": now, "lease_until": None, "lease_token": None, "version": p.version + 1}
    return connection.execute(update(payouts).where(p.payout_id.in_(ids)).values(**free)).rowcount if ids else 0


_UPDATE = (
    update(payouts)
    .where(payouts.c.payout_id == bindparam("id"), payouts.c.version == bindparam("left"))
    .values({name: bindparam(name) for name in _CHANGES})
)
_UPDATE_LEG = (
    update(payout_legs)
    .where(payout_legs.c.leg_id == bindparam("id"))
    .values({name: bindparam(name) for name in _LEG_CHANGES})
)


def put_off(
    connection: Connection, payout_id: str, until: float, code: str, message: str, now: float, lease_token: str | None
) -> bool:
    """Postpone a payout until `until` and show the reason. Return False if others hold its lease.

    The change is made only under the given lease, or with None only while no lease is valid.
    """
    p = payouts.c
    is_ours = p.lease_token == lease_token if lease_token else or_(p.lease_until.is_(None), p.lease_until <= now)
    values = {"failure_code": code, "failure_message": message, "due_at": until}
    free = {"lease_token": None, "lease_until": None, "version": p.version + 1}
    query = update(payouts).where(p.payout_id == payout_id, is_ours).values(**values, **free)
    return connection.execute(query).rowcount == 1


def named_legs(
    connection: Connection, processor: str, *, object_ids: Collection[str] = (), leg_ids: Collection[str] = ()
) -> dict[str, str]:
    """Return the payout of each of these legs, and of those of these objects, by leg_id. It locks nothing."""
    g, o = payout_legs.c, transfer_objects.c
    of_objects = select(o.leg_id).where(o.processor == processor, o.object_id.in_(sorted(object_ids)))
    which = g.leg_id.in_(of_objects) | g.leg_id.in_(sorted(leg_ids))
    found = select(g.leg_id, g.payout_id).where(g.processor == processor, which, _may_be_asked())
    return {row[0]: row[1] for row in connection.execute(found)}


def _may_be_asked() -> ColumnElement[bool]:
    g = payout_legs.c
    return (g.sends > 0) & g.status.not_in((LegStatus.SENDING, *TO_BE_SENT))


def ask_again(connection: Connection, legs: Mapping[str, str], now: float) -> None:
    """Let the processors be asked about these legs now: the payout of each, by leg_id.

    A leg whose call is under way is left alone: its answer comes, or its lease ends. So is one that is sent next, or
    that waits for a person who decides if it is sent: to be woken would send it.

    A payout that is paid or settled is asked about again a day later: an answer given now may be older than the event.
    """
    if legs:
        p, g = payouts.c, payout_legs.c
        its = p.payout_id.in_(sorted(set(legs.values())))
        connection.execute(locked(connection, select(p.payout_id).where(its).order_by(p.payout_id)))
        # Its status may have changed before the lock.
        connection.execute(update(payout_legs).where(g.leg_id.in_(sorted(legs)), _may_be_asked()).values(next_at=now))
        again_at = now + RETURN_CHECK_SECONDS
        ends_before = p.status.in_(PAYOUT_PAID) & (p.settles_at < again_at)
        settles_at = case((ends_before, again_at), else_=p.settles_at)
        asked = {"due_at": now, "settles_at": settles_at, "version": p.version + 1}
        connection.execute(update(payouts).where(its).values(**asked))


def of_refund_leg(connection: Connection, leg_id: str) -> list[str]:
    """Return the ids of the payouts that pay this leg of a refund."""
    query = select(payouts.c.payout_id).where(payouts.c.refund_leg_id == leg_id).order_by(payouts.c.payout_id)
    return list(connection.execute(query).scalars())
