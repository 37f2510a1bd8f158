"""The command `failures refused`: requests that the Celery task refused."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, at_most, command
from refund_worker.cli.output import Column, Output, count, moment, print_json, print_table

COLUMNS = (
    Column("last (UTC)"),
    Column("times", right=True),
    Column("client"),
    Column("key"),
    Column("code"),
    Column("why"),
    Column("request", only_wide=True),
)


def add_to(failures: typer.Typer) -> None:
    """Register the command `refused` in the group `failures`."""

    @command(failures, "refused", "failures refused --idempotency-key order-1001")
    def refused(
        limit: Annotated[int, at_most(1000, "requests")] = 50,
        idempotency_key: Annotated[
            str | None, typer.Option("--idempotency-key", help="only requests with this key")
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show the requests that the Celery task refused.

        A Celery message gets no reply, so the sender does not see the refusal.
        """
        from refund_worker.engine.intake.dead_letters import refused_requests

        with runtime.context() as context, context.database.read() as connection:
            found = refused_requests(connection, limit + 1, idempotency_key=idempotency_key)
        page = found[:limit]
        if output is Output.JSON:
            print_json({"data": page, "has_more": len(found) > limit})
            return
        rows = (
            (
                moment(row["at"]),
                count(row["times"]),
                row["client"],
                row["idempotency_key"],
                row["code"],
                row["message"],
                row["body"],
            )
            for row in page
        )
        print_table(COLUMNS, rows, empty="nothing was refused")
