"""Commands for payout runs: plan, show, approve, cancel and wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.lists import LimitOption, Shown, add_list, show_page
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    AfterOption,
    ClientOption,
    OutputOption,
    QuietOption,
    ReasonOption,
    acting_user,
    check_quiet,
    checked_reason,
    command,
    group,
    key_or_new,
)
from refund_worker.cli.output import Column, Output, count, moment, print_facts, print_json, print_line
from refund_worker.cli.watch import exit_after_wait, wait_until
from refund_worker.engine.views.money_format import money

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from refund_worker.api_schema import PayoutRun
    from refund_worker.engine.context import Context

COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("account"),
    Column("payees", right=True),
    Column("planned", right=True),
    Column("paid", right=True),
    Column("skipped", right=True),
    Column("by", only_wide=True),
    Column("created (UTC)"),
)
ROW_COLUMNS = (
    Column("payee", whole=True),
    Column("amount", right=True),
    Column("paid", right=True),
    Column("carried", right=True),
    Column("code"),
    Column("payout"),
    Column("status"),
)
# The scheduler works on a run with one of these statuses.
UNDER_WAY = ("planning", "paying")
# A wait ended well if the run has one of these.
HOPED_FOR = ("planned", "done")

RunArgument = Annotated[str, typer.Argument(metavar="ID", help="the run's id, run_…")]


def add_to(app: typer.Typer) -> None:
    """Register the group `payout-runs`."""
    runs = group("payout-runs", "Payouts to all payees of an account in one currency.", app)
    _add_create(runs)
    _add_list(runs)
    _add_show(runs)
    _add_rows(runs)
    _add_decisions(runs)
    _add_wait(runs)


def _add_create(app: typer.Typer) -> None:
    @command(app, "create", "payout-runs create --processor-account paypal --currency EUR --dry-run")
    def create(
        processor_account: Annotated[str, typer.Option("--processor-account", help="the account that pays")],
        currency: Annotated[str, typer.Option("--currency", help="the currency that its payees are paid in")],
        minimum_minor: Annotated[
            int, typer.Option("--minimum-minor", min=0, help="no payee gets less, in minor units")
        ] = 0,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="plan it and pay nothing")] = False,
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", "--key", help="a repeated key makes no second run; generated if missing"),
        ] = None,
        client: ClientOption = "default",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Make a run. The scheduler plans and pays it; `wait` shows how far it is."""
        from refund_worker.engine.intake.payout_run_schemas import PayoutRunSchema
        from refund_worker.engine.intake.schemas import parse_schema
        from refund_worker.engine.payouts.runs import create_run

        fields = {"processor_account": processor_account, "currency": currency, "minimum_minor": minimum_minor}
        body = parse_schema(PayoutRunSchema, fields | {"dry_run": dry_run})
        request = body.request(idempotency_key=key_or_new(idempotency_key), client=client, actor=acting_user())
        with runtime.context() as context:
            run, new = create_run(context, request)
        if not new:
            print_line("the key has made this run before")
        _show(run.run_id, output)


def _add_list(app: typer.Typer) -> None:
    def read(connection: Connection, _context: Context, limit: int, after: str | None) -> Any:
        from refund_worker.engine.views.payout_runs import run_page

        return run_page(connection, client=None, limit=limit, after=after)

    add_list(app, "payout-runs list", "List runs, newest first.", read, Shown("run_id", COLUMNS, _run_row))


def _add_show(app: typer.Typer) -> None:
    @command(app, "show", "payout-runs show run_1")
    def show(run_id: RunArgument, output: OutputOption = Output.TABLE) -> None:
        """Show a run: the funds needed and available, and how far it is."""
        _show(run_id, output)


def _add_rows(app: typer.Typer) -> None:
    @command(app, "rows", "payout-runs rows run_1 --skipped")
    def rows(
        run_id: RunArgument,
        skipped: Annotated[
            bool | None, typer.Option("--skipped/--paid", help="only payees who are skipped, or only the others")
        ] = None,
        code: Annotated[str | None, typer.Option("--code", help="only rows with this code")] = None,
        csv: Annotated[bool, typer.Option("--csv", help="print all rows as CSV")] = False,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the payees of a run: the amount of each, or why it is skipped."""
        from refund_worker.engine.views.payout_runs import find_run, row_page, rows_csv

        check_quiet(quiet, output)
        with runtime.context() as context, context.database.read() as connection:
            if csv:
                print(rows_csv(connection, run_id, client=None, skipped=skipped, code=code), end="")
                return
            currency = find_run(connection, run_id, client=None)["currency"]
            page: Any = row_page(
                connection, run_id, client=None, limit=limit, after=starting_after, skipped=skipped, code=code
            )
        show_page(page, output, quiet, Shown("payee_id", ROW_COLUMNS, lambda row: _payee_row(row, currency)))


def _add_decisions(app: typer.Typer) -> None:
    @command(app, "approve", "payout-runs approve run_1 --reason 'checked with accounting'")
    def approve(run_id: RunArgument, reason: ReasonOption, output: OutputOption = Output.TABLE) -> None:
        """Let a run pay that awaits approval, as a person other than the one who made it."""
        from refund_worker.engine.payouts.runs import approve_run

        reason = checked_reason(reason)
        with runtime.context() as context:
            approve_run(context, run_id, actor=acting_user(), reason=reason)
        _show(run_id, output)

    @command(app, "cancel", "payout-runs cancel run_1 --reason 'the amounts are wrong'")
    def cancel(run_id: RunArgument, reason: ReasonOption, output: OutputOption = Output.TABLE) -> None:
        """Cancel a run that has not ended: the payouts that it made stay, and it makes no more."""
        from refund_worker.engine.payouts.runs import cancel_run

        reason = checked_reason(reason)
        with runtime.context() as context:
            cancel_run(context, run_id, actor=acting_user(), reason=reason)
        _show(run_id, output)


def _add_wait(app: typer.Typer) -> None:
    @command(app, "wait", "payout-runs wait run_1 --timeout 600")
    def wait(
        run_id: RunArgument,
        timeout: Annotated[
            float, typer.Option("--timeout", "--seconds", min=0, help="maximum waiting time in seconds")
        ] = 3_600,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Wait until a run has ended or awaits approval, with its progress on stderr.

        Exit 0 if it is done, or planned by a dry run. Exit 3 if it awaits approval or is canceled. Exit 1 if it is
        still in progress when the time is over.
        """
        from refund_worker.engine.views.payout_runs import find_run

        said = ""

        def read(context: Context) -> PayoutRun:
            nonlocal said
            with context.database.read() as connection:
                run = find_run(connection, run_id, client=None)
            if run["status"] in UNDER_WAY and (line := _progress(run)) != said:
                print_line(line)
                said = line
            return run

        with runtime.context() as context:
            run = wait_until(lambda: read(context), lambda run: run["status"] not in UNDER_WAY, timeout)
        _show(run_id, output)
        status = run["status"]
        exit_after_wait(status, is_over=status not in UNDER_WAY, ended_well=status in HOPED_FOR, timeout=timeout)


def _progress(run: Any) -> str:
    if run["status"] == "planning":
        return f"planning: {count(run['planned_payees'] + run['skipped_payees'])} of {count(run['payees'])} payees"
    return f"paying: {count(run['paid_payees'] + run['skipped_payees'])} of {count(run['payees'])} payees"


def _show(run_id: str, output: Output) -> None:
    from refund_worker.engine.views.payout_runs import find_run

    with runtime.context() as context, context.database.read() as connection:
        run: Any = find_run(connection, run_id, client=None)
    if output is Output.JSON:
        print_json(run)
        return
    currency = run["currency"]
    available = run["available_minor"]
    print_facts(
        [
            ("id", run["run_id"]),
            ("status", run["status"]),
            ("account", f"{run['processor_account']}, {currency}"),
            ("dry run", "yes" if run["dry_run"] else None),
            ("minimum", money(run["minimum_minor"], currency) if run["minimum_minor"] else None),
            ("planned", f"{money(run['planned_minor'], currency)} to {count(run['planned_payees'])} payees"),
            ("paid", f"{money(run['paid_minor'], currency)} to {count(run['paid_payees'])} payees"),
            ("skipped", count(run["skipped_payees"])),
            ("why", _counted(run["codes"])),
            ("carried forward", money(run["carried_minor"], currency)),
            ("available", "unknown" if available is None else money(available, currency)),
            ("missing", money(run["shortfall_minor"], currency) if run["shortfall_minor"] else None),
            ("payouts", _counted(run["payouts_by_status"])),
            ("approval because of", ", ".join(run["approval_codes"])),
            ("period", run["period"]),
            ("by", run["actor"]),
            ("approved by", run["approved_by"]),
            ("reason", run["reason"]),
            ("created", f"{moment(run['created_at'])} UTC"),
            ("ended", f"{moment(run['ended_at'])} UTC" if run["ended_at"] else None),
        ]
    )


def _counted(numbers: dict[str, int]) -> str:
    return ", ".join(f"{count(number)} {name}" for name, number in numbers.items())


def _run_row(run: Any) -> tuple[object, ...]:
    currency = run["currency"]
    return (
        run["run_id"],
        run["status"],
        f"{run['processor_account']}, {currency}",
        count(run["payees"]),
        money(run["planned_minor"], currency),
        money(run["paid_minor"], currency),
        count(run["skipped_payees"]),
        run["actor"],
        moment(run["created_at"]),
    )


def _payee_row(row: Any, currency: str) -> tuple[object, ...]:
    paid = row["paid_minor"]
    return (
        row["payee_id"],
        money(row["amount_minor"], currency),
        None if paid is None else money(paid, currency),
        money(row["carried_minor"], currency),
        row["code"],
        row["payout_id"],
        row["payout_status"],
    )
