"""`refund-worker dev`: all processes on this machine until Ctrl-C, with the database of this folder and two sandboxes.

Stripe and PayPal are sandboxes. PayPal is left out if the settings have accounts of their own (`PROCESSORS_FILE`).
"""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from rich.console import Console

from refund_worker.cli.dev_login import login
from refund_worker.cli.dev_payees import make_payees
from refund_worker.cli.stack import Stack
from refund_worker.errors import BadSettings, Unavailable
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, Settings, given_settings, load_settings
from refund_worker.stop_signals import treat_hang_up_as_term
from refund_worker.worker.embedded_broker.broker import EMBEDDED, url_if_running

FOLDER = Path(".refund-worker")
START_SECONDS_MAX = 30.0
# With one of these settings the database or an account may have other uses.
OF_OTHERS = ("DATABASE_URL", "PROCESSORS", "PROCESSORS_FILE", "STRIPE_API_BASE", "DESTINATIONS_KEY")


def run_dev(console: Console, port: int = 8000, host: str = "127.0.0.1") -> int:
    """Run until Ctrl-C, SIGTERM or SIGHUP, and return 0. Only API and console listen on `host`, the rest on 127.0.0.1.

    Raises `BadSettings` if the port is in use or the environment is production, and `Unavailable` if a process does not
    start or ends unexpectedly.
    """
    settings = load_settings()
    chosen = _settings_in(os.environ, settings)
    # Payees are made up only where everything is of this folder and of the sandboxes.
    alone = not {PREFIX + name for name in OF_OTHERS} & chosen.keys()
    if alone:
        chosen.setdefault(PREFIX + "PAYEE_COOLDOWN_SECONDS", "0")
    chosen.setdefault(PREFIX + "DATABASE_URL", settings.database_url.get_secret_value())
    if settings.environment == "production":
        raise BadSettings("dev is for development, but REFUND_WORKER_ENVIRONMENT is production")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BadSettings(f"port {port} is in use: choose another with --port")
    stopped = _Stopped()
    own_accounts = PREFIX + "PROCESSORS" in chosen
    stack = Stack(FOLDER, settings=chosen, web_port=port, web_host=host, learn=True, with_paypal=not own_accounts)
    with console.status("starting sandboxes, broker, worker, scheduler and web…"):
        stack.start()
    try:
        _wait_until_ready(stack, port, stopped)
        _welcome(console, stack, port, chosen, alone=alone)
        while not stopped:
            stack.check()
            time.sleep(0.2)
    finally:
        with console.status("stopping…"):
            stack.stop()
    console.print("stopped; the database is kept in .refund-worker/")
    return 0


def _settings_in(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the settings that are set, by full name. A secret in a file is replaced by its value.

    Otherwise the stack would add its own secret under the other name, and both would be set.
    """
    chosen = {}
    for name, value in given_settings(environ).items():
        plain = name.upper().removesuffix("_FILE")
        is_file = plain != name.upper()
        if value:
            chosen[plain] = (
                getattr(settings, plain.removeprefix(PREFIX).lower()).get_secret_value() if is_file else value
            )
    return chosen


class _Stopped:
    """A flag that becomes true with the first SIGINT, SIGTERM or SIGHUP."""

    def __init__(self) -> None:
        self._received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        treat_hang_up_as_term()

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self._received = True

    def __bool__(self) -> bool:
        return self._received


def _wait_until_ready(stack: Stack, port: int, stopped: _Stopped) -> None:
    end = time.monotonic() + START_SECONDS_MAX
    while not stopped:
        stack.check()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if time.monotonic() > end:
            raise Unavailable(
                f"the web process was not ready after {START_SECONDS_MAX:.0f} s: see .refund-worker/web.log"
            )
        time.sleep(0.1)


def _welcome(console: Console, stack: Stack, port: int, chosen: Mapping[str, str], *, alone: bool) -> None:
    settings = load_settings(stack.environment)
    with build_runtime(settings, processors=False) as runtime:
        name, password, key = login(runtime.context, FOLDER)
        if alone:
            make_payees(runtime.context, stack)
    lines = [
        f"[bold]refund-worker[/bold] on http://127.0.0.1:{port} (Ctrl-C stops it)",
        f"  console: http://127.0.0.1:{port}/console/ user [bold]{name}[/bold], password [bold]{password}[/bold]",
        f"  API key (admin, client dev): [bold]{key}[/bold]",
    ]
    # Only the embedded broker's URL is printed. Another broker's URL is known, and may contain a password.
    if settings.broker_url.get_secret_value() == EMBEDDED:
        lines.append(f"  broker, for app.send_task: [bold]{url_if_running(settings)}[/bold]")
    lines += [
        *_sandboxes(stack),
        "  logs and database: .refund-worker/   ·   other commands work meanwhile: refund-worker refunds list",
        f"  try: curl -s http://127.0.0.1:{port}/v1/refunds -H 'Authorization: Bearer {key}'",
    ]
    exports = _exports(stack, chosen)
    if exports:
        lines.append("  before commands that call the processor (reconcile, doctor), run in their shell:")
    for line in (*lines, *exports):
        console.print(line, soft_wrap=True)  # lines are not wrapped, because people copy them


def _sandboxes(stack: Stack) -> list[str]:
    if stack.paypal is None:
        return [f"  Stripe is the sandbox on {stack.sandbox.url}; it treats every payment that you record as captured"]
    return [
        f"  Stripe is the sandbox on {stack.sandbox.url}, PayPal the one on {stack.paypal.url}",
        "  both treat every payment that you record as captured",
    ]


def _exports(stack: Stack, chosen: Mapping[str, str]) -> list[str]:
    """Return the shell lines that another command needs to reach the sandboxes, without settings that are `chosen`."""
    names = (
        PREFIX + name for name in ("STRIPE_API_KEY", "STRIPE_API_BASE", "PROCESSORS_FILE", "DESTINATIONS_KEY_FILE")
    )
    found = {name: stack.environment[name] for name in names if name in stack.environment and name not in chosen}
    return [f"export {name}={shlex.quote(value)}" for name, value in found.items()]
