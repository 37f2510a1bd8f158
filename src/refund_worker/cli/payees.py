"""Commands for payees: their destinations, their sums and their statements."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker import strict_json
from refund_worker.cli import runtime
from refund_worker.cli.lists import CustomerFilter, LimitOption, Shown, show_one, show_page
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    AfterOption,
    OutputOption,
    QuietOption,
    ReasonOption,
    acting_user,
    check_quiet,
    checked_reason,
    command,
    group,
    normalized_id,
)
from refund_worker.cli.output import Column, Json, Output, moment, print_facts, print_json, print_line, print_table
from refund_worker.domain.ids import spelled
from refund_worker.engine.views.money_format import money, monies
from refund_worker.errors import InvalidRequest, UnreadableFile

if TYPE_CHECKING:
    from refund_worker.engine.intake.payee_schemas import PayeeChangeSchema

COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("reason", only_wide=True),
    Column("destination"),
    Column("payable", right=True),
    Column("held", right=True),
    Column("debt", right=True),
    Column("account", only_wide=True),
    Column("customer", only_wide=True),
)
ENTRY_COLUMNS = (
    Column("at (UTC)"),
    Column("kind"),
    Column("reference"),
    Column("amount", right=True),
    Column("balance", right=True),
)
STATEMENT_SUMS = ("opening", "earned", "clawed_back", "paid", "returned", "closing")
DESTINATION_BYTES_MAX = 10_000

PayeeArgument = Annotated[str, typer.Argument(metavar="ID", help="your id of the payee", callback=spelled)]
AccountOption = Annotated[str, typer.Option("--processor-account", help="the account that pays")]
DestinationOption = Annotated[
    str,
    typer.Option(
        "--destination",
        metavar="FILE",
        help='a JSON file such as {"kind": "paypal", "email": "maria@example.com"}, or - to read it from stdin',
    ),
]
CurrencyOption = Annotated[str, typer.Option("--currency", help="the currency that the payee is paid in")]
CountryOption = Annotated[str | None, typer.Option("--country", help="the payee's country, in two letters")]
OwnerOption = Annotated[
    str | None,
    typer.Option("--customer", "--customer-id", help="the customer that the payee is too", callback=normalized_id),
]
MethodOption = Annotated[
    str, typer.Option("--method", metavar="standard|instant", help="how fast, where the account can choose")
]


def add_to(app: typer.Typer) -> None:
    """Register the group `payees`."""
    payees = group("payees", "People who are paid out.", app)
    _add_create(payees)
    _add_update(payees)
    _add_list(payees)
    _add_show(payees)
    _add_switches(payees)
    _add_statement(payees)


def _add_create(app: typer.Typer) -> None:
    @command(app, "create", "payees create maria --processor-account paypal --currency EUR --destination maria.json")
    def create(
        payee_id: PayeeArgument,
        processor_account: AccountOption,
        currency: CurrencyOption,
        destination: DestinationOption,
        country: CountryOption = None,
        customer: OwnerOption = None,
        method: MethodOption = "standard",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Record a payee. The same command again changes nothing.

        The destination is read from a file, because arguments are shown in the list of processes.
        """
        from refund_worker.engine.intake.payee_schemas import PayeeSchema
        from refund_worker.engine.intake.schemas import parse_schema
        from refund_worker.engine.payees.payees import record_payee

        fields = _fields(processor_account, currency, destination, country, customer, method)
        record = parse_schema(PayeeSchema, fields | {"payee_id": payee_id}).record()
        with runtime.context() as context:
            _, new = record_payee(context, record, actor=acting_user())
        if not new:
            print_line("this payee was recorded before, with the same body")
        _show(payee_id, output)


def _add_update(app: typer.Typer) -> None:
    @command(app, "update", "payees update maria --processor-account paypal --currency EUR --destination new.json")
    def update(
        payee_id: PayeeArgument,
        processor_account: AccountOption,
        currency: CurrencyOption,
        destination: DestinationOption,
        country: CountryOption = None,
        customer: OwnerOption = None,
        method: MethodOption = "standard",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Replace what is stored of a payee.

        A changed destination waits for its cool-down, and what is unsent to the old one is canceled.
        """
        from refund_worker.engine.intake.payee_schemas import PayeeChangeSchema
        from refund_worker.engine.intake.schemas import parse_schema
        from refund_worker.engine.payouts.destination_changes import change_payee

        fields = _fields(processor_account, currency, destination, country, customer, method)
        body: PayeeChangeSchema = parse_schema(PayeeChangeSchema, fields)
        with runtime.context() as context:
            change_payee(context, body.record_of(payee_id), actor=acting_user())
        _show(payee_id, output)


def _fields(
    processor_account: str, currency: str, destination: str, country: str | None, customer: str | None, method: str
) -> dict[str, Any]:
    return {
        "processor_account": processor_account,
        "currency": currency,
        "destination": _read_destination(destination),
        "country": country,
        "customer_id": customer,
        "method": method,
    }


def _read_destination(name: str) -> Any:
    """Return the JSON of the file, or of stdin. Raises `UnreadableFile`."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as file:
            return strict_json.decode(file.read(DESTINATION_BYTES_MAX).decode())
    except OSError as error:
        raise UnreadableFile(f"{name}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UnreadableFile(f"{name}: must be a JSON object with the destination's kind") from None


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "payees list")
    def list_(
        customer: CustomerFilter = None,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List payees by id, with what can be paid out to them."""
        from refund_worker.engine.views.payee_objects import payee_page

        check_quiet(quiet, output)
        with runtime.context() as context, context.database.read() as connection:
            now = context.clock(connection)
            page: Any = payee_page(connection, now, limit=limit, after=starting_after, customer_id=customer)
        show_page(page, output, quiet, SHOWN)


def _add_show(app: typer.Typer) -> None:
    @command(app, "show", "payees show maria")
    def show(
        payee_id: PayeeArgument,
        whole: Annotated[
            bool, typer.Option("--whole", help="print the whole destination; the read is kept in the timeline")
        ] = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show a payee with its sums, the destination masked."""
        if not whole:
            _show(payee_id, output)
            return
        from refund_worker.engine.payees.payees import reveal_destination

        with runtime.context() as context:
            fields = reveal_destination(context, payee_id, actor=acting_user())
        if output is Output.JSON:
            print_json(fields)
        else:
            print_facts(fields.items())


def _add_switches(app: typer.Typer) -> None:
    @command(app, "pause", "payees pause maria --reason 'asked by letter'")
    def pause(payee_id: PayeeArgument, reason: ReasonOption, output: OutputOption = Output.TABLE) -> None:
        """Pay nothing to a payee until it is resumed."""
        from refund_worker.engine.payees.payees import pause_payee

        reason = checked_reason(reason)
        with runtime.context() as context:
            pause_payee(context, payee_id, actor=acting_user(), reason=reason)
        _show(payee_id, output)

    @command(app, "resume", "payees resume maria --reason 'the letter was wrong'")
    def resume(payee_id: PayeeArgument, reason: ReasonOption, output: OutputOption = Output.TABLE) -> None:
        """Let a paused payee be paid again."""
        from refund_worker.engine.payees.payees import resume_payee

        reason = checked_reason(reason)
        with runtime.context() as context:
            resume_payee(context, payee_id, actor=acting_user(), reason=reason)
        _show(payee_id, output)


def _add_statement(app: typer.Typer) -> None:
    @command(app, "statement", "payees statement maria --month 2026-10")
    def statement(
        payee_id: PayeeArgument,
        month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="the month, in UTC")],
        form: Annotated[
            str, typer.Option("-o", "--output", metavar="table|json|csv", help="table for people, csv for spreadsheets")
        ] = "table",
    ) -> None:
        """Show the earnings, claw-backs and payouts of a payee's month, from the opening to the closing balance."""
        from refund_worker.engine.sums.statement import month_bounds
        from refund_worker.engine.views.payee_statement import payee_statement, statement_csv

        if form not in ("table", "json", "csv"):
            raise InvalidRequest("--output must be table, json or csv", field="output")
        begin, end = month_bounds(month)
        with runtime.context() as context, context.database.read() as connection:
            found = payee_statement(connection, payee_id, month, begin, end)
        if form == "json":
            print_json(found)
        elif form == "csv":
            print(statement_csv(found), end="")
        else:
            _print_statement(found)


def _print_statement(found: Any) -> None:
    for line in found["lines"]:
        currency = line["currency"]
        print_facts((name.replace("_", " "), money(line[f"{name}_minor"], currency)) for name in STATEMENT_SUMS)
        entries = [entry for entry in found["entries"] if entry["currency"] == currency]
        if entries:
            print()
            print_table(ENTRY_COLUMNS, map(_entry_row, entries))
    if not found["lines"]:
        print_line("no entries up to the end of this month")


def _entry_row(entry: Any) -> tuple[object, ...]:
    amounts = (money(entry[name], entry["currency"]) for name in ("amount_minor", "balance_minor"))
    return (moment(entry["at"]), entry["kind"].replace("_", " "), entry["reference"], *amounts)


def _show(payee_id: str, output: Output) -> None:
    from refund_worker.engine.views.payee_objects import find_payee

    with runtime.context() as context, context.database.read() as connection:
        found: Any = find_payee(connection, payee_id, context.clock(connection))
    if show_one(found, output, SHOWN) and found["needs"]:
        print_facts([("needs", ", ".join(found["needs"])), ("act by (UTC)", moment(found["act_by"]))])


def _row(row: Json) -> tuple[object, ...]:
    sums = {
        name: monies([(each["currency"], each[f"{name}_minor"]) for each in row["balances"]])
        for name in ("payable", "held", "debt")
    }
    return (
        row["payee_id"],
        row["status"],
        row["status_reason"],
        row["destination"]["masked"],
        *sums.values(),
        row["processor_account"],
        row["customer_id"],
    )


SHOWN = Shown("payee_id", COLUMNS, _row)
