"""The meaning of PayPal's refusals of a refund, issue by issue: data only.

A refusal ends a leg only if it is known to be about this payment. An unlisted issue is unknown and goes to a person.

Sources, read 2026-11: PayPal's published description of the Payments API, version 2.5 (github
paypal/paypal-rest-api-specifications, payments_payment_v2.json, `captures.refund-400`, `captures.refund-422` and the
general errors), developer.paypal.com/api/rest/reference/rate-limiting (429), and
developer.paypal.com/api/deprecated/payments.billing-agreements/v1/errors/duplicate_request_id and
/api/payment-tokens/v3/errors/paypal_request_id_previously_used (keys).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Meaning(StrEnum):
    """The subject of a refusal, which decides what follows from it."""

    ENDS = "ends"  # this payment cannot give the money back: another way is sought
    MORE_THAN_LEFT = "more_than_left"  # less is left at PayPal than we recorded: check there, then decide
    LOOK_UP = "look_up"  # nothing is left, or this attempt was executed before: read the list, then decide
    BLOCKED = "blocked"  # refused for now; tried again later
    BUSY = "busy"  # not executed; sent again with the same key
    OURS = "ours"  # the request's form, the credentials, the account: every refund would fail the same way
    PERSON = "person"  # one record or one request can cause it
    NOT_FOUND = "not_found"  # PayPal does not know the id, in this account and mode
    KEY = "key"  # the key was used for another request
    UNKNOWN = "unknown"  # not in any list


ENDS: Final = frozenset(
    {
        "REFUND_TIME_LIMIT_EXCEEDED",
        "REFUND_NOT_ALLOWED",
        "PARTIAL_REFUND_NOT_ALLOWED",
        "MAX_NUMBER_OF_REFUNDS_EXCEEDED",
        "REFUND_AMOUNT_TOO_LOW",  # it is zero after PayPal converted it to the account's currency
        "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
    }
)

MORE_THAN_LEFT: Final = "REFUND_AMOUNT_EXCEEDED"

# The second one names our `invoice_id`, which only one attempt of one leg ever has: that attempt was executed before.
LOOK_UP: Final = frozenset({"CAPTURE_FULLY_REFUNDED", "DUPLICATE_INVOICE_ID"})

# A dispute returns the money itself. While it is open, neither another payment nor the credits may replace that.
DISPUTED: Final = frozenset({"TRANSACTION_DISPUTED", "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK"})
EMPTY: Final = frozenset({"REFUND_FAILED_INSUFFICIENT_FUNDS"})
# The third: the payment itself, such as an eCheck, has not cleared yet.
BLOCKED: Final = DISPUTED | EMPTY | {"PENDING_CAPTURE"}

BUSY: Final = frozenset({"PREVIOUS_REQUEST_IN_PROGRESS"})

# These concern every refund that we send, so no single refund has failed.
OURS: Final = frozenset(
    {
        # Our own account at PayPal, or what our app may do.
        "PAYEE_ACCOUNT_LOCKED_OR_CLOSED",
        "PAYEE_ACCOUNT_RESTRICTED",
        "INVALID_ACCOUNT_STATUS",
        "PERMISSION_DENIED",
        # We never send a platform fee, so these can only come from the account's set-up.
        "PLATFORM_FEE_EXCEEDED",
        "PLATFORM_FEE_NOT_ENABLED",
        # The JSON as such. The first is not read for this call, but published for the Orders API.
        "MALFORMED_REQUEST_JSON",
        "UNSUPPORTED_MEDIA_TYPE",
    }
)
# The request's form. The field decides: one unusual record must never stop all others.
FORM: Final = frozenset(
    {
        "INVALID_PARAMETER_SYNTAX",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STRING_LENGTH",
        "INVALID_STRING_MAX_LENGTH",
        "MISSING_REQUIRED_PARAMETER",
    }
)
# Parts of a field's JSON pointer, or of a path, whose values differ from record to record.
RECORD_FIELDS: Final = frozenset(
    {"amount", "value", "currency_code", "custom_id", "invoice_id", "capture_id", "refund_id", "order_id", "id"}
)

# One record or one request can cause these; a person must check that one.
PERSON: Final = frozenset(
    {
        "REFUND_CAPTURE_CURRENCY_MISMATCH",
        "CURRENCY_MISMATCH",
        "INVALID_CURRENCY_CODE",
        "DECIMAL_PRECISION",
        "DECIMALS_NOT_SUPPORTED",
        "CANNOT_BE_ZERO_OR_NEGATIVE",
        "CANNOT_BE_NEGATIVE",
        # "Only the API caller that captured": another app of ours, or a platform, must refund this payment. Nothing
        # shows that the payment cannot be refunded, so the leg does not end.
        "REFUND_IS_RESTRICTED",
    }
)

NOT_FOUND: Final = frozenset({"INVALID_RESOURCE_ID", "RESOURCE_NOT_FOUND"})

# Not read for refunds: other APIs of PayPal publish these two.
KEY: Final = frozenset({"DUPLICATE_REQUEST_ID", "PAYPAL_REQUEST_ID_PREVIOUSLY_USED"})

# The `name` of an answer that is more exact than its status.
NAMES_OF_THE_FORM: Final = frozenset({"INVALID_REQUEST", "MALFORMED_REQUEST", "MALFORMED_REQUEST_JSON"})

_BY_ISSUE: Final = {
    **dict.fromkeys(ENDS, Meaning.ENDS),
    MORE_THAN_LEFT: Meaning.MORE_THAN_LEFT,
    **dict.fromkeys(LOOK_UP, Meaning.LOOK_UP),
    **dict.fromkeys(BLOCKED, Meaning.BLOCKED),
    **dict.fromkeys(BUSY, Meaning.BUSY),
    **dict.fromkeys(OURS, Meaning.OURS),
    **dict.fromkeys(PERSON, Meaning.PERSON),
    **dict.fromkeys(NOT_FOUND, Meaning.NOT_FOUND),
    **dict.fromkeys(KEY, Meaning.KEY),
}


def meaning_of(issue: str, field: str) -> Meaning:
    """Return the subject of a refusal: its issue, or its name, and the field that it names (may be empty)."""
    if issue in FORM:
        return Meaning.PERSON if not RECORD_FIELDS.isdisjoint(field.split("/")) else Meaning.OURS
    return _BY_ISSUE.get(issue, Meaning.UNKNOWN)
