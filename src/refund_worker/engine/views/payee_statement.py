"""The statement of one payee and month: it opens with what was owed, lists every entry, and adds up."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import Connection, RowMapping

from refund_worker import api_schema
from refund_worker.domain.ledger import EARNING_ID, EntryKind
from refund_worker.domain.spreadsheet_cells import harmless
from refund_worker.errors import NotFound
from refund_worker.store.payouts import payee_entries, payees
from refund_worker.times import iso

# Ledger kind → its name in a statement.
KINDS = {
    EntryKind.EARNING: "earning",
    EntryKind.CLAWBACK: "clawback",
    EntryKind.CLAWBACK_REVERSAL: "clawback_undone",
    EntryKind.PAYEE_WITHDRAWAL: "payout",
    EntryKind.PAYEE_RETURN: "payout_returned",
}
CSV_COLUMNS = ("at", "kind", "reference", "description", "currency", "amount_minor", "balance_minor")


def payee_statement(
    connection: Connection, payee_id: str, month: str, begin: float, end: float
) -> api_schema.PayeeStatement:
    """Return the statement of `month`, which begins and ends at these times (epoch seconds). Raises `NotFound`."""
    if not payees.load(connection, [payee_id]):
        raise NotFound(f"payee {payee_id} is not known")
    opening = payee_entries.sums_before(connection, payee_id, begin)
    balance: defaultdict[str, int] = defaultdict(int, opening)
    sums: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    entries: list[api_schema.PayeeEntry] = []
    for row in payee_entries.entries_between(connection, payee_id, begin, end):
        currency, kind = row["currency"], KINDS.get(EntryKind(row["kind"]), row["kind"])
        balance[currency] += row["amount_minor"]
        sums[currency][kind] += row["amount_minor"]
        entries.append(_entry(row, kind, balance[currency]))
    lines: list[api_schema.PayeeStatementLine] = [
        {
            "currency": currency,
            "opening_minor": opening.get(currency, 0),
            "earned_minor": sums[currency]["earning"],
            "clawed_back_minor": -sums[currency]["clawback"] - sums[currency]["clawback_undone"],
            "paid_minor": -sums[currency]["payout"],
            "returned_minor": sums[currency]["payout_returned"],
            "closing_minor": balance[currency],
        }
        for currency in sorted(balance)
    ]
    return {"payee_id": payee_id, "month": month, "lines": lines, "entries": entries}


def _entry(row: RowMapping, kind: str, balance_minor: int) -> api_schema.PayeeEntry:
    named = row["transaction_id"] if kind == "earning" else row["refers_to"] or row["transaction_id"]
    return {
        "at": iso(row["occurred_at"]),
        "kind": kind,
        "reference": named.removeprefix(EARNING_ID),
        "description": row["description"],
        "currency": row["currency"],
        "amount_minor": row["amount_minor"],
        "balance_minor": balance_minor,
    }


def statement_csv(statement: api_schema.PayeeStatement) -> str:
    """Return the statement as CSV: one row for each opening and closing balance and each entry."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for row in _rows(statement):
        writer.writerow([harmless(cell) for cell in row])
    return text.getvalue()


def _rows(statement: api_schema.PayeeStatement) -> Iterator[tuple[object, ...]]:
    month = statement["month"]
    for line in statement["lines"]:
        yield (month, "opening", "", "", line["currency"], "", line["opening_minor"])
        for entry in statement["entries"]:
            if entry["currency"] == line["currency"]:
                values = dict(entry)
                yield tuple(values[name] for name in CSV_COLUMNS)
        yield (month, "closing", "", "", line["currency"], "", line["closing_minor"])
