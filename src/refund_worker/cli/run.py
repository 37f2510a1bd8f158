"""What runs until it is told to stop, and the demo."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Output, console
from refund_worker.errors import BadSettings, InvalidRequest, UnreadableFile
from refund_worker.extras import MissingExtra, require

# What runs everything in one place needs all parts.
EVERYTHING = ("web", "worker", "stripe", "sandbox")


def add_to(app: typer.Typer) -> None:
    _add_all_in_one(app)
    _add_workers(app)
    _add_web(app)
    _add_sandbox(app)


def _add_all_in_one(app: typer.Typer) -> None:
    @command(app, "demo", "demo")
    def demo(output: OutputOption = Output.TABLE) -> None:
        """The whole story on this machine, with the proof at its end; ends by itself."""
        require(*EVERYTHING)
        from refund_worker.cli.demo import run_demo

        runtime.settings()  # it has settings of its own; what is wrong with yours it tells as every command does
        raise typer.Exit(run_demo(console(), output))

    @command(app, "dev", "dev --port 8000")
    def dev(port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8000) -> None:
        """Everything in one place on http://127.0.0.1:8000, until Ctrl-C."""
        require(*EVERYTHING)
        from refund_worker.cli.dev import run_dev

        raise typer.Exit(run_dev(console(), port))


def _add_workers(app: typer.Typer) -> None:
    @command(app, "worker", "worker --queues refunds --concurrency 2")
    def worker(
        queues: Annotated[str, typer.Option("--queues", help="separated by commas; all of them if not said")] = "",
        concurrency: Annotated[int | None, typer.Option("--concurrency", min=1, max=256, help="processes")] = None,
    ) -> None:
        """Do the work, until TERM or Ctrl-C; needs a scheduler beside it."""
        from refund_worker.worker.supervisor import run_worker

        names = [name.strip() for name in queues.split(",") if name.strip()]
        if queues and not names:
            raise InvalidRequest("--queues names no queue: leave it out to work on all of them", field="queues")
        raise typer.Exit(run_worker(runtime.settings(), names, concurrency))

    @command(app, "scheduler", "scheduler")
    def scheduler() -> None:
        """Find what is due and tell the workers, until TERM or Ctrl-C."""
        from refund_worker.worker.supervisor import run_scheduler

        raise typer.Exit(run_scheduler(runtime.settings()))


def _add_web(app: typer.Typer) -> None:
    @command(app, "web", "web --port 8000")
    def web(
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")] = 8000,
        host: Annotated[str, typer.Option("--host", help="the address to listen on")] = "127.0.0.1",
        workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="processes")] = 1,
    ) -> None:
        """Serve the HTTP API, webhooks and the console, until TERM or Ctrl-C."""
        from refund_worker.web.server import run_web

        try:
            from refund_worker.worker.publisher import make_publisher
        except MissingExtra:  # the scheduler's sweep finds what is stored here
            raise typer.Exit(run_web(runtime.settings(), port, host, workers)) from None
        raise typer.Exit(run_web(runtime.settings(), port, host, workers, make_publisher))


def _add_sandbox(app: typer.Typer) -> None:
    @command(app, "sandbox", "sandbox --port 12111 --book book.jsonl --payments payments.csv")
    def sandbox(
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")],
        book: Annotated[Path, typer.Option("--book", help="its own book; made if missing")],
        payments: Annotated[Path | None, typer.Option("--payments", help="captured payments, CSV")] = None,
        faults: Annotated[Path | None, typer.Option("--faults", help="scripted faults, JSON")] = None,
        webhook_url: Annotated[str | None, typer.Option("--webhook-url", help="where events go")] = None,
        webhook_secret_file: Annotated[
            Path | None, typer.Option("--webhook-secret-file", help="what they are signed with")
        ] = None,
    ) -> None:
        """Serve a Stripe-compatible processor for tests, with its own book and scripted faults."""
        require("sandbox")
        from refund_worker.processors.sandbox import BookError, FaultFileError, PaymentError, serve
        from refund_worker.processors.sandbox.server import webhook_secret_in

        runtime.settings()  # it needs none of them; what is wrong with them it tells as every command does
        if (webhook_url is None) != (webhook_secret_file is None):
            raise InvalidRequest("--webhook-url and --webhook-secret-file belong together")
        try:
            secret = webhook_secret_in(webhook_secret_file) if webhook_secret_file else None
            serve(port, book, payments, faults, webhook_url=webhook_url, webhook_secret=secret)
        except OSError as wrong:
            if wrong.errno == errno.EADDRINUSE:
                raise BadSettings(f"port {port} is in use: choose another with --port") from None
            raise UnreadableFile(f"the sandbox stopped: {wrong}") from None
        except (BookError, FaultFileError, PaymentError) as wrong:
            raise UnreadableFile(f"the sandbox stopped: {wrong}") from None
