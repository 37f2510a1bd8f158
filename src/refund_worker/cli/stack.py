"""All processes on one machine: sandboxes, broker, worker, scheduler and the web process."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from refund_worker.errors import Unavailable
from refund_worker.processors.paypal.sandbox import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, PayPalSandbox
from refund_worker.processors.sandbox import Sandbox
from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.embedded_broker.broker import EmbeddedBroker

STOP_SECONDS = 15.0
PAYPAL = "paypal"


class Stack:
    """All processes, with their logs in a folder. `environment` has the settings that a client of them needs.

    `settings` have full names and are kept as they are. Missing settings point into the folder and to the sandbox.
    With a `web_port` the web process runs too, and the sandbox sends its webhooks there. With `with_paypal` there is a
    second account, and `paypal` is its sandbox. With `learn` the sandboxes treat every payment in our database as
    captured; otherwise payments are registered with `sandbox.register_payment`, or made with `paypal.new_payment`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        faults: Mapping[str, Any] | None = None,
        web_port: int | None = None,
        web_host: str = "127.0.0.1",
        learn: bool = False,
        with_paypal: bool = False,
    ) -> None:
        self.folder = folder
        self.web_port, self._web_host = web_port, web_host
        self.environment = dict(settings or {})
        self.environment.setdefault(PREFIX + "DATABASE_URL", f"sqlite:///{folder / 'refunds.db'}")
        # A new key for the sandbox alone. The sandbox accepts any test key, and this one is valid nowhere else.
        self.environment.setdefault(PREFIX + "STRIPE_API_KEY", f"sk_test_{secrets.token_hex(12)}")
        secret = self.environment.setdefault(PREFIX + "STRIPE_WEBHOOK_SECRET", f"whsec_{secrets.token_hex(24)}")
        self.sandbox = Sandbox(
            book=folder / "sandbox-book.jsonl",
            faults=faults,
            webhook_url=f"http://127.0.0.1:{web_port}/webhooks/stripe" if web_port else None,
            webhook_secret=secret.split(",")[0] if web_port else None,
            program="refund_worker.cli.dev_sandbox" if learn else "refund_worker.processors.sandbox",
            environment=self._variables(),
        )
        self.paypal = self._paypal(learn) if with_paypal else None
        self._broker: EmbeddedBroker | None = None
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the processes that run in addition to the sandbox and the broker."""
        return tuple(self._parts)

    def start(self) -> None:
        """Start every process. If one does not start, stop the others and raise its error."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._start_sandboxes()
            if PREFIX + "DESTINATIONS_KEY" not in self.environment:
                self.environment.setdefault(PREFIX + "DESTINATIONS_KEY_FILE", str(self._destinations_key()))
            self.environment.setdefault(PREFIX + "STRIPE_API_BASE", self.sandbox.url)
            if self.paypal is not None:
                if self.web_port:
                    self.paypal.send_webhooks_to(f"http://127.0.0.1:{self.web_port}/webhooks/{PAYPAL}")
                self.environment[PREFIX + "PROCESSORS_FILE"] = str(self._write_account(self.paypal))
            self._broker = EmbeddedBroker(load_settings(self.environment))
            self._broker.start()
            self._begin("worker")
            self._begin("scheduler")
            if self.web_port:
                self._begin("web", "--host", self._web_host, "--port", str(self.web_port))
        except BaseException:
            self.stop()
            raise

    def _start_sandboxes(self) -> None:
        """Start them at the same time, because each needs a second or more. Raises the error of one that cannot."""
        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(each.start) for each in (self.sandbox, self.paypal) if each is not None]
        for each in starting:
            each.result()

    def _paypal(self, learn: bool) -> PayPalSandbox:
        if not learn:
            return PayPalSandbox()
        book, program = self.folder / "paypal-book.jsonl", "refund_worker.cli.dev_paypal"
        return PayPalSandbox(book=book, program=program, environment=self._variables())

    def _write_account(self, paypal: PayPalSandbox) -> Path:
        """Write the account at the PayPal sandbox, and return the file."""
        account = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "webhook_id": WEBHOOK_ID}
        account["api_base"] = paypal.url
        lines = [f'["{PAYPAL}"]', *(f'{name} = "{value}"' for name, value in account.items())]
        file = self.folder / "processors.toml"
        file.write_text("\n".join([*lines, ""]), "utf-8")
        return file.resolve()

    def _destinations_key(self) -> Path:
        """Return the file of the key that seals destinations; it is kept, as the database is."""
        file = self.folder / "destinations_key"
        if not file.exists():
            file.touch(0o600)
            file.write_text(base64.b64encode(secrets.token_bytes(32)).decode(), "utf-8")
        return file.resolve()

    def _variables(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return others | self.environment

    def _begin(self, name: str, *options: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self._logs.append(log)
        self._parts[name] = subprocess.Popen(
            [sys.executable, "-m", "refund_worker", name, *options],
            env=self._variables(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a signal to our group is for us: we stop the parts in order
        )

    def check(self) -> None:
        """Raise `Unavailable` with the name and the log of a process if it has ended unexpectedly."""
        for name, part in self._parts.items():
            if part.poll() is not None:
                raise Unavailable(f"the {name} process ended unexpectedly; its log is {self.folder / name}.log")

    def wipe_broker(self) -> None:
        """Erase everything in the broker, as a crash without persistence does."""
        if self._broker is not None:
            self._broker.wipe()

    def stop(self) -> None:
        """Stop all processes: first those that process refunds, then the broker and the sandbox."""
        for part in self._parts.values():
            if part.poll() is None:
                part.send_signal(signal.SIGTERM)
        for part in self._parts.values():
            try:
                part.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                part.kill()
                part.wait()
        self._parts.clear()
        if self._broker is not None:
            self._broker.stop()
            self._broker = None
        self.sandbox.close()
        if self.paypal is not None:
            self.paypal.close()
        for log in self._logs:
            log.close()
        self._logs.clear()
