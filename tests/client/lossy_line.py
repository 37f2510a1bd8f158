"""A line to the server that loses requests or answers, and the short waits of the tests that use it."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from refund_worker.client import Retries

QUICK = Retries(base=0.01, longest=0.05)


class Line:
    """A line to the server. `script` says what happens to the next requests: "pass" · "lose the answer" · "lose the
    request" · "hang" · a status that is answered in the server's place."""

    def __init__(self, to: str, *script: str | int) -> None:
        self.script = deque(script)
        self.keys: list[str | None] = []
        target = urlsplit(to)
        line = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                line.keys.append(self.headers.get("Idempotency-Key"))
                way = line.script.popleft() if line.script else "pass"
                if way == "hang":
                    line.over.wait(20)
                if way in ("pass", "lose the answer"):
                    connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=10)
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                    connection.close()
                    if way == "pass":
                        self._send(answer.status, content)
                elif isinstance(way, int):
                    self._send(way, b"the proxy says no")

            do_GET = do_POST = do_DELETE = _any

            def _send(self, status: int, content: bytes) -> None:
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.send_header("Retry-After", "0")
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                return None

        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Line:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
