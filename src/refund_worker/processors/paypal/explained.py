"""PayPal's codes, each with the code of ours whose text explains it to people."""

from __future__ import annotations

from typing import Final

_GROUPS: Final = {
    "balance_insufficient": "REFUND_FAILED_INSUFFICIENT_FUNDS",
    "charge_disputed": "TRANSACTION_DISPUTED REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK",
    "charge_invalid_parameter": "PENDING_CAPTURE REFUND_IS_RESTRICTED",
    "charge_not_refundable": "REFUND_TIME_LIMIT_EXCEEDED REFUND_NOT_ALLOWED PARTIAL_REFUND_NOT_ALLOWED "
    "MAX_NUMBER_OF_REFUNDS_EXCEEDED REFUND_AMOUNT_TOO_LOW ECHECK",
    "account_closed": "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
    "amount_exceeds_unrefunded": "REFUND_AMOUNT_EXCEEDED",
    "amount_too_large": "REFUND_CAPTURE_CURRENCY_MISMATCH CURRENCY_MISMATCH INVALID_CURRENCY_CODE "
    "DECIMALS_NOT_SUPPORTED DECIMAL_PRECISION CANNOT_BE_ZERO_OR_NEGATIVE CANNOT_BE_NEGATIVE",
    "unexpected_answer": "no_order",
    "account_invalid": "PAYEE_ACCOUNT_RESTRICTED PAYEE_ACCOUNT_LOCKED_OR_CLOSED INVALID_ACCOUNT_STATUS "
    "PLATFORM_FEE_EXCEEDED PLATFORM_FEE_NOT_ENABLED PERMISSION_DENIED NOT_AUTHORIZED",
    "http_401": "AUTHENTICATION_FAILURE invalid_client invalid_token",
}
EXPLAINED_BY: Final = {code: ours for ours, codes in _GROUPS.items() for code in codes.split()}
