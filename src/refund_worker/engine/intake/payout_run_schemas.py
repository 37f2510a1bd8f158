"""Request schema of payout runs, for every entry point."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.payouts.runs import RunRequest
from refund_worker.engine.intake.schemas import AccountName, Currency, Schema, checked_client, checked_key


class PayoutRunSchema(Schema):
    """A run over all payees of an account in one currency."""

    processor_account: Annotated[AccountName, Field(description="the account that pays")]
    currency: Currency
    minimum_minor: Annotated[int, Field(ge=0, le=AMOUNT_MAX, description="no payee gets less, in minor units")] = 0
    dry_run: Annotated[bool, Field(description="plan it and pay nothing")] = False

    def request(self, *, idempotency_key: str, client: str, actor: str) -> RunRequest:
        """Return the request with its requester and key. Raises `InvalidRequest` for an unusable key or client."""
        return RunRequest(
            idempotency_key=checked_key(idempotency_key),
            client=checked_client(client),
            actor=actor,
            processor=self.processor_account,
            currency=self.currency,
            minimum_minor=self.minimum_minor,
            dry_run=self.dry_run,
        )
