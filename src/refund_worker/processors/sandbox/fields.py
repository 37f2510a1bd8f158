"""The fields of the actions in `outside.py`: the one table of their names, values and explanations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.refund_objects import CARD_TYPES

ACCOUNT_ID = re.compile(r"acct_[A-Za-z0-9]{1,250}\Z", re.ASCII)
CURRENCY = re.compile(r"[A-Za-z]{3}\Z", re.ASCII)
TEXT_CHARACTERS_MAX = 500
NUMBER_MAX = 10**15
SECONDS_MAX = 10**9


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an action: which values it takes, in words and as a check."""

    takes: str
    accepts: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= TEXT_CHARACTERS_MAX


def _is_integer(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= NUMBER_MAX


def _is_account(value: Any) -> bool:
    return isinstance(value, str) and ACCOUNT_ID.match(value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= SECONDS_MAX


def _is_metadata(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 50
        and all(_is_text(name) and isinstance(text, str) and len(text) <= 500 for name, text in value.items())
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 100 and all(_is_text(each) for each in value)


TEXT = Field("a text of 1 to 500 characters", _is_text)
FLAG = Field("true or false", lambda value: isinstance(value, bool))
AMOUNT = Field("a whole number of minor units, 1 or more", lambda value: _is_integer(value, 1))
AMOUNT_OR_ZERO = Field("a whole number of minor units, 0 or more", _is_integer)
WHOLE = Field("a whole number of minor units, below zero too", lambda value: _is_integer(value, -NUMBER_MAX))
SECONDS = Field("a number of seconds", _is_number)
SECOND = Field("a whole number of seconds; a time counts from 1970", _is_integer)
TEXTS = Field("a list of at most 100 texts", _is_texts)
METADATA = Field("an object of at most 50 texts", _is_metadata)
CURRENCY_CODE = Field("three letters", lambda value: isinstance(value, str) and bool(CURRENCY.match(value)))
REFUND_TYPE = Field("refund, reversal or pending", lambda value: isinstance(value, str) and value in CARD_TYPES)
ACCOUNT = Field("the id of a connected account, acct_…", _is_account)
FIELDS: Mapping[str, Field] = {
    "account": ACCOUNT,
    "actionable": FLAG,
    "action_seconds": SECOND,
    "after_seconds": SECONDS,
    "amount_minor": AMOUNT,
    "application_fee_minor": AMOUNT,
    "available_minor": WHOLE,
    "available_on": SECOND,
    "captured_minor": AMOUNT_OR_ZERO,
    "country": TEXT,
    "currency": CURRENCY_CODE,
    "current_deadline": SECOND,
    "currently_due": TEXTS,
    "created": SECOND,
    "customer": TEXT,
    "customer_email": TEXT,
    "customer_must_act": FLAG,
    "destination": ACCOUNT,
    "disabled_reason": TEXT,
    "dispute": TEXT,
    "due_by": SECOND,
    "failure_code": TEXT,
    "failure_reason": TEXT,
    "fails_after_seconds": SECONDS,
    "fails_pending_refunds": FLAG,
    "fee_minor": AMOUNT_OR_ZERO,
    "fraud_type": TEXT,
    "funds": FLAG,
    "instant": FLAG,
    "intent_metadata": METADATA,
    "livemode": FLAG,
    "metadata": METADATA,
    "past_due": TEXTS,
    "payment": TEXT,
    "payment_method": TEXT,
    "pending_minor": WHOLE,
    "payout": TEXT,
    "payouts_enabled": FLAG,
    "pending_reason": TEXT,
    "pending_verification": TEXTS,
    "policy": TEXT,
    "reason": TEXT,
    "refund_application_fee": FLAG,
    "reverse_transfer": FLAG,
    "reference": TEXT,
    "refund": TEXT,
    "refund_type": REFUND_TYPE,
    "refundable": FLAG,
    "status": TEXT,
    "succeeds_after_seconds": SECONDS,
    "transfer": TEXT,
    "transfer_delay_seconds": SECOND,
    "transfer_minor": AMOUNT,
    "transfers": TEXT,
    "undocumented": FLAG,
    "withdraw": FLAG,
}


def check(action: str, sent: JsonObject, required: frozenset[str], optional: frozenset[str]) -> None:
    """Raise `StripeError` (400) that names the first wrong, unknown or missing field of an action."""
    known = required | optional
    for name, value in sent.items():
        if name not in known:
            message = f"{action} has no field {name[:40]}. It takes: {', '.join(sorted(known))}."
            raise StripeError(400, message, "parameter_unknown", name[:40])
        if not FIELDS[name].accepts(value):
            raise StripeError(400, f"{action}: {name} must be {FIELDS[name].takes}.", param=name)
    for name in sorted(required - sent.keys()):
        raise StripeError(400, f"{action} needs {name}: {FIELDS[name].takes}.", "parameter_missing", name)
