"""`refund-worker health …` with help and explained errors. `healthcheck` answers the plain forms on its own."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import healthcheck
from refund_worker.cli.options import command, group
from refund_worker.cli.output import print_line
from refund_worker.errors import InvalidRequest

EXIT_UNHEALTHY = 1


def add_to(app: typer.Typer) -> None:
    """Register the group `health`."""
    inner = group("health", "Check that a process is alive: exit 0 if it is, 1 if not.", app)

    @command(inner, "worker", "health worker --queues bulk")
    def worker(
        queues: Annotated[
            str, typer.Option("--queues", help="queues that must each have a live worker; any worker counts if missing")
        ] = "",
    ) -> None:
        """Check the age of the worker's heartbeat."""
        names = healthcheck.queue_names(queues)
        if queues and not names:
            raise InvalidRequest("--queues names no queue: leave it out to check for any worker", field="queues")
        _end(healthcheck.worker(names) if names else healthcheck.heartbeat("worker"))

    @command(inner, "scheduler", "health scheduler")
    def scheduler() -> None:
        """Check the age of the scheduler's heartbeat."""
        _end(healthcheck.heartbeat("scheduler"))

    @command(inner, "web", "health web --port 8000")
    def web(
        port: Annotated[
            int, typer.Option("--port", min=1, max=65535, help="the port that the web process listens on")
        ] = healthcheck.WEB_PORT_DEFAULT,
        host: Annotated[
            str, typer.Option("--host", help="the address that it listens on; without it 127.0.0.1 and ::1 are tried")
        ] = "",
    ) -> None:
        """Check that the web process answers."""
        _end(healthcheck.web(port, host))


def _end(health: healthcheck.Health) -> None:
    print_line(health.message)
    raise typer.Exit(0 if health.alive else EXIT_UNHEALTHY)
