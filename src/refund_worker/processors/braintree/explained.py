"""Braintree's codes, each with the code of ours whose text explains it to people."""

from __future__ import annotations

from typing import Final

_GROUPS: Final = {
    "charge_not_refundable": "91547 91546 91576 91577 4001 4020 4021 settlement_declined settlement_failed "
    "gateway_rejected duplicate authorization_expired",
    "card_declined": "915200 915201 processor_declined 2014 2047 3000",
    "expired_card": "2004",
    "account_closed": "2005 4025",
    "window_closed": "4024",
    "charge_disputed": "4019",
    "amount_exceeds_unrefunded": "91521",
    "charge_invalid_parameter": "not_settled_yet not_captured 91538 91559 91514",
    "amount_too_large": "81501 81502 81503 81528 81531 815193",
    "payment_id_unusable": "not_a_payment 91505",
    "outcome_unknown": "915235",
    "processor_unreachable": "payment_not_read void_not_sent earlier_request_failed",
    "canceled": "voided",
    "unexpected_answer": "no_cancel",
}
EXPLAINED_BY: Final = {code: ours for ours, codes in _GROUPS.items() for code in codes.split()}
