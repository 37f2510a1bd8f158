"""All rows that are stored about a customer, and what of it is under way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, or_, select, tuple_

from refund_worker.domain.claims.claim import Phase
from refund_worker.domain.refund import NON_FINAL
from refund_worker.store import audit
from refund_worker.store.database import Database
from refund_worker.store.erasures import legs_of_payouts, mentions, names_of, payees_of, payouts_of
from refund_worker.store.tables import (
    attempts,
    claim_refs,
    claims,
    customers,
    earnings,
    event_subjects,
    events,
    fraud_warning_refs,
    fraud_warnings,
    inbox,
    keyed_acts,
    ledger_entries,
    ledger_transactions,
    legs,
    outbox,
    payee_balances,
    payee_entries,
    payees,
    payment_aliases,
    payment_refs,
    payments,
    payout_attempts,
    payout_legs,
    payout_run_rows,
    payouts,
    reconciliation_differences,
    refund_batch_rows,
    refund_objects,
    refunds,
    refused_requests,
    repeated_requests,
    snapshots,
    transaction_rooms,
    transfer_objects,
)

PAGE = 500
# Columns of the program's own work, which say nothing about the customer, and whole destinations, which are for admins.
_OMITTED = frozenset({"salt", "lease_token", "lease_until", "destination_box", "destination_hash"})
# The frozen requests of payouts are sealed as the destinations in them are.
_OMITTED_OF = {"payout_attempts": frozenset({"body"})}


def open_refunds(connection: Connection, customer_id: str) -> list[tuple[str, str]]:
    """Return (refund_id, status) of the customer's refunds that have not ended."""
    r = refunds.c
    query = select(r.refund_id, r.status).where(r.customer_id == customer_id, r.status.in_(sorted(NON_FINAL)))
    return [(row[0], row[1]) for row in connection.execute(query.order_by(r.refund_id))]


def open_claims(connection: Connection, customer_id: str) -> list[tuple[str, str]]:
    """Return (claim_id, kind) of disputes, inquiries, outside refunds and closed payments that are not settled yet."""
    c = claims.c
    undecided = (c.phase == Phase.TAKEN) & (c.rule == "person") & (c.credits > c.held + c.taken)
    is_open = or_(c.phase.in_((Phase.SHOWN, Phase.HOLDING)), undecided)
    query = select(c.claim_id, c.kind).where(c.customer_id == customer_id, is_open).order_by(c.claim_id)
    return [(row[0], row[1]) for row in connection.execute(query)]


def waiting_events(connection: Connection) -> list[tuple[str, str]]:
    """Return (event_id, body) of webhook events that are not processed yet."""
    i = inbox.c
    query = select(i.event_id, i.body).where(i.taken_at.is_(None)).order_by(i.received_at)
    return [(row[0], row[1]) for row in connection.execute(query)]


def rows_of(database: Database, ids: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name of the table, row) of everything that is stored about the customer with these ids.

    Rows are read page by page, each page in a transaction of its own.
    """
    with database.read() as connection:
        names = names_of(connection, ids)
    for table, which, fits in _parts(ids, names):
        after: tuple[Any, ...] | None = None
        while True:
            rows = _page(database, table, which, after)
            yield from ((table.name, _shown(table.name, row)) for row in rows if fits(row))
            if len(rows) < PAGE:
                break
            after = tuple(rows[-1][key.name] for key in table.primary_key.columns)


def _page(
    database: Database, table: Table, which: ColumnElement[bool], after: tuple[Any, ...] | None
) -> list[dict[str, Any]]:
    keys = list(table.primary_key.columns)
    query = select(table).where(which).order_by(*keys).limit(PAGE)
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*after))
    with database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _shown(table: str, row: dict[str, Any]) -> dict[str, Any]:
    omitted = _OMITTED | _OMITTED_OF.get(table, frozenset())
    return {name: value for name, value in row.items() if name not in omitted}


Part = tuple[Table, ColumnElement[bool], Callable[[dict[str, Any]], bool]]


def _parts(ids: Sequence[str], names: frozenset[str]) -> list[Part]:
    own, every = ids[0], list(ids)
    its_payments = select(payments.c.payment_id).where(payments.c.customer_id == own)
    its_refunds = select(refunds.c.refund_id).where(refunds.c.customer_id == own)
    its_legs = select(legs.c.leg_id).where(legs.c.refund_id.in_(its_refunds))
    its_payees, its_payouts = payees_of(every), payouts_of(every)
    of_payees = select(payee_entries.c.transaction_id).where(payee_entries.c.payee_id.in_(its_payees))
    t = ledger_transactions.c
    postings = or_(t.customer_id.in_(every), t.transaction_id.in_(of_payees))
    entries = select(t.transaction_id).where(postings)
    its_earnings = select(earnings.c.earning_id).where(earnings.c.payee_id.in_(its_payees))
    its_claims = select(claims.c.claim_id).where(claims.c.customer_id == own)
    its_warnings = select(fraud_warnings.c.fraud_warning_id).where(fraud_warnings.c.payment_id.in_(its_payments))
    about = or_(
        outbox.c.refund_id.in_(its_refunds),
        outbox.c.claim_id.in_(its_claims),
        outbox.c.fraud_warning_id.in_(its_warnings),
        outbox.c.earning_id.in_(its_earnings),
        outbox.c.payout_id.in_(its_payouts),
    )
    results = or_(*(keyed_acts.c.result_id.in_(its) for its in (its_refunds, entries, its_payouts)))
    whole: list[tuple[Table, ColumnElement[bool]]] = [
        (customers, customers.c.customer_id.in_(every)),
        (payments, payments.c.customer_id == own),
        (payment_refs, payment_refs.c.payment_id.in_(its_payments)),
        (payment_aliases, payment_aliases.c.payment_id.in_(its_payments)),
        (ledger_transactions, postings),
        (ledger_entries, ledger_entries.c.transaction_id.in_(entries)),
        (transaction_rooms, transaction_rooms.c.customer_id == own),
        (refunds, refunds.c.customer_id == own),
        (legs, legs.c.refund_id.in_(its_refunds)),
        (attempts, attempts.c.leg_id.in_(its_legs)),
        (refund_objects, refund_objects.c.leg_id.in_(its_legs)),
        (events, or_(events.c.refund_id.in_(its_refunds), events.c.seq.in_(_events_about_payees(every)))),
        (claims, claims.c.customer_id == own),
        (claim_refs, claim_refs.c.claim_id.in_(its_claims)),
        (fraud_warnings, fraud_warnings.c.payment_id.in_(its_payments)),
        (fraud_warning_refs, fraud_warning_refs.c.fraud_warning_id.in_(its_warnings)),
        *_parts_of_payees(every),
        (keyed_acts, results),
        (outbox, about),
        (refund_batch_rows, refund_batch_rows.c.refund_id.in_(its_refunds)),
        (reconciliation_differences, reconciliation_differences.c.customer_id.in_(every)),
        (repeated_requests, repeated_requests.c.customer_id.in_(every)),
        (snapshots, _snapshots_of({payees: its_payees, payments: its_payments, refunds: its_refunds, legs: its_legs})),
    ]
    return _with_mentions(whole, every, names)


def _events_about_payees(ids: Sequence[str]) -> Select[int]:
    subject = event_subjects.c.subject_id
    which = or_(subject.in_(payees_of(ids)), subject.in_(payouts_of(ids)))
    return select(event_subjects.c.seq).where(which)


def _parts_of_payees(ids: Sequence[str]) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return the parts about the customer's payees and their payouts, those of their refunds included."""
    its_payees, its_payouts, its_legs = payees_of(ids), payouts_of(ids), legs_of_payouts(ids)
    return [
        *((table, table.c.payee_id.in_(its_payees)) for table in (payees, payee_balances, earnings, payee_entries)),
        (payouts, payouts.c.payout_id.in_(its_payouts)),
        (payout_legs, payout_legs.c.payout_id.in_(its_payouts)),
        (payout_attempts, payout_attempts.c.leg_id.in_(its_legs)),
        (transfer_objects, transfer_objects.c.leg_id.in_(its_legs)),
        (payout_run_rows, payout_run_rows.c.payee_id.in_(its_payees)),
        (event_subjects, event_subjects.c.seq.in_(_events_about_payees(ids))),
    ]


def _with_mentions(
    whole: Sequence[tuple[Table, ColumnElement[bool]]], every: Sequence[str], names: frozenset[str]
) -> list[Part]:
    """Return these parts, and the rows that only their texts connect with the customer."""
    parts: list[Part] = [(table, which, lambda _row: True) for table, which in whole]
    # Events without a refund stand among the others.
    alone = and_(events.c.refund_id.is_(None), events.c.kind.in_(audit.ABOUT_CUSTOMERS))
    place = next(place for place, part in enumerate(parts) if part[0] is events)
    parts.insert(place + 1, (events, alone, lambda row: mentions(row["detail"], names)))
    # Only their bodies name the customer.
    parts.append((refused_requests, refused_requests.c.seq > 0, lambda row: mentions(row["body"], frozenset(every))))
    parts.append((inbox, inbox.c.event_id != "", lambda row: mentions(row["body"], names)))
    return parts


def _snapshots_of(keys: Mapping[Table, Select[Any]]) -> ColumnElement[bool]:
    """Return the condition of the snapshots of the rows with these keys."""
    s = snapshots.c
    return or_(*(and_(s.table_name == table.name, s.row_id.in_(its)) for table, its in keys.items()))


def as_json(database: Database, ids: Sequence[str]) -> Iterator[str]:
    """Yield the pieces of one JSON object: the rows of `rows_of` in a list for each table."""
    yield '{"customer_id":' + json.dumps(ids[0]) + ',"merged_ids":' + json.dumps(list(ids[1:]))
    yield ',"data":{'
    current = None
    for table, row in rows_of(database, ids):
        begins = ("" if current is None else "],") + json.dumps(table) + ":[" if table != current else ","
        current = table
        yield begins + json.dumps(row, ensure_ascii=False, default=list)
    yield ("" if current is None else "]") + "}}\n"
