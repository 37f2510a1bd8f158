"""`refund-worker demo`: stories of refunds and payouts end to end; at the end both sides' records are compared.

Worker, scheduler and web are processes of their own with a real broker. The money goes through the official SDK over
HTTP to Stripe's sandbox, and from our own client to PayPal's: separate processes with records of their own.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from refund_worker.cli.demo.api import Api
from refund_worker.cli.demo.report import report
from refund_worker.cli.demo.report_of_payees import prove_payouts
from refund_worker.cli.demo.scenes import FAULTS, SCENES
from refund_worker.cli.demo.scenes_of_others import SCENES_OF_OTHERS
from refund_worker.cli.demo.scenes_of_payees import SCENES_OF_PAYEES
from refund_worker.cli.demo.scenes_of_two_processors import SCENES_OF_TWO_PROCESSORS
from refund_worker.cli.demo.session import Demo
from refund_worker.cli.stack import Stack
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.publisher import make_publisher

# Short times, so that the demo finds a lost answer again within seconds instead of minutes.
CLOCKS = {
    "LEASE_SECONDS": "4",
    "SWEEP_SECONDS": "0.3",
    "RETRY_BASE_SECONDS": "0.3",
    "RETRY_MAX_SECONDS": "2",
    "POLL_SECONDS": "0.5",
    "QUIET_SECONDS": "5",
    "PROCESSOR_TIMEOUT_SECONDS": "1.5",
    "STRIPE_RATE_PER_SECOND": "0",
    # Earnings can be paid out at once, to a new payee too.
    "EARNINGS_HOLD_SECONDS": "0",
    "PAYEE_COOLDOWN_SECONDS": "0",
}


ALL_SCENES = (*SCENES, *SCENES_OF_OTHERS, *SCENES_OF_TWO_PROCESSORS, *SCENES_OF_PAYEES)


def run_demo(console: Console, output: str = "table", scenes: Sequence[Callable[[Demo], None]] = ALL_SCENES) -> int:
    """Run the scenes in an empty folder. Return 0 if every check passed, else 1.

    With `output` "json" the progress goes to stderr, and `console` gets one object: ok, seconds, checks[{claim, ok,
    seen}], proof{ledger_minor, processor_minor, legs,
    payouts_ledger_minor, payouts_processor_minor}.
    """
    started = time.monotonic()
    progress = Console(stderr=True) if output == "json" else console
    with tempfile.TemporaryDirectory(prefix="refund-worker-demo-") as folder, _running(progress, Path(folder)) as demo:
        for scene in scenes:
            scene(demo)
        proof = report(demo) | prove_payouts(demo)
    good = all(check["ok"] for check in demo.checks)
    seconds = round(time.monotonic() - started, 1)
    if output == "json":
        console.print_json(data={"ok": good, "seconds": seconds, "checks": demo.checks, "proof": proof})
    else:
        result = "[bold green]Passed[/bold green]" if good else "[bold red]Failed[/bold red]"
        passed = sum(check["ok"] for check in demo.checks)
        console.print(f"\n{result}: {passed} of {len(demo.checks)} checks are true, in {seconds} s.")
    return 0 if good else 1


@contextmanager
def _running(console: Console, folder: Path) -> Iterator[Demo]:
    console.print("[bold]refund-worker demo[/bold]: credits first, then real money, exactly once, despite crashes")
    clocks = {PREFIX + name: value for name, value in CLOCKS.items()}
    stack = Stack(folder, settings=clocks, faults=FAULTS, web_port=_free_port(), with_paypal=True)
    with console.status("  starting sandboxes, broker, worker, scheduler and web…"):
        stack.start()
    try:
        assert stack.paypal is not None
        # The first scenes show that the worker finds everything without webhooks.
        stack.sandbox.send_webhooks_to(None)
        stack.paypal.send_webhooks_to(None)
        console.print(f"  [dim]started with SQLite and an embedded broker: {', '.join(stack.parts)}[/dim]")
        settings: Settings = load_settings(stack.environment)
        with build_runtime(settings, publish=make_publisher(settings)) as runtime:
            yield Demo(console, stack, runtime, Api(stack, runtime.context))
    finally:
        stack.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
