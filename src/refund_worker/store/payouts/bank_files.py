"""Files for banks, with their sealed bytes, and the payouts in them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, RowMapping, case, func, select

from refund_worker.domain.payouts.transfers import Step
from refund_worker.domain.state_machine import TO_BE_SENT
from refund_worker.store.tables import bank_files, payout_legs, payouts, transfer_objects


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file: `payments` transfers of `amount_minor` in all (minor units of `currency`, "" for several)."""

    file_id: str
    processor: str
    format: str
    currency: str
    payments: int
    amount_minor: int
    actor: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Place:
    """The leg that a file carries as `object_id`, with the attempt that put it there."""

    payout_id: str
    leg_id: str
    attempt: int
    step: Step
    amount_minor: int
    currency: str
    object_id: str


def insert(connection: Connection, file: StoredFile, sealed: str) -> None:
    """Store a file with its sealed bytes."""
    connection.execute(bank_files.insert().values(**asdict(file), body=sealed))


_COLUMNS = tuple(bank_files.c[field.name] for field in fields(StoredFile))


def load(connection: Connection, file_id: str) -> tuple[StoredFile, str] | None:
    """Return a file and its sealed bytes, or None."""
    query = select(*_COLUMNS, bank_files.c.body).where(bank_files.c.file_id == file_id)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    return StoredFile(**{field.name: row[field.name] for field in fields(StoredFile)}), row["body"]


def newest(connection: Connection, limit: int) -> list[StoredFile]:
    """Return the newest files."""
    rows = connection.execute(select(*_COLUMNS).order_by(bank_files.c.file_id.desc()).limit(limit)).mappings()
    return [StoredFile(**row) for row in rows]


def waiting(connection: Connection, processor: str, limit: int, currency: str | None = None) -> list[str]:
    """Return the ids of the payouts at this account with a leg that the next file may take, oldest first.

    With a currency, all those in it come before the others.
    """
    g = payout_legs.c
    first = () if currency is None else (case((g.currency == currency, 0), else_=1),)
    query = (
        select(g.payout_id)
        .join(payouts, payouts.c.payout_id == g.payout_id)
        .where(g.processor == processor, g.status.in_(TO_BE_SENT), payouts.c.ledger_posted, g.attention_code.is_(None))
        .order_by(*first, g.payout_id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def payouts_in(connection: Connection, file_id: str) -> list[str]:
    """Return the ids of the payouts that the file carries."""
    g = payout_legs.c
    return list(connection.execute(select(g.payout_id).where(g.file_id == file_id).order_by(g.payout_id)).scalars())


def places(connection: Connection, processor: str, object_ids: Collection[str]) -> dict[str, Place]:
    """Return the legs that files of this account carry, or carried, under these ids, by id.

    A payment that the bank has answered stays its leg's, also when another attempt or a person pays the leg.
    """
    g, o, ids = payout_legs.c, transfer_objects.c, sorted(object_ids)
    carried = _PLACES.where(g.processor == processor, g.object_id.in_(ids), g.file_id.is_not(None))
    answered = (
        select(*_LEG, func.coalesce(o.attempt, g.attempt).label("attempt"), o.object_id)
        .join_from(transfer_objects, payout_legs, o.leg_id == g.leg_id)
        .where(o.processor == processor, o.object_id.in_(ids), g.file_id.is_not(None))
    )
    rows = [row for query in (carried, answered) for row in connection.execute(query).mappings()] if ids else []
    return {row["object_id"]: _place(row) for row in rows}


def places_in_file(connection: Connection, processor: str, is_the_file: Callable[[str], bool]) -> list[Place]:
    """Return the legs in the file of this account for whose id `is_the_file` is True."""
    ids = connection.execute(select(bank_files.c.file_id).where(bank_files.c.processor == processor)).scalars()
    named = [file_id for file_id in ids if is_the_file(file_id)]
    g = payout_legs.c
    # A person's payment is in no file.
    in_them = _PLACES.where(g.file_id.in_(named), g.manual_reference.is_(None)).order_by(g.leg_id)
    return [_place(row) for row in connection.execute(in_them).mappings()]


_G = payout_legs.c
_LEG = (_G.payout_id, _G.leg_id, _G.step, _G.amount_minor, _G.currency)
_PLACES = select(*_LEG, _G.attempt, _G.object_id)


def _place(row: RowMapping) -> Place:
    return Place(**{**row, "step": Step(row["step"])})
