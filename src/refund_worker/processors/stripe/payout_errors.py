"""The meaning of Stripe's refusals of transfers, payouts and reversals, and of a payout's failure codes. Data, pure.

A refusal ends a step only if its code is known to concern this payee. An unlisted code is unknown and goes to a person.

Sources, read in 2026-11: the codes that stripe-python 16.1 lists, docs.stripe.com/error-codes and
/api/payouts/failures, support.stripe.com ("Payout failure codes"). Reported by people: balance_insufficient
(stripe/stripe-node#1147, antiwork/gumroad#5479), and the message of an account that lacks a capability
(antiwork/gumroad#4227). Known, not read: the code insufficient_capabilities_for_transfer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.processors.stripe.errors import BUSY, OURS, OURS_BY_PREFIX, Meaning, concerns_all

# The failure code of a payout → whose fault it is. A code that is not here has no known fault.
FAILURE_FAULTS: Final[Mapping[str, Fault]] = {
    **dict.fromkeys(
        (
            "account_closed",
            "account_frozen",
            "bank_account_restricted",
            "bank_ownership_changed",
            "expired_card",
            "incorrect_account_holder_address",
            "incorrect_account_holder_name",
            "incorrect_account_holder_tax_id",
            "incorrect_account_type",
            "invalid_account_number",
            "invalid_account_number_length",
            "invalid_card",
            "invalid_currency",
            "no_account",
            "unsupported_card",
        ),
        Fault.PAYEE,
    ),
    **dict.fromkeys(("insufficient_funds", "debit_not_authorized"), Fault.OURS),
    **dict.fromkeys(("could_not_process", "declined"), Fault.PROCESSOR),
}

# The payee's account, or its bank, cannot be paid like this: a repeat is refused too.
REFUSED: Final = frozenset(
    {
        "account_closed",
        "bank_account_unusable",
        "expired_card",
        "instant_payouts_config_disabled",
        "instant_payouts_currency_disabled",
        "instant_payouts_unsupported",
        "insufficient_capabilities_for_transfer",
        "no_account",
        "payouts_not_allowed",
        "transfers_not_allowed",
    }
)
# Of these, the payee can end: another bank account or card, or what Stripe asks the payee for.
REFUSAL_FAULTS: Final[Mapping[str, Fault]] = dict.fromkeys(
    (
        "account_closed",
        "bank_account_unusable",
        "expired_card",
        "insufficient_capabilities_for_transfer",
        "no_account",
        "payouts_not_allowed",
        "transfers_not_allowed",
    ),
    Fault.PAYEE,
)
# A balance is too low. Of a transfer it is ours, of a payout or a reversal that of the connected account.
EMPTY: Final = frozenset({"balance_insufficient"})
# Our word for the latter: no top-up of ours ends it.
CONNECTED_EMPTY: Final = "connected_balance_insufficient"
# A limit of today.
LIMITS: Final = frozenset({"instant_payouts_limit_exceeded", "payouts_limit_exceeded"})
# One record of ours can cause these.
PERSON: Final = frozenset(
    {
        "amount_too_large",
        "amount_too_small",
        "balance_invalid_parameter",
        "invalid_characters",
        "not_allowed_on_standard_account",
        "resource_missing",
        "transfer_source_balance_parameters_mismatch",
    }
)
# Parameters that differ from record to record.
RECORD_PARAMS: Final = frozenset(
    {"amount", "currency", "description", "destination", "id", "metadata", "method", "payout", "transfer"}
    | {"transfer_group"}
)

_BY_CODE: Final = {
    **dict.fromkeys(OURS, Meaning.OURS),
    **dict.fromkeys(REFUSED, Meaning.ENDS),
    **dict.fromkeys(EMPTY | LIMITS, Meaning.BLOCKED),
    **dict.fromkeys(BUSY, Meaning.BUSY),
    **dict.fromkeys(PERSON, Meaning.PERSON),
}


def payout_meaning_of(code: str, param: str, message: str) -> Meaning:
    """Return the subject of a 4xx answer about a transfer, a payout or a reversal, as `meaning_of` does for a refund.

    A code of our account is one payee's if the destination is named with it.
    """
    name = param.partition("[")[0]
    known = _BY_CODE.get(code)
    if known is Meaning.OURS and name == "destination":
        return Meaning.PERSON
    if known is not None:
        return known
    if code.startswith(OURS_BY_PREFIX):
        return Meaning.PERSON if name in RECORD_PARAMS else Meaning.OURS
    if code or name in RECORD_PARAMS:
        return Meaning.UNKNOWN
    return Meaning.OURS if concerns_all(param, message) else Meaning.UNKNOWN
