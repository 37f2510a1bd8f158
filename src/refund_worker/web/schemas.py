"""Bodies that only the HTTP API has: actions of persons, and batches."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from refund_worker.engine.intake.schemas import OptionalReason, Reason, Reference, RefundSchema, Schema


class ActionBody(Schema):
    """The reason of an action."""

    reason: Reason


class ResolveBody(ActionBody):
    """The outcome of a refund that needs a person: paid manually, with a reference, or credits given back."""

    outcome: Literal["paid_manually", "reverse"]
    reference: Reference | None = None

    @model_validator(mode="after")
    def _named_payment(self) -> ResolveBody:
        if (self.outcome == "paid_manually") != (self.reference is not None):
            raise ValueError(
                "reference names the manual payment: required with paid_manually, and not allowed otherwise"
            )
        return self


class SwitchBody(Schema):
    """The reason to pause or resume; optional."""

    reason: OptionalReason = ""


class PreviewBody(RefundSchema):
    """A request to preview; the reason is optional."""

    reason: OptionalReason = "preview"


class BatchRefundBody(RefundSchema):
    """A request with its own idempotency key."""

    idempotency_key: str
