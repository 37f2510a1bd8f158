"""How far the scheduler's check of the sums is, and the rows for which a sum does not hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, update

from refund_worker.domain.sums import Sum, Violation
from refund_worker.store.database import insert_into
from refund_worker.store.tables import sum_rounds, sum_violations

_v = sum_violations.c
_OPEN = _v.ended_at.is_(None)


def current_round(connection: Connection) -> RowMapping | None:
    """Return the state of the rounds, or None before the first check."""
    return connection.execute(select(sum_rounds)).mappings().first()


def claim_round(connection: Connection, now: float, seconds: float, seen: tuple[int, int]) -> RowMapping | None:
    """Return the state if it is time for a check, and let no other scheduler check for `seconds`.

    `seen` are the newest rows at the very first check, which begins a round.
    """
    first = {
        "row_number": 1,
        "seen_transaction": seen[0],
        "seen_event": seen[1],
        "customers": 0,
        "began_at": now,
        "next_at": 0.0,
    }
    connection.execute(insert_into(connection, sum_rounds).values(first).on_conflict_do_nothing())
    # A clock that went back must not stop the checks.
    due = (sum_rounds.c.next_at <= now) | (sum_rounds.c.next_at > now + 2 * seconds)
    taken = connection.execute(update(sum_rounds).where(due).values(next_at=now + seconds))
    return current_round(connection) if taken.rowcount else None


def write_round(connection: Connection, was: RowMapping, values: dict[str, Any]) -> None:
    """Store how far the check came, unless another scheduler has come further meanwhile."""
    r = sum_rounds.c
    same = (r.began_at == was["began_at"]) & (r.customers == was["customers"])
    connection.execute(update(sum_rounds).where(same).values(values))


def open_violations(connection: Connection, limit: int) -> list[RowMapping]:
    """Return rows for which a sum does not hold now, by sum and subject."""
    query = select(sum_violations).where(_OPEN).order_by(_v.sum, _v.subject, _v.unit).limit(limit)
    return list(connection.execute(query).mappings())


def has_open(connection: Connection, customer_ids: Sequence[str]) -> bool:
    """Return True if a sum did not hold for a row of these customers when it was last checked."""
    query = select(_v.subject).where(_OPEN, _v.customer_id.in_(customer_ids)).limit(1)
    return connection.execute(query).first() is not None


def count_violations(connection: Connection) -> dict[Sum, int]:
    """Return for each sum the number of rows for which it does not hold."""
    query = select(_v.sum, func.count()).where(_OPEN).group_by(_v.sum)
    found = {row[0]: int(row[1]) for row in connection.execute(query)}
    return {name: found.get(name.value, 0) for name in Sum}


def write_violations(
    connection: Connection, customer_ids: Sequence[str], found: Iterable[Violation], now: float, *, most: int
) -> list[Violation]:
    """Store what a check of these customers found, and end the rows that hold again. Return those that are new.

    At most `most` are open at a time; more than these are returned and not stored.
    """
    known = {(row["sum"], row["subject"], row["unit"]): row for row in _of(connection, customer_ids)}
    seen = {(violation.sum.value, violation.subject, violation.unit): violation for violation in found}
    over = [key for key in known if key not in seen and known[key]["ended_at"] is None]
    for key in over:
        connection.execute(update(sum_violations).where(*_is(key)).values(ended_at=now))
    new = [violation for key, violation in seen.items() if key not in known or known[key]["ended_at"] is not None]
    room = most - sum(count_violations(connection).values())
    for violation in (*(v for key, v in seen.items() if key in known), *new[: max(0, room)]):
        _store(connection, violation, now, known)
    return new


def _of(connection: Connection, customer_ids: Sequence[str]) -> list[RowMapping]:
    query = select(sum_violations).where(_v.customer_id.in_(customer_ids))
    return list(connection.execute(query).mappings())


def _is(key: tuple[str, str, str]) -> tuple[Any, ...]:
    return _v.sum == key[0], _v.subject == key[1], _v.unit == key[2]


def _store(connection: Connection, violation: Violation, now: float, known: Any) -> None:
    key = (violation.sum.value, violation.subject, violation.unit)
    figures = {"stored": violation.stored, "expected": violation.expected, "seen_at": now, "ended_at": None}
    was = known.get(key)
    figures["found_at"] = now if was is None or was["ended_at"] is not None else was["found_at"]
    insert = insert_into(connection, sum_violations).values(
        sum=key[0], subject=key[1], unit=key[2], customer_id=violation.customer_id, **figures
    )
    connection.execute(insert.on_conflict_do_update(index_elements=["sum", "subject", "unit"], set_=figures))
