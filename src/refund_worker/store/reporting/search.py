"""Queries that find refunds by any of their names, and read the newest refunds piece by piece to compare their texts.

Each query has an index, or reads at most `WINDOW` refunds, however many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from sqlalchemy import CompoundSelect, Connection, RowMapping, Select, func, select

from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.store.payment_refs import at_processors, processor_names
from refund_worker.store.refunds import Filters, filtered
from refund_worker.store.tables import (
    claims,
    ledger_transactions,
    legs,
    payment_aliases,
    payments,
    refund_batches,
    refund_objects,
    refunds,
)

# Refunds of one piece: reading their texts takes some milliseconds.
WINDOW = 1_000


def by_id_or_key(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of refunds with this id or idempotency key."""
    r = refunds.c
    return _ids(
        connection, select(r.refund_id).where((r.refund_id == text) | (r.idempotency_key == text)), client, limit
    )


def by_payment(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of refunds over the payment with this id, here or at its processor, newest first."""
    query = select(legs.c.refund_id).where(legs.c.payment_id.in_(_payments(connection, text)))
    return _ids(connection, select(refunds.c.refund_id).where(refunds.c.refund_id.in_(query)), client, limit)


def payments_named(connection: Connection, text: str) -> list[str]:
    """Return the payment_ids of payments with this id, here or at its processor, sorted."""
    return sorted(connection.execute(_payments(connection, text)).scalars())


def is_payment(connection: Connection, text: str) -> bool:
    """Return True if there is a payment with this id, here or at its processor."""
    return connection.execute(_payments(connection, text)).first() is not None


def _payments(connection: Connection, text: str) -> CompoundSelect[Any]:
    p, a = payments.c, payment_aliases.c
    ours = select(p.payment_id).where(p.payment_id == text)
    alias = select(a.payment_id).where(a.alias == text)
    return ours.union(alias, *at_processors(processor_names(connection), text))


def by_object(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of refunds that have the refund object with this id at a processor."""
    o = refund_objects.c
    legs_of = select(o.leg_id).where(o.processor.in_(processor_names(connection)), o.processor_refund_id == text)
    query = select(legs.c.refund_id).where(legs.c.leg_id.in_(legs_of))
    return _ids(connection, select(refunds.c.refund_id).where(refunds.c.refund_id.in_(query)), client, limit)


def by_manual_payment(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of refunds for which a person named this refund at a processor as the manual payment.

    It is found by the outside refund that is recorded of it: references themselves have no index.
    """
    c, names = claims.c, {text, text.removeprefix(MANUAL_PREFIX)}
    its_payments = select(c.payment_id).where(
        c.processor.in_(processor_names(connection)), c.kind == ClaimKind.OUTSIDE_REFUND, c.object_id.in_(names)
    )
    query = select(legs.c.refund_id).where(legs.c.payment_id.in_(its_payments), legs.c.manual_reference.in_(names))
    return _ids(connection, select(refunds.c.refund_id).where(refunds.c.refund_id.in_(query)), client, limit)


def by_trace(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of refunds whose money has this trace, such as an ARN. People write it with blanks between digits."""
    o = refund_objects.c
    legs_of = select(o.leg_id).where(o.trace_value.in_({text, text.replace(" ", "")}))
    query = select(legs.c.refund_id).where(legs.c.leg_id.in_(legs_of))
    return _ids(connection, select(refunds.c.refund_id).where(refunds.c.refund_id.in_(query)), client, limit)


def by_transaction(connection: Connection, text: str, client: str | None, limit: int) -> list[str]:
    """Return ids of refunds whose ledger entries are, or refer to, the transaction with this id."""
    t = ledger_transactions.c
    its = select(t.refund_id).where((t.transaction_id == text) | (t.refers_to == text), t.refund_id.is_not(None))
    return _ids(connection, select(refunds.c.refund_id).where(refunds.c.refund_id.in_(its)), client, limit)


def is_batch(connection: Connection, batch_id: str, client: str | None) -> bool:
    """Return True if there is a batch with this id that `client` (None: anyone) may see."""
    b = refund_batches.c
    query = select(b.batch_id).where(b.batch_id == batch_id)
    return connection.execute(query if client is None else query.where(b.client == client)).first() is not None


def transaction_of(connection: Connection, transaction_id: str) -> RowMapping | None:
    """Return the ledger's transaction with this id, or None."""
    query = select(ledger_transactions).where(ledger_transactions.c.transaction_id == transaction_id)
    return connection.execute(query).mappings().first()


def window(connection: Connection, filters: Filters) -> list[RowMapping]:
    """Return the newest refunds that match the filters, at most `WINDOW`, with the texts that a search compares."""
    r = refunds.c
    columns = (r.refund_id, r.kind, r.reason, r.note, r.requested_by, r.requested_by_note, r.credits)
    query: Select[Any] = filtered(select(*columns), filters).order_by(r.refund_id.desc()).limit(WINDOW)
    return list(connection.execute(query).mappings())


def money_of(connection: Connection, refund_ids: Collection[str]) -> dict[str, list[tuple[str, int]]]:
    """Return (currency, requested minor units) by refund, for the refunds that send money."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    query = (
        select(legs.c.refund_id, legs.c.currency, func.sum(legs.c.amount_minor))
        .where(legs.c.refund_id.in_(refund_ids), legs.c.replaces.is_(None))
        .group_by(legs.c.refund_id, legs.c.currency)
    )
    for refund_id, currency, minor in connection.execute(query):
        found[refund_id].append((currency, int(minor)))
    return found


def references_of(connection: Connection, refund_ids: Collection[str]) -> list[tuple[str, str]]:
    """Return (refund id, reference) for the manual payments of these refunds."""
    reference = legs.c.manual_reference
    query = select(legs.c.refund_id, reference).where(legs.c.refund_id.in_(refund_ids), reference.is_not(None))
    return [(row[0], row[1]) for row in connection.execute(query)]


def _ids(connection: Connection, query: Select[Any], client: str | None, limit: int) -> list[str]:
    if client is not None:
        query = query.where(refunds.c.client == client)
    return list(connection.execute(query.order_by(refunds.c.refund_id.desc()).limit(limit)).scalars())
