"""Refunds over AcmePay. Nothing here decides about refunds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import aiohttp
from tests.processors.second.acmepay import errors
from tests.processors.second.acmepay.objects import (
    Unreadable,
    check_payment_id,
    clean,
    refund_body,
    to_page,
    to_payment,
    to_refund_object,
)

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    PaymentRead,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.base import RefundsOnly, is_plain_id

BODY_BYTES_MAX: Final = 1 << 20
PAGES_MAX: Final = 1_000

Failure = (
    Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal | KeyConflict | Busy | Unanswered | Denied
)


class _Problem(Exception):
    """An answer outside 2xx, as what it means."""

    def __init__(self, reply: Failure) -> None:
        super().__init__()
        self.reply = reply


class AcmePayProcessor(RefundsOnly):
    """One shop at AcmePay. `timeout_seconds` is the outer deadline of each call, of a whole list too."""

    reads_payments = True

    def __init__(self, token: str, *, base: str, timeout_seconds: float = 30, name: str = "acmepay") -> None:
        self.name = name
        self._token = token
        self._base = base.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    def freeze(self, order: RefundInstruction) -> str:
        """Return the JSON of the request, with sorted keys."""
        return json.dumps(refund_body(order), sort_keys=True, separators=(",", ":"))

    async def send(self, key: str, body: str) -> Reply:
        """POST the frozen body."""
        return await self._refund("POST", "/refunds", data=body, headers={"X-Request-Id": key})

    async def fetch(self, processor_refund_id: str) -> Reply:
        """GET one refund."""
        if not is_plain_id(processor_refund_id) or "/" in processor_refund_id:
            return Misconfigured("not_found", "this is no id of a refund at acmepay")
        return await self._refund("GET", f"/refunds/{processor_refund_id}")

    async def cancel(self, processor_refund_id: str) -> Reply:
        """POST a void, which AcmePay takes only while the customer is asked."""
        if not is_plain_id(processor_refund_id) or "/" in processor_refund_id:
            return Misconfigured("not_found", "this is no id of a refund at acmepay")
        return await self._refund("POST", f"/refunds/{processor_refund_id}/void")

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """GET all refunds of the payment."""
        return await self._list({"payment": processor_payment_id})

    async def recent(self, created_gte: datetime) -> SearchReply:
        """GET all refunds made since then."""
        return await self._list({"since": created_gte.isoformat()})

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """GET the payment."""
        try:
            check_payment_id(processor_payment_id)
            async with asyncio.timeout(self._timeout_seconds):
                answer, _ = await self._call("GET", f"/payments/{processor_payment_id}")
            return PaymentRead(to_payment(answer, processor_payment_id))
        except _Problem as problem:
            if isinstance(problem.reply, UnknownRefusal):
                return PaymentUnreadable(problem.reply.message)
            return _of_a_list(problem.reply)
        except Unreadable as error:
            return Unanswered(f"unreadable answer: {error}")
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        except Exception as error:
            return _lost(error)

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _refund(self, method: str, path: str, **how: Any) -> Reply:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer, headers = await self._call(method, path, **how)
            refund = to_refund_object(answer)
        except _Problem as problem:
            return problem.reply
        except Unreadable as error:
            return Unanswered(f"unreadable answer: {error}")
        except Exception as error:
            return _lost(error)
        return Answered(refund, clean(headers.get("X-Trace")) or None, headers.get("X-Replayed") == "yes")

    async def _list(self, where: Mapping[str, str]) -> SearchReply:
        seen: dict[str, RefundObject] = {}
        after: dict[str, str] = {}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for _ in range(PAGES_MAX):
                    answer, _ = await self._call("GET", "/refunds", params={**where, **after})
                    page, following = to_page(answer)
                    seen.update((each.processor_refund_id, each) for each in page)
                    if following is None:
                        return Found(tuple(seen.values()))
                    after = {"after": following}
            return Unanswered("the list does not end")
        except _Problem as problem:
            return _of_a_list(problem.reply)
        except Unreadable as error:
            return Unanswered(f"unreadable answer: {error}")
        except Exception as error:
            return _lost(error)

    async def _call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **how: Any
    ) -> tuple[object, Mapping[str, str]]:
        """Return the JSON and the headers of a 2xx answer. Raises `_Problem` for any other answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        sent = {"X-Acme-Token": self._token, "Content-Type": "application/json", **(headers or {})}
        async with self._session.request(
            method, self._base + path, headers=sent, allow_redirects=False, **how
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise Unreadable("the answer is too large")
            try:
                answer = json.loads(bytes(body))
            except (ValueError, RecursionError):
                answer = None
            if response.status not in range(200, 300):
                raise _Problem(classify(response.status, answer, response.headers))
            return answer, response.headers


def classify(status: int, answer: object, headers: Mapping[str, str]) -> Failure:
    """Return what an answer outside 2xx means. Pure. Only AcmePay's own problem object proves anything."""
    problem = answer.get("problem") if isinstance(answer, dict) else None
    if status >= 500:
        return Unanswered(f"HTTP {status}", server_error=True)
    if not isinstance(problem, dict):
        return Unanswered(f"HTTP {status}")
    name, message = clean(problem.get("name")), clean(problem.get("text"))
    details = message, clean(problem.get("trace")) or None, headers.get("X-Replayed") == "yes"
    if name in errors.BUSY:
        after = headers.get("Retry-After", "")
        return Busy(name, float(after) if after.isascii() and after.isdigit() and len(after) < 6 else None)
    if status == 401 or name in errors.OURS:
        return Denied(name or "http_401", message, maybe_kept=status != 401)
    if name == errors.KEY_CONFLICT:
        return KeyConflict(message)
    if name == errors.NOTHING_LEFT:
        return AlreadyRefunded(*details)
    if name == errors.MORE_THAN_LEFT:
        return Refused(name, *details, more_than_left=True)
    if name in errors.ENDS:
        return Refused(name, *details)
    if name in errors.BLOCKED:
        return Blocked(name, *details)
    if name in errors.NOT_FOUND:
        return Misconfigured("not_found", *details)
    return Misconfigured(name, *details) if name in errors.ONE_RECORD else UnknownRefusal(name, *details)


def _of_a_list(reply: Failure) -> Misconfigured | Busy | Unanswered | Denied:
    """A list refuses nothing: what would refuse a refund is here a fault of the request."""
    match reply:
        case Misconfigured() | Busy() | Unanswered() | Denied():
            return reply
        case Refused(code, message) | Blocked(code, message) | UnknownRefusal(code, message):
            return Misconfigured(code, message)
        case AlreadyRefunded() | KeyConflict():
            return Unanswered("an answer that no list gives")


def _lost(error: Exception) -> NotSent | Unanswered:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSent(type(error).__name__)
    return Unanswered(f"lost while sending or reading ({type(error).__name__})")
