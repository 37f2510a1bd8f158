"""`refund-worker statement`: the money of one month, by currency."""

from __future__ import annotations

import csv
import sys
from enum import StrEnum
from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import command
from refund_worker.cli.output import Column, as_json, print_json, print_line, print_table

EXIT_DISAGREES = 5


class Form(StrEnum):
    """The form of a statement."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def add_to(app: typer.Typer) -> None:
    """Register the command `statement`."""

    @command(app, "statement", "statement --month 2026-10 -o csv")
    def statement_(
        month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="the month, in UTC")],
        processor_account: Annotated[
            str | None, typer.Option("--processor-account", help="only the money of this processor account")
        ] = None,
        output: Annotated[Form, typer.Option("-o", "--output", help="table, json, or csv for a file")] = Form.TABLE,
    ) -> None:
        """Show the accepted, paid and taken money of a month by currency.

        Each figure has an opening, a movement and a closing, in minor units. Accepted money is paid, in flight, or not
        paid any more; exit 5 if that does not add up. A month that is not over is marked.
        """
        from refund_worker.engine.sums.statement import make_statement

        with runtime.context() as context:
            found = make_statement(context, month, processor_account)
        names = ("currency", "figure", "opening_minor", "movement_minor", "closing_minor")
        rows = [tuple(as_json(line)[name] for name in names) for line in found.lines]
        if output is Form.JSON:
            print_json({**as_json(found), "adds_up": not found.disagreements})
        elif output is Form.CSV:
            csv.writer(sys.stdout, lineterminator="\n").writerows([names, *rows])
        else:
            print_table([Column(name.replace("_", " "), right=name.endswith("minor")) for name in names], rows)
        if not found.is_over:
            print_line(f"the month {month} is not over: its closing figures are those of now")
        if found.disagreements:
            print_line(f"error: the figures do not add up in {', '.join(found.disagreements)}")
            raise typer.Exit(EXIT_DISAGREES)
