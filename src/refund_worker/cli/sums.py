"""`refund-worker sums`: check the sums that must hold, all of them, now."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Column, Output, as_json, count, print_facts, print_json, print_line, print_table

EXIT_DIFFERENCES = 5
# The command reports its progress after so many customers.
PROGRESS_CUSTOMERS = 50_000


def add_to(app: typer.Typer) -> None:
    """Register the command `sums`."""

    @command(app, "sums", "sums --show 20")
    def sums_(
        show: Annotated[int, typer.Option("--show", min=1, max=10_000, help="rows to name at most")] = 50,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Check all sums that must hold, for all customers, now.

        The scheduler does the same in parts, each minute. The command only reads, in short snapshots, and keeps no
        process waiting. A row that differs is read twice. Exit 0 if every sum holds, 5 otherwise.
        """
        from refund_worker.domain.sums import SAYS
        from refund_worker.engine.sums.check import check_all

        with runtime.context() as context:
            report = check_all(context, named_max=show, progress=_print_progress)
        if output is Output.JSON:
            sums = [{"sum": name, "must": SAYS[name], "violations": number} for name, number in report.by_sum.items()]
            rows = [as_json(violation) for violation in report.violations]
            print_json({"holds": report.holds, "customers": report.customers, "sums": sums, "violations": rows})
        else:
            print_facts(
                [("customers", count(report.customers)), ("sums", len(SAYS)), ("rows that differ", count(report.count))]
            )
            if report.violations:
                print()
                print_table(
                    COLUMNS,
                    ((v.sum, v.subject, v.customer_id, v.stored, v.expected, v.unit) for v in report.violations),
                )
                for name in sorted({violation.sum for violation in report.violations}):
                    print_line(f"{name}: {SAYS[name]}")
        if not report.holds:
            raise typer.Exit(EXIT_DIFFERENCES)


COLUMNS = (
    Column("sum"), Column("of", whole=True), Column("customer"), Column("stored", right=True),
    Column("must be", right=True), Column("unit"),
)  # fmt: skip


def _print_progress(customers: int) -> None:
    if customers % PROGRESS_CUSTOMERS == 0:
        print_line(f"{customers:,} customers checked")
