"""Request schemas of every entry point (HTTP API, Celery task, files): the syntax is checked in one place.

Strict: integers are integers (no floats, bools, exponents, or digits of other scripts), unknown fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from refund_worker.domain import ids
from refund_worker.domain.account_names import CONNECTED_ID
from refund_worker.domain.ledger import Purpose
from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.errors import InvalidRequest, WrongField
from refund_worker.iso_codes import CURRENCIES
from refund_worker.processors.payment_ids import check_payment_id, check_processor_name
from refund_worker.redaction import has_card_number, to_redacted
from refund_worker.times import EARLIEST, LATEST, to_millisecond

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

CLIENT_LENGTH_MAX = 200
EMAIL_LENGTH_MAX = 254
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")
METADATA_KEYS_MAX = 20
METADATA_NAME_LENGTH_MAX = 40
_NAME_SHOWN_MAX = 60
# A body of a megabyte can have a hundred thousand unknown fields.
WRONG_FIELDS_MAX = 50
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


def _readable(value: str) -> str:
    if not ids.is_readable(value):
        raise ValueError("must not be blank: say why in a few words")
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
    # Compare in UTC: at the ends of the calendar, a time zone can lead out of it.
    seconds = parsed.timestamp()
    if not EARLIEST <= seconds < LATEST:
        raise ValueError("must be from 1970 on and before 2200")
    # Stored as it is shown: an answer that is sent again must be the same body.
    return to_millisecond(seconds)


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError("must be an e-mail address such as jane@example.com")
    return value


def _known_currency(value: str) -> str:
    if value.upper() not in CURRENCIES:
        raise ValueError("must be a currency of ISO 4217, such as EUR")
    return value.upper()


def _as_text(value: object) -> object:
    """Return an integer as its digits; return every other value unchanged."""
    return str(value) if type(value) is int else value


def _midnight(value: object) -> object:
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DAY.fullmatch(value) else value


def _end_of_day(value: object) -> object:
    return f"{value}T23:59:59.999Z" if isinstance(value, str) and _DAY.fullmatch(value) else value


# Rules that every id follows, for programs that derive checks from the API's description. The rest is described in the
# text.
ID_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": ids.ID_LENGTH_MAX,
    "pattern": r"^\S(.*\S)?$",
    "description": "printable characters, spaces inside allowed; no control or invisible formatting characters, no "
    "segment . or .. between slashes; compared in Unicode's NFC. In a URL a slash is sent as %2F.",
}
# `Id`: an id that a record introduces. `KnownId`: the id of something already recorded.
Id = Annotated[str, AfterValidator(ids.checked_id), WithJsonSchema(ID_SCHEMA)]
KnownId = Annotated[str, AfterValidator(ids.known_id), WithJsonSchema(ID_SCHEMA)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(_no_card_number)]
# The reason of an act: a text in which something can be read.
Reason = Annotated[Text, Field(min_length=1), AfterValidator(_readable)]
# The same where a reason is not required: a blank one counts as missing.
OptionalReason = Annotated[Text, AfterValidator(lambda value: value if ids.is_readable(value) else "")]
# Reference of a manual payment. It is compared with ids of refund objects, so an extra blank must not hide a match.
Reference = Annotated[
    str,
    Field(min_length=1, max_length=ids.ID_LENGTH_MAX),
    AfterValidator(ids.checked_reference),
    AfterValidator(_no_card_number),
]
Positive = Annotated[int, Field(gt=0, le=AMOUNT_MAX)]
ProcessorName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
# An account at a processor, perhaps a connected one.
AccountName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}(:[a-z0-9][a-z0-9_-]{0,39})?(/[A-Za-z0-9_]{1,255})?$")
]
# A processor's status or a failure code.
Code = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")]
# Accepted in lower or upper case; stored in upper case.
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


# Only the form is checked. It is never repeated in an error, and shown masked.
Email = Annotated[
    str,
    Field(max_length=EMAIL_LENGTH_MAX, description="an e-mail address; shown masked, and erased after the end"),
    AfterValidator(_email),
]


_Short = Annotated[Text, Field(max_length=500)]
_TextMap = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=METADATA_NAME_LENGTH_MAX), AfterValidator(_no_card_number)],
        Annotated[_Short, BeforeValidator(_as_text, json_schema_input_type=_Short | int)],
    ],
    Field(max_length=METADATA_KEYS_MAX),
]
# The caller's own data: null means empty, an integer is stored as its digits.
Metadata = Annotated[
    _TextMap, BeforeValidator(lambda value: {} if value is None else value, json_schema_input_type=_TextMap | None)
]


# For filters: a day without a time begins at midnight in UTC.
Since = Annotated[Timestamp, BeforeValidator(_midnight, json_schema_input_type=datetime | date)]


# A day without a time ends at midnight in UTC.
Until = Annotated[Timestamp, BeforeValidator(_end_of_day, json_schema_input_type=datetime | date)]


class Schema(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class ConnectSchema(Schema):
    """The connected account of a payment. A payment that was made on it is refunded there.

    With `reverse_transfer` the payment was made on the platform's own account, and a refund takes its share back from
    the connected account. With `refund_application_fee` it returns the platform's fee.
    """

    account: Annotated[str | None, Field(pattern=f"^{CONNECTED_ID}$")] = None
    reverse_transfer: bool | None = None
    refund_application_fee: bool | None = None


class PaymentSchema(Schema):
    """Money once paid in through a processor, and the credits it bought."""

    payment_id: Id
    customer_id: Id
    processor: Annotated[ProcessorName, AfterValidator(check_processor_name)]
    processor_payment_id: Id
    amount_minor: Positive
    currency: Currency
    credits: Positive
    captured_at: Timestamp
    captured_minor: Annotated[Positive | None, Field(description="what was captured, where not the amount")] = None
    refunded_minor: Annotated[
        Annotated[int, Field(ge=0, le=AMOUNT_MAX)] | None, Field(description="what was returned before")
    ] = None
    processor_account: Annotated[
        AccountName | None, Field(description="the account at the processor, where it has several")
    ] = None
    connect: Annotated[ConnectSchema | None, Field(description="the connected account of the payment")] = None

    @field_validator("refunded_minor")
    @classmethod
    def _within_captured(cls, value: int | None, fields: ValidationInfo) -> int | None:
        captured = fields.data.get("captured_minor") or fields.data.get("amount_minor")
        if value and captured and value > captured:
            raise ValueError(f"must be at most what was captured, which is {captured}")
        return value

    @field_validator("processor_payment_id")
    @classmethod
    def _can_be_sent(cls, value: str, fields: ValidationInfo) -> str:
        """Check the id with the adapter's own rules. A failing id may be a secret: it is never stored or repeated."""
        check_payment_id(fields.data.get("processor", ""), value)
        return value

    def record(self) -> PaymentRecord:
        """Return the payment as a record, with `refunded_minor` 0 if absent."""
        values = self.model_dump(exclude={"processor_account", "connect"})
        connect = self.connect or ConnectSchema()
        return PaymentRecord(
            **values | {"refunded_minor": self.refunded_minor or 0},
            asked_account=self.processor_account,
            connect_account=connect.account,
            connect_reverse_transfer=connect.reverse_transfer,
            connect_refund_application_fee=connect.refund_application_fee,
        )


class SpendSchema(Schema):
    """Credits that a customer spent."""

    transaction_id: Id
    customer_id: Id
    kind: Literal["spend"]
    credits: Positive
    description: Text = ""
    occurred_at: Timestamp

    def record(self) -> SpendRecord:
        """Return the spend as a record."""
        return SpendRecord(**self.model_dump(exclude={"kind"}))


class CorrectionSchema(Schema):
    """Credits put on a balance, or with a negative figure taken off.

    `purpose` says why credits are taken off: only those taken off for a payout, the default, can be paid out.
    """

    credits: Annotated[int, Field(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]
    reason: Reason
    purpose: Annotated[
        Literal["payout", "expiry", "other"] | None,
        Field(description="why credits are taken off; payout by default. Added credits have the purpose other"),
    ] = None

    @field_validator("credits")
    @classmethod
    def _not_zero(cls, value: int) -> int:
        if value == 0:
            raise ValueError("must not be zero")
        return value

    @field_validator("purpose")
    @classmethod
    def _fits_credits(cls, value: str | None, fields: ValidationInfo) -> str | None:
        Purpose.of(fields.data.get("credits", -1), Purpose(value) if value else None)
        return value

    @property
    def wanted(self) -> Purpose | None:
        """Return the purpose that the request names, or None."""
        return Purpose(self.purpose) if self.purpose else None


def _each_once(ways: list[str]) -> list[str]:
    if len(set(ways)) != len(ways):
        raise ValueError("must name each destination once")
    return ways


Destinations = Annotated[
    list[Literal["payments", "balance", "payout", "manual"]],
    Field(min_length=1, description="of the setting FALLBACK, what may be tried when a payment refuses for good"),
    AfterValidator(_each_once),
]


def read_destinations(text: str) -> list[str]:
    """Return the destinations that a text such as `payments,payout` names. `RefundSchema` checks them."""
    return [way.strip() for way in text.split(",")]


class RefundSchema(Schema):
    """A request to give back."""

    kind: Literal["credit_refund", "withdrawal"]
    to: Literal["balance", "source", "payout"]
    customer_id: KnownId
    transaction_id: KnownId | None = None
    credits: Positive | None = None
    currency: Currency | None = None
    reason: Reason
    note: Text | None = None
    requested_by: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    metadata: Metadata = {}
    instructions_email: Email | None = None
    destinations: Destinations | None = None
    payee_id: KnownId | None = None

    @property
    def _destinations(self) -> str | None:
        return None if self.destinations is None else ",".join(self.destinations)

    @model_validator(mode="after")
    def _a_payee_for_a_payout(self) -> RefundSchema:
        if (self.to == "payout") != (self.payee_id is not None):
            raise ValueError("payee_id and to: payout need each other")
        if self.to == "payout" and self.kind != "withdrawal":
            raise ValueError("only a withdrawal can go to a payee")
        return self

    @property
    def _to(self) -> To:
        """Return the target: a payout goes back over the customer's own payments first, as far as they can take it."""
        return To.SOURCE if self.to == "payout" else To(self.to)

    def request(
        self,
        *,
        idempotency_key: str,
        client: str,
        actor: str,
        bulk: bool = False,
        requested_at: float | None = None,
    ) -> RefundRequest:
        """Return the request with its requester and key. Raises `InvalidRequest` for an unusable key or client."""
        return RefundRequest(
            idempotency_key=checked_key(idempotency_key),
            client=checked_client(client),
            actor=actor,
            bulk=bulk,
            requested_at=requested_at,
            **(self.model_dump() | {"kind": Kind(self.kind), "to": self._to, "destinations": self._destinations}),
        )


def parse_since(created_gte: str) -> float:
    """Return the epoch seconds of a filter's time or day. Raises `InvalidRequest` naming `created_gte`."""
    return parse_schema(_CreatedSince, {"created_gte": created_gte}).created_gte


def parse_day(day: str, field: str) -> float:
    """Return the midnight in UTC with which a day such as 2026-11-23 begins, in epoch seconds.

    Raises `InvalidRequest` naming `field`.
    """
    try:
        if not _DAY.fullmatch(day):
            raise ValueError
        return _timestamp(_midnight(day))
    except ValueError:
        raise InvalidRequest(f"{field}: must be a day such as {TIME_EXAMPLE[:10]}", field=field) from None


def parse_until(created_lte: str) -> float:
    """Return the epoch seconds before which a filter ends. Raises `InvalidRequest` naming `created_lte`."""
    return just_after(parse_schema(_CreatedUntil, {"created_lte": created_lte}).created_lte)


def just_after(at: float) -> float:
    """Return the end of the millisecond `at`: the time that a refund shows must include the refund."""
    return at + 0.001


def checked_key(key: str) -> str:
    """Return the idempotency key: 1 to 255 printable ASCII characters without blanks at the ends.

    Raises `InvalidRequest` for any other text.
    """
    try:
        return ids.checked_key(key)
    except ValueError as wrong:
        raise InvalidRequest(f"the idempotency key {wrong}", field="idempotency_key") from None


def checked_client(client: object) -> str:
    """Return the name of the client. Another spelling of it would be another owner of the same keys.

    Names that begin with ":" are this program's own, of payouts that no caller asks for.

    Raises `InvalidRequest` if it is not a short printable text without blanks at its ends, or begins with ":".
    """
    if isinstance(client, str) and client.startswith(":"):
        raise InvalidRequest('client must not begin with ":"', field="client")
    if isinstance(client, str) and 0 < len(client) <= CLIENT_LENGTH_MAX and client.isprintable():
        if client == client.strip():
            return client
        raise InvalidRequest("client must have no blanks at its ends", field="client")
    raise InvalidRequest("client must be a short text", field="client")


def known_id(value: str, field: str) -> str:
    """Return the id of something recorded, in its stored spelling. Raises `InvalidRequest` naming `field`."""
    try:
        return ids.known_id(value)
    except ValueError as wrong:
        raise InvalidRequest(f"{field}: {wrong}", field=field) from None


class _CreatedSince(Schema):
    created_gte: Since


class _CreatedUntil(Schema):
    created_lte: Until


SomeBody = TypeVar("SomeBody", bound=Schema)

# The rule of each pattern in words.
PATTERNS = {
    r"\S": "must not be blank",
    r"^[ -~]+$": "must have printable ASCII characters only",
    r"^[A-Za-z]{3}$": "must be the three letters of a currency, such as EUR",
    r"^[A-Za-z]{2}$": "must be the two letters of a country, such as DE",
    r"^[0-9]{4}-[0-9]{2}$": "must be a month, such as 2026-10",
    r"^[a-z0-9_]{1,100}$": "must be a word of lower-case letters, digits and underscores, such as needs_response",
    r"^[A-Za-z0-9_]{1,100}$": "must be a word of letters, digits and underscores, such as RECEIVER_UNREGISTERED",
    r"^[a-z][a-z0-9_]{0,39}$": "must be the name of a processor: a small letter, then small letters, digits or _",
    r"^[a-z][a-z0-9_]{0,39}(:[a-z0-9][a-z0-9_-]{0,39})?(/[A-Za-z0-9_]{1,255})?$": (
        "must be the name of an account at a processor, such as stripe or stripe:old"
    ),
    f"^{CONNECTED_ID}$": "must be the id of a connected account, acct_…",
}


def parse_schema(model: type[SomeBody], values: Mapping[str, Any]) -> SomeBody:
    """Return the validated body. Raises `InvalidRequest` naming every wrong field and what it should be."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> InvalidRequest:
    """Return the errors as one `InvalidRequest`; its message is the first of them, in one line."""
    found = [(_shown(each["loc"]), wrong_message(each)) for each in error.errors()[:WRONG_FIELDS_MAX]]
    names, message = found[0]
    field = ".".join(names) or None
    wrong = tuple(WrongField(".".join(names) or "body", text, _pointer(names)) for names, text in found)
    return InvalidRequest(f"{field}: {message}" if field else message, field=field, errors=wrong)


def wrong_message(error: ErrorDetails) -> str:
    """Return what is wrong with a field or a parameter, in plain words where Pydantic's are not."""
    kind = error["type"]
    if kind in ("too_short", "too_long") and isinstance(error["input"], str):
        kind = f"string_{kind}"  # after rules of our own, Pydantic calls a text's characters elements
    return _own_message(kind, error.get("ctx", {})) or error["msg"].removeprefix("Value error, ")


def _shown(place: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the path of the wrong field. Names in metadata and unknown fields are caller text and may be a card
    number.
    """
    return tuple(shown_name(part) for part in place if part != "[key]")


def shown_name(part: object) -> str:
    """Return the name of a field that a caller chose, as it may be shown: short, printable and redacted."""
    name = to_redacted(str(part))[:_NAME_SHOWN_MAX]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def _pointer(names: tuple[str, ...]) -> str:
    """Return the path as a JSON pointer in the form of a URI fragment (RFC 6901)."""
    return "#" + "".join("/" + quote(name.replace("~", "~0").replace("/", "~1"), safe="~") for name in names)


def _own_message(kind: str, context: Mapping[str, Any]) -> str | None:
    """Return our own text for a Pydantic error, or None if Pydantic's text is clear enough."""
    match kind:
        case "extra_forbidden":
            return "this field is not known"
        case "too_short":
            return f"must have at least {context['min_length']:,} of them"
        case "too_long":
            return f"must have at most {context['max_length']:,} of them"
        case "string_too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "string_too_long":
            return f"must have at most {context['max_length']:,} characters"
        case "string_pattern_mismatch":
            return PATTERNS.get(context["pattern"])
        case "string_unicode":
            return "half a character (a lone surrogate) is in it"
    return None
