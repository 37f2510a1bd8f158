"""The adapter of our own HTTP protocol: signed JSON calls to a server that a team wrote for its paying system.

docs/paying-systems/http.md describes the protocol. This file makes no decisions about refunds.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import quote, urlencode

from refund_worker.extras import require

try:
    from yarl import URL
except ImportError:
    require("worker")
    raise

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Busy,
    Denied,
    Found,
    Misconfigured,
    NotSent,
    Page,
    PageReply,
    PaymentRead,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.processors.base import RefundsOnly
from refund_worker.processors.http import signing
from refund_worker.processors.http.entry import HttpSettings, steps_of
from refund_worker.processors.http.errors import ListFailure, as_list_failure, classify, is_replayed
from refund_worker.processors.http.objects import (
    ListPage,
    check_payment_id,
    is_usable_id,
    refund_body,
    to_page,
    to_payment,
    to_refund_object,
)
from refund_worker.processors.wire import HttpAnswer, HttpClient, Unreadable

PAGE_SIZE: Final = 100
PAGES_MAX_OF_A_PAYMENT: Final = 100
PAGES_MAX_RECENT: Final = 2_000
# Pauses between the tries of one page of a long list. Reading is safe to repeat.
PAGE_PAUSES_SECONDS: Final = (0.2, 1.0, 3.0)
KEY: Final = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its path below `api_base`, its query, and for a refund its key and its body."""

    method: Literal["GET", "POST"]
    path: str
    query: Mapping[str, str] | None = None
    key: str = ""
    body: bytes = b""


class Caller:
    """Signed calls to one server. Use it from one event loop. `now` returns epoch seconds."""

    def __init__(
        self,
        base: str,
        secrets: Sequence[str],
        *,
        timeout_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._base = base.rstrip("/")
        self._secrets = tuple(secrets)
        self._http = HttpClient(timeout_seconds)
        self._now = now

    async def ask(self, call: Call, headers: Mapping[str, str] | None = None) -> HttpAnswer | NotSent | Unanswered:
        """Send a call and return its answer, of any status. `headers` are those of `headers(call)` by default."""
        sent = self.headers(call) if headers is None else headers
        return await self._http.request(call.method, str(self.url(call)), headers=sent, body=call.body or None)

    def url(self, call: Call) -> URL:
        """Return the address of a call as the HTTP client writes it: the server verifies what it receives."""
        query = f"?{urlencode(call.query, quote_via=quote)}" if call.query else ""
        return URL(f"{self._base}{call.path}{query}")

    def headers(self, call: Call) -> dict[str, str]:
        """Return the headers of a call, signed now."""
        content = signing.content_of_request(call.method, self.url(call).raw_path_qs, call.key, call.body)
        headers = signing.signature_headers(self._secrets, f"req_{uuid.uuid4().hex}", int(self._now()), content)
        if call.key:
            headers[signing.KEY] = call.key
        if call.body:
            headers["Content-Type"] = "application/json"
        return headers | {"Accept": "application/json", "User-Agent": "refund-worker"}

    async def close(self) -> None:
        """Close the connections. A second call does nothing."""
        await self._http.close()


class HttpProcessor(RefundsOnly):
    """One account behind a server of our protocol. Make it after the fork, and use it from one event loop.

    `timeout_seconds` is the outer limit of each call, and of a whole list of one payment. Raises `ValueError` for
    settings without an address or a secret.
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        name: str = "http",
        timeout_seconds: float = 30,
        page_size: int = PAGE_SIZE,
        page_pauses_seconds: Sequence[float] = PAGE_PAUSES_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        if settings.api_base is None or not settings.secrets:
            raise ValueError("the account has no api_base or no secret")
        self.name = name
        self.reads_payments = settings.reads_payments
        self._finds_by = settings.finds_by
        self._lists = settings.lists_refunds
        self._steps = steps_of(settings.currency_steps)
        self._timeout_seconds = timeout_seconds
        self._page_size = page_size
        self._pauses = page_pauses_seconds
        self._caller = Caller(settings.api_base, settings.secrets, timeout_seconds=timeout_seconds, now=now)

    def __repr__(self) -> str:
        return f"HttpProcessor(name={self.name!r})"

    def freeze(self, order: RefundInstruction) -> str:
        """Return the JSON of the request, with sorted keys."""
        return json.dumps(refund_body(order), sort_keys=True, separators=(",", ":"))

    async def send(self, key: str, body: str) -> Reply:
        """POST the frozen body under the key.

        Raises ValueError, before anything is sent, for a key that a header cannot carry.
        """
        if not KEY.fullmatch(key):
            raise ValueError("an idempotency key has 1 to 255 printable ASCII characters, and no blanks at its ends")
        order = json.loads(body)
        step = self._steps.get(order["currency"], 1)
        if order["amount_minor"] % step:
            what = f"amounts in {order['currency']} are multiples of {step} minor units here; nothing was sent"
            return Misconfigured("bad_amount", what)
        return await self._refund(Call("POST", "/refunds", key=key, body=body.encode()))

    async def fetch(self, processor_refund_id: str) -> Reply:
        """GET one refund."""
        if not is_usable_id(processor_refund_id):
            return _BAD_REFUND_ID
        return await self._refund(Call("GET", f"/refunds/{_segment(processor_refund_id)}"), processor_refund_id)

    async def cancel(self, processor_refund_id: str) -> Reply:
        """POST a cancel. A second cancel of the same refund changes nothing, so it needs no key."""
        if not is_usable_id(processor_refund_id):
            return _BAD_REFUND_ID
        path = f"/refunds/{_segment(processor_refund_id)}/cancel"
        return await self._refund(Call("POST", path), processor_refund_id)

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return all refunds of this payment, or those of our leg if the server can find only these."""
        if self._finds_by == "nothing":
            return _NO_LIST
        by_payment = self._finds_by == "payment"
        where = {"payment": processor_payment_id} if by_payment else {"leg": leg_id}
        try:
            async with asyncio.timeout(self._timeout_seconds):
                found = await self._all(where, PAGES_MAX_OF_A_PAYMENT, self._page)
        except TimeoutError:
            return Unanswered("the list did not come to its end within the time allowed")
        if not isinstance(found, Found):
            return found
        if all(
            processor_payment_id in each.payment_refs if by_payment else each.leg_id == leg_id for each in found.objects
        ):
            return found
        # The server ignores the condition, so it may as well have left out what was asked for.
        return Unanswered("the list has refunds that were not asked for")

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """GET the payment."""
        if not self.reads_payments:
            return PaymentUnreadable("this account's server reads no payments (reads_payments)")
        try:
            check_payment_id(processor_payment_id)
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        answer = await self._caller.ask(Call("GET", f"/payments/{_segment(processor_payment_id)}"))
        if not isinstance(answer, HttpAnswer):
            return answer
        if not _is_success(answer):
            failure = as_list_failure(classify(answer))
            if isinstance(failure, Denied) and answer.status == 403:
                return PaymentUnreadable(failure.message)  # only this reading is refused
            return failure
        try:
            return PaymentRead(to_payment(answer.json(), processor_payment_id), (processor_payment_id,))
        except Unreadable as error:
            return Unanswered(f"unreadable answer: {error}")

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return all refunds made since then. The deadline is for each page, and an unanswered page is asked for again.

        Raises ValueError for a time without a zone.
        """
        where = {"since": _time_text(created_gte)}
        if not self._lists:
            return _NO_LIST
        found = await self._all(where, PAGES_MAX_RECENT, self._page_patiently)
        if not isinstance(found, Found):
            return found
        return Found(tuple(each for each in found.objects if each.created_at >= created_gte))

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> PageReply:
        """Return a page of the refunds made in this time, newest first. Raises ValueError for a time without a zone."""
        where = {"since": _time_text(created_gte)}
        if created_lt is not None:
            where["until"] = _time_text(created_lt)
        if not self._lists:
            return _NO_LIST
        page = await self._page_patiently(where, after)
        if not isinstance(page, ListPage):
            return page
        if page.after is not None and (not page.objects or page.after == after):
            return _NO_ADVANCE
        wanted = (
            each
            for each in page.objects
            if each.created_at >= created_gte and (created_lt is None or each.created_at < created_lt)
        )
        return Page(tuple(wanted), page.after)

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._caller.close()

    async def _refund(self, call: Call, refund_id: str | None = None) -> Reply:
        """Return what the server says of one refund. If `refund_id` is given, it must be about that one."""
        answer = await self._caller.ask(call)
        if not isinstance(answer, HttpAnswer):
            return answer
        if not _is_success(answer):
            return classify(answer)
        try:
            refund = to_refund_object(answer.json())
        except Unreadable as error:
            return Unanswered(f"unreadable answer: {error}")
        if refund_id is not None and refund.processor_refund_id != refund_id:
            return Unanswered("another refund than the one that was asked for")
        return Answered(refund, replayed=is_replayed(answer))

    async def _all(self, where: Mapping[str, str], pages_max: int, ask: _AskPage) -> SearchReply:
        """Return every refund of a list once. Half a list never passes for the whole."""
        seen: dict[str, RefundObject] = {}
        after = ""
        for _ in range(pages_max):
            page = await ask(where, after)
            if not isinstance(page, ListPage):
                return page
            before = len(seen)
            # Pages shift while refunds are being made: one that two pages show is one refund.
            seen.update((each.processor_refund_id, each) for each in page.objects)
            if page.after is None:
                return Found(tuple(seen.values()))
            if len(seen) == before or page.after == after:
                return _NO_ADVANCE
            after = page.after
        return Unanswered(f"the list has more than {pages_max} pages")

    async def _page(self, where: Mapping[str, str], after: str) -> ListPage | ListFailure:
        query = {**where, "limit": str(self._page_size)} | ({"after": after} if after else {})
        answer = await self._caller.ask(Call("GET", "/refunds", query=query))
        if not isinstance(answer, HttpAnswer):
            return answer
        if not _is_success(answer):
            return as_list_failure(classify(answer))
        try:
            return to_page(answer.json())
        except Unreadable as error:
            return Unanswered(f"unreadable answer: {error}")

    async def _page_patiently(self, where: Mapping[str, str], after: str) -> ListPage | ListFailure:
        """Return one page; ask again while there is no answer, or only "not now"."""
        for pause_seconds in self._pauses:
            page = await self._page(where, after)
            match page:
                case Busy(retry_after_seconds=seconds):
                    await asyncio.sleep(min(max(pause_seconds, seconds or 0), self._timeout_seconds))
                case NotSent() | Unanswered():
                    await asyncio.sleep(pause_seconds)
                case _:
                    return page
        return await self._page(where, after)


_AskPage = Callable[[Mapping[str, str], str], Awaitable[ListPage | ListFailure]]
_BAD_REFUND_ID: Final = Misconfigured("bad_refund_id", "this can be no refund's id; nothing was asked")
_NO_LIST: Final = Misconfigured("no_list", "this account's server has no such list (finds_by, lists_refunds)")
_NO_ADVANCE: Final = Unanswered("the list says there is more but does not advance")


def _is_success(answer: HttpAnswer) -> bool:
    return answer.status in (200, 201)


def _segment(identifier: str) -> str:
    """Return an id as one part of a path."""
    return quote(identifier, safe="")


def _time_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
