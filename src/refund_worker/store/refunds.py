"""Refunds with their legs: insert, claim, load, and write decisions, always in bulk. Times are epoch seconds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    RowMapping,
    Select,
    Text,
    and_,
    bindparam,
    case,
    or_,
    select,
    update,
)

from refund_worker.domain.account_names import CONNECTED
from refund_worker.domain.decision import Decision
from refund_worker.domain.legs import leg_number
from refund_worker.domain.refund import (
    FINAL,
    Canceling,
    Doubt,
    Kind,
    KnownRefundObject,
    Leg,
    LegStatus,
    ObjectReport,
    ObjectState,
    Refund,
    RefundStatus,
    RefusalKind,
    To,
)
from refund_worker.domain.state_machine import ACTIVE, AWAITING_SEND
from refund_worker.errors import LostRace
from refund_worker.store import snapshots
from refund_worker.store.account_names import is_at
from refund_worker.store.accounts import surviving
from refund_worker.store.database import locked
from refund_worker.store.refund_objects import REPORT_COLUMNS, as_report
from refund_worker.store.tables import AT_CONNECTED, legs, refund_batch_rows, refund_objects, refunds

Q = TypeVar("Q", bound=tuple[Any, ...])

_LEG_COLUMNS = [column.name for column in legs.columns]
_REFUND_COLUMNS = [column.name for column in refunds.columns if column.name != "body"]
_LEG_CHANGES = [name for name in _LEG_COLUMNS if name not in ("leg_id", "refund_id", "payment_id", "processor")]
# Columns whose field has another name; all others are named like their field.
_LEG_FIELDS = {
    "doubtful": "unanswered",
    "look_first": "lookup_required",
    "verdict": "refusal",
    "settled": "reallocated",
    "attention": "attention_code",
    "backoffs": "retry_count",
    "returned_credits": "reversed_credits",
    "looked_at": "listed_at",
    "seen_elsewhere": "acknowledged_outside",
}
_REFUND_FIELDS = {"posted": "ledger_posted", "returns": "reversal_count", "returned_credits": "reversed_credits"}
_REFUND_CHANGES = (
    "status",
    "version",
    "updated_at",
    "posted",
    "returns",
    "returned_credits",
    "failure_code",
    "failure_message",
    "due_at",
    "lease_until",
    "lease_token",
)


def insert_refunds(connection: Connection, accepted: Sequence[tuple[Refund, str]]) -> None:
    """Insert new refunds with their legs, each with the request body it came with.

    Raises `IntegrityError` if an idempotency key is taken.
    """
    if not accepted:
        return
    rows = [_refund_row(refund) | {"body": body} for refund, body in accepted]
    connection.execute(refunds.insert(), rows)
    leg_rows = [_leg_row(leg) for refund, _ in accepted for leg in refund.legs]
    if leg_rows:
        connection.execute(legs.insert(), leg_rows)
    snapshots.take(connection, [*(("refunds", row) for row in rows), *(("legs", row) for row in leg_rows)])


_BY_KEYS = select(refunds.c.idempotency_key, refunds.c.refund_id, refunds.c.customer_id, refunds.c.body).where(
    refunds.c.client == bindparam("client"), refunds.c.idempotency_key.in_(bindparam("keys", expanding=True))
)


def find_by_keys(connection: Connection, client: str, keys: Collection[str]) -> dict[str, RowMapping]:
    """Return `refund_id`, `customer_id` and `body` by idempotency key, for the client's keys that are taken."""
    rows = connection.execute(_BY_KEYS, {"client": client, "keys": list(keys)}).mappings()
    return {row["idempotency_key"]: row for row in rows}


_DUE = (
    select(refunds.c.refund_id)
    .where(
        refunds.c.due_at <= bindparam("now"),
        or_(refunds.c.lease_until.is_(None), refunds.c.lease_until <= bindparam("now")),
    )
    .order_by(refunds.c.priority, refunds.c.due_at)
    .limit(bindparam("limit", type_=Integer))
)


def claimable(
    connection: Connection, now: float, limit: int, only: Collection[str] | None = None, bulk: bool | None = None
) -> list[str]:
    """Return ids of refunds that are due and not leased, the urgent first.

    Their rows are locked; rows that others have locked are skipped. `only` and `bulk` restrict the choice.
    """
    query = _DUE
    if only is not None:
        query = query.where(refunds.c.refund_id.in_(only))
    if bulk is not None:
        query = query.where(refunds.c.priority == (1 if bulk else 0))
    return list(connection.execute(locked(connection, query, skip=True), {"now": now, "limit": limit}).scalars())


def due_ids(connection: Connection, now: float, limit: int, *, bulk: bool) -> list[str]:
    """Return ids of refunds of one priority that are due and not leased, the longest waiting first. Locks nothing."""
    r = refunds.c
    free = or_(r.lease_until.is_(None), r.lease_until <= now)
    query = select(r.refund_id).where(r.priority == (1 if bulk else 0), r.due_at <= now, free)
    return list(connection.execute(query.order_by(r.due_at).limit(limit)).scalars())


_IDS = bindparam("refund_ids", type_=Text, expanding=True)
_REFUNDS = select(refunds).where(refunds.c.refund_id.in_(_IDS)).order_by(refunds.c.refund_id)
_LEGS = select(legs).where(legs.c.refund_id.in_(_IDS))
_OBJECTS = (
    select(refund_objects.c.leg_id, refund_objects.c.state, refund_objects.c.attempt, *REPORT_COLUMNS)
    .join(legs, refund_objects.c.leg_id == legs.c.leg_id)
    .where(legs.c.refund_id.in_(_IDS))
)


def load(connection: Connection, refund_ids: Collection[str], *, lock: bool = False) -> list[Refund]:
    """Return the refunds with their legs and known refund objects, by id; with `lock` their rows are locked."""
    if not refund_ids:
        return []
    wanted = {"refund_ids": list(refund_ids)}
    rows = connection.execute(locked(connection, _REFUNDS) if lock else _REFUNDS, wanted).mappings().all()
    objects: dict[str, list[KnownRefundObject]] = defaultdict(list)
    reports: dict[str, list[ObjectReport]] = defaultdict(list)
    for leg_id, state, attempt, *report in connection.execute(_OBJECTS, wanted):
        reports[leg_id].append(as_report(report))
        if state:
            objects[leg_id].append(KnownRefundObject(report[0], ObjectState(state), attempt))
    by_refund: dict[str, list[Leg]] = defaultdict(list)
    for row in connection.execute(_LEGS, wanted).mappings():
        by_refund[row["refund_id"]].append(_leg(row, objects.get(row["leg_id"], ()), reports.get(row["leg_id"], ())))
    return [_refund(row, by_refund.get(row["refund_id"], ())) for row in rows]


def _leg(row: RowMapping, objects: Iterable[KnownRefundObject], reports: Iterable[ObjectReport]) -> Leg:
    values = {_LEG_FIELDS.get(column, column): value for column, value in row.items()}
    refusal = values.pop("refusal")
    in_doubt = Doubt.of(
        unanswered=values.pop("unanswered"),
        lookup_required=values.pop("lookup_required"),
        refusal=RefusalKind(refusal) if refusal else None,
    )
    values["status"] = LegStatus(values["status"])
    values["canceling"] = Canceling(values["canceling"]) if values["canceling"] else None
    return Leg(**values, in_doubt=in_doubt, objects=tuple(objects), reports=tuple(reports))


def _refund(row: RowMapping, its_legs: Iterable[Leg]) -> Refund:
    values: dict[str, Any] = {_REFUND_FIELDS.get(column, column): value for column, value in row.items()}
    del values["body"]
    values["metadata"] = json.loads(values["metadata"])
    values["kind"], values["to"] = Kind(values["kind"]), To(values["to"])
    values["status"] = RefundStatus(values["status"])
    in_order = sorted(its_legs, key=lambda leg: int(leg_number(leg)))
    return Refund(**values, legs=tuple(in_order))


def _values(of: Refund | Leg, columns: Iterable[str]) -> dict[str, Any]:
    """Return the values of these columns, by column."""
    fields = _LEG_FIELDS if isinstance(of, Leg) else _REFUND_FIELDS
    return {column: getattr(of, fields.get(column, column)) for column in columns}


def _refund_row(refund: Refund) -> dict[str, Any]:
    return _values(refund, _REFUND_COLUMNS) | {"metadata": json.dumps(dict(refund.metadata), sort_keys=True)}


def _leg_row(leg: Leg) -> dict[str, Any]:
    return _values(leg, _LEG_COLUMNS)


def write_refunds(connection: Connection, decisions: Sequence[Decision]) -> None:
    """Write refunds and legs as decided.

    Each decision names the version it started from. Raises `LostRace` if the stored version is another one.
    """
    pairs = [(d.before, d.after) for d in decisions if d.before is not None]
    rows = [
        {"id": before.refund_id, "left": before.version} | _values(after, _REFUND_CHANGES) for before, after in pairs
    ]
    if rows and connection.execute(_UPDATE_REFUND, rows).rowcount != len(rows):
        raise LostRace("another process changed a refund in the meantime: load it and try again")
    changed, added = [], []
    covered = [("refunds", _refund_row(after)) for before, after in pairs if _differs("refunds", before, after)]
    for before, after in pairs:
        legs_before = {leg.leg_id: leg for leg in before.legs}
        for leg in after.legs:
            if leg.leg_id not in legs_before:
                added.append(_leg_row(leg))
            elif leg is not legs_before[leg.leg_id]:
                changed.append({"id": leg.leg_id} | _values(leg, _LEG_CHANGES))
                if _differs("legs", legs_before[leg.leg_id], leg):
                    covered.append(("legs", _leg_row(leg)))
    if changed:
        connection.execute(_UPDATE_LEG, changed)
    if added:
        connection.execute(legs.insert(), added)
    snapshots.take(connection, [*covered, *(("legs", row) for row in added)])


def _differs(table: str, before: Refund | Leg, after: Refund | Leg) -> bool:
    """Return True if the change touches a column that the audit chain covers."""
    columns = snapshots.COVERED[table]
    return _values(before, columns) != _values(after, columns)


class PlaceOfLeg(NamedTuple):
    """The refund of a leg, and the account at a processor that its money goes back over."""

    refund_id: str
    processor: str


def places_of_legs(connection: Connection, leg_ids: Collection[str]) -> dict[str, PlaceOfLeg]:
    """Return the refund and the account by leg id, for the legs that exist."""
    query = select(legs.c.leg_id, legs.c.refund_id, legs.c.processor).where(legs.c.leg_id.in_(leg_ids))
    return {leg_id: PlaceOfLeg(*rest) for leg_id, *rest in connection.execute(query)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The refunds to list; an omitted filter matches any. `starting_after` is the id of the last one already seen."""

    statuses: tuple[str, ...] = ()
    customer_id: str | None = None
    failure_code: str | None = None
    created_gte: float | None = None
    created_lt: float | None = None
    idempotency_key: str | None = None
    refund_id: str | None = None
    batch_id: str | None = None
    client: str | None = None
    limit: int = 100
    starting_after: str | None = None
    oldest_first: bool = False


def id_at(at: float) -> str:
    """Return a lower bound of the ids that are made from `at` on: ids begin with their time.

    It is a day earlier than `at`, because the clocks of machines differ.
    """
    return f"rf_{max(0, int((at - 86_400) * 1000)):012x}"


def is_there(connection: Connection, refund_id: str, client: str | None) -> bool:
    """Return True if the refund exists and belongs to `client`, if one is given."""
    query = select(refunds.c.refund_id).where(refunds.c.refund_id == refund_id)
    if client is not None:
        query = query.where(refunds.c.client == client)
    return connection.execute(query).first() is not None


def customer_of(connection: Connection, refund_id: str) -> str | None:
    """Return the id of the refund's customer, which a merge changes to the surviving one, or None without a refund."""
    return connection.execute(select(refunds.c.customer_id).where(refunds.c.refund_id == refund_id)).scalar()


def find_ids(connection: Connection, filters: Filters) -> list[str]:
    """Return ids, newest first, one more than the limit if there are more. Each filter has an index in this order."""
    order = refunds.c.refund_id if filters.oldest_first else refunds.c.refund_id.desc()
    query = filtered(select(refunds.c.refund_id), filters).order_by(order).limit(filters.limit + 1)
    return list(connection.execute(query).scalars())


def filtered(query: Select[Q], filters: Filters) -> Select[Q]:
    """Return the query of refunds with the conditions of the filters, without an order and a limit."""
    r = refunds.c
    if filters.customer_id is not None:
        query = query.where(r.customer_id == surviving(filters.customer_id))
    for name in ("failure_code", "idempotency_key", "client", "refund_id"):
        value = getattr(filters, name)
        if value is not None:
            query = query.where(r[name] == value)
    # A client's index has the status first: naming all statuses is the same as naming none.
    statuses = filters.statuses or (tuple(RefundStatus) if filters.client is not None else ())
    if statuses:
        query = query.where(r.status.in_(statuses))
    if filters.created_gte is not None:
        query = query.where(r.created_at >= filters.created_gte, r.refund_id >= id_at(filters.created_gte))
    if filters.created_lt is not None:
        query = query.where(r.created_at < filters.created_lt, r.refund_id < id_at(filters.created_lt + 2 * 86_400))
    if filters.batch_id is not None:
        rows = refund_batch_rows.c
        query = query.where(r.refund_id.in_(select(rows.refund_id).where(rows.batch_id == filters.batch_id)))
    if filters.starting_after is not None:
        beyond = r.refund_id > filters.starting_after if filters.oldest_first else r.refund_id < filters.starting_after
        query = query.where(beyond)
    return query


def put_off(
    connection: Connection, refund_id: str, until: float, code: str, message: str, now: float, lease_token: str | None
) -> None:
    """Postpone a refund until `until` and show the reason; a final refund keeps its own failure.

    The change is made only under the given lease, or with None only while no lease is valid.
    """
    r = refunds.c
    is_ours = r.lease_token == lease_token if lease_token else or_(r.lease_until.is_(None), r.lease_until <= now)
    reason = {"failure_code": code, "failure_message": message}
    shown = {name: case((r.status.in_(FINAL), r[name]), else_=value) for name, value in reason.items()}
    connection.execute(
        update(refunds)
        .where(r.refund_id == refund_id, is_ours)
        .values(**shown, due_at=until, lease_token=None, lease_until=None, version=r.version + 1)
    )


def connected_accounts(connection: Connection, platform: str, since: float) -> frozenset[str]:
    """Return the connected accounts with open legs, or to which money was sent since `since` (epoch seconds)."""
    return _connected(connection, platform, or_(legs.c.status.in_(ACTIVE), legs.c.last_sent_at >= since))


def connected_accounts_to_send_to(connection: Connection, platform: str) -> frozenset[str]:
    """Return the connected accounts to which money is to be sent without a person's act."""
    under_way = select(refunds.c.refund_id).where(refunds.c.due_at.is_not(None))
    awaiting = legs.c.status.in_(AWAITING_SEND)
    return _connected(connection, platform, and_(legs.c.refund_id.in_(under_way), awaiting))


def _connected(connection: Connection, platform: str, which: ColumnElement[bool]) -> frozenset[str]:
    of_it = legs.c.processor.startswith(platform + CONNECTED, autoescape=True)
    query = select(legs.c.processor).distinct().where(AT_CONNECTED, of_it, which)
    return frozenset(connection.execute(query).scalars())


def requeue_waiting_for(connection: Connection, processor: str | None, now: float) -> None:
    """Make due now the legs that were postponed while the processor, or all of them (None), was paused.

    This includes the legs over its connected accounts.
    """
    put_off = legs.c.status.in_(AWAITING_SEND)
    waiting = put_off if processor is None else and_(put_off, is_at(legs.c.processor, processor))
    of_it = refunds.c.refund_id.in_(select(legs.c.refund_id).where(waiting))
    # Lock the refunds first, as all others do: a process that has claimed one would write its legs back unchanged.
    connection.execute(locked(connection, select(refunds.c.refund_id).where(of_it).order_by(refunds.c.refund_id)))
    connection.execute(update(legs).where(waiting, legs.c.next_at > now).values(next_at=now))
    # During the pause a person may have paid manually: what was sent before is looked up before it is sent again.
    connection.execute(update(legs).where(waiting, legs.c.last_sent_at.is_not(None)).values(held=True))
    connection.execute(update(legs).where(waiting, legs.c.looked_at.is_not(None)).values(looked_at=None))
    connection.execute(
        update(refunds).where(of_it, refunds.c.due_at > now).values(due_at=now, version=refunds.c.version + 1)
    )


def written_after(connection: Connection, at: float) -> bool:
    """Return True if an unfinished refund was written after `at`.

    It reads all unfinished refunds: do not call it in every round.
    """
    r = refunds.c
    query = select(r.refund_id).where(r.due_at.is_not(None), r.updated_at > at).limit(1)
    return connection.execute(query).first() is not None


def requeue_written_after(connection: Connection, at: float, now: float) -> int:
    """Make due, without a lease, all unfinished refunds that were written after `at`; return how many."""
    r = refunds.c
    free = {"due_at": now, "lease_until": None, "lease_token": None, "version": r.version + 1}
    return connection.execute(update(refunds).where(r.due_at.is_not(None), r.updated_at > at).values(**free)).rowcount


_UPDATE_REFUND = (
    update(refunds)
    .where(refunds.c.refund_id == bindparam("id"), refunds.c.version == bindparam("left"))
    .values({name: bindparam(name) for name in _REFUND_CHANGES})
)
_UPDATE_LEG = (
    update(legs).where(legs.c.leg_id == bindparam("id")).values({name: bindparam(name) for name in _LEG_CHANGES})
)
