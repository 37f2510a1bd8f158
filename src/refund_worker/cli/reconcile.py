"""Commands of reconciliation: compare with a processor's records, and decide about what differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    AfterOption,
    OutputOption,
    acting_user,
    at_most,
    checked_reason,
    command,
    group,
)
from refund_worker.cli.output import (
    Column,
    Json,
    Output,
    as_json,
    count,
    moment,
    print_facts,
    print_json,
    print_line,
    print_table,
    yes_no,
)
from refund_worker.domain.account_names import platform_of
from refund_worker.engine.views.money_format import monies
from refund_worker.errors import BadSettings, InvalidRequest, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import RowMapping

    from refund_worker.engine.context import Context
    from refund_worker.engine.processor_sync.reconciliation import Report

EXIT_DIFFERENCES = 5
COLUMNS = Column("n"), Column("what"), Column("where"), Column("ours", right=True), Column("theirs", right=True)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="the reconciliation's id, rec_…")]
NumberArgument = Annotated[int, typer.Argument(metavar="N", min=1, help="the number of the difference")]
WhyOption = Annotated[str, typer.Option("--reason", help="why, in your own words; kept in the audit trail")]


def add_to(app: typer.Typer) -> None:
    """Register `reconcile` and the group `reconciliations`."""
    _add_reconcile(app)
    inner = group("reconciliations", "Differences between our books and a processor's.", app)
    _add_list(inner)
    _add_show(inner)
    _add_decisions(inner)


def _processor_to_compare(context: Context, wanted: str | None) -> str:
    """Return the configured processor to compare with. Raises `BadSettings` or `InvalidRequest`."""
    configured = [name for name in context.accounts.with_lists() if name in context.processors]
    if not configured:
        with_lists = (context.accounts[name] for name in context.accounts.with_lists())
        fields = (its.setting(field) for its in with_lists for field in its.entry.settings.CREDENTIALS)
        missing = " or ".join(fields) or "no account that lists its refunds"
        raise BadSettings(f"{missing} is not set: there are no records to compare with")
    if wanted is None and len(configured) == 1:
        return configured[0]
    if wanted is None or platform_of(wanted) not in configured or not context.accounts.lists(wanted):
        raise InvalidRequest(f"name the processor to compare with, with --processor: {', '.join(configured)}")
    return wanted


def show_report(account: str, report: Report, differences: int | None = None) -> None:
    """Print the result of an account's comparison, without its differences. Each currency has a total of its own."""
    number = len(report.differences) if differences is None else differences
    print_facts(
        [
            ("account", account),
            ("agrees", yes_no(number == 0)),
            ("compared", f"{count(report.compared)} legs"),
            ("differences", count(number)),
            ("in flight", f"{count(report.in_flight)} legs"),
            ("made by others", count(report.foreign)),
            ("of other installations", count(report.other_installations)),
            ("resolved by a person", count(report.resolved)),
            ("in our ledger", monies((total.currency, total.ledger_minor) for total in report.totals) or "nothing"),
            ("at the processor", monies((each.currency, each.processor_minor) for each in report.totals) or "nothing"),
        ]
    )


def _add_reconcile(app: typer.Typer) -> None:
    @command(app, "reconcile", "reconcile --days 7")
    def reconcile_(
        days: Annotated[float, typer.Option("--days", min=0.01, max=366, help="days before now to compare")] = 35,
        processor: Annotated[
            str | None,
            typer.Option(
                "--processor",
                "--account",
                "--processor-account",
                help="compare with its book; needed only if several are configured",
            ),
        ] = None,
        since: Annotated[
            str | None, typer.Option("--since", help="compare what was made at this time or later, instead of --days")
        ] = None,
        until: Annotated[str | None, typer.Option("--until", help="compare what was made before this time")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Compare our ledger with the processor's records.

        The comparison is leg by leg. It is stored after each piece: if it is stopped, the scheduler continues it. Exit
        0 if both agree, 5 if they differ.
        """
        with runtime.runtime(processors=True, limited=True) as built:
            name = _processor_to_compare(built.context, processor)
            result, report, rows = _compare(built.context, name, _times(built.context, days, since, until))
        if output is Output.JSON:
            print_json({"agrees": not rows, **result, "differences": rows})
        else:
            show_report(name, report, len(rows))
            if rows:
                print()
                print_table(COLUMNS, (_line(row) for row in rows))
                print_line(f"what to do about them: refund-worker reconciliations show {result.get('id') or 'ID'}")
        if rows:
            raise typer.Exit(EXIT_DIFFERENCES)


def _line(row: Json) -> tuple[object, ...]:
    return row.get("n", ""), row["kind"], row["subject"], row["ours"], row["theirs"]


def _times(context: Context, days: float, since: str | None, until: str | None) -> tuple[float, float | None]:
    """Return the time to compare, in epoch seconds; without `until` it has no end. Raises `InvalidRequest`."""
    from refund_worker.engine.intake.schemas import Schema, Since, Until, parse_schema

    class Times(Schema):
        since: Since | None = None
        until: Until | None = None

    given = parse_schema(Times, {"since": since, "until": until})
    with context.database.read() as connection:
        now = context.clock(connection)
    end = now if given.until is None else min(given.until, now)
    return float(int(end - days * 86_400)) if given.since is None else given.since, given.until


def _compare(context: Context, processor: str, times: tuple[float, float | None]) -> tuple[Json, Report, list[Json]]:
    """Compare, and return (the result without its differences, the same as a report, the open differences).

    Without the right to write, the comparison is made in memory and not recorded.
    """
    from sqlalchemy.exc import DBAPIError

    from refund_worker.engine.processor_sync.reconciliation.progress import Progress
    from refund_worker.engine.processor_sync.reconciliation.reading import Span
    from refund_worker.engine.processor_sync.reconciliation.report import compare_all, report_of
    from refund_worker.engine.processor_sync.reconciliation.run import run_to_end, start_reconciliation

    since, until = times
    try:
        started = start_reconciliation(context, processor, since=since, until=until, actor=acting_user())
    except (Unavailable, DBAPIError):
        report = compare_all(context, Span(processor, since, until))
        return _without_lists(report), report, [as_json(each) for each in report.differences]
    row = run_to_end(context, started, _progress())
    report = report_of(Progress.of(row["progress"]).counts, ())
    return {"id": started, **_without_lists(report)}, report, open_differences(context, started)


def _without_lists(report: Report) -> Json:
    return {name: value for name, value in as_json(report).items() if name not in ("lines", "differences")}


def _progress() -> Callable[[RowMapping], object]:
    """Return a function that shows the progress on stderr: each piece at a terminal, else each tenth."""
    import sys

    from refund_worker.engine.processor_sync.reconciliation.progress import Progress
    from refund_worker.engine.processor_sync.reconciliation.views import percent_of

    shown = 0

    def show(row: RowMapping) -> None:
        nonlocal shown
        progress = Progress.of(row["progress"])
        percent = percent_of(row, progress)
        if progress.counts.pieces > 2 and (percent >= shown + 10 or sys.stderr.isatty()):
            shown = percent
            objects, found = count(progress.counts.objects), count(row["found"])
            print_line(f"{row['reconciliation_id']}: {percent} %, {objects} refunds read, {found} differences")

    return show


def open_differences(context: Context, reconciliation_id: str) -> list[Json]:
    """Return all open differences of a reconciliation, read page by page."""
    from refund_worker.engine.processor_sync.reconciliation.kinds import State
    from refund_worker.engine.processor_sync.reconciliation.views import list_differences

    found: list[Json] = []
    while True:
        after = found[-1]["n"] if found else 0
        with context.database.read() as connection:
            page = list_differences(connection, reconciliation_id, state=State.OPEN, limit=LIMIT_MAX, after=after)
        found += [dict(each) for each in page["data"]]
        if not page["has_more"]:
            return found


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "reconciliations list")
    def list_(
        limit: Annotated[int, at_most(LIMIT_MAX, "reconciliations")] = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List reconciliations, newest first."""
        from refund_worker.engine.processor_sync.reconciliation.views import list_reconciliations

        with runtime.context() as context, context.database.read() as connection:
            page = list_reconciliations(connection, limit=limit, after=starting_after)
        if output is Output.JSON:
            print_json(dict(page))
            return
        names = ("id", "processor", "began (UTC)", "status", "done", "open", "decided")
        rows = (
            (
                each["id"],
                each["processor_account"],
                moment(each["created_at"]),
                each["status"],
                f"{each['progress']['percent']} %",
                count(each["differences"]["open"]),
                count(sum(number for state, number in each["differences"].items() if state != "open")),  # type: ignore[misc]
            )
            for each in page["data"]
        )
        print_table([Column(name) for name in names], rows, empty="no reconciliation yet: refund-worker reconcile")


def _add_show(app: typer.Typer) -> None:
    @command(app, "show", "reconciliations show rec_0193")
    def show(
        reconciliation_id: IdArgument,
        kind: Annotated[str | None, typer.Option("--kind", help="only differences of this kind")] = None,
        state: Annotated[
            str | None, typer.Option("--state", help="only open, applied, acknowledged or gone ones")
        ] = None,
        limit: Annotated[int, at_most(LIMIT_MAX, "differences")] = LIMIT_DEFAULT,
        starting_after: Annotated[
            int, typer.Option("--starting-after", min=0, help="the last number of the previous page")
        ] = 0,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show a reconciliation: its progress, its result, and its differences with the action of each."""
        from refund_worker.engine.processor_sync.reconciliation.kinds import Kind, State
        from refund_worker.engine.processor_sync.reconciliation.views import list_differences, reconciliation_view

        _check_one_of(kind, list(Kind), "kind")
        _check_one_of(state, list(State), "state")
        with runtime.context() as context, context.database.read() as connection:
            view = reconciliation_view(connection, reconciliation_id)
            page = list_differences(
                connection, reconciliation_id, kind=kind, state=state, limit=limit, after=starting_after
            )
        if output is Output.JSON:
            print_json({**view, "page": dict(page)})
            return
        _print_reconciliation(dict(view))
        columns = [Column(name) for name in ("n", "what", "where", "ours", "theirs", "state", "action")]
        print()
        print_table(
            columns,
            (
                (d["n"], d["kind"], d["subject"], d["ours"], d["theirs"], d["state"], d["action"] or "none")
                for d in page["data"]
            ),
            empty="no difference",
        )
        if page["has_more"]:
            print_line(f"more: --starting-after {page['data'][-1]['n']}")


def _check_one_of(value: str | None, known: list[str], field: str) -> None:
    if value is not None and value not in known:
        raise InvalidRequest(f"--{field} is one of {', '.join(known)}", field=field)


def _print_reconciliation(view: Json) -> None:
    progress = view["progress"]
    print_facts(
        [
            ("id", view["id"]),
            ("account", view["processor_account"]),
            ("since", moment(view["since"])),
            ("until", moment(view["until"]) if view["until"] else "its beginning"),
            ("status", view["status"]),
            ("done", f"{progress['percent']} %, {count(progress['objects'])} refunds read"),
            *([("waits", view["problem"])] if view["problem"] else []),
            ("agrees", "not known yet" if view["agrees"] is None else yes_no(view["agrees"])),
            *((state, count(number)) for state, number in view["differences"].items()),
        ]
    )


def _add_decisions(app: typer.Typer) -> None:
    @command(app, "apply", "reconciliations apply rec_0193 7 --reason 'checked in the dashboard'")
    def apply_(
        reconciliation_id: IdArgument, n: NumberArgument, reason: WhyOption = "", output: OutputOption = Output.TABLE
    ) -> None:
        """Apply the one action of a difference.

        The processor is asked again first: a difference that has vanished changes nothing.
        """
        from refund_worker.engine.processor_sync.reconciliation.actions import apply_difference

        why = checked_reason(reason)
        with runtime.runtime(processors=True, limited=True) as built:
            row = apply_difference(built.context, reconciliation_id, n, actor=acting_user(), reason=why)
        _print_decided(row, output)

    @command(app, "acknowledge", "reconciliations acknowledge rec_0193 7 --reason 'known since May'")
    def acknowledge(
        reconciliation_id: IdArgument, n: NumberArgument, reason: WhyOption = "", output: OutputOption = Output.TABLE
    ) -> None:
        """Acknowledge a difference: nothing is changed, and later reconciliations show it as acknowledged."""
        from refund_worker.engine.processor_sync.reconciliation.actions import acknowledge_difference

        why = checked_reason(reason)
        with runtime.context() as context:
            row = acknowledge_difference(context, reconciliation_id, n, actor=acting_user(), reason=why)
        _print_decided(row, output)


def _print_decided(row: RowMapping, output: Output) -> None:
    from refund_worker.engine.processor_sync.reconciliation.views import difference_view

    view = dict(difference_view(row))
    if output is Output.JSON:
        print_json(view)
    else:
        names = ("n", "kind", "subject", "state", "outcome", "decided_by", "reason")
        print_facts((name.replace("_", " "), view[name]) for name in names)
