"""The command `disputes warnings`: early fraud warnings, and for each the command of the refund that it suggests."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import typer

from refund_worker.api_schema import FraudWarningStatus
from refund_worker.cli import runtime
from refund_worker.cli.lists import CustomerFilter, LimitOption, PaymentFilter, Shown, show_page
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    AfterOption,
    OutputOption,
    QuietOption,
    check_quiet,
    command,
)
from refund_worker.cli.output import Column, Output, count, moment, print_line
from refund_worker.engine.views.money_format import money
from refund_worker.errors import InvalidRequest

STATUSES: tuple[str, ...] = get_args(FraudWarningStatus)
COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("suggested refund", right=True),
    Column("credits", right=True),
    Column("payable", right=True),
    Column("customer"),
    Column("payment"),
    Column("type", only_wide=True),
    Column("at the processor", only_wide=True),
    Column("warned (UTC)", only_wide=True),
)


def add_to(app: typer.Typer) -> None:
    """Register the command `warnings` in the group `disputes`."""

    @command(app, "warnings", "disputes warnings --status open")
    def warnings(
        status: Annotated[str | None, typer.Option("--status", metavar="|".join(STATUSES))] = None,
        customer: CustomerFilter = None,
        payment: PaymentFilter = None,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List early fraud warnings, newest first.

        A bank suspects the payment: a refund now usually avoids its dispute. No refund is made automatically. The
        table is followed by the command of each suggested refund, for the credits that can be paid out.
        """
        from refund_worker.engine.views.fraud_warning_objects import refund_command, warning_page
        from refund_worker.store.fraud_warnings import WarningFilters

        check_quiet(quiet, output)
        if status is not None and status not in STATUSES:
            raise InvalidRequest(f"--status must be one of {', '.join(STATUSES)}", field="status")
        filters = WarningFilters(
            limit=limit, after=starting_after, customer_id=customer, payment_id=payment, condition=status
        )
        with runtime.context() as context, context.database.read() as connection:
            page = warning_page(connection, filters)
        show_page(page, output, quiet, Shown("id", COLUMNS, _row))
        if output is not Output.JSON and not quiet:
            for line in filter(None, map(refund_command, page["data"])):
                print_line(line)


def _row(row: Any) -> tuple[object, ...]:
    suggested = row["suggested_refund"]
    return (
        row["id"],
        row["status"],
        money(suggested["amount_minor"], suggested["currency"]) if suggested else None,
        count(suggested["credits"]) if suggested else None,
        count(suggested["payable_credits"]) if suggested else None,
        row["customer_id"],
        row["payment_id"],
        row["fraud_type"],
        row["object_id"],
        moment(row["warned_at"]),
    )
