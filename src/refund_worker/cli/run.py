"""Commands that run until they are stopped, and the demo."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Output, console
from refund_worker.errors import BadSettings, InvalidRequest, UnreadableFile
from refund_worker.extras import require

# `demo` and `dev` run all parts, so they need these extras.
EVERYTHING = ("web", "worker", "stripe", "sandbox")


def add_to(app: typer.Typer) -> None:
    """Register `demo`, `dev`, `worker`, `scheduler`, `web` and `sandbox`."""
    _add_all_in_one(app)
    _add_workers(app)
    _add_web(app)
    _add_sandbox(app)


def _add_all_in_one(app: typer.Typer) -> None:
    @command(app, "demo", "demo")
    def demo(output: OutputOption = Output.TABLE) -> None:
        """Run sixteen stories of refunds and payouts and check their results.

        At the end it compares our ledger with the processor's records. The demo takes about a minute and uses its own
        database, broker and sandbox. Exit 0 if all checks pass, 1 if not.
        """
        require(*EVERYTHING)
        from refund_worker.cli.demo.runner import run_demo

        runtime.settings()  # the demo has settings of its own, but reports wrong ones like every command
        raise typer.Exit(run_demo(console(), output))

    @command(app, "dev", "dev --port 8000")
    def dev(
        port: Annotated[int, typer.Option("--port", min=1, max=65535, help="the port of API and console")] = 8000,
        host: Annotated[
            str, typer.Option("--host", help="the address of API and console; 0.0.0.0 in a container")
        ] = "127.0.0.1",
    ) -> None:
        """Run everything on this machine until Ctrl-C.

        That is API, console, worker, scheduler, broker and sandbox. The address is http://127.0.0.1:8000, or the port
        that you choose.
        """
        require(*EVERYTHING)
        from refund_worker.cli.dev import run_dev

        raise typer.Exit(run_dev(console(), port, host))


def _add_workers(app: typer.Typer) -> None:
    @command(app, "worker", "worker --queues refunds --concurrency 2")
    def worker(
        queues: Annotated[
            str, typer.Option("--queues", help="names of queues, separated by commas; all queues if missing")
        ] = "",
        concurrency: Annotated[
            int | None, typer.Option("--concurrency", min=1, max=256, help="number of processes")
        ] = None,
    ) -> None:
        """Process refunds until TERM or Ctrl-C.

        A scheduler must run as well.
        """
        from refund_worker.worker.supervisor import run_worker

        names = [name.strip() for name in queues.split(",") if name.strip()]
        if queues and not names:
            raise InvalidRequest("--queues names no queue: leave it out to work on all of them", field="queues")
        raise typer.Exit(run_worker(runtime.settings(), names, concurrency))

    @command(app, "scheduler", "scheduler")
    def scheduler() -> None:
        """Find due refunds and wake the workers until TERM or Ctrl-C."""
        from refund_worker.worker.supervisor import run_scheduler

        raise typer.Exit(run_scheduler(runtime.settings()))


def _add_web(app: typer.Typer) -> None:
    @command(app, "web", "web --port 8000")
    def web(
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="the port; 0 chooses a free one")] = 8000,
        host: Annotated[str, typer.Option("--host", help="the address to listen on")] = "127.0.0.1",
        workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="number of processes")] = 1,
    ) -> None:
        """Serve HTTP API, webhooks and console until TERM or Ctrl-C."""
        from refund_worker.web.server import run_web

        limiter = runtime.limiter_factory()
        raise typer.Exit(
            run_web(runtime.settings(), port, host, workers, runtime.publisher_factory(), make_limiter=limiter)
        )


def _add_sandbox(app: typer.Typer) -> None:
    @command(app, "sandbox", "sandbox --port 12111 --book book.jsonl --payments payments.csv")
    def sandbox(
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="the port; 0 chooses a free one")],
        book: Annotated[Path, typer.Option("--book", help="the file of its records; created if missing")],
        payments: Annotated[Path | None, typer.Option("--payments", help="captured payments, a CSV file")] = None,
        faults: Annotated[Path | None, typer.Option("--faults", help="scripted faults, a JSON file")] = None,
        webhook_url: Annotated[
            str | None, typer.Option("--webhook-url", help="the URL that receives webhook events")
        ] = None,
        webhook_secret_file: Annotated[
            Path | None, typer.Option("--webhook-secret-file", help="a file with the secret that signs webhook events")
        ] = None,
    ) -> None:
        """Serve a Stripe-compatible processor for tests.

        It has its own records, and its faults can be scripted. POST /_actions plays disputes, refunds made in the
        dashboard, customers who must act, new charges and the account's balance. GET /_actions lists all actions.
        """
        require("sandbox")
        from refund_worker.processors.sandbox import BookError, FaultFileError, PaymentError, serve
        from refund_worker.processors.sandbox.server import webhook_secret_in

        runtime.settings()  # the sandbox needs none, but reports wrong ones like every command
        if (webhook_url is None) != (webhook_secret_file is None):
            raise InvalidRequest("--webhook-url and --webhook-secret-file must be given together")
        try:
            secret = webhook_secret_in(webhook_secret_file) if webhook_secret_file else None
            serve(port, book, payments, faults, webhook_url=webhook_url, webhook_secret=secret)
        except OSError as wrong:
            if wrong.errno == errno.EADDRINUSE:
                raise BadSettings(f"port {port} is in use: choose another with --port") from None
            raise UnreadableFile(f"the sandbox stopped: {wrong}") from None
        except (BookError, FaultFileError, PaymentError) as wrong:
            raise UnreadableFile(f"the sandbox stopped: {wrong}") from None
