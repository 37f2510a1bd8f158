"""The account's charges with their metadata, as the Stripe adapter reads them: page by page, or one by its id.

The metadata of the payment intent is read with the charge, by expanding it. Where the server or a restricted key does
not allow that, the charge comes without it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from refund_worker.domain.processor_replies import (
    ChargedPayment,
    ChargedRead,
    ChargedReply,
    Misconfigured,
    NotReadable,
    PaymentsPage,
    PaymentsReply,
)
from refund_worker.processors.stripe.answers import ListFailure
from refund_worker.processors.stripe.objects import payment_parameter
from refund_worker.processors.stripe.paging import Listing, Pages
from refund_worker.processors.stripe.payments import charged_payment
from refund_worker.processors.wire import Unreadable

CHARGES: Final[Listing[ChargedPayment]] = Listing(
    "/v1/charges", charged_payment, lambda each: each.processor_payment_id
)


class ReadsCharges:
    """The part of the Stripe adapter that reads charges with their metadata.

    `_failure` returns the meaning of a failed call.
    """

    _pages: Pages
    _failure: Callable[[Exception], NotReadable | ListFailure]

    async def recent_payments(self, created_gte: datetime, created_lt: datetime, after: str | None) -> PaymentsReply:
        """Return one page of the charges made in this time, newest first; `after` continues an earlier page.

        Raises ValueError for a naive datetime.
        """
        if created_gte.tzinfo is None or created_lt.tzinfo is None:
            raise ValueError("a time needs a time zone")
        where: dict[str, Any] = {"created": {"gte": int(created_gte.timestamp()), "lt": int(created_lt.timestamp())}}
        where |= {"starting_after": after} if after else {}
        expanded = where | {"expand": ["data.payment_intent"]}
        try:
            try:
                found, has_more = await self._pages.one(CHARGES, expanded)
            except Exception as error:
                if not isinstance(self._failure(error), NotReadable):
                    raise
                found, has_more = await self._pages.one(CHARGES, where)
            if has_more and not found:
                raise Unreadable("the list says there is more but does not advance")
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer
            return self._failure(error)
        return PaymentsPage(tuple(found), found[-1].processor_payment_id if has_more else None)

    async def fetch_payment(self, processor_payment_id: str) -> ChargedReply:
        """GET the charge with this id, or the latest charge of this payment intent, with the metadata of both.

        A payment id that is no charge or payment intent is `Misconfigured`, without a call.
        """
        try:
            is_intent = payment_parameter(processor_payment_id) == "payment_intent"
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            charge = await (self._charge_of_intent if is_intent else self._expanded)(processor_payment_id)
            return ChargedRead(charged_payment(charge))
        except Exception as error:  # noqa: BLE001 -- as above
            return self._failure(error)

    async def _expanded(self, charge_id: str) -> object:
        charge = await self._object("/v1/charges", charge_id)
        intent = charge.get("payment_intent")
        if not isinstance(intent, str):
            return charge
        try:
            return charge | {"payment_intent": await self._object("/v1/payment_intents", intent)}
        except Exception as error:
            if not isinstance(self._failure(error), NotReadable):
                raise
            return charge

    async def _charge_of_intent(self, intent_id: str) -> object:
        intent = await self._object("/v1/payment_intents", intent_id)
        charge = intent.get("latest_charge")
        if isinstance(charge, str):
            charge = await self._object("/v1/charges", charge)
        if not isinstance(charge, dict):
            raise Unreadable("a payment intent without a charge")
        return charge | {"payment_intent": intent}

    async def _object(self, path: str, object_id: str) -> dict[str, Any]:
        data = await self._pages.ask("get", f"{path}/{object_id}", {})
        if not isinstance(data, dict) or data.get("id") != object_id:
            raise Unreadable("another object than the one that was asked for")
        return data
