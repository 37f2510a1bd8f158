"""Commands for the earnings of payees."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.lists import LimitOption, Shown, show_one, show_page
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    AfterOption,
    OutputOption,
    QuietOption,
    acting_user,
    check_quiet,
    command,
    group,
    normalized_id,
)
from refund_worker.cli.output import Column, Output, moment, print_line
from refund_worker.domain.ids import spelled
from refund_worker.engine.views.money_format import money
from refund_worker.errors import RefundWorkerError

COLUMNS = (
    Column("id", whole=True),
    Column("payee"),
    Column("amount", right=True),
    Column("clawed back", right=True),
    Column("spend"),
    Column("available (UTC)"),
    Column("description", only_wide=True),
)

EarningArgument = Annotated[str, typer.Argument(metavar="ID", help="your id of the earning", callback=spelled)]
SpendFilter = Annotated[
    str | None,
    typer.Option("--transaction", "--transaction-id", help="the spend that it came from", callback=normalized_id),
]


def add_to(app: typer.Typer) -> None:
    """Register the group `earnings`."""
    earnings = group("earnings", "What payees earned of what customers spent.", app)
    _add_record(earnings)
    _add_list(earnings)
    _add_show(earnings)


def _add_record(app: typer.Typer) -> None:
    @command(app, "record", "earnings record e-1 --payee maria --amount-minor 600 --currency EUR --transaction tx-1")
    def record(
        earning_id: EarningArgument,
        payee: Annotated[str, typer.Option("--payee", "--payee-id", help="the payee who earned it", callback=spelled)],
        amount_minor: Annotated[
            str, typer.Option("--amount", "--amount-minor", metavar="INTEGER", help="in minor units")
        ],
        currency: Annotated[str, typer.Option("--currency", help="the payee's currency")],
        transaction: SpendFilter = None,
        available_at: Annotated[
            str | None, typer.Option("--available-at", metavar="TIME", help="when it can be paid out")
        ] = None,
        description: Annotated[str, typer.Option("--description", help="shown in the payee's statement")] = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Record an earning. The same command again changes nothing.

        If credits of its spend were refunded before, their share is clawed back at once.
        """
        from refund_worker.engine.intake.file_reader import strict_integer
        from refund_worker.engine.intake.payee_schemas import EarningSchema
        from refund_worker.engine.intake.schemas import parse_schema
        from refund_worker.engine.payees.earnings import record_earnings

        fields = {
            "earning_id": earning_id,
            "payee_id": payee,
            "amount_minor": strict_integer(amount_minor, "amount_minor"),
            "currency": currency,
            "transaction_id": transaction,
            "available_at": available_at,
            "description": description,
        }
        body = parse_schema(EarningSchema, fields)
        with runtime.context() as context:
            (answer,) = record_earnings(context, [body.record()], actor=acting_user())
        if isinstance(answer, RefundWorkerError):
            raise answer
        if not answer.new:
            print_line("this earning was recorded before, with the same body")
        _show(earning_id, output)


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "earnings list --payee maria")
    def list_(
        payee: Annotated[
            str | None, typer.Option("--payee", "--payee-id", help="only of this payee", callback=normalized_id)
        ] = None,
        transaction: SpendFilter = None,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List earnings by id: all, those of one payee, or those of one spend."""
        from refund_worker.engine.views.payee_objects import earning_page

        check_quiet(quiet, output)
        with runtime.context() as context, context.database.read() as connection:
            page: Any = earning_page(
                connection, limit=limit, after=starting_after, payee_id=payee, transaction_id=transaction
            )
        show_page(page, output, quiet, SHOWN)


def _add_show(app: typer.Typer) -> None:
    @command(app, "show", "earnings show e-1")
    def show(earning_id: EarningArgument, output: OutputOption = Output.TABLE) -> None:
        """Show an earning, with what was clawed back of it."""
        _show(earning_id, output)


def _show(earning_id: str, output: Output) -> None:
    from refund_worker.engine.views.payee_objects import find_earning

    with runtime.context() as context, context.database.read() as connection:
        found: Any = find_earning(connection, earning_id)
    show_one(found, output, SHOWN)


def _row(row: Any) -> tuple[object, ...]:
    return (
        row["earning_id"],
        row["payee_id"],
        money(row["amount_minor"], row["currency"]),
        money(row["clawed_back_minor"], row["currency"]),
        row["transaction_id"],
        moment(row["available_at"]),
        row["description"],
    )


SHOWN = Shown("earning_id", COLUMNS, _row)
