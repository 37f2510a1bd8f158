"""Attempts of payouts' legs, with the frozen and sealed request of each, and the transfer objects as last reported."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, case, func, select, tuple_, update

from refund_worker.domain.payouts.decision import SendTransfer, TransferUpdate
from refund_worker.domain.payouts.payout import PayoutLeg
from refund_worker.store.database import insert_into
from refund_worker.store.tables import payout_attempts, payout_legs, transfer_objects


class FrozenAttempt(NamedTuple):
    """The key, the sealed request and the first send (epoch seconds) of one attempt."""

    key: str
    body: str
    first_sent_at: float


def begin_attempts(connection: Connection, sends: Sequence[tuple[SendTransfer, PayoutLeg, str]]) -> None:
    """Insert first sends as new attempts and count one more send for the others: (send, leg, sealed request)."""
    new = [
        {
            "leg_id": leg.leg_id,
            "number": send.attempt,
            "key": send.key,
            "body": body,
            "sends": 1,
            "first_sent_at": leg.last_sent_at,
            "last_sent_at": leg.last_sent_at,
        }
        for send, leg, body in sends
        if leg.sends == 1
    ]
    again = [
        {"id": leg.leg_id, "attempt": send.attempt, "sends": leg.sends, "last_sent_at": leg.last_sent_at}
        for send, leg, _ in sends
        if leg.sends > 1
    ]
    if new:
        connection.execute(payout_attempts.insert(), new)
    if again:
        connection.execute(_SEND_AGAIN, again)


def frozen_attempts(connection: Connection, leg_ids: Collection[str]) -> dict[str, dict[int, FrozenAttempt]]:
    """Return the attempts of these legs by leg_id and number."""
    found: dict[str, dict[int, FrozenAttempt]] = {}
    rows = connection.execute(_FROZEN, {"ids": sorted(leg_ids)}) if leg_ids else ()
    for leg_id, number, key, body, first_sent_at in rows:
        found.setdefault(leg_id, {})[number] = FrozenAttempt(key, body, first_sent_at)
    return found


def attempts_of(connection: Connection, payout_id: str) -> list[RowMapping]:
    """Return every attempt of the payout's legs with its step and outcome, without the sealed request, in order."""
    a, g = payout_attempts.c, payout_legs.c
    columns = [column for column in a if column.name != "body"]
    query = select(*columns, g.step, g.processor).join(payout_legs, g.leg_id == a.leg_id)
    query = query.where(g.payout_id == payout_id).order_by(g.number, a.number)
    return list(connection.execute(query).mappings())


def end_attempts(connection: Connection, answers: Sequence[Mapping[str, Any]]) -> None:
    """Store how sends ended: rows of id (the leg's), attempt and the columns of the outcome."""
    if answers:
        connection.execute(_ANSWER, list(answers))


def write_objects(connection: Connection, seen: Iterable[tuple[str, TransferUpdate]], now: float) -> None:
    """Store transfer objects as reported: (processor, update). A later update replaces an earlier one."""
    rows = {}
    for processor, update_ in seen:
        item = update_.object
        rows[processor, item.object_id] = {
            "processor": processor,
            "object_id": item.object_id,
            "leg_id": update_.leg_id,
            "attempt": item.attempt,
            "state": update_.state,
            "created_at": item.created_at.timestamp(),
            "seen_at": now,
            **{name: getattr(item, name) for name in _REPORTED},
        }
    if rows:
        insert = insert_into(connection, transfer_objects)
        new: dict[str, Any] = {name: insert.excluded[name] for name in ("state", "seen_at", *_REPORTED)}
        # Facts that only an earlier report had are kept, and the reason of the same state.
        kept: dict[str, ColumnElement[Any]] = {
            n: func.coalesce(insert.excluded[n], transfer_objects.c[n]) for n in (*_KEPT, *_KEPT_WITH_STATE)
        }
        is_same = insert.excluded.state == transfer_objects.c.state
        kept |= {n: case((is_same, kept[n]), else_=insert.excluded[n]) for n in _KEPT_WITH_STATE}
        new |= kept
        upsert = insert.on_conflict_do_update(index_elements=["processor", "object_id"], set_=new)
        connection.execute(upsert, list(rows.values()))


_KEPT = ("returned_minor", "fee_minor", "trace")
_KEPT_WITH_STATE = ("failure_code", "fault")
_REPORTED = (*("status", "amount_minor", "currency", "refs", "act_by", "arrives_at"), *_KEPT, *_KEPT_WITH_STATE)


def owners_of(connection: Connection, objects: Collection[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (payout_id, leg_id) by (processor, object_id), for the transfer objects in our records."""
    o = transfer_objects.c
    query = (
        select(o.processor, o.object_id, payout_legs.c.payout_id, payout_legs.c.leg_id)
        .join(payout_legs, o.leg_id == payout_legs.c.leg_id)
        .where(tuple_(o.processor, o.object_id).in_(sorted(objects)))
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(query)} if objects else {}


def payouts_of_legs(connection: Connection, leg_ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return (payout_id, processor) by leg_id, for the legs that we know."""
    g = payout_legs.c
    query = select(g.leg_id, g.payout_id, g.processor).where(g.leg_id.in_(sorted(leg_ids)))
    return {row[0]: (row[1], row[2]) for row in connection.execute(query)} if leg_ids else {}


def objects_of(connection: Connection, leg_ids: Collection[str]) -> list[RowMapping]:
    """Return the transfer objects of these legs, oldest first, with all columns."""
    o = transfer_objects.c
    query = select(transfer_objects).where(o.leg_id.in_(sorted(leg_ids))).order_by(o.created_at, o.object_id)
    return list(connection.execute(query).mappings()) if leg_ids else []


_A = payout_attempts.c
_FROZEN = select(*(payout_attempts.c[name] for name in ("leg_id", "number", "key", "body", "first_sent_at"))).where(
    payout_attempts.c.leg_id.in_(bindparam("ids", expanding=True))
)
_SEND_AGAIN = (
    update(payout_attempts)
    .where(_A.leg_id == bindparam("id"), _A.number == bindparam("attempt"))
    .values(sends=bindparam("sends"), last_sent_at=bindparam("last_sent_at"))
)
_OUTCOME = ("outcome", "outcome_code", "outcome_message", "request_id", "answered_at")
_ANSWER = (
    update(payout_attempts)
    .where(_A.leg_id == bindparam("id"), _A.number == bindparam("attempt"))
    .values({name: bindparam(name) for name in _OUTCOME})
)
