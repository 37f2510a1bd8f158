"""The PayPal sandbox as a separate process, controlled over its own endpoints (`control.py`)."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0


class PayPalSandboxError(Exception):
    """The sandbox did not start, or refused a control request. The message contains the reason."""


class PayPalSandbox:
    """A running PayPal sandbox: `with PayPalSandbox() as paypal: … paypal.url`.

    The process ends with the block, and also if the process that started it dies. Its book ends with it, unless `book`
    names a file for it. Faults, tokens, events and settings always end with it.
    """

    def __init__(self, port: int = 0, *, book: Path | None = None) -> None:
        self.port = port
        self.book_path = book
        self._process: subprocess.Popen[str] | None = None

    # -- the process --------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process. Raises `PayPalSandboxError` if it is not running."""
        if self._process is None:
            raise PayPalSandboxError("the PayPal sandbox is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it listens. Raise `PayPalSandboxError` if it does not."""
        its_book = [] if self.book_path is None else ["--book", str(self.book_path)]
        process = subprocess.Popen(
            [sys.executable, "-m", __package__, "--until-stdin-closes", "--port", str(self.port), *its_book],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for the process that started it, which still needs its answers
        )
        assert process.stdout is not None
        alarm = threading.Timer(START_SECONDS_MAX, process.kill)
        alarm.start()
        try:
            line = process.stdout.readline()
        finally:
            alarm.cancel()
        self._process = process
        if "listening on" not in line:
            self.close()
            raise PayPalSandboxError("the PayPal sandbox did not start; its standard error says why")
        self.port = int(line.rsplit(":", 1)[1])

    def close(self) -> None:
        """Stop the process in order (SIGTERM), or kill it if it does not end."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill the process at once (SIGKILL), as a crash would. `start` starts it again on the same port."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[str]], None]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the control endpoints ----------------------------------------------------------------------------------------

    def book(self) -> dict[str, Any]:
        """Return the sandbox's book: captures, refunds, keys, events and their answers."""
        return self._ask("GET", "book")

    def refunds(self) -> list[dict[str, Any]]:
        """Return the refunds in the book, oldest first, each with its `capture_id`."""
        refunds: list[dict[str, Any]] = self.book()["refunds"]
        return refunds

    def new_payment(self, amount: str, currency: str = "GBP", **more: Any) -> str:
        """Capture a payment of an amount such as "12.50" and return the capture's id. `control.py` has the options."""
        capture_id: str = self.control("orders", amount=amount, currency=currency, **more)["capture_id"]
        return capture_id

    def add_fault(self, fault: str, capture_id: str = "", times: int = 1) -> None:
        """Let the next refunds meet a fault of `FAULTS`, or a refusal (`issue:NAME`): of a capture, or of any."""
        self.control("faults", capture_id=capture_id, fault=fault, times=times)

    def clear_faults(self) -> None:
        """End all faults, those by chance too."""
        self._ask("DELETE", "faults")

    def send_webhooks_to(self, url: str | None, webhook_id: str | None = None) -> None:
        """Send events from now on to `url`; without a url nothing is sent."""
        self.control("webhooks", url=url, **({"webhook_id": webhook_id} if webhook_id else {}))

    def control(self, name: str, **asked: Any) -> dict[str, Any]:
        """Send any request below /_control, and return its answer. Raise `PayPalSandboxError` if it is refused."""
        return self._ask("POST", name, asked)

    def _ask(self, method: str, name: str, asked: Any = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, f"/_control/{name}", None if asked is None else json.dumps(asked))
            answer = connection.getresponse()
            reply: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise PayPalSandboxError(str(reply["error"]["message"]))
        return reply
