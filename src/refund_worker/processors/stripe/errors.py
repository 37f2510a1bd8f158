"""What Stripe's refusals of a refund mean for us, code by code. Pure data and the order in which it is asked.

A refusal ends a leg only where it is known to be about this very payment. What is in no list here is a word that we do
not know, and goes to a person: credits never go back, and no other payment is tried, on such a word.

Sources, read in 2026-11: the 209 codes that stripe-python 16.1 lists (generated from Stripe's OpenAPI description),
docs.stripe.com/error-codes, /refunds ("Failed refunds") and /api/refunds, and where named the report of somebody who
met it. `tests/processors/published_codes.py` has every published code with its group.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

ALREADY_REFUNDED: Final = "charge_already_refunded"


class Meaning(StrEnum):
    """What a refusal is about, and so what follows from it."""

    ENDS = "ends"  # this payment can't take the money back: another way is sought
    MORE_THAN_LEFT = "more_than_left"  # Stripe's book has less left than ours: look, then decide
    ALREADY_REFUNDED = "already_refunded"  # nothing is left: look, then decide
    BLOCKED = "blocked"  # not now; tried again
    BUSY = "busy"  # not executed; the same key again
    OURS = "ours"  # the request's form, key, account, API version or mode: every refund would meet it
    PERSON = "person"  # one record or one request can cause it
    UNKNOWN = "unknown"  # no list has it


# Each says that the payment itself, or the card or bank account behind it, takes nothing back any more.
ENDS: Final = frozenset(
    {
        "charge_not_refundable",  # /error-codes: the charge can't be refunded any more
        # /error-codes: the card was declined or has expired, the bank account is closed or not to be found
        "card_declined",
        "expired_card",
        "account_closed",
        "no_account",
        # /refunds: why a refund fails; the same cause told by the call itself
        "declined",
        "expired_or_canceled_card",
        "lost_or_stolen_card",
    }
)

# A dispute returns the money itself: while it is open, neither another payment nor the credits may stand in for it.
DISPUTED: Final = frozenset(
    {
        "charge_disputed",  # /error-codes, Sylius/StripePlugin#120
        "refund_disputed_payment",  # /error-codes
        "charge_for_pending_refund_disputed",  # /refunds: a reason of failure
    }
)
# Our balance at Stripe is too low. `insufficient_balance_for_refund` comes as `message_code`, without a code.
EMPTY: Final = frozenset({"balance_insufficient", "insufficient_balance_for_refund", "insufficient_funds"})
BLOCKED: Final = DISPUTED | EMPTY

BUSY: Final = frozenset({"idempotency_key_in_use", "lock_timeout", "rate_limit"})

# The same for every refund that we send, so none of them has failed.
OURS: Final = frozenset(
    {
        # The key.
        "api_key_expired",
        "platform_api_key_expired",
        "secret_key_required",
        # The account: the one that our key or header names, or what it may do.
        "account_invalid",
        "platform_account_required",
        # The mode, the version of the API, the encryption of the connection.
        "livemode_mismatch",
        "testmode_charges_only",
        "payment_evaluation_on_api_version_not_supported",
        "tls_version_unsupported",
        # The request's form: which parameters there are is the same for all that we send, whichever is named.
        "parameter_unknown",
        "parameters_exclusive",
    }
)
# The request's form, whatever Stripe finds wrong with it: parameter_unknown (stripe-python#849: every request of one
# version of the SDK), parameter_missing, parameter_invalid_… and parameters_exclusive, published or not yet. Missing or
# invalid may be what one record asks for (an e-mail address for some payment methods), so there the parameter decides.
_OURS_BY_PREFIX: Final = ("parameter_", "parameters_")
# Without a code, and not about any one record: the account or the version. Read from the beginning only, so that no
# quoted value can pass for it. MonoSketch#578, alphagov/pay-connector#3788, stripe-python#1660.
_OURS_BY_MESSAGE: Final = re.compile(
    r"your account cannot currently make (live )?(charges|refunds)"
    r"|(this|your) account is not currently able to (make|create|refund) "
    r"|your account (has been|is) (disabled|closed|deactivated|suspended|rejected)\b"
    r"|invalid stripe api version\b"
    r"|[^'\"]{0,120}\bstripe-context\b",  # an organisation's key without the account that it is to work for
    re.IGNORECASE,
)

# What differs from record to record of what we send: one odd record must never stop all the others.
RECORD_PARAMS: Final = frozenset(
    {"amount", "charge", "currency", "id", "instructions_email", "metadata", "payment_intent", "refund"}
)
# Without a code only these speak of the form that all our requests have: our constants, and what is never ours to send.
FORM_PARAMS: Final = frozenset({"created", "expand", "idempotency_key", "limit", "reason", "stripe_account"})
# One record or one request can cause it; a person must look at that one.
PERSON: Final = frozenset(
    {
        # An id that this account and mode do not know.
        "resource_missing",
        # Its amount, its currency.
        "amount_too_large",
        "amount_too_small",
        "invalid_charge_amount",
        "payment_method_currency_mismatch",
        # The payment's kind or state: a parameter that does not fit it, never captured, no successful charge.
        "charge_invalid_parameter",
        "payment_intent_invalid_parameter",
        "payment_intent_unexpected_state",
        # Its connected account.
        "application_fees_not_allowed",
        "not_allowed_on_standard_account",
        "transfers_not_allowed",
        # Its e-mail address, or another text of it.
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

# Stripe's own types of error, older names included; an answer of a proxy has none of them.
STRIPE_TYPES: Final = frozenset(
    {
        *("api_error", "card_error", "idempotency_error", "invalid_request_error"),
        *("authentication_error", "permission_error", "rate_limit_error"),
    }
)


def meaning_of(code: str, param: str, message: str) -> Meaning:
    """What a 4xx in Stripe's own words is about; empty texts stand for what was not said.

    A message alone can only pause, and pausing fails nothing: no refund ends by the wording of a sentence.
    """
    known = _BY_CODE.get(code)
    if known is not None:
        return known
    name = param.partition("[")[0]
    if code.startswith(_OURS_BY_PREFIX):
        return Meaning.PERSON if name in RECORD_PARAMS else Meaning.OURS
    if code:
        return Meaning.UNKNOWN
    if param == "amount":
        # The one refusal of a payment that has no code: asking for more than is left of it.
        return Meaning.MORE_THAN_LEFT
    if name in FORM_PARAMS or (not param and _OURS_BY_MESSAGE.match(message)):
        return Meaning.OURS
    return Meaning.UNKNOWN
