"""Refunds as rows of a CSV file that is safe to open in a spreadsheet, for the console and the command line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

from refund_worker.api_schema import Refund

PLAIN = ("id", "status", "kind", "to", "customer_id", "transaction_id", "credits")
MONEY = ("currency", "requested_minor", "succeeded_minor")
# fmt: off
REST = (
    "reason", "note", "actor", "requested_by", "client", "idempotency_key", "failure_code", "failure_message",
    "created_at", "updated_at",
)
# fmt: on
HEADER = PLAIN + MONEY + REST
# What makes a spreadsheet take a cell for a formula, once its full-width and small forms are written plainly.
FORMULA = frozenset("=+-@\u2212")
# Where a spreadsheet of another country, or one that imports by other rules, begins a new cell or line.
_SEPARATORS = re.compile(r"(?<=[;,|\t\r\n])")


def rows_of(refund: Refund) -> Iterator[list[object]]:
    """One row for each currency, as amounts of two currencies have no sum."""
    amounts: list[Mapping[str, object]] = [*refund["amounts"]]
    for amount in amounts or [dict.fromkeys(MONEY)]:
        values = {**refund, **amount}
        yield [harmless(values[name]) for name in HEADER]


def harmless(value: object) -> object:
    """A text that a spreadsheet would calculate gets an apostrophe in front, and so does each part of it that would be
    a cell of its own where another separator is used; nothing is an empty cell.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    cell = "".join(f"'{part}" if _calculates(part) else part for part in _SEPARATORS.split(value))
    # Taken away by some that read it, and then the next sign begins the cell.
    return f"'{cell}" if value.startswith(("\t", "\r", "\n")) else cell


def _calculates(part: str) -> bool:
    """Whether the first sign that can be seen begins a formula.

    Blanks and invisible signs before it do not count, nor quotation marks: who reads CSV takes them away.
    """
    first = next((sign for sign in part if not _is_unseen(sign)), "")
    return unicodedata.normalize("NFKC", first)[:1] in FORMULA if first else False


def _is_unseen(sign: str) -> bool:
    return sign.isspace() or sign == '"' or unicodedata.category(sign) in ("Cc", "Cf", "Zs")
