"""Reconciliations, the place that each has reached, and their differences."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, func, or_, select, update

from refund_worker.batching import batched
from refund_worker.store.database import IDS_AT_ONCE, locked
from refund_worker.store.tables import reconciliation_differences, reconciliations, refunds

QUEUED, RUNNING, DONE = STATUSES = ("queued", "running", "done")
OPEN, ACKNOWLEDGED = "open", "acknowledged"
NOT_RECORDED = "not_recorded"
_COLUMNS = ("kind", "subject", "object_id", "leg_id", "refund_id", "payment_id", "customer_id", "currency", "detail")

_r, _d = reconciliations.c, reconciliation_differences.c


def insert(connection: Connection, row: Mapping[str, Any]) -> None:
    """Insert a reconciliation."""
    connection.execute(reconciliations.insert().values(**row))


def find(connection: Connection, reconciliation_id: str, *, lock: bool = False) -> RowMapping | None:
    """Return a reconciliation, or None; with `lock` its row stays locked."""
    query = select(reconciliations).where(_r.reconciliation_id == reconciliation_id)
    query = locked(connection, query) if lock else query
    return connection.execute(query).mappings().first()


def page(
    connection: Connection, *, limit: int, before: str | None = None, processor: str | None = None
) -> list[RowMapping]:
    """Return reconciliations, newest first; `before` is the last id already seen."""
    query = select(reconciliations).order_by(_r.reconciliation_id.desc()).limit(limit)
    if before is not None:
        query = query.where(_r.reconciliation_id < before)
    if processor is not None:
        query = query.where(_r.processor == processor)
    return list(connection.execute(query).mappings())


def claim(connection: Connection, now: float, *, token: str, until: float, only: str | None = None) -> str | None:
    """Lease the oldest unfinished reconciliation that is free, or `only` this one. Return its id, or None."""
    query = (
        select(_r.reconciliation_id)
        .where(_r.ended_at.is_(None), or_(_r.lease_until.is_(None), _r.lease_until <= now))
        .order_by(_r.created_at, _r.reconciliation_id)
        .limit(1)
    )
    if only is not None:
        query = query.where(_r.reconciliation_id == only)
    found: str | None = connection.execute(locked(connection, query, skip=True)).scalar()
    if found is not None:
        values = {"lease_token": token, "lease_until": until}
        connection.execute(update(reconciliations).where(_r.reconciliation_id == found).values(values))
    return found


def change(connection: Connection, reconciliation_id: str, **values: Any) -> None:
    """Change a reconciliation's values."""
    connection.execute(update(reconciliations).where(_r.reconciliation_id == reconciliation_id).values(**values))


def add_differences(
    connection: Connection, row: RowMapping, differences: Sequence[Mapping[str, Any]], now: float
) -> int:
    """Add new differences to the locked reconciliation `row`, and return how many it has then.

    One that a person acknowledged before, with the same values, is acknowledged already.
    """
    known = _known(connection, row["reconciliation_id"], {each["subject"] for each in differences})
    new = {
        (str(each["kind"]), each["subject"], each["object_id"]): each
        for each in differences
        if (str(each["kind"]), each["subject"], each["object_id"]) not in known
    }
    earlier = _acknowledged(connection, row["processor"], {subject for _, subject, _ in new})
    rows = []
    for n, ((kind, subject, object_id), each) in enumerate(new.items(), row["found"] + 1):
        ours, theirs = json.dumps(each["ours"]), json.dumps(each["theirs"])
        before = earlier.get((kind, subject, object_id, ours, theirs))
        rows.append(
            {name: each[name] for name in _COLUMNS}
            | {"reconciliation_id": row["reconciliation_id"], "n": n, "kind": kind, "found_at": now}
            | {"ours": ours, "theirs": theirs, "state": ACKNOWLEDGED if before else OPEN}
            | {name: before[name] if before else None for name in ("decided_at", "decided_by", "reason")}
        )
    if rows:
        connection.execute(reconciliation_differences.insert(), rows)
    found = int(row["found"]) + len(rows)
    change(connection, row["reconciliation_id"], found=found)
    return found


def _known(connection: Connection, reconciliation_id: str, subjects: Iterable[str]) -> set[tuple[str, str, str]]:
    found: set[tuple[str, str, str]] = set()
    query = select(_d.kind, _d.subject, _d.object_id).where(_d.reconciliation_id == reconciliation_id)
    for chunk in batched(subjects, IDS_AT_ONCE):
        found |= {(row[0], row[1], row[2]) for row in connection.execute(query.where(_d.subject.in_(chunk)))}
    return found


def _acknowledged(
    connection: Connection, processor: str, subjects: Iterable[str]
) -> dict[tuple[str, str, str, str, str], RowMapping]:
    query = (
        select(reconciliation_differences)
        .join(reconciliations, _r.reconciliation_id == _d.reconciliation_id)
        .where(_r.processor == processor, _d.state == ACKNOWLEDGED)
    )
    found = {}
    for chunk in batched(subjects, IDS_AT_ONCE):
        for row in connection.execute(query.where(_d.subject.in_(chunk))).mappings():
            found[row["kind"], row["subject"], row["object_id"], row["ours"], row["theirs"]] = row
    return found


def unrecorded_objects(
    connection: Connection, reconciliation_id: str, leg_ids: Collection[str]
) -> dict[str, list[str]]:
    """Return the ids of objects that this reconciliation found unrecorded, by leg."""
    query = select(_d.subject, _d.object_id).where(
        _d.reconciliation_id == reconciliation_id, _d.kind == NOT_RECORDED, _d.state == OPEN
    )
    found: dict[str, list[str]] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        for leg_id, object_id in connection.execute(query.where(_d.subject.in_(chunk))):
            found.setdefault(leg_id, []).append(object_id)
    return found


def _of(reconciliation_id: str, kind: str | None, state: str | None) -> Select[Any]:
    query = select(reconciliation_differences).where(_d.reconciliation_id == reconciliation_id)
    query = query if kind is None else query.where(_d.kind == kind)
    return query if state is None else query.where(_d.state == state)


def differences(
    connection: Connection,
    reconciliation_id: str,
    *,
    kind: str | None = None,
    state: str | None = None,
    after: int = 0,
    limit: int,
    client: str | None = None,
) -> list[RowMapping]:
    """Return differences in their order, after the number `after`; with `client` those of its refunds."""
    query = _of(reconciliation_id, kind, state).where(_d.n > after).order_by(_d.n).limit(limit)
    if client is not None:
        query = query.join(refunds, refunds.c.refund_id == _d.refund_id).where(refunds.c.client == client)
    return list(connection.execute(query).mappings())


def difference(connection: Connection, reconciliation_id: str, n: int) -> RowMapping | None:
    """Return one difference, or None."""
    query = select(reconciliation_differences).where(_d.reconciliation_id == reconciliation_id, _d.n == n)
    return connection.execute(query).mappings().first()


def counts(connection: Connection, reconciliation_ids: Collection[str]) -> dict[str, dict[tuple[str, str], int]]:
    """Return how many differences there are of each (kind, state), by reconciliation."""
    query = (
        select(_d.reconciliation_id, _d.kind, _d.state, func.count())
        .where(_d.reconciliation_id.in_(reconciliation_ids))
        .group_by(_d.reconciliation_id, _d.kind, _d.state)
    )
    found: dict[str, dict[tuple[str, str], int]] = {each: {} for each in reconciliation_ids}
    for reconciliation_id, kind, state, number in connection.execute(query):
        found[reconciliation_id][kind, state] = number
    return found


def decide(
    connection: Connection,
    reconciliation_id: str,
    n: int,
    state: str,
    now: float,
    *,
    actor: str,
    reason: str,
    outcome: str,
) -> bool:
    """Store a person's decision about an open difference. Return False if it was decided already."""
    where = (_d.reconciliation_id == reconciliation_id, _d.n == n, _d.state == OPEN)
    values = {"state": state, "decided_at": now, "decided_by": actor, "reason": reason, "outcome": outcome}
    return connection.execute(update(reconciliation_differences).where(*where).values(values)).rowcount > 0
