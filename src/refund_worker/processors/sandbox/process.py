"""The sandbox for tests: start it as a separate process and control it over its own endpoints."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from refund_worker.processors.local_server.process import LocalServer, LocalServerError


class SandboxError(LocalServerError):
    """The sandbox did not start, or refused a control request. The message contains the reason."""


class Sandbox(LocalServer):
    """A running sandbox: `with Sandbox() as sandbox: … sandbox.url`.

    A given `book` is kept; without one the book is in a temporary directory that is deleted with the sandbox. `faults`
    is a fault file or its content. `program` is a module with the sandbox's command line, `environment` its variables
    (default: ours). The process ends with the block, and also if the process that started it dies.
    """

    TITLE: ClassVar = "the sandbox"
    FAULT: ClassVar = SandboxError

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
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        folder = Path(self._folder.name)
        self.book_path = book if book is not None else folder / "book.jsonl"
        options = ["--book", str(self.book_path)]
        if payments is not None:
            options += ["--payments", str(payments)]
        if faults is not None:
            if not isinstance(faults, Path):
                (folder / "faults.json").write_text(json.dumps(faults), "utf-8")
                faults = folder / "faults.json"
            options += ["--faults", str(faults)]
        if webhook_url is not None:
            secret_file = folder / "webhook_secret"
            secret_file.touch(0o600)
            secret_file.write_text(webhook_secret or "", "utf-8")
            options += ["--webhook-url", webhook_url, "--webhook-secret-file", str(secret_file)]
        if fsync:
            options.append("--fsync")
        super().__init__(program, port, options, environment=environment)

    def close(self) -> None:
        """Stop the process and delete the temporary directory."""
        super().close()
        self._folder.cleanup()

    def restart(self) -> None:
        """Stop the process if it runs, and start it again on the same port with the same book."""
        self.stop()
        self.start()

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
