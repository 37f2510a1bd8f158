"""The error table: what the name of a problem means. Source: the made-up manual of AcmePay, chapter "Problems"."""

from __future__ import annotations

from typing import Final

ENDS: Final = frozenset({"WINDOW_CLOSED", "ACCOUNT_GONE"})  # this payment takes nothing back any more
MORE_THAN_LEFT: Final = "TOO_MUCH"
NOTHING_LEFT: Final = "NOTHING_LEFT"
BLOCKED: Final = frozenset({"CONTESTED", "NO_FUNDS"})  # not now
BUSY: Final = frozenset({"ID_BUSY", "SLOW_DOWN"})  # not executed
KEY_CONFLICT: Final = "ID_REUSED"
NOT_FOUND: Final = frozenset({"NO_SUCH_PAYMENT", "NO_SUCH_REFUND"})
ONE_RECORD: Final = frozenset({"BAD_AMOUNT", "BAD_CURRENCY", "NOT_VOIDABLE"})
OURS: Final = frozenset({"BAD_TOKEN", "TOKEN_EXPIRED", "SHOP_CLOSED", "BAD_FORM"})  # every refund would meet it
