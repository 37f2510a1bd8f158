"""Refunds over AcmePay. Nothing here decides about refunds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlencode

from refund_worker.processors.adapter_api import (
    Answered,
    Found,
    HttpAnswer,
    HttpClient,
    Misconfigured,
    PaymentRead,
    PaymentReply,
    RefundInstruction,
    RefundObject,
    RefundsOnly,
    Reply,
    SearchReply,
    Unanswered,
    Unreadable,
    clean,
)

from .errors import Failure, classify, is_replayed, of_a_reading
from .objects import (
    REFUND_ID,
    check_payment_id,
    frozen_text,
    request_id,
    thawed,
    to_page,
    to_payment,
    to_refund_object,
)

PAGES_MAX: Final = 1_000
T = TypeVar("T")
# Whatever an answer can cause while it is read. What a network can cause is a reply of `HttpClient` already.
READING: Final = (Unreadable, TimeoutError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)


class _Failed(Exception):
    """A call without the answer that was asked for, as what that means."""

    def __init__(self, reply: Failure) -> None:
        super().__init__()
        self.reply = reply


class AcmePayProcessor(RefundsOnly):
    """One shop at AcmePay. `timeout_seconds` is the outer limit of each call, of a whole list too."""

    reads_payments = True

    def __init__(self, token: str, *, base: str, name: str, timeout_seconds: float = 30) -> None:
        self.name = name
        self._base = base.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._headers = {"X-Acme-Token": token, "Content-Type": "application/json"}
        self._http = HttpClient(timeout_seconds, hide=[token])

    def freeze(self, order: RefundInstruction) -> str:
        """Return the payment and the body of the request as canonical JSON."""
        return frozen_text(order)

    async def send(self, key: str, body: str) -> Reply:
        """POST the frozen body."""
        payment, sent = thawed(body)
        return await self._refund("POST", f"/payments/{payment}/refunds", sent, {"X-Request-Id": request_id(key)})

    async def fetch(self, processor_refund_id: str) -> Reply:
        """GET one refund."""
        if not REFUND_ID.fullmatch(processor_refund_id):
            return Misconfigured("bad_refund_id", "this is no id of a refund at acmepay; nothing was asked")
        return await self._refund("GET", f"/refunds/{processor_refund_id}")

    async def cancel(self, processor_refund_id: str) -> Reply:
        """POST a void, which AcmePay takes only while the customer is asked."""
        if not REFUND_ID.fullmatch(processor_refund_id):
            return Misconfigured("bad_refund_id", "this is no id of a refund at acmepay; nothing was asked")
        return await self._refund("POST", f"/refunds/{processor_refund_id}/void")

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """GET all refunds of the payment."""
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        return await self._list({"payment": processor_payment_id})

    async def recent(self, created_gte: datetime) -> SearchReply:
        """GET all refunds made since then."""
        return await self._list({"since": created_gte.isoformat()})

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """GET the payment."""
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))

        async def read() -> PaymentRead:
            answer = await self._ok("GET", f"/payments/{processor_payment_id}")
            return PaymentRead(to_payment(answer.json(), processor_payment_id), (processor_payment_id,))

        found = await self._tried(read())
        return found if isinstance(found, PaymentRead) else of_a_reading(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _refund(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:

        async def ask() -> Answered:
            answer = await self._ok(method, path, body, headers)
            refund = to_refund_object(answer.json())
            return Answered(refund, clean(answer.headers.get("x-trace", "")) or None, is_replayed(answer))

        return await self._tried(ask())

    async def _list(self, where: Mapping[str, str]) -> SearchReply:
        found = await self._tried(self._all_pages(where))
        return found if isinstance(found, Found) else of_a_reading(found)

    async def _all_pages(self, where: Mapping[str, str]) -> Found:
        """Return every refund once. Half a list raises `Unreadable`."""
        seen: dict[str, RefundObject] = {}
        after: dict[str, str] = {}
        for _ in range(PAGES_MAX):
            answer = await self._ok("GET", f"/refunds?{urlencode({**where, **after})}")
            page, following = to_page(answer.json())
            seen.update((each.processor_refund_id, each) for each in page)
            if following is None:
                return Found(tuple(seen.values()))
            after = {"after": following}
        raise Unreadable("the list does not end")

    async def _tried(self, work: Awaitable[T]) -> T | Failure:
        """Return the result of `work`, which has the time of one call, or what its failure means."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await work
        except _Failed as failed:
            return failed.reply
        except READING as error:
            return _meaning(error)

    async def _ok(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Return a 2xx answer. Raises `_Failed`."""
        sent = {**self._headers, **(headers or {})}
        answer = await self._http.request(method, self._base + path, headers=sent, body=body)
        if not isinstance(answer, HttpAnswer):
            raise _Failed(answer)
        if answer.status not in range(200, 300):
            raise _Failed(classify(answer))
        return answer


def _meaning(error: Exception) -> Unanswered:
    """Return the meaning of an answer that did not come in time, or that cannot be read."""
    match error:
        case Unreadable():
            return Unanswered(clean(f"unreadable answer: {error}"))
        case TimeoutError():
            return Unanswered("no complete answer within the time allowed")
    return Unanswered(f"unreadable answer ({type(error).__name__})")
