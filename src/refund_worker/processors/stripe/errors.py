"""The meaning of Stripe's refusals of a refund, code by code: data, and the order of the checks. Pure.

A refusal ends a leg only if it is known to be about this payment. An unlisted code is unknown and goes to a person:
it never returns credits, and no other payment is tried because of it.

Sources, read in 2026-11: the 209 codes that stripe-python 16.1 lists (generated from Stripe's OpenAPI description),
docs.stripe.com/error-codes, /refunds ("Failed refunds") and /api/refunds, and where named the report of a person who
met the error. `tests/processors/published_codes.py` has every published code with its group.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

ALREADY_REFUNDED: Final = "charge_already_refunded"


class Meaning(StrEnum):
    """The subject of a refusal, which decides what follows from it."""

    ENDS = "ends"  # this payment cannot take the money back: another way is sought
    MORE_THAN_LEFT = "more_than_left"  # less is left at Stripe than we recorded: check there, then decide
    ALREADY_REFUNDED = "already_refunded"  # nothing is left: check there, then decide
    BLOCKED = "blocked"  # refused for now; tried again later
    BUSY = "busy"  # not executed; sent again with the same key
    OURS = "ours"  # the request's form, key, account, API version or mode: every refund would fail the same way
    PERSON = "person"  # one record or one request can cause it
    UNKNOWN = "unknown"  # not in any list


# The payment itself, or the card or bank account behind it, can no longer take money back.
ENDS: Final = frozenset(
    {
        "charge_not_refundable",  # /error-codes: the charge can no longer be refunded
        # /error-codes: the card was declined or has expired, the bank account is closed or cannot be found
        "card_declined",
        "expired_card",
        "account_closed",
        "no_account",
        # /refunds: reasons why a refund fails; here the call itself returns the same cause
        "declined",
        "expired_or_canceled_card",
        "lost_or_stolen_card",
    }
)

# A dispute returns the money itself. While it is open, neither another payment nor the credits may replace that.
DISPUTED: Final = frozenset(
    {
        "charge_disputed",  # /error-codes, Sylius/StripePlugin#120
        "refund_disputed_payment",  # /error-codes
        "charge_for_pending_refund_disputed",  # /refunds: a reason of failure
    }
)
# Our balance at Stripe is too low. `insufficient_balance_for_refund` arrives as `message_code`, without a code.
EMPTY: Final = frozenset({"balance_insufficient", "insufficient_balance_for_refund", "insufficient_funds"})
BLOCKED: Final = DISPUTED | EMPTY

BUSY: Final = frozenset({"idempotency_key_in_use", "lock_timeout", "rate_limit"})

# These concern every refund that we send, so no single refund has failed.
OURS: Final = frozenset(
    {
        # The key.
        "api_key_expired",
        "platform_api_key_expired",
        "secret_key_required",
        # The account that our key or header names, or its permissions.
        "account_invalid",
        "platform_account_required",
        # The mode, the version of the API, the encryption of the connection.
        "livemode_mismatch",
        "testmode_charges_only",
        "payment_evaluation_on_api_version_not_supported",
        "tls_version_unsupported",
        # The request's form: we always send the same parameters, so these concern all requests.
        "parameter_unknown",
        "parameters_exclusive",
    }
)
# The request's form: parameter_unknown (stripe-python#849: every request of one version of the SDK), parameter_missing,
# parameter_invalid_… and parameters_exclusive, published or not yet. A missing or invalid parameter may concern one
# record only (an e-mail address for some payment methods), so there the parameter decides.
OURS_BY_PREFIX: Final = ("parameter_", "parameters_")
# Messages without a code that concern the account or the version, not one record. Matched only at the beginning, so
# that a quoted value cannot pass for it. MonoSketch#578, alphagov/pay-connector#3788, stripe-python#1660.
_ACCOUNT_BY_MESSAGE: Final = re.compile(
    r"your account cannot currently make (live )?(charges|refunds)"
    r"|(this|your) account is not currently able to (make|create|refund) "
    r"|your account (has been|is) (disabled|closed|deactivated|suspended|rejected)\b",
    re.IGNORECASE,
)
_OURS_BY_MESSAGE: Final = re.compile(
    r"invalid stripe api version\b"
    r"|[^'\"]{0,120}\bstripe-context\b",  # an organisation's key without the account to use
    re.IGNORECASE,
)
# Codes that concern the account of the call. With a header Stripe-Account that is the connected account, and all other
# accounts of the platform can be refunded. `platform_account_required`: the platform has no connected accounts.
ACCOUNT: Final = frozenset({"account_invalid", "platform_account_required", "testmode_charges_only"})

# Parameters that differ from record to record: one unusual record must never stop all others.
RECORD_PARAMS: Final = frozenset(
    {"amount", "charge", "currency", "id", "instructions_email", "metadata", "payment_intent", "refund"}
)
# Without a code, only these parameters concern the form of all our requests: our constants, and parameters we never
# send.
FORM_PARAMS: Final = frozenset({"created", "expand", "idempotency_key", "limit", "reason", "stripe_account"})
# One record or one request can cause these; a person must check that one.
PERSON: Final = frozenset(
    {
        # An id that this account and mode do not know.
        "resource_missing",
        # The amount or the currency.
        "amount_too_large",
        "amount_too_small",
        "invalid_charge_amount",
        "payment_method_currency_mismatch",
        # The payment's kind or state: a parameter that does not fit it, never captured, no successful charge.
        "charge_invalid_parameter",
        "payment_intent_invalid_parameter",
        "payment_intent_unexpected_state",
        # The connected account.
        "application_fees_not_allowed",
        "not_allowed_on_standard_account",
        "transfers_not_allowed",
        # The e-mail address, or another text.
        "email_invalid",
        "invalid_characters",
    }
)

_BY_CODE: Final = {
    **dict.fromkeys(ENDS, Meaning.ENDS),
    **dict.fromkeys(BLOCKED, Meaning.BLOCKED),
    **dict.fromkeys(BUSY, Meaning.BUSY),
    **dict.fromkeys(OURS, Meaning.OURS),
    **dict.fromkeys(PERSON, Meaning.PERSON),
    ALREADY_REFUNDED: Meaning.ALREADY_REFUNDED,
}

# Stripe's own error types, older names included; an answer of a proxy has none of them.
STRIPE_TYPES: Final = frozenset(
    {
        *("api_error", "card_error", "idempotency_error", "invalid_request_error"),
        *("authentication_error", "permission_error", "rate_limit_error"),
    }
)


def meaning_of(code: str, param: str, message: str) -> Meaning:
    """Return the subject of a 4xx answer of Stripe; an empty text means that the field was absent.

    A message alone can only pause refunds, never end one: no refund ends because of the wording of a sentence.
    """
    known = _BY_CODE.get(code)
    if known is not None:
        return known
    name = param.partition("[")[0]
    if code.startswith(OURS_BY_PREFIX):
        return Meaning.PERSON if name in RECORD_PARAMS else Meaning.OURS
    if code:
        return Meaning.UNKNOWN
    if param == "amount":
        # The only refusal of a payment without a code: more was requested than is left of it.
        return Meaning.MORE_THAN_LEFT
    return Meaning.OURS if concerns_all(param, message) else Meaning.UNKNOWN


def concerns_all(param: str, message: str) -> bool:
    """Return True if a refusal without a code concerns every request that we send, by its parameter or its message."""
    by_message = not param and (_OURS_BY_MESSAGE.match(message) or _ACCOUNT_BY_MESSAGE.match(message))
    return param.partition("[")[0] in FORM_PARAMS or bool(by_message)


def is_about_account(status: int, code: str, message: str) -> bool:
    """Return True for a refusal that concerns the account of the call, or what our key may do there.

    A key that is refused as such (401) concerns all accounts.
    """
    if status == 401:
        return False
    return status == 403 or code in ACCOUNT or (not code and _ACCOUNT_BY_MESSAGE.match(message) is not None)
