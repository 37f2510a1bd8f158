"""`refund-worker dev`: everything in one place until Ctrl-C, on this folder's database, with the sandbox for Stripe."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from rich.console import Console

from refund_worker.cli.options import acting_user
from refund_worker.cli.stack import Stack
from refund_worker.engine.access.api_keys import create_key
from refund_worker.engine.access.console_users import create_user, disable_user, list_users
from refund_worker.errors import BadSettings, Unavailable
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.embedded_broker.broker import EMBEDDED, url_if_running

FOLDER = Path(".refund-worker")
START_SECONDS_MAX = 30.0
# A key for an afternoon's work; a new one is made at each start, and a new console user in the last one's place.
KEY_SECONDS = 12 * 3600.0


def run_dev(console: Console, port: int = 8000) -> int:
    """Run until Ctrl-C or SIGTERM; 0 then, 1 if a part ended by itself."""
    settings = load_settings()
    given = _given(os.environ, settings)
    given.setdefault(PREFIX + "DATABASE_URL", settings.database_url.get_secret_value())
    if settings.environment == "production":
        raise BadSettings("dev is for development: REFUND_WORKER_ENVIRONMENT says production")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BadSettings(f"port {port} is in use: choose another with --port")
    stopped = _Stopped()
    stack = Stack(FOLDER, settings=given, web_port=port, learn=True)
    with console.status("starting sandbox, broker, worker, scheduler and web…"):
        stack.start()
    try:
        _wait_until_ready(stack, port, stopped)
        _welcome(console, stack, port, given)
        while not stopped:
            stack.check()
            time.sleep(0.2)
    finally:
        with console.status("stopping…"):
            stack.stop()
    console.print("stopped; the database stays in .refund-worker/")
    return 0


def _given(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """What is set, a secret in a file as what is in it: our own must not come beside it."""
    given = {}
    for name, value in environ.items():
        if name.startswith(PREFIX):
            plain = name.removesuffix("_FILE")
            is_file = plain != name
            given[plain] = (
                getattr(settings, plain.removeprefix(PREFIX).lower()).get_secret_value() if is_file else value
            )
    return given


class _Stopped:
    """Becomes true with the first SIGINT or SIGTERM."""

    def __init__(self) -> None:
        self._told = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True

    def __bool__(self) -> bool:
        return self._told


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
            raise Unavailable(f"the web did not become ready in {START_SECONDS_MAX:.0f} s: see .refund-worker/web.log")
        time.sleep(0.1)


def _welcome(console: Console, stack: Stack, port: int, given: Mapping[str, str]) -> None:
    settings = load_settings(stack.environment)
    with build_runtime(settings, processors=False) as runtime:
        now = time.time()
        name = f"dev-{int(now)}"
        key = create_key(runtime.context, name=name, client="dev", role="admin", expires_at=now + KEY_SECONDS)
        for user in list_users(runtime.context):
            if user["name"].startswith("dev-") and not user["disabled_at"]:
                disable_user(runtime.context, user["name"], actor=acting_user())
        password = create_user(runtime.context, name=name, role="admin", actor=acting_user())
    lines = [
        f"[bold]refund-worker[/bold] on http://127.0.0.1:{port} (Ctrl-C ends it)",
        f"  console: http://127.0.0.1:{port}/console/ as [bold]{name}[/bold] with [bold]{password}[/bold]",
        f"  API key (admin, client dev, 12 hours): [bold]{key}[/bold]",
    ]
    # The embedded one's, which nobody else could know; another has a password that is not for the screen.
    if settings.broker_url.get_secret_value() == EMBEDDED:
        lines.append(f"  broker, for app.send_task: [bold]{url_if_running(settings)}[/bold]")
    lines += [
        f"  Stripe is the sandbox on {stack.sandbox.url}; every payment you record counts as captured there",
        "  logs and database: .refund-worker/   ·   other commands work beside it: refund-worker refunds list",
        f"  try: curl -s http://127.0.0.1:{port}/v1/refunds -H 'Authorization: Bearer {key}'",
    ]
    exports = _exports(stack, given)
    if exports:
        lines.append("  for those that ask the processor (reconcile, doctor), in their shell first:")
    for line in (*lines, *exports):
        console.print(line, soft_wrap=True)  # never broken in two: most of it is there to be copied


def _exports(stack: Stack, given: Mapping[str, str]) -> list[str]:
    """What a command in another shell lacks: the sandbox's key and place, as far as they are none of yours."""
    missing = (PREFIX + name for name in ("STRIPE_API_KEY", "STRIPE_API_BASE"))
    return [f"export {name}={stack.environment[name]}" for name in missing if name not in given]
