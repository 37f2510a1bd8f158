"""Adyen's codes, each with the code of ours whose text explains it to people."""

from __future__ import annotations

from typing import Final

_GROUPS: Final = {
    "balance_insufficient": "insufficient_balance",
    "charge_invalid_parameter": "payment_not_captured",
    "object_refused": "refund_refused payment_balance_too_low",
    "charge_not_refundable": "refund_reversed",
    "card_declined": "rejected_by_scheme",
    "http_401": "adyen_000",
    "account_invalid": "adyen_010 adyen_901",
    "parameter_unknown": "adyen_702",
    "amount_too_large": "adyen_137 adyen_905",
    "unexpected_answer": "not_readable",
}
EXPLAINED_BY: Final = {code: ours for ours, codes in _GROUPS.items() for code in codes.split()}
