"""The reference server of examples/http-adapter in a process of its own, and made to misbehave.

`python -m tests.processors.http.server --port 0` prints its URL and serves until its standard input closes. Signed
calls are answered as by the reference server, its calls below /test included. Unsigned calls below /_control drive it:

    POST /_control/test/payments     and every other call below /test, unsigned
    POST /_control/faults            {"payment", "fault"}: the next request to create a refund of it meets the fault
    POST /_control/clock             {"seconds"}: the paying system's clock moves; signatures keep the real time
    GET  /_control/clock             {"seconds"}: how far it has moved
    GET  /_control/refunds           {"payment id": [amounts]}: the server's own book
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict, deque
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self

EXAMPLE = Path(__file__).parent.parent.parent.parent / "examples" / "http-adapter"
SECRET = "whsec_aHR0cC1hZGFwdGVyLXRlc3Qtc2VjcmV0LTAwMDAwMDE="
# Faults of an executed request, whose answer is lost.
LOST = ("timeout", "reset", "cut")
# Faults that prove that nothing was executed: the status.
BUSY = {"busy 429": 429, "busy 503": 503}


class Process:
    """A server as a child process: `with Process(command) as its: its.url`. It ends when its input closes."""

    def __init__(self, *command: str, folder: Path | None = None) -> None:
        self._command = command
        self._folder = folder
        self._child: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._command,
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self._child.stdout is not None
        self.url = self._child.stdout.readline().strip()
        assert self.url.startswith("http://"), self._command
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._child is not None
        self._child.kill()
        self._child.wait(10)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def control(self, path: str, fields: dict[str, Any] | None = None) -> Any:
        """Return the JSON answer of a control call: POST with fields, else GET."""
        body = None if fields is None else json.dumps(fields).encode()
        with urllib.request.urlopen(f"{self.url}/_control/{path}", body, timeout=10) as answer:
            return json.load(answer)


def misbehaving() -> Process:
    """Return the server of this file, not started yet."""
    return Process(sys.executable, "-m", "tests.processors.http.server", "--port", "0", folder=EXAMPLE.parent.parent)


class Misbehaving:
    """The part of the handler that answers control calls and spoils answers. The reference's handler is its base."""

    offset_seconds = 0.0
    faults: ClassVar[defaultdict[str, deque[str]]] = defaultdict(deque)
    fault = ""

    def do_GET(self) -> None:
        self.fault = ""
        if not self.path.startswith("/_control/"):
            super().do_GET()
            return
        length = int(self.headers.get("Content-Length") or 0)
        fields = json.loads(self.rfile.read(length) or b"{}")
        ours = self.server.ours
        with ours.lock, ours.db:
            answer = self.controlled(ours, self.path.split("/")[2:], fields)
        ours.send_events()
        self.reply(200, json.dumps(answer).encode(), False)

    do_POST = do_GET

    def controlled(self, ours: Any, parts: list[str], fields: Any) -> Any:
        import testing_calls

        match parts:
            case ["faults"]:
                self.faults[fields["payment"]].append(fields["fault"])
            case ["clock"]:
                Misbehaving.offset_seconds += fields.get("seconds", 0.0)
                return {"seconds": self.offset_seconds}
            case ["refunds"]:
                rows = ours.db.execute("SELECT document FROM refunds")
                book = defaultdict(list)
                for refund in (json.loads(text) for (text,) in rows):
                    book[refund["payment"]].append(refund["amount_minor"])
                return book
            case ["test", *rest]:
                return testing_calls.answer(ours, rest, fields)
        return {}

    def route(self, ours: Any, body: bytes) -> Any:
        if self.command == "POST" and self.path == "/refunds":
            waiting = self.faults[str(json.loads(body).get("payment"))]
            self.fault = waiting.popleft() if waiting else ""
        if self.fault in BUSY:
            from paying_system import Problem

            raise Problem(BUSY[self.fault], "busy", "not now")
        answer = super().route(ours, body)
        if self.fault == "waits for the customer":
            return answer[0], ours.paying.save(answer[1] | {"status": "requires_action"}, "refund.updated"), False
        return answer

    def reply(self, status: int, body: bytes, replayed: bool) -> None:
        if self.fault == "timeout":
            time.sleep(1.0)
        if self.fault in ("reset", "cut"):
            self.break_off(body if self.fault == "cut" else b"")
            return
        if self.fault == "server error":
            status, body = 500, b"<h1>something broke</h1>"
        super().reply(status, body, replayed)

    def break_off(self, body: bytes) -> None:
        """Send half of the body, or nothing, and reset the connection."""
        if body:
            self.wfile.write(f"HTTP/1.1 201 Created\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            self.wfile.write(body[: len(body) // 2])
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def end_headers(self) -> None:
        if self.fault in BUSY:
            self.send_header("Retry-After", "3")
        super().end_headers()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a connection that was reset
            super().finish()


def serve(port: int) -> None:
    """Serve until standard input closes."""
    sys.path.insert(0, str(EXAMPLE))
    import paying_system
    import server as reference

    paying_system.now = lambda: time.time() + Misbehaving.offset_seconds
    handler = type("Handler", (Misbehaving, reference.Handler), {})
    options = argparse.Namespace(database=":memory:", events_url=None, test_calls=True, secrets=[SECRET])
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.ours = reference.Server(options)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    serve(parser.parse_args().port)
