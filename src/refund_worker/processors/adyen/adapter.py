"""Refunds over Adyen's Checkout API. Nothing here decides about refunds, and nothing can be asked: Adyen has no list
and no reading of refunds, and an answer only says that the request was received.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    KeyConflict,
    Misconfigured,
    PaymentReply,
    PaymentUnreadable,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.processors.adyen.answers import classify
from refund_worker.processors.adyen.objects import (
    FrozenRefund,
    frozen_text,
    idempotency_key,
    is_about,
    thawed,
    to_refund_object,
)
from refund_worker.processors.base import RefundsOnly
from refund_worker.processors.wire import HttpAnswer, HttpClient, Unreadable, clean

_NO_READING: Final = Misconfigured(
    "not_readable", "adyen has no call that returns a refund: its events tell the outcome"
)
_NO_LIST: Final = Misconfigured("not_listed", "adyen has no call that lists refunds")
_NO_CANCEL: Final = Misconfigured("no_cancel", "adyen has no call that cancels a refund")


class AdyenProcessor(RefundsOnly):
    """One merchant account at Adyen. `timeout_seconds` is the outer limit of each call."""

    reads_payments = False

    def __init__(
        self, api_key: str, merchant_account: str, *, base: str, live: bool, timeout_seconds: float, name: str = "adyen"
    ) -> None:
        self.name = name
        self._api_key = api_key
        self._merchant_account = merchant_account
        self._base = base.rstrip("/")
        self._live = live
        self._http = HttpClient(timeout_seconds, hide=[api_key])

    def freeze(self, order: RefundInstruction) -> str:
        """Return the payment and the request body as canonical JSON. Raises ValueError for what Adyen cannot take."""
        return frozen_text(order, self._merchant_account)

    async def send(self, key: str, body: str) -> Reply:
        """POST the frozen request. `Answered` with `pending` says only that Adyen has received it."""
        try:
            frozen = thawed(body)
        except (ValueError, RecursionError):
            return Misconfigured("bad_body", "the stored request is not one for adyen")
        answer = await self._http.request(
            "POST",
            f"{self._base}/payments/{frozen.payment}/refunds",
            headers={
                "X-API-Key": self._api_key,
                "Idempotency-Key": idempotency_key(key),
                "Content-Type": "application/json",
                "Accept": "application/json",
            },
            body=frozen.body,
        )
        if not isinstance(answer, HttpAnswer):
            return answer
        return self._accepted(answer, frozen) if answer.status in range(200, 300) else classify(answer)

    def _accepted(self, answer: HttpAnswer, frozen: FrozenRefund) -> Answered | KeyConflict | Unanswered:
        try:
            described = answer.json()
            made = to_refund_object(described, frozen, now=datetime.now(UTC), live=self._live)
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))
        if not is_about(described, frozen):
            # The header that repeats the key is in every answer, so it does not show which request was first.
            return KeyConflict("the answer under this key is about another refund")
        return Answered(made, made.processor_refund_id)

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`: Adyen has no such call."""
        return _NO_READING

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return `Misconfigured`: Adyen has no such call. An empty list would claim that nothing exists."""
        return _NO_LIST

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return `Misconfigured`: Adyen has no such call."""
        return _NO_LIST

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return `PaymentUnreadable`: Adyen has no such call."""
        return PaymentUnreadable("adyen has no call that returns a payment")

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`: Adyen has no such call."""
        return _NO_CANCEL

    async def close(self) -> None:
        """Close the connections. A second call does nothing."""
        await self._http.close()
