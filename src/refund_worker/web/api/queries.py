"""Parameters of the lists. An unknown parameter is refused: a misspelled filter must not show everything."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from refund_worker.api_schema import FraudWarningStatus, OutsideStatus
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.ids import KEY_LENGTH_MAX
from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.intake import schemas
from refund_worker.engine.intake.schemas import Code, KnownId
from refund_worker.store.claims import ClaimFilters
from refund_worker.store.fraud_warnings import WarningFilters
from refund_worker.store.payouts.lists import PayoutFilters
from refund_worker.store.refunds import Filters

LIMIT_DEFAULT, LIMIT_MAX = 20, 500
REPEATABLE = frozenset({"status"})


async def refuse_repeated(request: Request) -> None:
    """Refuse a query with one parameter twice: the framework would take the last value in silence.

    Raises `RequestValidationError`, which is answered with 422.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1 and name not in REPEATABLE]
    if repeated and request.method in ("GET", "HEAD"):
        text = "this parameter is given more than once: give it once"
        raise RequestValidationError([{"type": "repeated", "loc": ("query", name), "msg": text} for name in repeated])


def digits(value: object) -> int:
    """Return the number that a parameter gives in digits. Raises `ValueError`."""
    if isinstance(value, int):
        return value
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 9:
        raise ValueError(f"must be a number from 1 to {LIMIT_MAX}, in digits")
    return int(value)


def _plus_restored(value: object) -> object:
    """Restore an unescaped plus sign before a time zone, which arrives as a space."""
    return value.replace(" ", "+") if isinstance(value, str) and "T" in value else value


def _trimmed(value: object) -> object:
    """Remove blanks at the ends of a key, as for the header's value."""
    return value.strip(" \t") if isinstance(value, str) else value


Key = Annotated[str, BeforeValidator(_trimmed), Field(min_length=1, max_length=KEY_LENGTH_MAX, pattern="^[ -~]+$")]
# PayPal's and the banks' codes of payouts are in capitals.
FailureCode = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]
_InRange = Annotated[int, Field(ge=1, le=LIMIT_MAX)]
Limit = Annotated[_InRange, BeforeValidator(digits, json_schema_input_type=_InRange)]
Since = Annotated[schemas.Since, BeforeValidator(_plus_restored, json_schema_input_type=datetime | date)]


Until = Annotated[schemas.Until, BeforeValidator(_plus_restored, json_schema_input_type=datetime | date)]


class Page(BaseModel):
    """Page of a list: its size, and the id to start after."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Limit = LIMIT_DEFAULT
    starting_after: KnownId | None = None


class PaymentQuery(Page):
    """Filter of the payments; `processor_payment_id` is any id that a processor has for one."""

    customer_id: KnownId | None = None
    processor_payment_id: KnownId | None = None


class PayeeQuery(Page):
    """Filter of the payees."""

    customer_id: KnownId | None = None


class EarningQuery(Page):
    """Filter of the earnings."""

    payee_id: KnownId | None = None
    transaction_id: KnownId | None = None


class PayeeStatementQuery(BaseModel):
    """The month of a payee's statement, and its form."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    month: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}$")]
    format: Literal["json", "csv"] | None = None


class OutsideRefundQuery(Page):
    """Filter of the refunds that others made; `status` may be there once."""

    status: OutsideStatus | None = None
    customer_id: KnownId | None = None

    def filters(self) -> ClaimFilters:
        """Return the filters for the store."""
        return ClaimFilters(
            kind=ClaimKind.OUTSIDE_REFUND,
            limit=self.limit,
            after=self.starting_after,
            customer_id=self.customer_id,
            condition=self.status,
        )


class DisputeQuery(Page):
    """Filter of the disputes; `status` is the processor's word."""

    status: Code | None = None
    customer_id: KnownId | None = None
    payment_id: KnownId | None = None

    def filters(self) -> ClaimFilters:
        """Return the filters for the store."""
        return ClaimFilters(
            kind=ClaimKind.DISPUTE,
            limit=self.limit,
            after=self.starting_after,
            customer_id=self.customer_id,
            payment_id=self.payment_id,
            condition=self.status,
        )


class FraudWarningQuery(Page):
    """Filter of the early fraud warnings; `status` is ours."""

    status: FraudWarningStatus | None = None
    customer_id: KnownId | None = None
    payment_id: KnownId | None = None

    def filters(self) -> WarningFilters:
        """Return the filters for the store."""
        return WarningFilters(
            limit=self.limit,
            after=self.starting_after,
            customer_id=self.customer_id,
            payment_id=self.payment_id,
            condition=self.status,
        )


class RefundQuery(Page):
    """Filter of the refund list; `status` may be there several times."""

    status: Annotated[list[RefundStatus], Field(max_length=20)] = []
    customer_id: KnownId | None = None
    failure_code: Code | None = None
    created_gte: Since | None = None
    created_lte: Until | None = None
    idempotency_key: Key | None = None

    def filters(self, client: str | None) -> Filters:
        """Return the filters for the store; `client` is the client whose refunds are visible, None for all."""
        return Filters(
            statuses=tuple(self.status),
            customer_id=self.customer_id,
            failure_code=self.failure_code,
            created_gte=self.created_gte,
            created_lt=None if self.created_lte is None else schemas.just_after(self.created_lte),
            idempotency_key=self.idempotency_key,
            client=client,
            limit=self.limit,
            starting_after=self.starting_after,
        )


class PayoutRunRowQuery(Page):
    """Filter of a payout run's rows, and their form: as CSV all rows are there, on one page."""

    skipped: bool | None = None
    code: Code | None = None
    format: Literal["json", "csv"] | None = None


class PayoutQuery(Page):
    """Filter of the payouts; `status` may be there several times."""

    status: Annotated[list[PayoutStatus], Field(max_length=20)] = []
    payee_id: KnownId | None = None
    run_id: KnownId | None = None
    processor_account: schemas.AccountName | None = None
    failure_code: FailureCode | None = None
    created_gte: Since | None = None
    idempotency_key: Key | None = None

    def filters(self, client: str | None) -> PayoutFilters:
        """Return the filters for the store; `client` is the client whose payouts are visible, None for all."""
        return PayoutFilters(
            statuses=tuple(self.status),
            payee_id=self.payee_id,
            run_id=self.run_id,
            processor=self.processor_account,
            failure_code=self.failure_code,
            created_gte=self.created_gte,
            idempotency_key=self.idempotency_key,
            client=client,
            limit=self.limit,
            starting_after=self.starting_after,
        )
