"""The codes of our HTTP protocol, each with the code whose text explains it to people."""

from __future__ import annotations

from typing import Final

_GROUPS: Final = {
    "balance_insufficient": "low_balance",
    "charge_disputed": "disputed",
    "charge_invalid_parameter": "not_settled",
    "unexpected_answer": "not_cancelable no_list not_listed",
    "amount_too_large": "bad_body bad_amount",
}
EXPLAINED_BY: Final = {code: ours for ours, codes in _GROUPS.items() for code in codes.split()}
