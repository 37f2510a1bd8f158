"""Payees and their sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, case, func, null, select, tuple_, update

from refund_worker.domain.payouts.decision import PayeeChange
from refund_worker.domain.payouts.destination import DestinationKind
from refund_worker.domain.payouts.payee import (
    REFUSED_BY_PROCESSOR,
    BalanceDelta,
    DestinationSince,
    Payee,
    PayeeBalance,
    PayeeStatus,
)
from refund_worker.domain.payouts.transfers import Method, PayeeState
from refund_worker.store import snapshots
from refund_worker.store.database import insert_into, locked
from refund_worker.store.tables import earnings, payee_balances, payees

_FIELDS = tuple(field.name for field in fields(Payee))
_COLUMNS = tuple(payees.c[name] for name in _FIELDS)
_PAYEES = select(*_COLUMNS).where(payees.c.payee_id.in_(bindparam("ids", expanding=True))).order_by(payees.c.payee_id)
Pair = tuple[str, str]  # (payee_id, currency)


def as_payee(row: RowMapping) -> Payee:
    """Return the payee of a row with all columns of `Payee`."""
    values: dict[str, Any] = {name: row[name] for name in _FIELDS}
    values["destination_kind"] = DestinationKind(row["destination_kind"])
    values["method"] = Method(row["method"])
    values["verdict"] = PayeeState(row["verdict"]) if row["verdict"] else None
    return Payee(**values)


def load(connection: Connection, payee_ids: Collection[str], *, lock: bool = False) -> dict[str, Payee]:
    """Return the payees among these ids, by id. With `lock`, their rows stay locked, in the order of their ids."""
    if not payee_ids:
        return {}
    query = locked(connection, _PAYEES) if lock else _PAYEES
    rows = connection.execute(query, {"ids": sorted(payee_ids)}).mappings()
    return {row["payee_id"]: as_payee(row) for row in rows}


def balances(connection: Connection, pairs: Collection[Pair], now: float) -> dict[Pair, PayeeBalance]:
    """Return the sums by (payee_id, currency), for all `pairs`. Call it under the payees' locks to decide by them."""
    if not pairs:
        return {}
    ids = sorted({payee_id for payee_id, _ in pairs})
    b, e = payee_balances.c, earnings.c
    held = {
        (row[0], row[1]): int(row[2])
        for row in connection.execute(
            select(e.payee_id, e.currency, func.sum(e.amount_minor - e.clawed_back_minor))
            .where(e.payee_id.in_(ids), e.available_at > now)
            .group_by(e.payee_id, e.currency)
        )
    }
    found = {
        (row["payee_id"], row["currency"]): row
        for row in connection.execute(select(payee_balances).where(b.payee_id.in_(ids))).mappings()
    }
    return {pair: _balance(found.get(pair), held.get(pair, 0)) for pair in pairs}


def _balance(row: RowMapping | None, held_minor: int) -> PayeeBalance:
    if row is None:
        return PayeeBalance(held_minor=held_minor)
    return PayeeBalance(
        row["earned_minor"],
        row["clawed_back_minor"],
        row["in_flight_minor"],
        row["paid_minor"],
        held_minor,
        row["last_payout_at"],
    )


def note_payout(connection: Connection, payee_id: str, payout_id: str, change: PayeeChange, now: float) -> None:
    """Note what a payout says about its payee's destination. A destination that changed meanwhile is not concerned.

    A compliance outcome stays: a failure of another kind that comes later would let the payee correct it alone.
    """
    p = payees.c
    values: dict[str, Any] = {"updated_at": now, "version": p.version + 1}
    if change.destination_failure is not None:
        same = p.destination_id == change.destination_id
        stays = func.coalesce(p.destination_failure, "") == REFUSED_BY_PROCESSOR
        values["destination_failure"] = case((same & ~stays, change.destination_failure), else_=p.destination_failure)
    if change.blocked is not None:
        mine = case((p.blocked_by == payout_id, null()), else_=p.blocked_by)
        values["blocked_by"] = payout_id if change.blocked else mine
    connection.execute(update(payees).where(p.payee_id == payee_id).values(**values))
    if change.blocked is not None:
        snapshots.append_current_rows(connection, "payees", [payee_id])


def change_balances(
    connection: Connection, deltas: Mapping[Pair, BalanceDelta], last_payout_at: Mapping[Pair, float] | None = None
) -> None:
    """Add these changes to the sums, in the order of the payees; a sum that is not there yet begins at 0."""
    b, begun = payee_balances.c, last_payout_at or {}
    for pair in sorted(deltas):
        delta = deltas[pair]
        if not delta and pair not in begun:
            continue
        payee_id, currency = pair
        insert = insert_into(connection, payee_balances).values(payee_id=payee_id, currency=currency)
        connection.execute(insert.on_conflict_do_nothing())
        values: dict[str, Any] = {
            name: b[name] + amount
            for name in ("earned_minor", "clawed_back_minor", "in_flight_minor", "paid_minor")
            if (amount := getattr(delta, name))
        }
        if pair in begun:
            values["last_payout_at"] = begun[pair]
        connection.execute(
            update(payee_balances).where(b.payee_id == payee_id, b.currency == currency).values(**values)
        )


def forget_last_payout(connection: Connection, pair: Pair, *, until: float) -> None:
    """Forget when the last payout was begun, if that was not after `until` (epoch seconds): its amount came back."""
    b = payee_balances.c
    is_pair = (b.payee_id == pair[0]) & (b.currency == pair[1])
    query = update(payee_balances).where(is_pair, b.last_payout_at <= until).values(last_payout_at=None)
    connection.execute(query)


@dataclass(frozen=True, slots=True)
class DestinationNames:
    """The names by which a destination is found again: a keyed hash of it, and the processor's id, if it has one."""

    hash: str
    ref: str | None


def insert_payee(connection: Connection, payee: Payee, names: DestinationNames) -> None:
    """Insert a payee, whose destination is read soon. Raises `IntegrityError` if the id exists."""
    connection.execute(payees.insert().values(**{**_values(payee), **_named(names)}, refresh_at=payee.created_at))
    snapshots.append_current_rows(connection, "payees", [payee.payee_id])


def write_payee(connection: Connection, payee: Payee, names: DestinationNames | None = None) -> None:
    """Store the payee as it is now; with `names`, it has another destination, which is read soon. It is locked."""
    values = _values(payee)
    if names is not None:
        values |= {**_named(names), "refresh_at": payee.updated_at}
    connection.execute(update(payees).where(payees.c.payee_id == payee.payee_id).values(**values))
    snapshots.append_current_rows(connection, "payees", [payee.payee_id])


def write_verdict(connection: Connection, payee: Payee) -> None:
    """Store the processor's verdict on the payee's destination. The payee is locked."""
    names = (*(name for name in _FIELDS if name.startswith("verdict")), "version", "updated_at")
    values = {name: getattr(payee, name) for name in names}
    connection.execute(update(payees).where(payees.c.payee_id == payee.payee_id).values(**values))


def _values(payee: Payee) -> dict[str, Any]:
    return {name: getattr(payee, name) for name in _FIELDS}


def _named(names: DestinationNames) -> dict[str, Any]:
    return {"destination_hash": names.hash, "destination_ref": names.ref}


def hash_of_destination(connection: Connection, payee_id: str) -> str | None:
    """Return the keyed hash of the payee's destination, or None for an unknown payee."""
    return connection.execute(select(payees.c.destination_hash).where(payees.c.payee_id == payee_id)).scalar()


def page(
    connection: Connection, *, limit: int, after: str | None = None, customer_id: str | None = None
) -> list[Payee]:
    """Return at most `limit` payees in the order of their ids; `after` is the last id already seen."""
    query = select(*_COLUMNS).order_by(payees.c.payee_id).limit(limit)
    if after is not None:
        query = query.where(payees.c.payee_id > after)
    if customer_id is not None:
        query = query.where(payees.c.customer_id == customer_id)
    return [as_payee(row) for row in connection.execute(query).mappings()]


def ready_by_customer(connection: Connection, customer_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the payee of each customer who can be paid, by customer and currency: of several the first by id."""
    found: dict[str, dict[str, str]] = {}
    query = select(*_COLUMNS).where(payees.c.customer_id.in_(sorted(customer_ids))).order_by(payees.c.payee_id)
    for row in connection.execute(query).mappings() if customer_ids else ():
        payee = as_payee(row)
        if payee.customer_id is not None and payee.status is PayeeStatus.READY:
            found.setdefault(payee.customer_id, {}).setdefault(payee.currency, payee.payee_id)
    return found


def destinations(connection: Connection, payee_ids: Collection[str]) -> dict[str, DestinationSince]:
    """Return the destination that each of these payees has now, and since when (epoch seconds)."""
    p = payees.c
    query = select(p.payee_id, p.destination_id, p.destination_changed_at).where(p.payee_id.in_(sorted(payee_ids)))
    return {row[0]: DestinationSince(row[1], row[2]) for row in connection.execute(query)} if payee_ids else {}


def currencies_of(connection: Connection, payee_ids: Collection[str]) -> list[Pair]:
    """Return (payee_id, currency) of every sum of these payees, sorted."""
    b = payee_balances.c
    query = select(b.payee_id, b.currency).where(b.payee_id.in_(sorted(payee_ids)))
    return sorted((row[0], row[1]) for row in connection.execute(query)) if payee_ids else []


def claim_refreshes(connection: Connection, now: float, until: float, limit: int) -> list[Payee]:
    """Return at most `limit` payees whose destination is to be read now. No other process gets them before `until`."""
    p = payees.c
    due = select(p.payee_id).where(p.refresh_at <= now).order_by(p.refresh_at).limit(limit)
    ids = list(connection.execute(locked(connection, due, skip=True)).scalars())
    if ids:
        connection.execute(update(payees).where(p.payee_id.in_(ids)).values(refresh_at=until))
    return list(load(connection, ids).values())


def plan_refresh(connection: Connection, payee_id: str, at: float | None) -> None:
    """Let the payee's destination be read at this time (epoch seconds), or with None never."""
    connection.execute(update(payees).where(payees.c.payee_id == payee_id).values(refresh_at=at))


def refresh_destinations(
    connection: Connection, named: Collection[tuple[str, str]], now: float
) -> dict[tuple[str, str], int]:
    """Let all destinations with these ids be read now: (processor, the id there). Return how many have each."""
    p = payees.c
    which = select(p.payee_id, p.processor, p.destination_ref).where(
        tuple_(p.processor, p.destination_ref).in_(sorted(named))
    )
    found = connection.execute(locked(connection, which.order_by(p.payee_id))).all() if named else ()
    if found:
        connection.execute(update(payees).where(p.payee_id.in_([row[0] for row in found])).values(refresh_at=now))
    return Counter((row[1], row[2]) for row in found)


def of_account(connection: Connection, processor: str, currency: str, *, after: str, limit: int) -> list[Payee]:
    """Return at most `limit` payees of the account who are paid in this currency, by id; `after` was the last seen."""
    p = payees.c
    query = select(*_COLUMNS).where(p.processor == processor, p.currency == currency, p.payee_id > after)
    return [as_payee(row) for row in connection.execute(query.order_by(p.payee_id).limit(limit)).mappings()]
