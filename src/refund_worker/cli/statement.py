"""`refund-worker statement`: the money of one month, by currency, and what the processors say about it."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import command
from refund_worker.cli.output import Column, as_json, count, print_json, print_line, print_table
from refund_worker.errors import Unavailable

if TYPE_CHECKING:
    from refund_worker.engine.context import Context
    from refund_worker.engine.processor_sync.balance_comparison import Comparison
    from refund_worker.engine.sums.statement import Statement

EXIT_DISAGREES = 5
FIGURES = ("currency", "figure", "opening_minor", "movement_minor", "closing_minor")
SUMS = ("currency", "kind", "objects", "ledger_minor", "processor_minor")
COMPARED = "refunds and disputes"  # the only movements of an account that both sides of the comparison have
SHOWN = 50  # of the objects that differ, in a table
PROGRESS_SECONDS = 5.0


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
        ledger_only: Annotated[bool, typer.Option("--ledger-only", help="ask no processor")] = False,
        output: Annotated[Form, typer.Option("-o", "--output", help="table, json, or csv for a file")] = Form.TABLE,
    ) -> None:
        """Show the refunds and disputes of a month by currency, and compare them with the processors' records.

        Each figure has an opening, a movement and a closing, in minor units. Accepted money is paid, in flight, or not
        paid any more. The ledger's refunds and disputes of the month are compared with the balance transactions of each
        processor account, object by object. Payouts are not compared here: what they took from an account is in no
        figure of the comparison. `payees statement` shows the payouts of a payee. Exit 5 if the figures do not add up,
        or ledger and processor disagree. A month that is not over is marked.
        """
        from refund_worker.engine.sums.statement import make_statement

        with runtime.runtime(processors=not ledger_only, limited=not ledger_only) as built:
            found = make_statement(built.context, month, processor_account)
            comparisons = [] if ledger_only else _compare(built.context, month, processor_account)
        if output is Form.JSON:
            told = {**as_json(found), "adds_up": not found.disagreements}
            print_json(told if ledger_only else told | {"processors": [as_json(each) for each in comparisons]})
        elif output is Form.CSV:
            rows = [tuple(as_json(line)[name] for name in FIGURES) for line in found.lines]
            csv.writer(sys.stdout, lineterminator="\n").writerows([FIGURES, *rows])
        else:
            _print(FIGURES, [as_json(line) for line in found.lines])
            for comparison in comparisons:
                _show(comparison)
        _end(found, comparisons)


def _compare(context: Context, month: str, processor_account: str | None) -> list[Comparison]:
    from refund_worker.engine.processor_sync.balance_comparison import Span, compare_balance
    from refund_worker.engine.sums.statement import accounts_of, month_bounds

    begin, end = month_bounds(month)
    with context.database.read() as connection:
        span = Span(begin, min(end, context.clock(connection)))
    return [compare_balance(context, name, span, _Progress(name)) for name in accounts_of(context, processor_account)]


class _Progress:
    """Says on stderr how many balance transactions were read, every few seconds."""

    def __init__(self, processor: str) -> None:
        self._processor, self._told_at = processor, time.monotonic()

    def __call__(self, read: int) -> None:
        if time.monotonic() - self._told_at >= PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            print_line(f"{self._processor}: {count(read)} balance transactions read")


def _print(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    columns = [Column(name.replace("_", " "), right=name.endswith("minor") or name == "objects") for name in names]
    print_table(columns, [tuple(row[name] for name in names) for row in rows])


def _show(comparison: Comparison) -> None:
    """Print what the ledger and one processor account have, in sum and by object."""
    shown = as_json(comparison)
    name = comparison.processor_account
    print(f"\n{name}: {comparison.state.replace('_', ' ')}" + (f" ({comparison.reason})" if comparison.reason else ""))
    if not shown["totals"]:
        return
    whole = [each | {"kind": COMPARED} for each in shown["totals"]]
    _print(SUMS, [*whole, *(each | {"kind": each["kind"].replace("_", " ")} for each in shown["sums"])])
    print("payouts are not compared")
    if not shown["differences"]:
        return
    print()
    rows = [
        each | {"kind": each["kind"].replace("_", " "), "object": ", ".join(each["object_ids"])}
        for each in shown["differences"][:SHOWN]
    ]
    _print(("kind", "cause", "object", "currency", "ledger_minor", "processor_minor"), rows)
    if len(shown["differences"]) > SHOWN:
        print_line("-o json lists more of the objects")


def _end(found: Statement, comparisons: Sequence[Comparison]) -> None:
    """Say what is wrong, and exit accordingly. Raises `Unavailable` if a processor did not answer."""
    if not found.is_over:
        print_line(f"the month {found.month} is not over: its closing figures are those of now")
    if found.disagreements:
        print_line(f"error: the figures do not add up in {', '.join(found.disagreements)}")
    disagreeing = [each.processor_account for each in comparisons if each.state == "disagrees"]
    if disagreeing:
        print_line(f"error: the ledger and the balance transactions of {', '.join(disagreeing)} disagree")
    for each in comparisons:
        if each.state == "not_readable":
            print_line(f"the balance transactions of {each.processor_account} are not readable: {each.reason}")
    if found.disagreements or disagreeing:
        raise typer.Exit(EXIT_DISAGREES)
    for each in comparisons:
        if each.state == "not_answered":
            raise Unavailable(f"{each.processor_account} did not list its balance transactions: {each.reason}")
