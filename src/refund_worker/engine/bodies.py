"""What comes in through every door (HTTP, Celery, files), checked for syntax in one place.

Strict: integers are integers (no floats, bools, exponents, or digits of other scripts), unknown fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.currencies import CURRENCIES
from refund_worker.errors import InvalidRequest
from refund_worker.redaction import has_card_number

ID_CHARACTERS = r"^[A-Za-z0-9][A-Za-z0-9._:@+\-/]*$"
KEY_LENGTH_MAX = 255
METADATA_KEYS_MAX = 20
STRIPE_PAYMENTS = ("ch_", "py_", "pi_")
# No payment and no key has a time outside of these; every one within can be shown again in any time zone.
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1970, 2200))
TIME_EXAMPLE = "2026-11-23T09:00:00Z"
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)


def _no_card_number(value: str) -> str:
    if has_card_number(value):
        raise ValueError("looks like a card number, which must not be stored here")
    if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", value):
        raise ValueError("has control characters")
    return value


def _timestamp(value: object) -> float:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError(f"must be an ISO 8601 time such as {TIME_EXAMPLE}")
    try:
        parsed = datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError(f"must be an ISO 8601 time such as {TIME_EXAMPLE}") from None
    if parsed.tzinfo is None:
        raise ValueError("must say its time zone, such as a Z at the end")
    # Not before it is in UTC: at the ends of the calendar a time zone leads out of it.
    seconds = parsed.timestamp()
    if not EARLIEST <= seconds < LATEST:
        raise ValueError("must be from 1970 on and before 2200")
    return seconds


def _known_currency(value: str) -> str:
    if value.upper() not in CURRENCIES:
        raise ValueError("must be a currency of ISO 4217, such as EUR")
    return value.upper()


def _as_text(value: object) -> object:
    """Integers are kept as their digits; nothing else that is no text is."""
    return str(value) if type(value) is int else value


def _midnight(value: object) -> object:
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DAY.fullmatch(value) else value


Id = Annotated[str, Field(min_length=1, max_length=200, pattern=ID_CHARACTERS)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(_no_card_number)]
Positive = Annotated[int, Field(gt=0, le=AMOUNT_MAX)]
# As Stripe writes it or as ISO 4217 does; kept in upper case.
Currency = Annotated[
    str,
    Field(pattern=r"^[A-Za-z]{3}$", description="a currency of ISO 4217, in either case"),
    AfterValidator(_known_currency),
]
Timestamp = Annotated[
    float,
    BeforeValidator(_timestamp, json_schema_input_type=datetime),
    Field(json_schema_extra={"format": "date-time"}),
]


_Short = Annotated[Text, Field(max_length=500)]
_Words = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=40)],
        Annotated[_Short, BeforeValidator(_as_text, json_schema_input_type=_Short | int)],
    ],
    Field(max_length=METADATA_KEYS_MAX),
]
# The caller's own words: null is the same as none, an integer the same as its digits.
Metadata = Annotated[
    _Words, BeforeValidator(lambda value: {} if value is None else value, json_schema_input_type=_Words | None)
]


# For filters: a day alone begins at midnight in UTC.
Since = Annotated[Timestamp, BeforeValidator(_midnight, json_schema_input_type=datetime | date)]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class PaymentBody(Body):
    """Money once paid in through a processor, and the credits it bought."""

    payment_id: Id
    customer_id: Id
    processor: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
    processor_payment_id: Id
    amount_minor: Positive
    currency: Currency
    credits: Positive
    captured_at: Timestamp
    captured_minor: Annotated[Positive | None, Field(description="what was captured, where not the amount")] = None
    refunded_minor: Annotated[
        Annotated[int, Field(ge=0, le=AMOUNT_MAX)] | None, Field(description="what was returned before")
    ] = None

    @model_validator(mode="after")
    def _refunded_within_captured(self) -> PaymentBody:
        captured = self.amount_minor if self.captured_minor is None else self.captured_minor
        if (self.refunded_minor or 0) > captured:
            raise ValueError(f"refunded_minor is more than was captured, which is {captured}")
        return self

    @model_validator(mode="after")
    def _known_to_stripe(self) -> PaymentBody:
        if self.processor == "stripe" and not self.processor_payment_id.startswith(STRIPE_PAYMENTS):
            raise ValueError("processor_payment_id at stripe begins with ch_, py_ or pi_")
        return self

    def record(self) -> PaymentRecord:
        return PaymentRecord(**self.model_dump() | {"refunded_minor": self.refunded_minor or 0})


class SpendBody(Body):
    """Credits that a customer spent."""

    transaction_id: Id
    customer_id: Id
    kind: Literal["spend"]
    credits: Positive
    description: Text = ""
    occurred_at: Timestamp

    def record(self) -> SpendRecord:
        return SpendRecord(**self.model_dump(exclude={"kind"}))


class CorrectionBody(Body):
    """Credits put on a balance, or with a negative figure taken off."""

    credits: Annotated[int, Field(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]
    reason: Annotated[Text, Field(min_length=1)]

    @model_validator(mode="after")
    def _not_zero(self) -> CorrectionBody:
        if self.credits == 0:
            raise ValueError("credits must not be zero")
        return self


class RefundBody(Body):
    """A request to give back."""

    kind: Literal["credit_refund", "withdrawal"]
    to: Literal["balance", "source"]
    customer_id: Id
    transaction_id: Id | None = None
    credits: Positive | None = None
    currency: Currency | None = None
    reason: Annotated[Text, Field(min_length=1)]
    note: Text | None = None
    requested_by: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    metadata: Metadata = {}

    def request(
        self,
        *,
        idempotency_key: str,
        client: str,
        actor: str,
        bulk: bool = False,
        requested_at: float | None = None,
    ) -> RefundRequest:
        """With who asks and under which key. Raises `InvalidRequest` for an unusable key."""
        return RefundRequest(
            idempotency_key=checked_key(idempotency_key),
            client=client,
            actor=actor,
            bulk=bulk,
            requested_at=requested_at,
            **(self.model_dump() | {"kind": Kind(self.kind), "to": To(self.to)}),
        )


def parse_since(created_gte: str) -> float:
    """Epoch seconds of a filter's time or day. Raises `InvalidRequest` naming `created_gte`."""
    return parse_body(_CreatedSince, {"created_gte": created_gte}).created_gte


def checked_key(key: str) -> str:
    """The idempotency key, or `InvalidRequest`: 1 to 255 printable ASCII characters."""
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
        message = f"the idempotency key must be 1 to {KEY_LENGTH_MAX} printable ASCII characters"
        raise InvalidRequest(message, field="idempotency_key")
    return key


class _CreatedSince(Body):
    created_gte: Since


SomeBody = TypeVar("SomeBody", bound=Body)


def parse_body(model: type[SomeBody], values: Mapping[str, Any]) -> SomeBody:
    """The body, or `InvalidRequest` naming the first field that is wrong and what it should be."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> InvalidRequest:
    """The first thing wrong, in one line."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    message = _in_plain_words(first["type"], first.get("ctx", {})) or first["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{field}: {message}" if field else message, field=field)


def _in_plain_words(kind: str, context: Mapping[str, Any]) -> str | None:
    """What Pydantic says in its own words, in ours; None where its words do."""
    match kind:
        case "extra_forbidden":
            return "this field is not known"
        case "too_short":
            return f"must have at least {context['min_length']} of them"
        case "too_long":
            return f"must have at most {context['max_length']} of them"
        case "string_too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "string_unicode":
            return "half a character (a lone surrogate) is in it"
    return None


def iso(seconds: float) -> str:
    """Epoch seconds as ISO 8601 in UTC, to the millisecond where there is a fraction."""
    moment = datetime.fromtimestamp(seconds, UTC)
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=spec).replace("+00:00", "Z")
