"""Webhook receivers on a free port of 127.0.0.1, well behaved or badly behaved."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Stores requests in `received` and answers with `status` and `headers` after `seconds`.

    With `drips` it answers one byte at a time and never finishes. `most_at_once` is the highest number of requests that
    waited for their answer at the same time.
    """

    def __init__(
        self, status: int = 200, headers: dict[str, str] | None = None, *, drips: bool = False, seconds: float = 0
    ) -> None:
        self.status, self.headers, self.drips, self.seconds = status, headers or {}, drips, seconds
        self.most_at_once = self._at_once = 0
        self._counting = threading.Lock()
        self.received: list[Received] = []
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._answer(self)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hooks"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        named = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(handler.path, named, body))
        with self._counting:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        self._over.wait(self.seconds)
        with self._counting:
            self._at_once -= 1
        with contextlib.suppress(OSError):
            if self.drips:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while not self._over.wait(0.05):
                    handler.wfile.write(b"x")
                return
            handler.send_response(self.status)
            for name, value in ({"Content-Length": "0"} | self.headers).items():
                handler.send_header(name, value)
            handler.end_headers()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class Deaf:
    """Accepts connections and never answers."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
