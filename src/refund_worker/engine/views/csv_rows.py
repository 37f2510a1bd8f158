"""Refunds and audit entries as rows of CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from refund_worker.api_schema import Refund
from refund_worker.domain.ids import is_unseen

PLAIN = ("id", "status", "kind", "to", "customer_id", "transaction_id", "credits")
MONEY = ("currency", "requested_minor", "succeeded_minor")
# fmt: off
REST = (
    "reason", "note", "actor", "requested_by", "client", "idempotency_key", "failure_code", "failure_message",
    "created_at", "updated_at",
)
# fmt: on
HEADER = PLAIN + MONEY + REST
# Characters that begin a formula in a spreadsheet, after their full-width and small forms are normalised.
FORMULA = frozenset("=+-@\u2212")
# Characters that begin a new cell or line in a spreadsheet with other regional or import settings.
_SEPARATORS = re.compile(r"(?<=[;,|\t\r\n])")


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


def harmless(value: object) -> object:
    """Return the value as a cell that a spreadsheet does not calculate, and an empty cell for None.

    An apostrophe is put before a formula, and before each part that would be a cell under another separator.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    cell = "".join(f"'{part}" if _calculates(part) else part for part in _SEPARATORS.split(value))
    # Some readers drop a leading tab or line end, and then the next character begins the cell.
    return f"'{cell}" if value.startswith(("\t", "\r", "\n")) else cell


def _calculates(part: str) -> bool:
    """Return True if the first visible character begins a formula.

    Blanks and invisible characters before it do not count, nor quotation marks: a CSV reader removes them.
    """
    first = next((sign for sign in part if not _is_unseen(sign)), "")
    return unicodedata.normalize("NFKC", first)[:1] in FORMULA if first else False


def _is_unseen(sign: str) -> bool:
    return is_unseen(sign) or sign == '"' or unicodedata.category(sign) in ("Cc", "Cf", "Mn", "Zs")
