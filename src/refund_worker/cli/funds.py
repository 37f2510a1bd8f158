"""The command that compares the money at the processor accounts with what refunds and payouts need of it."""

from __future__ import annotations

import typer

from refund_worker.api_schema import Funds
from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Column, Output, moment, print_json, print_line, print_table
from refund_worker.engine.views.money_format import money

COLUMNS = (
    Column("account"),
    Column("available", right=True),
    Column("pending", right=True),
    Column("read (UTC)"),
    Column("queued", right=True, only_wide=True),
    Column("approved", right=True, only_wide=True),
    Column("blocked", right=True, only_wide=True),
    Column("needed", right=True),
    Column("awaiting approval", right=True),
    Column("missing", right=True),
)


def add_to(app: typer.Typer) -> None:
    """Register the command `funds`."""

    @command(app, "funds", "funds")
    def funds(output: OutputOption = Output.TABLE) -> None:
        """Compare the money at each processor account with what refunds and payouts need of it.

        The scheduler reads the balances every few minutes. A balance that is old or cannot be read is unknown, and
        so is what is missing there.
        """
        from refund_worker.engine.views.funds import funds_view

        with runtime.context() as context, context.database.read() as connection:
            found = funds_view(connection, context)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
            return
        print_table(COLUMNS, (_row(fund) for fund in found), empty="no balance was read, and no refund needs money")
        for line in filter(None, (_line(fund) for fund in found)):
            print_line(line)


def _row(fund: Funds) -> tuple[object, ...]:
    def text(minor: int | None) -> str:
        return "unknown" if minor is None else money(minor, fund["currency"])

    is_known = fund["state"] == "current"
    return (
        fund["processor_account"],
        text(fund["available_minor"]) if is_known else "unknown",
        text(fund["pending_minor"]) if is_known else "unknown",
        moment(fund["read_at"]),
        text(fund["queued_minor"]),
        text(fund["approved_minor"]),
        text(fund["blocked_minor"]),
        text(fund["needed_minor"]),
        text(fund["awaiting_approval_minor"]),
        text(fund["shortfall_minor"]),
    )


def _line(fund: Funds) -> str | None:
    from refund_worker.engine.views.funds import funds_sentence

    return funds_sentence(fund)
