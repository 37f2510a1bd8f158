"""Cells of CSV files that are safe to open in a spreadsheet: it calculates nothing in them."""

from __future__ import annotations

import re
import unicodedata

from refund_worker.domain.ids import is_unseen

# Characters that begin a formula in a spreadsheet, after their full-width and small forms are normalised.
FORMULA = frozenset("=+-@\u2212")
# Characters that begin a new cell or line in a spreadsheet with other regional or import settings.
_SEPARATORS = re.compile(r"(?<=[;,|\t\r\n])")


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
