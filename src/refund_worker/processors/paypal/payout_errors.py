"""The meaning of PayPal's errors about payouts, name by name: data only.

An error is that of an item (`errors.name`), or refuses a request as a whole (`name`). An unlisted name is unknown and
goes to a person.

Sources, read 2026-11: developer.paypal.com/payouts/view-transactions (names with their descriptions),
/payouts/test/negative-testing as other vendors repeat it (further names of items and requests). Seen in answers of
PayPal's sandbox that others published: RECEIVER_ACCOUNT_INVALID, SENDER_EMAIL_UNCONFIRMED, SENDER_RESTRICTED,
AUTHORIZATION_ERROR, INSUFFICIENT_FUNDS (422), NON_HOLDING_CURRENCY (400), USER_BUSINESS_ERROR and VALIDATION_ERROR.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from refund_worker.domain.payouts.transfers import Fault

# The payee must act: register, confirm an address, lift a limit, name another account.
PAYEE: Final = frozenset(
    {
        "RECEIVER_UNREGISTERED",
        "RECEIVER_UNCONFIRMED",
        "RECEIVER_ACCOUNT_LIMITATION",
        "RECEIVING_LIMIT_EXCEEDED",
        "PENDING_RECIPIENT_NON_HOLDING_CURRENCY_PAYMENT_PREFERENCE",
        "INVALID_EMAIL",
        "INVALID_EMAIL_ID",
        "UNVERIFIED_RECIPIENT_NOT_SUPPORTED",
        # This account never gets the money: only another one helps.
        "RECEIVER_ACCOUNT_INVALID",
        "RECEIVER_ACCOUNT_LOCKED",
        "RECEIVER_COUNTRY_NOT_ALLOWED",
        "RECEIVER_STATE_RESTRICTED",
        "RECEIVER_YOUTH_ACCOUNT",
        "RECEIVER_REFUSED",
        "REFUSED_RECEIVER_REFUSED",
        "CURRENCY_NOT_SUPPORTED_FOR_RECEIVER",
        "CLOSED_MARKET",
        "GAMER_FAILED_COUNTRY_OF_RESIDENCE_CHECK",
    }
)

COMPLIANCE: Final = frozenset(
    {
        "CURRENCY_COMPLIANCE",
        "REGULATORY_BLOCKED",
        "REGULATORY_PENDING",
        "RISK_DECLINE",
        "TRANSACTION_DECLINED_BY_TRAVEL_RULE",
    }
)

# Our balance there is too low.
EMPTY: Final = frozenset({"INSUFFICIENT_FUNDS", "NEGATIVE_BALANCE"})
# Our account may spend no more for now.
LIMITS: Final = frozenset({"SPENDING_LIMIT_EXCEEDED", "POS_LIMIT_EXCEEDED"})
# Our account, or what our app may do: every payout would fail the same way.
ACCOUNT: Final = frozenset(
    {
        "ACCOUNT_RESTRICTED",
        "ACCOUNT_UNCONFIRMED_EMAIL",
        "AUTHORIZATION_ERROR",
        "GAMER_FAILED_FUNDING_SOURCE_CHECK",
        "GAMING_INVALID_PAYMENT_FLOW",
        "NOT_AUTHORIZED",
        "PERMISSION_DENIED",
        "REFUSED_ACCESS_DENIED",
        "REFUSED_ACTION_DENIED",
        "REQUIRED_SCOPE_MISSING",
        "SENDER_ACCOUNT_LOCKED",
        "SENDER_ACCOUNT_UNVERIFIED",
        "SENDER_EMAIL_UNCONFIRMED",
        "SENDER_RESTRICTED",
        "SENDER_STATE_RESTRICTED",
        "USER_COUNTRY_NOT_ALLOWED",
        "USER_FUNDING_SOURCE_INELIGIBLE",
    }
)
# One record of ours can cause these.
RECORD: Final = frozenset({"NON_HOLDING_CURRENCY", "SELF_PAY_NOT_ALLOWED", "TRANSACTION_LIMIT_EXCEEDED", "ZERO_AMOUNT"})
OURS: Final = EMPTY | LIMITS | ACCOUNT | RECORD | {"RATE_LIMIT_VALIDATION_FAILURES"}
PROCESSOR: Final = frozenset({"INTERNAL_ERROR", "REQUEST_TIMEOUT_EXCEEDED", "UNDEFINED"})

# Another item may have been executed instead of this one: a person must check before it is sent again.
DUPLICATE_ITEM: Final = "DUPLICATE_ITEM"

FAULTS: Final[Mapping[str, Fault]] = {
    **dict.fromkeys(PAYEE, Fault.PAYEE),
    **dict.fromkeys(COMPLIANCE, Fault.COMPLIANCE),
    **dict.fromkeys(OURS, Fault.OURS),
    **dict.fromkeys(PROCESSOR, Fault.PROCESSOR),
}
# The fault of a status without a name: the payee did not claim the money in 30 days, or gave it back.
FAULT_OF_STATUS: Final[Mapping[str, Fault]] = {
    "UNCLAIMED": Fault.PAYEE,
    "ONHOLD": Fault.PAYEE,
    "RETURNED": Fault.PAYEE,
    "REFUNDED": Fault.PAYEE,
}

DUPLICATE_BATCH: Final = "USER_BUSINESS_ERROR"
DUPLICATE_FIELD: Final = "SENDER_BATCH_ID"
VALIDATION: Final = "VALIDATION_ERROR"
# Our name for a VALIDATION_ERROR about the receiver: PayPal itself gives it none.
INVALID_RECEIVER: Final = "INVALID_RECEIVER"
NOT_CANCELED: Final = frozenset({"ITEM_ALREADY_CANCELLED", "ITEM_CANCELLATION_FAILED", "ITEM_INCORRECT_STATUS"})


class Subject(StrEnum):
    """The subject of a refused request, which decides what follows from it."""

    PAYEE = "payee"  # the payee's account, or a rule about it: a repeat is refused too
    BLOCKED = "blocked"  # refused for now
    ACCOUNT = "account"  # every payout would fail the same way
    RECORD = "record"  # a person must check this one
    NOT_FOUND = "not_found"
    BUSY = "busy"
    INDEFINITE = "indefinite"  # it says nothing about what was done
    UNKNOWN = "unknown"


_BY_NAME: Final = {
    **dict.fromkeys(PAYEE | COMPLIANCE | {INVALID_RECEIVER}, Subject.PAYEE),
    **dict.fromkeys(EMPTY | LIMITS, Subject.BLOCKED),
    **dict.fromkeys(ACCOUNT | {"MALFORMED_REQUEST", "MALFORMED_REQUEST_JSON"}, Subject.ACCOUNT),
    **dict.fromkeys(RECORD, Subject.RECORD),
    **dict.fromkeys({"INVALID_RESOURCE_ID", "RESOURCE_NOT_FOUND"}, Subject.NOT_FOUND),
    "PREVIOUS_REQUEST_IN_PROGRESS": Subject.BUSY,
    **dict.fromkeys(PROCESSOR, Subject.INDEFINITE),
}


def subject_of(name: str) -> Subject:
    """Return the subject of a refused request by its name."""
    return _BY_NAME.get(name, Subject.UNKNOWN)
