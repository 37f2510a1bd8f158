"""A server on a real socket that answers as a script says, and the adapter connected to it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.processors.local_server.closing import cancel_other_tasks
from refund_worker.processors.stripe.adapter import StripeProcessor

T = TypeVar("T")
API_KEY = "sk_test_51HiddenKeyOfTheAdapter"
TIMEOUT_SECONDS = 0.4  # for servers that send nothing or never finish
PATIENCE_SECONDS = 20.0  # for servers that answer: a busy machine can be slow
CARD = "4242424242424242"
ORDER = RefundInstruction("rf_1", "leg_1", 1, "ch_1", 1500, "EUR", "customer asked")
INVALID, CARD_ERROR, API_ERROR = "invalid_request_error", "card_error", "api_error"
MESSAGE = "a message of Stripe's"


@dataclass
class Request:
    """A request that the scripted server received."""

    method: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def form(self) -> dict[str, str]:
        """The body's form fields, one value each."""
        return {name: values[0] for name, values in parse_qs(self.body, keep_blank_values=True).items()}

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, one value each."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


Act = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Plays one act for each request and repeats the last act. Stores the requests it received."""

    acts: list[Act]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                await self.acts[min(len(self.requests), len(self.acts)) - 1](request, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except ConnectionError:
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body.decode())


def answers(status: int, body: object, **headers: str) -> Act:
    """Return an act that sends a complete answer. `body` is sent as JSON, or unchanged if it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Request_Id": "req_1", **headers}.items()]
    head = "\r\n".join([f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *lines]) + "\r\n\r\n"

    async def act(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head.encode() + content)

    return act


def error(status: int, kind: str | None, code: str | None = None, /, **more: Any) -> Act:
    """Return an act that sends Stripe's error object. Capitalised names in `more` are headers."""
    headers = {name: more.pop(name) for name in list(more) if name[0].isupper()}
    fields = {"type": kind, "code": code, "message": more.pop("message", MESSAGE), **more}
    return answers(status, {"error": {name: value for name, value in fields.items() if value is not None}}, **headers)


def raw(content: bytes, *, then_reset: bool = False) -> Act:
    """Return an act that sends these bytes unchanged and then closes or resets the connection."""

    async def act(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        if then_reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()

    return act


async def drips(_request: Request, writer: asyncio.StreamWriter) -> None:
    """Send one byte at a time for much longer than the outer deadline, each byte well inside any read timeout."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(TIMEOUT_SECONDS / 20)


async def sends_nothing(_request: Request, _writer: asyncio.StreamWriter) -> None:
    """Send no answer."""
    await asyncio.sleep(30)


def refund(**changes: Any) -> dict[str, Any]:
    """Return a refund object as Stripe sends it, with these changes."""
    marks = {"refund_worker_refund": "rf_1", "refund_worker_leg": "leg_1", "refund_worker_attempt": "1"}
    body = {"id": "re_1", "object": "refund", "amount": 1500, "currency": "eur", "created": 1_700_000_000}
    return {**body, "status": "succeeded", "charge": "ch_1", "payment_intent": "pi_1", "metadata": marks, **changes}


def page(*refunds: dict[str, Any], has_more: bool = False) -> Act:
    """Return an act that sends one page of a list."""
    return answers(200, {"object": "list", "data": list(refunds), "has_more": has_more, "url": "/v1/refunds"})


# The beginning of an answer that is never completed.
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"
HALF = json.dumps(refund()).encode()[:40]


def frozen(**changes: Any) -> str:
    """Return the frozen body of `ORDER` with these changes."""
    fields = {name: getattr(ORDER, name) for name in RefundInstruction.__slots__}
    return StripeProcessor(API_KEY).freeze(RefundInstruction(**{**fields, **changes}))


class Bench:
    """The adapter and a scripted server on one loop, run in many small steps as the worker does."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = ScriptedServer([])
        self._adapters: list[StripeProcessor] = []
        self._listeners: list[asyncio.Server] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop."""
        return self.loop.run_until_complete(work)

    def play(self, *acts: Act) -> StripeProcessor:
        """Start a server with this script, and return an adapter connected to it."""
        self.server = ScriptedServer(list(acts))
        listener = self.run(asyncio.start_server(self.server.handle, "127.0.0.1", 0))
        self._listeners.append(listener)
        self.server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        silent = drips in acts or sends_nothing in acts
        return self.adapter(self.server.url, TIMEOUT_SECONDS if silent else PATIENCE_SECONDS)

    def adapter(self, base: str, timeout_seconds: float = PATIENCE_SECONDS, **options: Any) -> StripeProcessor:
        """Return an adapter that is closed at the end of the test."""
        options = {"page_pauses_seconds": ()} | options
        self._adapters.append(StripeProcessor(API_KEY, base=base, timeout_seconds=timeout_seconds, **options))
        return self._adapters[-1]

    def send(self, *acts: Act) -> Any:
        """Start a server with this script, send one refund, and return the reply."""
        return self.ask(self.play(*acts))

    def ask(self, adapter: StripeProcessor, key: str = "key_1") -> Any:
        """Send one refund over this adapter and return the reply."""
        return self.run(adapter.send(key, adapter.freeze(ORDER)))

    async def stop(self) -> None:
        """Close all adapters and servers."""
        for adapter in self._adapters:
            await adapter.close()
        for listener in self._listeners:
            listener.close()
        async with asyncio.timeout(5):
            await cancel_other_tasks()
