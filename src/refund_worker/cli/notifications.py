"""Commands for notifications to the admin backend: list them, and send them again."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, at_most, command, group
from refund_worker.cli.output import Column, Output, moment, print_json, print_line, print_table
from refund_worker.errors import InvalidRequest

COLUMNS = (
    Column("id", whole=True),
    Column("type"),
    Column("state"),
    Column("attempts", right=True),
    Column("next attempt (UTC)", only_wide=True),
    Column("last error"),
)


def add_to(app: typer.Typer) -> None:
    """Register the group `notifications`."""
    notifications = group("notifications", "Signed webhooks that we send to REFUND_WORKER_NOTIFY_URL.", app)
    _add_list(notifications)
    _add_redeliver(notifications)


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "notifications list --given-up")
    def list_(
        given_up: Annotated[bool, typer.Option("--given-up", help="only those without further attempts")] = False,
        refund_id: Annotated[
            str | None, typer.Option("--refund", "--refund-id", help="only notifications about this refund")
        ] = None,
        limit: Annotated[int, at_most(1000, "notifications")] = 50,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List notifications, newest first."""
        from refund_worker.engine.notifications.outbox import notifications

        with runtime.context() as context, context.database.read() as connection:
            found = notifications(connection, limit + 1, given_up=given_up, refund_id=refund_id)
        page = found[:limit]
        if output is Output.JSON:
            print_json({"data": page, "has_more": len(found) > limit})
            return
        rows = (
            (m["id"], m["type"], m["state"].replace("_", " "), m["tries"], moment(m["next_at"]), m["last_error"])
            for m in page
        )
        print_table(COLUMNS, rows, empty="no notifications")


def _add_redeliver(app: typer.Typer) -> None:
    @command(app, "redeliver", "notifications redeliver --given-up")
    def redeliver(
        ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="ids, msg_…; delivered ones too")] = None,
        given_up: Annotated[bool, typer.Option("--given-up", help="all without further attempts")] = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Send notifications again under the same ids. The scheduler sends them."""
        from refund_worker.engine.notifications.outbox import redeliver

        if bool(ids) == given_up:
            raise InvalidRequest("give the ids of notifications, or --given-up for all without further attempts")
        with runtime.context() as context:
            count = redeliver(context, ids or None)
        if output is Output.JSON:
            print_json({"due": count})
        else:
            print_line(f"{count} will be sent again")
