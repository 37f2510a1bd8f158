"""HTTP with limits on what a client without a key can occupy: time for head and body, bytes of a head, connections.

Uvicorn waits forever for the rest of a request, accepts a head of any size, and counts silent connections like busy
ones. Here a client that has not finished its request has a deadline. When all connections are in use, a new one
replaces the one that has kept us waiting longest: first those that never sent a whole request, then idle ones, then
those still sending a body. If every connection has a request in progress, others get 503, but `/healthz` is answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from refund_worker.errors import problem_object
from refund_worker.web.problems import PROBLEM_JSON, RETRY_AFTER_SECONDS, problem

log = logging.getLogger(__name__)

HEALTH = b"/healthz"
# Bytes given to the parser at a time; the limit of a head is accurate to this many bytes.
SLICE_BYTES = 8 << 10
# Requests that one connection may send before it got their answers; our clients never do.
AHEAD_MAX = 20
# Connections above the limit, so that health checks are answered when all others are busy.
SPARE_PLACES = 50
# After a refusal, input is discarded for this time; closing at once could destroy the answer on its way.
LINGER_SECONDS = 1.0
# A client that sends more than this does not read the answer anyway.
LINGER_BYTES = 1 << 20
WARN_SECONDS = 60.0

CROWDED = "all connections are busy: try again in a moment"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one process. A body may take `body_seconds`, and a second more for each `body_bytes_per_second`."""

    connections: int = 500
    head_seconds: float = 15.0
    head_bytes: int = 64 << 10
    headers: int = 100
    body_seconds: float = 15.0
    body_bytes_per_second: int = 64 << 10
    # How long a client may leave an answer unread.
    answer_seconds: float = 60.0


class _TimedFlow(FlowControl):
    """Flow control that reports how many seconds the client had to wait, each time it may send again."""

    def __init__(self, transport: asyncio.Transport, now: Callable[[], float], waited: Callable[[float], None]) -> None:
        super().__init__(transport)
        self._now, self._waited, self._paused_at = now, waited, 0.0

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._paused_at = self._now()
        super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self._waited(self._now() - self._paused_at)
        super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. The client owes a head (from its first byte on, or from the start), or a body.

    The method names are asyncio's, httptools' and Uvicorn's.
    """

    _warned_at = -WARN_SECONDS

    def __init__(
        self,
        limits: Limits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._in_head, self._heads = True, 0
        self._head_bytes = self._unused_bytes = self._body_bytes = 0
        self._progress = self._too_many = self._refused = False
        self._sent_on = 0
        self._owed: tuple[str, int] | None = None
        self._owed_since = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    # --- connections ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the client's deadline; close another connection if there are too many."""
        super().connection_made(transport)
        self.flow = _TimedFlow(transport, self.loop.time, self._on_waited)
        if len(self.connections) > self._limits.connections:
            self._evict()
        self._watch()

    def _evict(self) -> None:
        others = (each for each in self.connections if isinstance(each, BoundedProtocol) and each is not self)
        waiting = [(rank, each._owed_since, each) for each in others if (rank := each._rank()) is not None]
        if waiting:
            _, _, evicted = min(waiting, key=lambda found: found[:2])
            self.connections.discard(evicted)  # asyncio reports the loss later, and new connections may come before
            evicted.transport.abort()
        elif len(self.connections) > self._limits.connections + SPARE_PLACES:
            self.transport.abort()

    def _rank(self) -> int | None:
        """Return the order in which connections are closed, lowest first, or None for a request in progress."""
        if not self._in_head:
            return None if self._is_busy() and self.flow.read_paused else 2
        if self._is_busy():
            return None
        return 0 if self._heads == 0 or self._refused else 1

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_crowded(self) -> bool:
        crowded = len(self.connections) > self._limits.connections
        if crowded and self.loop.time() - BoundedProtocol._warned_at >= WARN_SECONDS:
            BoundedProtocol._warned_at = self.loop.time()
            log.warning(
                "all %d connections have a request in progress: others are answered 503", self._limits.connections
            )
        return crowded

    # --- input ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Give the input to the parser in slices and check the limits after each."""
        if self._refused:
            self._sent_on += len(data)
            if self._sent_on > LINGER_BYTES:
                self.transport.abort()
            return
        for start in range(0, len(data), SLICE_BYTES):
            if self._refused or self.parser is None or self.transport.is_closing():
                return
            piece = data[start : start + SLICE_BYTES]
            self._progress = False
            super().data_received(piece)
            self._count(len(piece))
        self._watch()

    def _count(self, size: int) -> None:
        """Count bytes that produced neither a head nor a body: the parser holds them, or they belong to no request."""
        if self._in_head and not self._progress:
            self._head_bytes += size
        elif not self._progress:
            self._unused_bytes += size
        if self._too_many or max(self._head_bytes, self._unused_bytes) > self._limits.head_bytes:
            self._refuse(431, "head_too_large", "the request's head is too large: send fewer or shorter headers")
        elif len(self.pipeline) > AHEAD_MAX:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Forget the refusal of an earlier head."""
        self._too_many = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, up to the maximum number."""
        # Trailers, after the body, are ignored.
        if self._in_head:
            if len(self.headers) < self._limits.headers:
                super().on_header(name, value)
            else:
                self._too_many = True

    def on_headers_complete(self) -> None:
        """Choose the application: the answer 503 if all connections are busy, except for health checks."""
        self._in_head, self._progress = False, True
        self._heads += 1
        self._head_bytes = self._unused_bytes = self._body_bytes = 0
        if self._too_many:
            return
        health = self.url.partition(b"?")[0] == HEALTH
        self.app = self.config.loaded_app if health or not self._is_crowded() else _answer_crowded
        super().on_headers_complete()
        if self.expect_100_continue:
            self.flow.pause_reading()  # until the application asks for the body

    def on_body(self, body: bytes) -> None:
        """Count a part of the body and pass it on."""
        self._progress, self._unused_bytes = True, 0
        self._body_bytes += len(body)
        if not self._too_many:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._in_head, self._progress = True, True
        if not self._too_many:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Set the timer for the next request."""
        super().on_response_complete()
        self._watch()

    # --- deadlines -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Set the timer for the head or body that the client owes now; Uvicorn itself times idle connections."""
        owed = None
        if not self._in_head:
            owed = ("body", self._heads)
        elif self._heads == 0 or self._head_bytes:
            owed = ("head", self._heads)
        if owed != self._owed:
            self._owed, self._owed_since = owed, self.loop.time()
            seconds = self._limits.body_seconds if owed and owed[0] == "body" else self._limits.head_seconds
            self._arm(seconds if owed else None)

    def _arm(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._on_deadline)

    def _on_waited(self, seconds: float) -> None:
        """Stop the client's clock while we let it wait."""
        self._owed_since += seconds

    def _on_deadline(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            if self._is_busy():  # sent before the answer that we still owe
                self._arm(self._limits.head_seconds)
            elif self._head_bytes:
                self._refuse(408, "too_slow", "the request's head did not come in time")
            else:
                self.transport.abort()
            return
        answered = self.cycle is None or self.cycle.response_complete
        if not answered and self.flow.read_paused:
            self._arm(self._limits.body_seconds)  # the delay is ours
            return
        more = 0.0 if answered else self._body_bytes / self._limits.body_bytes_per_second
        left = self._owed_since + self._limits.body_seconds + more - self.loop.time()
        if left > 0:
            self._arm(left)
        else:
            self._refuse(408, "too_slow", "the request's body did not come in time")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Send the problem, unless an answer has begun, and close the connection."""
        self._refused = True
        self._arm(None)
        busy = self._is_busy()
        if not busy or not self.cycle.response_started:
            self.transport.write(_raw_problem(status, code, detail))
        if busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        """Close the connection if the client leaves its answer unread for too long."""
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self._limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer of an unread answer."""
        super().resume_writing()
        self._forget_unread()

    def _forget_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers of this connection."""
        self._arm(None)
        self._forget_unread()
        super().connection_lost(exc)


async def _answer_crowded(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS), "Connection": "close"}
    await problem(503, "unavailable", CROWDED, retryable=True, headers=headers)(scope, receive, send)


def _raw_problem(status: int, code: str, detail: str) -> bytes:
    """Return a complete answer as bytes, for connections without a request that the application could answer."""
    body = json.dumps(problem_object(status, code, detail)).encode()
    head = STATUS_LINE[HTTPStatus(status)] + (
        f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    )
    return head + body
