"""Files in: payments, transactions and refund requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import ClientOption, OutputOption, acting_user, command, group
from refund_worker.cli.output import Output, as_json, console, count, plain, print_facts, print_json
from refund_worker.engine.views.money_format import monies

if TYPE_CHECKING:
    from refund_worker.engine.intake.file_import import Imported, Rejected, Submitted
    from refund_worker.engine.intake.file_reader import Rows

EXIT_SOME_REJECTED = 3
LINES_SHOWN = 3

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="the file to read, UTF-8")]
REJECTS = "Rows that can't be used are reported with line number and code, the rest is stored; exit 3 then. A file that"
REJECTS += (
    " can't be read to its end, or has another header, stores nothing; exit 2. The same file again does nothing new."
)


def add_to(app: typer.Typer) -> None:
    inner = group("import", "Payments and transactions from CSV files.", app)

    @command(inner, "payments", "import payments payments.csv")
    def payments(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
        """Record payments and the credits they bought.

        Rows that can't be used are reported with line and code, the rest is stored: exit 3. A file that can't be
        read to its end, or has another header, stores nothing: exit 2. The same file again does nothing new.
        """
        from refund_worker.engine.intake.file_import import import_payments
        from refund_worker.engine.intake.file_reader import read_payments

        _imported(read_payments(file), import_payments, output)

    @command(inner, "transactions", "import transactions transactions.csv")
    def transactions(file: FileArgument, output: OutputOption = Output.TABLE) -> None:
        """Record what customers spent; rows of another kind are rejected.

        Rows that can't be used are reported with line and code, the rest is stored: exit 3. A file that can't be
        read to its end, or has another header, stores nothing: exit 2. The same file again does nothing new.
        """
        from refund_worker.engine.intake.file_import import import_spends
        from refund_worker.engine.intake.file_reader import read_spends

        _imported(read_spends(file), import_spends, output)


def add_submit(app: typer.Typer) -> None:
    """`refunds submit`, which belongs to another group of commands."""

    @command(app, "submit", "refunds submit requests.csv --dry-run")
    def submit(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="requests as .csv or .jsonl, UTF-8")],
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="check everything, store nothing, hold up nobody")
        ] = False,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Request many refunds, in the order of the file.

        Rows that are refused are reported with line and code, the rest is accepted: exit 3. A file that can't be
        read to its end, or has another header, stores nothing: exit 2. The same file again does nothing new.
        """
        from refund_worker.engine.intake.file_import import submit_requests, try_requests
        from refund_worker.engine.intake.file_reader import read_refund_requests

        rows = read_refund_requests(file, client=client, actor=acting_user())
        with runtime.context() as context, _progress(file, rows.count) as progress:
            report = (try_requests if dry_run else submit_requests)(context, rows, progress)
        if output is Output.JSON:
            rejected = [as_json(row) for row in report.rejected]
            print_json({"accepted": report.accepted, "replayed": report.replayed, "rejected": rejected})
        else:
            _show_submitted(report, dry_run)
        if report.rejected:
            raise typer.Exit(EXIT_SOME_REJECTED)


def _imported(rows: Rows[Any], take: Callable[..., Imported], output: Output) -> None:
    with runtime.context() as context, _progress(rows.path, rows.count) as progress:
        report = take(context, rows, progress)
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
            ("money asked for", monies(sorted(report.totals.items())) or "none"),
        ]
    )
    _show_rejected(report.rejected)
    if dry_run:
        console().print("\ndry run: nothing was stored")


def _show_rejected(rejected: Sequence[Rejected]) -> None:
    """By code, the most frequent first, each with its first lines."""
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
            out.print(Text(f"  and {count(len(rows) - LINES_SHOWN)} more: -o json lists them all"))


@contextmanager
def _progress(path: Path, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr where somebody watches."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=bar, disable=not bar.is_terminal, transient=True) as progress:
        task = progress.add_task(escape(plain(path.name)), total=total)
        yield lambda rows: progress.advance(task, rows)
