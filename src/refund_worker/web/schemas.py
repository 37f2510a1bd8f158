"""Bodies that only the HTTP API has: actions of persons, and batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from refund_worker.engine.intake.schemas import (
    AccountName,
    KnownId,
    OptionalReason,
    Reason,
    Reference,
    RefundSchema,
    Schema,
    Since,
    Until,
)


class ActionBody(Schema):
    """The reason of an action."""

    reason: Reason


class MergeBody(ActionBody):
    """The customer that survives a merge, and why."""

    into: KnownId


class DecideBody(ActionBody):
    """The decision about credits that were spent already: written off, or a debt that the next purchase pays first."""

    decision: Literal["write_off", "debt"]


class LinkBody(ActionBody):
    """The refund that an outside refund counts for, or the transaction that it returns."""

    refund_id: KnownId | None = None
    transaction_id: KnownId | None = Field(None, validate_default=True)

    @field_validator("transaction_id")
    @classmethod
    def _one_of_two(cls, value: str | None, fields: ValidationInfo) -> str | None:
        if "refund_id" in fields.data and (fields.data["refund_id"] is None) == (value is None):
            raise ValueError("name either refund_id or transaction_id")
        return value


class LinkDisputeBody(ActionBody):
    """The spend that a lost dispute charged back."""

    transaction_id: KnownId


class ResolveBody(ActionBody):
    """The outcome of a refund that needs a person: paid manually, with a reference, or credits given back."""

    outcome: Literal["paid_manually", "reverse"]
    reference: Annotated[Reference | None, Field(validate_default=True)] = None

    @field_validator("reference")
    @classmethod
    def _named_payment(cls, value: str | None, fields: ValidationInfo) -> str | None:
        outcome = fields.data.get("outcome")
        if outcome and (outcome == "paid_manually") != (value is not None):
            raise ValueError("names the manual payment: required with paid_manually, and not allowed otherwise")
        return value


class ReconciliationBody(Schema):
    """The account and the time to compare; a day stands for its beginning, or for its end in `until`."""

    processor_account: AccountName
    since: Since | None = None
    until: Until | None = None


class SwitchBody(Schema):
    """The reason to pause or resume; optional."""

    reason: OptionalReason = ""


class PreviewBody(RefundSchema):
    """A request to preview; the reason is optional."""

    reason: OptionalReason = "preview"


class BatchRefundBody(RefundSchema):
    """A request with its own idempotency key."""

    idempotency_key: str
