"""Refunds as rows of a CSV file that is safe to open in a spreadsheet, for the console and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

PLAIN = ("id", "status", "kind", "to", "customer_id", "transaction_id", "credits")
MONEY = ("currency", "requested_minor", "succeeded_minor")
# fmt: off
REST = (
    "reason", "note", "actor", "requested_by", "client", "idempotency_key", "failure_code", "failure_message",
    "created_at", "updated_at",
)
# fmt: on
HEADER = PLAIN + MONEY + REST
# What makes a spreadsheet take a cell for a formula, a tab or line end in front included.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def rows_of(refund: Json) -> Iterator[list[object]]:
    """One row for each currency, as amounts of two currencies have no sum."""
    for amount in refund["amounts"] or [{}]:
        values = refund | dict.fromkeys(MONEY) | amount
        yield [harmless(values[name]) for name in HEADER]


def harmless(value: object) -> object:
    """A text that a spreadsheet would calculate gets an apostrophe in front; nothing is an empty cell."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA) else value
