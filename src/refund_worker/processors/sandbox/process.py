"""The sandbox for tests: start it as a separate process and control it over its own endpoints."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0


class SandboxError(Exception):
    """The sandbox did not start, or refused a control request. The message contains the reason."""


class Sandbox:
    """A running sandbox: `with Sandbox() as sandbox: … sandbox.url`.

    A given `book` is kept; without one the book is in a temporary directory that is deleted with the sandbox. `faults`
    is a fault file or its content. `program` is a module with the sandbox's command line, `environment` its variables
    (default: ours). The process ends with the block, and also if the process that started it dies.
    """

    def __init__(
        self,
        *,
        book: Path | None = None,
        payments: Path | None = None,
        faults: Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        port: int = 0,
        fsync: bool = False,
        program: str = "refund_worker.processors.sandbox",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._program = program
        self._environment = environment
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        folder = Path(self._folder.name)
        self.book_path = book if book is not None else folder / "book.jsonl"
        self.port = port
        self._options: list[str] = []
        if payments is not None:
            self._options += ["--payments", str(payments)]
        if faults is not None:
            if not isinstance(faults, Path):
                (folder / "faults.json").write_text(json.dumps(faults), "utf-8")
                faults = folder / "faults.json"
            self._options += ["--faults", str(faults)]
        if webhook_url is not None:
            secret_file = folder / "webhook_secret"
            secret_file.touch(0o600)
            secret_file.write_text(webhook_secret or "", "utf-8")
            self._options += ["--webhook-url", webhook_url, "--webhook-secret-file", str(secret_file)]
        if fsync:
            self._options.append("--fsync")
        self._process: subprocess.Popen[str] | None = None

    # -- the process --------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end. It stays the same over a restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process. Raises `SandboxError` if it is not running."""
        if self._process is None:
            raise SandboxError("the sandbox is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until it listens. Raise `SandboxError` if it does not."""
        command = [sys.executable, "-m", self._program, "--until-stdin-closes"]
        command += ["--port", str(self.port), "--book", str(self.book_path), *self._options]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
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
            self.kill()
            raise SandboxError("the sandbox did not start; its standard error says why")
        self.port = int(line.rsplit(":", 1)[1])

    def stop(self) -> None:
        """Stop the process in order (SIGTERM)."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """Kill the process at once (SIGKILL), as a crash would."""
        self._end(subprocess.Popen.kill)

    def close(self) -> None:
        """Stop the process and delete the temporary directory."""
        self.stop()
        self._folder.cleanup()

    def restart(self) -> None:
        """Stop the process if it runs, and start it again on the same port with the same book."""
        self.stop()
        self.start()

    def _end(self, how: Any) -> None:
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
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- the control endpoints ----------------------------------------------------------------------------------------

    def book(self) -> dict[str, Any]:
        """Return the sandbox's book: payments, refunds, requests, totals."""
        return self._ask("GET", "/_book")

    def refunds(self) -> list[dict[str, Any]]:
        """Return the refunds in the book, oldest first."""
        refunds: list[dict[str, Any]] = self.book()["refunds"]
        return refunds

    def requests(self, account: str = "") -> dict[str, dict[str, int]]:
        """Return the counted requests by kind and outcome that named this connected account; "" for none."""
        counts: dict[str, dict[str, int]] = self._ask("GET", "/_requests").get(account, {})
        return counts

    def register_payment(
        self,
        processor_payment_id: str,
        amount_minor: int,
        currency: str = "GBP",
        *,
        disputed: bool = False,
        **options: Any,
    ) -> None:
        """Register a captured payment. Registering it again changes only `disputed`. `charges.py` has the options."""
        payment = {
            "processor_payment_id": processor_payment_id,
            "amount_minor": amount_minor,
            "currency": currency,
            "disputed": disputed,
            **options,
        }
        self._ask("POST", "/_payments", payment)

    def register_payments(self, payments: Sequence[Mapping[str, Any]]) -> None:
        """Register many payments: objects with processor_payment_id, amount_minor, currency."""
        self._ask("POST", "/_payments", list(payments))

    def add_fault(self, do: Mapping[str, Any], *, match: Mapping[str, Any] | None = None, **how: Any) -> None:
        """Add one rule. `how` takes times and probability; see `faults.py`."""
        self._ask("POST", "/_faults", {"do": do, "match": match or {}, **how})

    def change_faults(self, settings: Mapping[str, Any]) -> None:
        """Add the rules and change the settings in the content of a fault file."""
        self._ask("POST", "/_faults", settings)

    def clear_faults(self) -> None:
        """End all faults."""
        self._ask("DELETE", "/_faults")

    def advance_refund(
        self, refund_id: str, status: str | None, failure_reason: str | None = None, account: str = ""
    ) -> dict[str, Any]:
        """Move a refund to `status` and send its webhooks. Return the refund object. `account` is a connected one."""
        move = {"status": status, "failure_reason": failure_reason, "account": account}
        return self._ask("POST", f"/_refunds/{quote(refund_id, safe='')}", move)

    def act(self, action: str, **fields: Any) -> dict[str, Any]:
        """Do what a bank, a customer or a person in the dashboard does, and send its webhooks; see `outside.py`.

        Return the object that changed. Raise `SandboxError` with the reason if the action is refused.
        """
        return self._ask("POST", "/_actions", {"action": action, **fields})

    def advance_clock(self, seconds: float) -> None:
        """Advance the sandbox's clock, which ages keys and runs scheduled steps."""
        self._ask("POST", "/_clock", {"advance_seconds": seconds})

    def send_webhooks_to(
        self, url: str | None, secret: str | None = None, *, connect_secret: str | None = None
    ) -> None:
        """Send events from now on to `url`, signed with `secret`; without a url nothing is sent, and none waits.

        `connect_secret` signs those of connected accounts instead.
        """
        self._ask("POST", "/_webhook", {"url": url, "secret": secret, "connect_secret": connect_secret})

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            reply: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise SandboxError(str(reply["error"]["message"]))
        return reply
