"""Request schemas of payees and their earnings, for every entry point."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from refund_worker.domain.payouts.destination import BadDestination, Destination, DestinationKind, read_destination
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import Method
from refund_worker.engine.intake.schemas import (
    AccountName,
    Currency,
    Id,
    KnownId,
    Positive,
    Schema,
    Text,
    Timestamp,
    checked_client,
    checked_key,
)
from refund_worker.errors import InvalidRequest, WrongField
from refund_worker.iso_codes import COUNTRIES

_Part = Annotated[str | None, Field(max_length=200)]


def _known_country(value: str) -> str:
    if value.upper() not in COUNTRIES:
        raise ValueError("must be a country of ISO 3166, such as DE")
    return value.upper()


Country = Annotated[
    str,
    Field(pattern=r"^[A-Za-z]{2}$", description="a country of ISO 3166 in two letters, in either case"),
    AfterValidator(_known_country),
]


class DestinationSchema(Schema):
    """A payee's destination: `kind` and the fields of that kind. It is shown masked."""

    kind: Annotated[str, WithJsonSchema({"type": "string", "enum": [kind.value for kind in DestinationKind]})]
    account: Annotated[_Part, Field(description="the connected account, or the number at the bank")] = None
    email: Annotated[_Part, Field(description="of the PayPal account")] = None
    payer_id: Annotated[_Part, Field(description="of the PayPal account, instead of its email")] = None
    iban: Annotated[_Part, Field(description="blanks are left out")] = None
    bic: Annotated[_Part, Field(description="of the bank, if the IBAN alone is not enough")] = None
    routing: Annotated[_Part, Field(description="the bank's code, for an account without an IBAN")] = None
    holder: Annotated[_Part, Field(description="the name on the bank account")] = None
    text: Annotated[Text | None, Field(description="how a person pays")] = None

    def destination(self) -> Destination:
        """Return the destination. Raises `InvalidRequest`, which names the wrong field and no value."""
        given = {name: str(value) for name, value in self.model_dump(exclude_none=True).items()}
        try:
            return read_destination(given)
        except BadDestination as wrong:
            field = f"destination.{wrong.field}"
            errors = (WrongField(field, str(wrong), f"#/destination/{wrong.field}"),)
            raise InvalidRequest(f"{field}: {wrong}", field=field, errors=errors) from None


class PayeeChangeSchema(Schema):
    """All of a payee but the id: what is left out is stored as absent."""

    customer_id: Annotated[KnownId | None, Field(description="the customer that the payee is too")] = None
    processor_account: Annotated[AccountName, Field(description="the account that pays")]
    destination: DestinationSchema
    currency: Currency
    country: Country | None = None
    method: Annotated[Literal["standard", "instant"], Field(description="how fast, where the account can choose")] = (
        "standard"
    )

    def record_of(self, payee_id: str) -> PayeeRecord:
        """Return the payee with this id as a record. Raises `InvalidRequest` for a wrong destination."""
        return PayeeRecord(
            payee_id=payee_id,
            customer_id=self.customer_id,
            processor=self.processor_account,
            destination=self.destination.destination(),
            currency=self.currency,
            country=self.country,
            method=Method(self.method),
        )


class PayeeSchema(PayeeChangeSchema):
    """A person who is paid out."""

    payee_id: Id

    def record(self) -> PayeeRecord:
        """Return the payee as a record. Raises `InvalidRequest` for a wrong destination."""
        return self.record_of(self.payee_id)


class EarningSchema(Schema):
    """A payee's share."""

    earning_id: Id
    payee_id: KnownId
    amount_minor: Positive
    currency: Currency
    transaction_id: Annotated[KnownId | None, Field(description="the spend that it came from")] = None
    available_at: Annotated[
        Timestamp | None,
        Field(description="when it can be paid out; by default after REFUND_WORKER_EARNINGS_HOLD_SECONDS"),
    ] = None
    description: Text = ""

    def record(self) -> EarningRecord:
        """Return the earning as a record."""
        return EarningRecord(**self.model_dump())


class _PayoutFields(Schema):
    """The fields of a payout, whether it is requested or previewed."""

    payee_id: KnownId
    amount_minor: Annotated[Positive | None, Field(description="without it, all that can be paid out")] = None
    currency: Currency | None = None
    description: Text = ""
    requested_by: Annotated[Text, Field(min_length=1, max_length=200)] | None = None


class PayoutSchema(_PayoutFields):
    """A request for a payout of earnings."""

    currency: Currency

    def request(self, *, idempotency_key: str, client: str, actor: str, bulk: bool = False) -> PayoutRequest:
        """Return the request with its requester and key. Raises `InvalidRequest` for an unusable key or client."""
        return PayoutRequest(
            idempotency_key=checked_key(idempotency_key),
            client=checked_client(client),
            actor=actor,
            bulk=bulk,
            **self.model_dump(),
        )


class PayoutPreviewSchema(_PayoutFields):
    """A payout to preview: the body of a request for it; without a currency, in the payee's."""

    def request(self, *, client: str, actor: str) -> PayoutRequest:
        """Return the request. Its currency is empty if none was given."""
        fields = self.model_dump() | {"currency": self.currency or ""}
        return PayoutRequest(idempotency_key="preview", client=client, actor=actor, **fields)
