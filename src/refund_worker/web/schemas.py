"""Bodies that only HTTP has: acts of persons, and batches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from refund_worker.engine.intake.schemas import Reference, RefundSchema, Schema, Text


class ActBody(Schema):
    """Why a person does it."""

    reason: Annotated[Text, Field(min_length=1)]


class ResolveBody(ActBody):
    """How what is stuck ends: paid by hand, with the reference of that payment, or credits given back."""

    outcome: Literal["paid_manually", "reverse"]
    reference: Reference | None = None

    @model_validator(mode="after")
    def _named_payment(self) -> ResolveBody:
        if (self.outcome == "paid_manually") != (self.reference is not None):
            raise ValueError("reference names the payment made by hand: with paid_manually, and only then")
        return self


class SwitchBody(Schema):
    """Why the switch is turned; may be left out."""

    reason: Text = ""


class PreviewBody(RefundSchema):
    """A request that is not made: why may be left out."""

    reason: Text = "preview"


class BatchRow(RefundSchema):
    """A request with its own key."""

    idempotency_key: str
