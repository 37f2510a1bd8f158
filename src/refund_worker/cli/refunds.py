"""The command group `refunds`: list, show, events, export and wait. The other commands are in files of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.api_schema import Refund
from refund_worker.cli import export, files, refund_actions, refund_requests, runtime
from refund_worker.cli.lists import show_rows
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    AfterOption,
    OutputOption,
    QuietOption,
    RefundArgument,
    at_most,
    check_quiet,
    chosen_statuses,
    command,
    group,
    normalized_id,
    trimmed_key,
)
from refund_worker.cli.output import Output, print_json, print_line
from refund_worker.cli.refund_output import print_events, print_refunds, read_explained, show_refund
from refund_worker.cli.watch import (
    EVERY_DEFAULT,
    EveryOption,
    WatchOption,
    exit_after_wait,
    show_watched,
    wait_until,
)
from refund_worker.domain.refund import FINAL, RefundStatus

if TYPE_CHECKING:
    from refund_worker.engine.context import Context
    from refund_worker.store.refunds import Filters


StatusFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS,…",
        help="only refunds in these statuses, separated by commas: " + ", ".join(RefundStatus),
    ),
]
CustomerFilter = Annotated[
    str | None,
    typer.Option("--customer", "--customer-id", help="only refunds of this customer", callback=normalized_id),
]
FailureFilter = Annotated[str | None, typer.Option("--failure-code", help="only refunds with this failure code")]
CreatedFilter = Annotated[
    str | None,
    typer.Option(
        "--created-gte", metavar="TIME", help="only refunds created at this time or later: ISO 8601, or a day"
    ),
]
CreatedUntilFilter = Annotated[
    str | None,
    typer.Option(
        "--created-lte", metavar="TIME", help="only refunds created at this time or earlier: ISO 8601, or a day"
    ),
]
KeyFilter = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="only refunds requested under this key", callback=trimmed_key),
]


def add_to(app: typer.Typer) -> None:
    """Register the group `refunds` with all its commands."""
    inner = group("refunds", "Request refunds, list them, decide about them.", app)
    refund_requests.add_to(inner)
    files.add_submit(inner)
    _add_list(inner)
    _add_show_and_events(inner)
    _add_export(inner)
    _add_wait(inner)
    refund_actions.add_to(inner)


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "refunds list --status needs_attention --watch")
    def list_(
        status: StatusFilter = None,
        customer: CustomerFilter = None,
        failure_code: FailureFilter = None,
        created_gte: CreatedFilter = None,
        created_lte: CreatedUntilFilter = None,
        idempotency_key: KeyFilter = None,
        quiet: QuietOption = False,
        limit: Annotated[int, at_most(LIMIT_MAX, "refunds")] = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        watch: WatchOption = False,
        every: EveryOption = EVERY_DEFAULT,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List refunds, newest first. With --watch again every two seconds."""
        check_quiet(quiet, output)
        filters = replace(
            _filters(status, customer, failure_code, created_gte, created_lte, idempotency_key),
            limit=limit,
            starting_after=starting_after,
        )
        with runtime.context() as context:

            def once() -> bool:
                _show_page(context, filters, output, quiet)
                return False

            show_watched(once, watch, every, output)


def _show_page(context: Context, filters: Filters, output: Output, quiet: bool) -> None:
    from refund_worker.engine.views.api_objects import list_refunds

    with context.database.read() as connection:
        page = list_refunds(connection, filters)
    show_rows(page, output, quiet, "id", lambda refunds: print_refunds(refunds, context.accounts))


def _add_show_and_events(app: typer.Typer) -> None:
    @command(app, "show", "refunds show rf_0199… --watch")
    def show(
        refund_id: RefundArgument,
        watch: WatchOption = False,
        every: EveryOption = EVERY_DEFAULT,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show one refund with its legs. With --watch again every two seconds, until it has ended."""
        with runtime.context() as context:

            def once() -> bool:
                shown = read_explained(context, refund_id)
                show_refund(shown.refund, output, shown.why, shown.waits)
                return shown.refund["status"] in FINAL

            show_watched(once, watch, every, output)

    @command(app, "events", "refunds events rf_0199…")
    def events(refund_id: RefundArgument, output: OutputOption = Output.TABLE) -> None:
        """Show what happened to a refund, when, by whom and why."""
        from refund_worker.engine.views.api_objects import find_refund, timeline

        with runtime.context() as context, context.database.read() as connection:
            find_refund(connection, refund_id)
            found = timeline(connection, refund_id)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            print_events(found)


def _filters(
    status: list[str] | None,
    customer: str | None,
    failure_code: str | None,
    created_gte: str | None,
    created_lte: str | None,
    idempotency_key: str | None,
) -> Filters:
    from refund_worker.engine.intake.schemas import parse_since, parse_until
    from refund_worker.store.refunds import Filters

    return Filters(
        statuses=chosen_statuses(status or (), RefundStatus),
        customer_id=customer,
        failure_code=failure_code,
        created_gte=None if created_gte is None else parse_since(created_gte),
        created_lt=None if created_lte is None else parse_until(created_lte),
        idempotency_key=idempotency_key,
    )


def _add_export(app: typer.Typer) -> None:
    @command(app, "export", "refunds export refunds.csv --status succeeded")
    def export_(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="the CSV file to write, or - for stdout")],
        status: StatusFilter = None,
        customer: CustomerFilter = None,
        failure_code: FailureFilter = None,
        created_gte: CreatedFilter = None,
        created_lte: CreatedUntilFilter = None,
        idempotency_key: KeyFilter = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Write all matching refunds as CSV, newest first.

        A cell that a spreadsheet would read as a formula gets an apostrophe in front. With -o json, stdout shows the
        number of refunds and the file. With -o json and - as the file, stdout shows the refunds as refunds list does.
        """
        filters = replace(
            _filters(status, customer, failure_code, created_gte, created_lte, idempotency_key), limit=LIMIT_MAX
        )
        with runtime.context() as context:
            if output is Output.JSON and file == export.TO_STDOUT:
                written = export.write_json(_all_refunds(context, filters))
            else:
                written = export.write(file, _all_refunds(context, filters))
        if output is Output.JSON and file != export.TO_STDOUT:
            print_json({"exported": written, "file": str(file)})
        print_line(f"{written} refunds exported")


def _all_refunds(context: Context, filters: Filters) -> Iterator[Refund]:
    """Yield all matching refunds, newest first, read one page at a time."""
    from refund_worker.engine.views.api_objects import list_refunds

    after, more = None, True
    while more:
        with context.database.read() as connection:
            page = list_refunds(connection, replace(filters, starting_after=after))
        yield from page["data"]
        more = page["has_more"]
        after = page["data"][-1]["id"] if more else None


def _add_wait(app: typer.Typer) -> None:
    @command(app, "wait", "refunds wait rf_0199… --timeout 60")
    def wait(
        refund_id: RefundArgument,
        timeout: Annotated[float, typer.Option("--timeout", min=0, help="maximum waiting time in seconds")] = 60,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Wait until a refund ends or needs attention, then show it.

        Exit 0 if it succeeded. Exit 3 if it is partially_succeeded, failed, rejected, canceled or needs_attention.
        Exit 1 if it is still in progress when the time is over.
        """
        with runtime.context() as context:
            shown = wait_until(lambda: read_explained(context, refund_id), lambda read: _is_over(read.refund), timeout)
        show_refund(shown.refund, output, shown.why, shown.waits)
        status = shown.refund["status"]
        exit_after_wait(status, is_over=_is_over(shown.refund), ended_well=status == "succeeded", timeout=timeout)


def _is_over(refund: Refund) -> bool:
    return refund["status"] in FINAL or refund["status"] == "needs_attention"
