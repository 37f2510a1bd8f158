"""`refund-worker health …`, with help and explained mistakes; the plain forms are answered before this is imported."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import healthcheck
from refund_worker.cli.options import command, group
from refund_worker.cli.output import say
from refund_worker.errors import InvalidRequest

EXIT_UNHEALTHY = 1


def add_to(app: typer.Typer) -> None:
    inner = group("health", "Exit 0 if such a process lives on this machine, 1 if not.", app)

    @command(inner, "worker", "health worker --queues bulk")
    def worker(
        queues: Annotated[
            str, typer.Option("--queues", help="each must have a worker that lives; if not said, any worker will do")
        ] = "",
    ) -> None:
        """Look at the age of the worker's heartbeat."""
        names = healthcheck.names_of(queues)
        if queues and not names:
            raise InvalidRequest("--queues names no queue: leave it out to look for any worker", field="queues")
        _end(healthcheck.worker(names) if names else healthcheck.heartbeat("worker"))

    @command(inner, "scheduler", "health scheduler")
    def scheduler() -> None:
        """Look at the age of the scheduler's heartbeat."""
        _end(healthcheck.heartbeat("scheduler"))

    @command(inner, "web", "health web --port 8000")
    def web(
        port: Annotated[
            int, typer.Option("--port", min=1, max=65535, help="where it listens")
        ] = healthcheck.WEB_PORT_DEFAULT,
    ) -> None:
        """Ask the web process whether it is alive."""
        _end(healthcheck.web(port))


def _end(life: healthcheck.Life) -> None:
    say(life.told)
    raise typer.Exit(0 if life.lives else EXIT_UNHEALTHY)
