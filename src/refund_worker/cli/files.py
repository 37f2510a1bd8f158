"""Commands that read files: payments, transactions and refund requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import account_import, runtime
from refund_worker.cli.options import ClientOption, OutputOption, acting_user, command, group
from refund_worker.cli.output import Output, as_json, console, count, plain, print_facts, print_json
from refund_worker.engine.views.money_format import monies

if TYPE_CHECKING:
    from refund_worker.engine.intake.file_import import Imported, Rejected, Submitted
    from refund_worker.engine.intake.file_reader import Rows

EXIT_SOME_REJECTED = 3
LINES_SHOWN = 3

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="the file to read, UTF-8")]
RequestsArgument = Annotated[Path, typer.Argument(metavar="FILE", help="requests as .csv or .jsonl, UTF-8")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="check every row, store and reserve nothing")]


def add_to(app: typer.Typer) -> None:
    """Register the group `import`."""
    inner = group("import", "Payments, transactions and earnings from CSV files, or payments from an account.", app)

    @command(inner, "payments", "import payments payments.csv")
    def payments(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
        """Record payments and the credits that they bought.

        Invalid rows are reported with line and code, and the rest is stored: exit 3. If the file cannot be read to
        its end, or has another header, nothing is stored: exit 2. Importing a file again stores nothing new.
        """
        from refund_worker.engine.intake.file_import import import_payments
        from refund_worker.engine.intake.file_reader import read_payments

        _import(read_payments(file), import_payments, output)

    @command(inner, "transactions", "import transactions transactions.csv")
    def transactions(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
        """Record spends of customers. Rows of another kind are rejected.

        Invalid rows are reported with line and code, and the rest is stored: exit 3. If the file cannot be read to
        its end, or has another header, nothing is stored: exit 2. Importing a file again stores nothing new.
        """
        from refund_worker.engine.intake.file_import import import_spends
        from refund_worker.engine.intake.file_reader import read_spends

        _import(read_spends(file), import_spends, output)

    @command(inner, "earnings", "import earnings earnings.csv")
    def earnings(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
        """Record the earnings of payees.

        Invalid rows are reported with line and code, and the rest is stored: exit 3. If the file cannot be read to
        its end, or has another header, nothing is stored: exit 2. Importing a file again stores nothing new.
        """
        from functools import partial

        from refund_worker.engine.intake.file_import import import_earnings
        from refund_worker.engine.intake.file_reader import read_earnings

        _import(read_earnings(file), partial(import_earnings, actor=acting_user()), output)

    account_import.add_to(inner)


def add_submit(app: typer.Typer) -> None:
    """Register the command `submit` in the group `refunds`."""

    @command(app, "submit", "refunds submit requests.csv --dry-run")
    def submit(
        file: RequestsArgument,
        dry_run: DryRunOption = False,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Request many refunds, in the order of the file.

        Refused rows are reported with line and code, and the rest is accepted: exit 3. If the file cannot be read to
        its end, or has another header, nothing is stored: exit 2. Submitting a file again requests nothing new.
        """
        from refund_worker.engine.intake.file_import import submit_requests, try_requests
        from refund_worker.engine.intake.file_reader import read_refund_requests

        rows = read_refund_requests(file, client=client, actor=acting_user())
        _submit(rows, try_requests if dry_run else submit_requests, dry_run, output)


def add_submit_payouts(app: typer.Typer) -> None:
    """Register the command `submit` in the group `payouts`."""

    @command(app, "submit", "payouts submit payouts.csv --dry-run")
    def submit(
        file: RequestsArgument,
        dry_run: DryRunOption = False,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Request many payouts, in the order of the file.

        Refused rows are reported with line and code, and the rest is accepted: exit 3. If the file cannot be read to
        its end, or has another header, nothing is stored: exit 2. Submitting a file again requests nothing new.
        """
        from refund_worker.engine.intake.file_reader import read_payout_requests
        from refund_worker.engine.intake.payout_files import submit_payouts, try_payouts

        rows = read_payout_requests(file, client=client, actor=acting_user())
        _submit(rows, try_payouts if dry_run else submit_payouts, dry_run, output)


def _submit(rows: Rows[Any], take: Callable[..., Submitted], dry_run: bool, output: Output) -> None:
    with runtime.context() as context, _progress(rows.path, rows.count) as progress:
        report = take(context, rows, progress)
    if output is Output.JSON:
        rejected = [as_json(row) for row in report.rejected]
        print_json({"accepted": report.accepted, "replayed": report.replayed, "rejected": rejected})
    else:
        _show_submitted(report, dry_run)
    if report.rejected:
        raise typer.Exit(EXIT_SOME_REJECTED)


def _import(rows: Rows[Any], store_rows: Callable[..., Imported], output: Output) -> None:
    with runtime.context() as context, _progress(rows.path, rows.count) as progress:
        report = store_rows(context, rows, progress)
    if output is Output.JSON:
        rejected = [as_json(row) for row in report.rejected]
        print_json({"imported": report.imported, "unchanged": report.unchanged, "rejected": rejected})
    else:
        facts = [("imported", count(report.imported)), ("unchanged", count(report.unchanged))]
        facts += [("rejected", count(len(report.rejected))), ("new credits", count(report.credits))]
        print_facts([*facts, ("new money", monies(sorted(report.totals.items())))])
        _show_rejected(report.rejected)
    if report.rejected:
        raise typer.Exit(EXIT_SOME_REJECTED)


def _show_submitted(report: Submitted, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    print_facts(
        [
            (f"{would}accepted", count(report.accepted)),
            (f"{would}replayed", count(report.replayed)),
            (f"{would}rejected", count(len(report.rejected))),
            ("money requested", monies(sorted(report.totals.items())) or "none"),
        ]
    )
    _show_rejected(report.rejected)
    if dry_run:
        console().print("\ndry run: nothing was stored")


def _show_rejected(rejected: Sequence[Rejected]) -> None:
    """Print the rejected rows by code, the most frequent code first, each with its first lines."""
    from rich.text import Text

    by_code: dict[str, list[Rejected]] = {}
    for row in rejected:
        by_code.setdefault(row.code, []).append(row)
    out = console()
    for code, rows in sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0])):
        out.print(Text.assemble("\nrejected  ", (code, "bold"), f"  {count(len(rows))}"))
        for row in rows[:LINES_SHOWN]:
            out.print(Text(f"  line {row.line}: {plain(row.message)}"))
        if len(rows) > LINES_SHOWN:
            out.print(Text(f"  and {count(len(rows) - LINES_SHOWN)} more: -o json lists all of them"))


@contextmanager
def _progress(path: Path, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on stderr if it is a terminal. Yield the function that counts rows as done."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=bar, disable=not bar.is_terminal, transient=True) as progress:
        task = progress.add_task(escape(plain(path.name)), total=total)
        yield lambda rows: progress.advance(task, rows)
