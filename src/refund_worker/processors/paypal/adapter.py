"""The PayPal adapter: refunds of captures over the REST API. It makes no decisions about refunds.

Facts: payments_payment_v2.json 2.5 and checkout_orders_v2.json 2.13 (github paypal/paypal-rest-api-specifications)
and developer.paypal.com/reference/guidelines/idempotency, read 2026-11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NoList,
    PaymentRead,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import UNPAID_OBJECT_STATES
from refund_worker.processors.base import RefundsOnly
from refund_worker.processors.paypal.answers import (
    ErrorAnswer,
    Failure,
    ListFailure,
    as_list_failure,
    classify_answer,
    debug_id,
)
from refund_worker.processors.paypal.calls import Calls, Failed, Stage
from refund_worker.processors.paypal.objects import (
    OBJECT_ID,
    Capture,
    FrozenBody,
    check_payment_id,
    frozen_body,
    refunds_in_order,
    to_capture,
    to_refund_object,
)
from refund_worker.processors.wire import HttpAnswer, Unreadable, clean

KEY_LENGTH_MAX: Final = 108  # published for the Orders API; none is published for refunds


class PayPalProcessor(RefundsOnly):
    """One PayPal account behind the `Processor` protocol. Make it after the fork and use it from one event loop.

    `base` is the server's URL; `live` says whether it moves real money. `timeout_seconds` is the total deadline of each
    member of the protocol, its token and all its requests included.
    """

    reads_payments = True

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        base: str,
        live: bool,
        timeout_seconds: float = 30,
        name: str = "paypal",
    ) -> None:
        self.name = name
        self._live = live
        self._timeout_seconds = timeout_seconds
        self._calls = Calls(
            client_id, client_secret, base=base, timeout_seconds=timeout_seconds, classify=_meaning_of_answer
        )

    def __repr__(self) -> str:
        return f"PayPalProcessor(name={self.name!r})"

    def freeze(self, order: RefundInstruction) -> str:
        """Return the capture and the request of its refund as canonical JSON.

        Raises ValueError for what PayPal cannot take: see `frozen_body`.
        """
        return frozen_body(order)

    async def send(self, key: str, body: str) -> Reply:
        """POST the refund that is frozen in `body`, under the header PayPal-Request-Id.

        A repeat of the key returns the first refund in its current state. Nothing published says what another body
        under it does, so an answer about another request of ours is a `KeyConflict`. Raises ValueError, before
        anything is sent, for a key or a body that the engine and `freeze` do not make.
        """
        if not key.isascii() or not key.isprintable() or not 0 < len(key.strip()) == len(key) <= KEY_LENGTH_MAX:
            raise ValueError(f"a key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")
        frozen = FrozenBody.of(body)
        # Without this preference the answer has no amount and none of our ids.
        extra = {"PayPal-Request-Id": key, "Prefer": "return=representation"}
        path = f"/v2/payments/captures/{frozen.capture_id}/refund"
        reply = await self._refund("POST", path, frozen.request, extra)
        if isinstance(reply, Answered) and not frozen.fits(reply.object):
            return KeyConflict("the key belongs to another refund: PayPal answered with that one")
        return reply

    async def fetch(self, processor_refund_id: str) -> Reply:
        """GET one refund."""
        if not OBJECT_ID.fullmatch(processor_refund_id):
            return Misconfigured("bad_refund_id", "this is no id of a refund at PayPal; nothing was asked")
        return await self._refund("GET", f"/v2/payments/refunds/{processor_refund_id}")

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Return `Misconfigured`: PayPal cancels no refund on request."""
        return Misconfigured("no_cancel", "PayPal has no way to cancel a refund; nothing was asked")

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """GET the capture and then its order, which lists the refunds. `leg_id` is not used.

        A capture without an order is `NoList`, like one whose order PayPal does not know. An order that lists less than
        PayPal's own totals say is `Unanswered`.
        """
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                capture = await self._capture(processor_payment_id)
                refunds = await self._refunds_of(capture)
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer
            return _list_failure(error)
        if refunds is None:
            untouched = capture.refunded_minor == 0
            return NoList("no_order", "the capture has no order at PayPal, which would list its refunds", untouched)
        return Found(refunds)

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return `Misconfigured`: only reports list an account's refunds, hours late and with another permission."""
        return Misconfigured("no_list", "PayPal has no timely list of an account's refunds; nothing was asked")

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """GET the capture, and its order if only that says how much was refunded.

        `PaymentUnreadable` if our app may refund captures and not read them.
        """
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                capture = await self._capture(processor_payment_id)
                refunded = capture.refunded_minor
                if refunded is None:
                    refunded = await self._refunded_by_order(capture)
            reading = capture.reading(live=self._live, refunded_minor=refunded)
            return PaymentRead(reading, (capture.capture_id,))
        except Failed as failed:
            if failed.status == 403 and isinstance(failed.reply, Denied):
                return PaymentUnreadable(failed.reply.message)
            return as_list_failure(failed.reply)
        except Exception as error:  # noqa: BLE001 -- as in `find`
            return _list_failure(error)

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._calls.close()

    async def _capture(self, capture_id: str) -> Capture:
        return to_capture((await self._calls.ok("GET", f"/v2/payments/captures/{capture_id}")).json(), capture_id)

    async def _refunds_of(self, capture: Capture) -> tuple[RefundObject, ...] | None:
        """Return the refunds of a capture, or None if it has no order at PayPal. Raises `Failed` or `Unreadable`."""
        if capture.order_id is None:
            return None
        try:
            answer = await self._calls.ok("GET", f"/v2/checkout/orders/{capture.order_id}")
        except Failed as failed:
            if isinstance(failed.reply, Misconfigured) and failed.reply.code == "not_found":
                return None
            raise
        return refunds_in_order(answer.json(), capture, live=self._live)

    async def _refunded_by_order(self, capture: Capture) -> int | None:
        """Return the sum of the refunds that have not failed, in minor units, or None without an order."""
        refunds = await self._refunds_of(capture)
        if refunds is None:
            return None
        return sum(refund.amount_minor for refund in refunds if refund.status not in UNPAID_OBJECT_STATES)

    async def _refund(
        self, method: str, path: str, body: bytes | None = None, extra: Mapping[str, str] | None = None
    ) -> Reply:
        """Make a call whose answer is one refund. After the token, a lost answer leaves the outcome unknown."""
        stage = Stage()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self._calls.ok(method, path, body, extra, stage)
            refund = to_refund_object(answer.json(), live=self._live)
        except Failed as failed:
            return failed.reply
        except TimeoutError:
            return stage.lost("no complete answer within the time allowed")
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))
        except Exception as error:  # noqa: BLE001 -- as in `find`
            return stage.lost(f"lost while sending or reading ({type(error).__name__})")
        # Not read: known, that a repeated key is answered with 200 instead of 201.
        return Answered(refund, request_id=debug_id(answer), replayed=method == "POST" and answer.status == 200)


def _meaning_of_answer(answer: HttpAnswer) -> Failure:
    return classify_answer(ErrorAnswer.of(answer))


def _list_failure(error: Exception) -> ListFailure:
    """Return the meaning of a failed reading, which changes nothing at PayPal."""
    match error:
        case Failed():
            return as_list_failure(error.reply)
        case Unreadable():
            return Unanswered(clean(f"unreadable answer: {error}"))
        case TimeoutError():
            return Unanswered("no complete answer within the time allowed")
    return Unanswered(f"lost while sending or reading ({type(error).__name__})")
