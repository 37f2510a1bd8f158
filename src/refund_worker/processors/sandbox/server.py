"""The HTTP server: one thread, one event loop, and the raw transport, because faults break off answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

try:
    import httptools
except ImportError as error:
    raise ImportError("httptools is not installed: install the extra refund-worker[sandbox]") from error

from refund_worker.processors.sandbox.answers import Answer, JsonObject, StripeError
from refund_worker.processors.sandbox.book import Book
from refund_worker.processors.sandbox.calls import BODY_BYTES_MAX, Request
from refund_worker.processors.sandbox.control import Control, payment_record, payments_in, register
from refund_worker.processors.sandbox.faults import Faults
from refund_worker.processors.sandbox.service import Sent, Service, Wait
from refund_worker.processors.sandbox.webhooks import Webhooks

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 64 * 1024
# One request can register tens of thousands of payments.
CONTROL_BODY_BYTES_MAX = 64 * 1024 * 1024
# A client that sends a longer body than this gets a closed connection instead of a 413.
DRAINED_BYTES_MAX = 256 * 1024 * 1024
# Long enough for the first half of an answer to arrive before the connection breaks.
MID_BODY_SECONDS = 0.05
STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Server:
    """The state that all connections share: the service, the controls, and the timer for scheduled work."""

    def __init__(self, book: Book, faults: Faults) -> None:
        self.webhooks = Webhooks(book, faults)
        self.service = Service(book, faults, self.webhooks.send)
        self.control = Control(self.service, self.webhooks)
        self.connections: set[Connection] = set()
        self.broken: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_setting: tuple[float | None, float] | None = None
        self._request_prefix = f"req_{secrets.token_hex(4)}"
        self._request_count = 0

    def answer(self, request: Request) -> Sent | Wait:
        """Answer a request. If the book cannot be written, the server ends without an answer."""
        try:
            if request.path.startswith("/_"):
                return Sent(self.control.handle(request))
            return self.service.handle(request)
        except OSError as failed:
            return self.end_after_write_error(failed)
        except Exception:
            log.exception("a request could not be handled: %s %s", request.method, request.path[:200])
            return Sent(StripeError(500, "The sandbox has a defect.", type="api_error").answer())
        finally:
            self.set_timer()

    def end_after_write_error(self, failed: OSError) -> Sent:
        """End the server after a failed write of the book. Return the reset that this request gets."""
        log.critical("the book cannot be written: %s", failed.strerror or failed)
        if self.broken is not None and not self.broken.done():
            self.broken.set_exception(failed)
        return Sent(Answer(0, b""), "reset")

    def next_request_id(self) -> str:
        """Return a request id that is unique in this process."""
        self._request_count += 1
        return f"{self._request_prefix}{self._request_count:08x}"

    def set_timer(self) -> None:
        """Set the timer to the next scheduled item."""
        book = self.service.book
        due = self.service.due_at()
        setting = (due, book.clock_offset)
        if setting == self._timer_setting:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_setting = None, setting
        if due is not None:
            wait_seconds = max(0.0, due - book.now()) + 0.001
            self._timer = asyncio.get_running_loop().call_later(min(wait_seconds, 3600.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer_setting = None
        try:
            self.service.run_due()
        except OSError as failed:
            self.end_after_write_error(failed)
            return
        self.set_timer()

    async def close(self) -> None:
        """Drop all connections and stop delivering events."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.drop()
        await self.webhooks.close()


class Connection(asyncio.Protocol):
    """One client's connection. Requests are answered in order, so a slow one delays those behind it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._closing = False
        self.on_message_begin()

    # -- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, so that the server can drop it when it ends."""
        # uvloop's transports are no subclass of asyncio's, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the requests that were not started. A call that is running slowly still takes effect."""
        self._server.connections.discard(self)
        self._transport = None
        # A call that is already running takes effect although its client has gone.
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Feed the parser. Refuse input that is not plain HTTP/1.1, and a head above `HEAD_BYTES_MAX`."""
        if self._closing:
            return
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "This server speaks plain HTTP/1.1 only.")
        except httptools.HttpParserError:
            self._refuse(400, "The request is not well-formed HTTP.")
        else:
            if not self._in_body and self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(431, "The request's headers are too large.")

    # -- httptools ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Reset the fields that collect one request."""
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_body = False

    def on_url(self, url: bytes) -> None:
        """Collect a part of the request's URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header; its name in lower case."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Choose the body limit by path, and confirm `Expect: 100-continue`."""
        self._in_body = True
        self._body_bytes_max = CONTROL_BODY_BYTES_MAX if self._url.startswith(b"/_") else BODY_BYTES_MAX
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body. Drop the body above its limit, and the connection above `DRAINED_BYTES_MAX`."""
        self._body_bytes += len(body)
        if self._body_bytes <= self._body_bytes_max:
            self._body.append(body)
        elif self._body_bytes > DRAINED_BYTES_MAX:
            self.drop()
        else:
            self._body.clear()

    def on_message_complete(self) -> None:
        """Queue the complete request, and answer it unless an earlier one is still running."""
        path, _, query = self._url.partition(b"?")
        request = Request(
            self._parser.get_method().decode("ascii"),
            path.decode("latin-1"),
            query,
            self._headers,
            b"".join(self._body),
            oversized=self._body_bytes > self._body_bytes_max,
        )
        self._in_body = False
        self._head_bytes = 0
        self._waiting.append((request, self._parser.should_keep_alive()))
        if not self._busy:
            self._next()

    # -- answering ----------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        while self._waiting and not self._busy and not self._closing:
            request, keep_alive = self._waiting.popleft()
            self._busy = True
            self._deliver(self._server.answer(request), keep_alive)

    def _deliver(self, outcome: Sent | Wait, keep_alive: bool) -> None:
        if isinstance(outcome, Wait):
            self._timer = asyncio.get_running_loop().call_later(
                outcome.seconds, self._resume, outcome.resume, keep_alive
            )
            return
        if self._transport is None:
            return
        match outcome.manner:
            case "whole":
                self._write(outcome.answer, keep_alive)
            case "truncated":
                self._write(_shortened(outcome.answer), keep_alive)
            case "mid_body":
                whole = self._encoded(outcome.answer, keep_alive)
                self._transport.write(whole[: len(whole) - len(outcome.answer.body) // 2])
                asyncio.get_running_loop().call_later(MID_BODY_SECONDS, self.drop)
            case "reset":
                self.drop()
            case "hang":
                hang_seconds = self._server.service.faults.hang_seconds
                self._timer = asyncio.get_running_loop().call_later(hang_seconds, self.drop)

    def _resume(self, resume: Callable[[], Sent], keep_alive: bool) -> None:
        try:
            sent = resume()
        except OSError as failed:
            sent = self._server.end_after_write_error(failed)
        finally:
            self._server.set_timer()
        self._deliver(sent, keep_alive)
        self._next()

    def _write(self, answer: Answer, keep_alive: bool) -> None:
        if self._transport is None:
            return
        self._transport.write(self._encoded(answer, keep_alive))
        self._busy = False
        if not keep_alive:
            self._closing = True
            self._transport.close()

    def _encoded(self, answer: Answer, keep_alive: bool) -> bytes:
        more = "".join([f"{name}: {value}\r\n" for name, value in answer.headers])
        head = (
            f"{STATUS_LINES[answer.status]}Content-Type: application/json\r\n"
            f"Content-Length: {len(answer.body)}\r\nRequest-Id: {self._server.next_request_id()}\r\n{more}"
            f"{'' if keep_alive else 'Connection: close' + chr(13) + chr(10)}\r\n"
        )
        return head.encode("latin-1") + answer.body

    def _refuse(self, status: int, message: str) -> None:
        if not self._closing:
            self._write(StripeError(status, message).answer(), keep_alive=False)
            self._closing = True

    def drop(self) -> None:
        """Break the connection with a reset: the client sees an error, not an orderly end."""
        self._closing = True
        if self._transport is None:
            return
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _shortened(answer: Answer) -> Answer:
    return Answer(200, answer.body[: len(answer.body) * 2 // 3], answer.headers)


def serve(
    port: int,
    book: Path,
    payments: Path | None = None,
    faults: Path | None = None,
    *,
    host: str = "127.0.0.1",
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    ready: Callable[[int], None] | None = None,
    fsync: bool = False,
    until_stdin_closes: bool = False,
    learn: Callable[[str, str], JsonObject | None] | None = None,
) -> None:
    """Run the sandbox until SIGTERM or SIGINT. Port 0 takes a free port.

    The chosen port is passed to `ready` and printed on standard output. `payments` is a payments import file; payments
    that the book already has stay as they are. `until_stdin_closes` ends the server with the process that started it.
    `learn` is called with the id of an unregistered payment and its connected account, or ""; it returns
    processor_payment_id, amount_minor and currency, and optional fields, or None.

    Raises `BookError`, `FaultFileError`, `PaymentError` or `OSError` if the server cannot start, and `OSError` if the
    book can no longer be written.
    """
    in_force = Faults.read(faults) if faults is not None else Faults()
    kept = Book(book, seed=in_force.seed if isinstance(in_force.seed, int) else None, fsync=fsync or in_force.fsync)
    try:
        server = Server(kept, in_force)
        if learn is not None:
            kept.learn = lambda *asked: payment_record(found) if (found := learn(*asked)) else None
        if payments is not None:
            register(server.service, payments_in(payments))
        if webhook_url is not None:
            server.webhooks.set_receiver(webhook_url, webhook_secret or "")
        _run(_serve(server, host, port, ready, until_stdin_closes=until_stdin_closes))
    finally:
        kept.close()


def _run(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform
        asyncio.run(main)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _serve(
    server: Server, host: str, port: int, ready: Callable[[int], None] | None, *, until_stdin_closes: bool
) -> None:
    loop = asyncio.get_running_loop()
    stopped = server.broken = loop.create_future()

    def stop() -> None:
        if not stopped.done():
            stopped.set_result(None)

    def stop_if_closed() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        # No signal handlers exist outside the main thread and on Windows. There the caller ends the process.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), stop_if_closed)
    listener = await loop.create_server(lambda: Connection(server), host, port)
    bound: int = listener.sockets[0].getsockname()[1]
    server.set_timer()
    sys.stdout.write(f"sandbox listening on http://{host}:{bound}\n")
    sys.stdout.flush()
    if ready is not None:
        ready(bound)
    try:
        await stopped
    finally:
        listener.close()
        await server.close()


def webhook_secret_in(path: Path) -> str:
    """Return the secret in a file, without the line end. Raise `OSError` if it cannot be read."""
    return path.read_text("utf-8").strip()
