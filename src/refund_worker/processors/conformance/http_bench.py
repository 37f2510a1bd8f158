"""The bench for a server of our HTTP protocol: raw signed calls, calls below /test, and a receiver of events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import Busy, NotSent, RefundObject
from refund_worker.processors.base import Processor
from refund_worker.processors.conformance.bench import BUSY_SECONDS_MAX, BUSY_TRIES, Bench, Refundable, words
from refund_worker.processors.conformance.results import Broken, NotAsked
from refund_worker.processors.http import signing
from refund_worker.processors.http.adapter import Call, Caller, HttpProcessor
from refund_worker.processors.http.entry import HttpSettings, capabilities_of
from refund_worker.processors.http.errors import CODES, classify
from refund_worker.processors.http.objects import to_refund_object
from refund_worker.processors.wire import HttpAnswer, Unreadable, clean

CURRENCY: Final = "EUR"
EVENT_BYTES_MAX: Final = 65_536
EVENT_SECONDS_MAX: Final = 10.0
BUSY_STATUSES: Final = CODES["busy"].statuses
TEST_CALLS: Final = ", or offer POST /test/payments in a test environment"


@dataclass(frozen=True, slots=True)
class Received:
    """A request that the server posted to our receiver. `headers` have lower-case names."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def fields(self) -> Mapping[str, Any]:
        """Return the fields of its JSON object, or none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class HttpBench(Bench):
    """A server of our protocol. `settings` is the account, `offered` what its GET /capabilities says.

    `listen` is the address at which events are received, and `events_url` how the server reaches it.
    """

    settings: HttpSettings = field(kw_only=True)
    offered: Mapping[str, Any] = field(kw_only=True, default_factory=dict)
    timeout_seconds: float = field(kw_only=True, default=10.0)
    is_described: bool = field(kw_only=True, default=True)  # the account's settings are known, and not only an address
    listen: tuple[str, int] = field(kw_only=True, default=("127.0.0.1", 0))
    events_url: str = field(kw_only=True, default="")

    @classmethod
    def of(cls, settings: HttpSettings, *, timeout_seconds: float, **others: Any) -> HttpBench:
        """Return the bench of an account."""
        processor = HttpProcessor(settings, timeout_seconds=timeout_seconds, page_pauses_seconds=())
        table = capabilities_of(settings)
        by_leg = settings.finds_by == "leg"
        fields = {"settings": settings, "timeout_seconds": timeout_seconds, "lists_by_leg": by_leg, **others}
        return cls(processor, table, **fields)

    # --- raw calls ----------------------------------------------------------------------------------------------------

    async def raw(
        self,
        call: Call,
        *,
        secrets: Sequence[str] | None = None,
        seconds_later: float = 0.0,
        signed_as: Call | None = None,
        without: Sequence[str] = (),
    ) -> HttpAnswer:
        """Send a call and return its answer. Raises `Broken` without an answer.

        It can be spoiled: signed with other `secrets`, at another time, as if it were another call, or `without` some
        headers.
        """
        caller = Caller(
            self.settings.api_base or "",
            self.settings.secrets if secrets is None else secrets,
            timeout_seconds=self.timeout_seconds,
            now=lambda: time.time() + seconds_later,
        )
        headers = caller.headers(call)
        if signed_as is not None:
            others = caller.headers(signed_as)
            headers |= {name: others[name] for name in signing.HEADERS}
        headers = {name: value for name, value in headers.items() if name not in without}
        try:
            for _ in range(BUSY_TRIES):
                answer = await self.paced(caller.ask(call, headers))
                busy = classify(answer) if isinstance(answer, HttpAnswer) and answer.status in BUSY_STATUSES else None
                if not isinstance(busy, Busy):
                    break
                await asyncio.sleep(min(busy.retry_after_seconds or 0.3, BUSY_SECONDS_MAX))
        finally:
            await caller.close()
        if not isinstance(answer, HttpAnswer):
            what = f"{call.method} {call.path} was not answered: {words(answer)}"
            start = "Start the server, and check its address, its port and the network."
            slow = "Answer every request within a few seconds; an unexpected error is a 500."
            raise Broken(what, start if isinstance(answer, NotSent) else slow)
        return answer

    async def document(self, call: Call) -> Mapping[str, Any]:
        """Return the JSON object that answers a call. Raises `Broken` for anything but a 2xx with one."""
        answer = await self.raw(call)
        try:
            found = answer.json() if answer.status in (200, 201) else None
        except Unreadable:
            found = None
        if not isinstance(found, dict):
            what = f"{call.method} {call.path} was answered with HTTP {answer.status} and {shown(answer)}"
            raise Broken(what, "Answer 200 with a JSON object.")
        return found

    # --- what the server can be made to do ----------------------------------------------------------------------------

    @property
    def how_to_get_one(self) -> str:
        """Return another way to a payment that may be refunded, for the text that asks for one."""
        return TEST_CALLS

    async def play(self, path: str, fields: Mapping[str, Any], why_not: str) -> Mapping[str, Any]:
        """POST to a path below /test. Raises `NotAsked` if the server offers no such calls."""
        self.may_create()
        if self.offered.get("test_calls") is not True:
            raise NotAsked(f"{why_not}: the server has no calls below /test")
        return await self.document(Call("POST", f"/test/{path}", body=json.dumps(fields).encode()))

    async def new_payment(self, units: int, currency: str = CURRENCY, *, disputed: bool = False) -> Refundable | None:
        """Return a new payment, or None if the server makes none."""
        if self.offered.get("test_calls") is not True:
            return None
        amount = units * self.step(currency)
        fields = {"amount_minor": amount, "currency": currency, "disputed": disputed}
        made = await self.play("payments", fields, "no payment can be made")
        if not isinstance(made.get("id"), str):
            raise Broken("POST /test/payments gave no id", "Answer with the payment, as GET /payments/ID does.")
        return Refundable(made["id"], currency, amount)

    async def refund_elsewhere(self, payment: Refundable, amount_minor: int) -> RefundObject:
        """Refund a payment without our ids, as a person would."""
        fields = {"payment": payment.payment_id, "amount_minor": amount_minor}
        made = to_refund_object(await self.play("refunds", fields, "a refund by another person cannot be played"))
        self.note(payment, made)
        return made

    async def change(self, refund: RefundObject, status: str, failure_code: str | None) -> None:
        """Change a refund at the server."""
        fields = {"status": status, "failure_code": failure_code}
        why_not = "a later change of a refund cannot be played"
        await self.play(f"refunds/{refund.processor_refund_id}", fields, why_not)

    async def send_without_waiting(self, order: RefundInstruction, key: str) -> None:
        """Send an order on a connection of its own, and close it before the answer."""
        call = Call("POST", "/refunds", key=key, body=self.processor.freeze(order).encode())
        caller = self._caller()
        url, headers = caller.url(call), caller.headers(call)
        headers |= {"Host": url.authority, "Content-Length": str(len(call.body)), "Connection": "close"}
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        tls = ssl.create_default_context() if url.scheme == "https" else None
        try:
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=tls)
            writer.write("\r\n".join(lines).encode() + call.body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            raise Broken(f"no connection to the server: {type(error).__name__}", "Accept connections.") from None

    def with_small_pages(self, size: int) -> Processor:
        """Return an adapter that asks for pages of `size`."""
        if self.lists_by_leg:
            raise NotAsked("refunds are found by our own ids only (finds_by is leg)")
        if not self.table.finds_refunds:
            raise NotAsked("the refunds of a payment cannot be listed here")
        timeout = self.timeout_seconds
        return HttpProcessor(self.settings, timeout_seconds=timeout, page_size=size, page_pauses_seconds=())

    def stranger(self) -> Processor:
        """Return an adapter with another secret."""
        other = self.settings.model_copy(update={"secret": SecretStr(new_secret())})
        return HttpProcessor(other, timeout_seconds=self.timeout_seconds, page_pauses_seconds=())

    def unknown_payment(self) -> str:
        """Return the id of a payment that does not exist."""
        return f"no-such-payment-{secrets.token_hex(8)}"

    def unknown_refund(self) -> str:
        """Return the id of a refund that does not exist."""
        return f"no-such-refund-{secrets.token_hex(8)}"

    # --- events -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def receiver(self) -> AsyncIterator[asyncio.Queue[Received]]:
        """Receive the server's events, and tell it where. Yields the queue of what came."""
        queue: asyncio.Queue[Received] = asyncio.Queue()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(EVENT_SECONDS_MAX):
                    queue.put_nowait(await _request(reader))
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                    await writer.drain()
            writer.close()

        host, port = self.listen
        listener = await asyncio.start_server(take, host, port, limit=EVENT_BYTES_MAX)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            url = self.events_url or f"http://{host}:{port}/webhooks/check"
            await self.play("events", {"url": url}, "events cannot be asked for")
            yield queue

    def _caller(self) -> Caller:
        return Caller(self.settings.api_base or "", self.settings.secrets, timeout_seconds=self.timeout_seconds)


async def _request(reader: asyncio.StreamReader) -> Received:
    """Return one HTTP request. Raises `ValueError` or `asyncio.IncompleteReadError` for anything else."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in head if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= EVENT_BYTES_MAX:
        raise ValueError("an event that is too large")
    return Received(headers, await reader.readexactly(length))


def new_secret() -> str:
    """Return a new random secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def shown(answer: HttpAnswer) -> str:
    """Return the beginning of an answer's body, fit to be shown."""
    text = clean(answer.body[:200].decode("utf-8", "replace"))
    return f"the body {text!r}" if text else "an empty body"
