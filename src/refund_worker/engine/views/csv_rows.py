"""Refunds and audit entries as rows of CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from refund_worker.api_schema import Refund
from refund_worker.domain.spreadsheet_cells import harmless

PLAIN = ("id", "status", "kind", "to", "customer_id", "transaction_id", "credits")
MONEY = ("currency", "requested_minor", "succeeded_minor")
# fmt: off
REST = (
    "reason", "note", "actor", "requested_by", "client", "idempotency_key", "failure_code", "failure_message",
    "created_at", "updated_at",
)
# fmt: on
HEADER = PLAIN + MONEY + REST

# Columns of the audit trail by kind of entry: their names in the file.
AUDIT_HEADERS: Mapping[str, Sequence[str]] = {
    "timeline": ("seq", "at", "who", "what", "from", "to", "refund_id", "leg_id", "why", "alarm", "detail"),
    "ledger": (
        "seq",
        "occurred_at",
        "actor",
        "kind",
        "customer_id",
        "transaction_id",
        "refers_to",
        "refund_id",
        "description",
        "credits",
    ),
}


def rows_of(refund: Refund) -> Iterator[list[object]]:
    """Yield one row for each currency, as amounts of two currencies have no sum."""
    amounts: list[Mapping[str, object]] = [*refund["amounts"]]
    for amount in amounts or [dict.fromkeys(MONEY)]:
        values = {**refund, **amount}
        yield [harmless(values[name]) for name in HEADER]


def audit_row(of: str, entry: Mapping[str, object]) -> list[object]:
    """Return the row of one entry of the audit trail; the details of an event are JSON in one cell."""
    values = dict(entry)
    if of == "timeline":
        values["detail"] = json.dumps(entry["detail"], ensure_ascii=False, sort_keys=True) if entry["detail"] else None
        values["alarm"] = "yes" if entry["alarm"] else "no"
    return [harmless(values[name]) for name in AUDIT_HEADERS[of]]
