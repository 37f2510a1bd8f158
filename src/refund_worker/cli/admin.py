"""Operating: the database, the switches of the processors, both books compared, the state of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import doctor, runtime
from refund_worker.cli.options import OutputOption, ReasonOption, acting_user, command, group
from refund_worker.cli.output import (
    Column,
    Json,
    Output,
    as_json,
    count,
    moment,
    print_facts,
    print_json,
    print_table,
    say,
)
from refund_worker.errors import BadSettings, InvalidRequest, NotFound
from refund_worker.processors import registry

if TYPE_CHECKING:
    from refund_worker.engine.context import Context

EXIT_DIFFERENCES = 5
ProcessorArgument = Annotated[
    str, typer.Argument(metavar="NAME", help=f"{', '.join(registry.names())}, or all of them: all")
]


def add_to(app: typer.Typer) -> None:
    doctor.add_to(app)
    _add_config(group("config", "The settings, from environment variables.", app))
    _add_db(group("db", "The database's schema.", app))
    _add_processors(group("processors", "The kill switch of each payment processor.", app))
    _add_reconcile(app)


def _add_config(app: typer.Typer) -> None:
    @command(app, "show", "config show")
    def show(output: OutputOption = Output.TABLE) -> None:
        """Show every setting, secrets hidden."""
        told = runtime.settings().redacted()
        if output is Output.JSON:
            print_json(told)
        else:
            print_facts(told.items())


def _add_db(app: typer.Typer) -> None:
    @command(app, "upgrade", "db upgrade")
    def upgrade(output: OutputOption = Output.TABLE) -> None:
        """Bring the database to this program's schema; safe to repeat, and by several at a time."""
        from refund_worker.store.schema import current, head, upgrade

        with runtime.database() as database:
            before = current(database)
            upgrade(database)
            told = {"before": before, "current": current(database), "head": head()}
        _show_revisions(told, output)

    @command(app, "current", "db current")
    def current_(output: OutputOption = Output.TABLE) -> None:
        """Show which schema the database has and which one this program needs."""
        from refund_worker.store.schema import current, head

        with runtime.database() as database:
            told = {"current": current(database), "head": head()}
        _show_revisions(told, output)

    @command(app, "grant", "db grant refund_worker_app")
    def grant(role: Annotated[str, typer.Argument(metavar="ROLE", help="an existing role")]) -> None:
        """Let a Postgres role run the application, but change or delete nothing in ledger and audit trail.

        Run it as the owner of the tables, again after each upgrade.
        """
        from refund_worker.store.grants import grant_least_rights

        with runtime.database() as database:
            grant_least_rights(database, role)
        say(f"{role} may run the application; ledger and audit trail it may only read and append to")


def _show_revisions(told: dict[str, str | None], output: Output) -> None:
    if output is Output.JSON:
        print_json(told)
    else:
        print_facts((name, revision or "none") for name, revision in told.items())


def _add_processors(app: typer.Typer) -> None:
    @command(app, "pause", "processors pause stripe --reason 'wrong amounts'")
    def pause(
        name: ProcessorArgument,
        reason: ReasonOption = "paused on the command line",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Send nothing more to a processor; looking up what was sent goes on."""
        from refund_worker.cli.refunds import checked_reason
        from refund_worker.engine.processor_sync.pause import pause_processor

        with runtime.context() as context:
            _check_known(context, name)
            pause_processor(context, name, actor=acting_user(), reason=checked_reason(reason))
        _show_switch(name, output)

    @command(app, "resume", "processors resume stripe")
    def resume(
        name: ProcessorArgument,
        reason: Annotated[str | None, typer.Option("--reason", help="why; it is kept in the audit trail")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Send to a processor again; what waited is due at once."""
        from refund_worker.cli.refunds import checked_reason
        from refund_worker.engine.processor_sync.pause import resume_processor

        why = None if reason is None else checked_reason(reason)
        with runtime.context() as context:
            _check_known(context, name)
            resume_processor(context, name, actor=acting_user(), reason=why)
        _show_switch(name, output)

    @command(app, "status", "processors status")
    def status(output: OutputOption = Output.TABLE) -> None:
        """Show where is sent: which processor is paused or its circuit open, by whom and why, and the rate."""
        found = _status()
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            print_table(SWITCH_COLUMNS, (_status_row(line) for line in found))


def _check_known(context: Context, name: str) -> None:
    from refund_worker.engine.processor_sync.status import is_known, switch_names

    with context.database.read() as connection:
        if not is_known(connection, name):
            raise NotFound(f"processor {name} is not known: there are {', '.join(sorted(switch_names()))}")


def _show_switch(name: str, output: Output) -> None:
    """One processor's, as it stands after it was turned; in JSON the object of the HTTP call that turns it."""
    from refund_worker.engine.processor_sync.status import switch_of

    if output is Output.JSON:
        with runtime.context() as context, context.database.read() as connection:
            print_json(switch_of(connection, context, name))
    else:
        print_table(SWITCH_COLUMNS, (_status_row(line) for line in _status(name) if line["name"] == name))


SWITCH_COLUMNS = (
    Column("processor"),
    Column("state"),
    Column("since (UTC)"),
    Column("by"),
    Column("why"),
    Column("sent in the last minute", right=True, only_wide=True),
    Column("limit", right=True, only_wide=True),
)


def _status(*others: str) -> list[Json]:
    from refund_worker.engine.processor_sync.status import switches

    with runtime.runtime() as built, built.context.database.read() as connection:
        return switches(connection, built.context, others=others, rates=registry.rates(built.settings))


def _status_row(line: Json) -> tuple[object, ...]:
    rate = f"{line['rate_per_second']:g}/s" if line["rate_per_second"] else ""
    until = f"{line['reason']} (tried again {moment(line['paused_until'])})" if line["paused_until"] else line["reason"]
    sent = count(line["sent_last_minute"])
    return line["name"], line["state"], moment(line["paused_at"]), line["paused_by"], until, sent, rate


def _with_a_book(context: Context, wanted: str | None) -> str:
    """Return the configured processor whose list of refunds is compared. Raises `BadSettings`, `InvalidRequest`."""
    configured = [name for name in registry.names_with_lists() if name in context.processors]
    if not configured:
        with_lists = (entry for entry in registry.entries() if entry.capabilities.lists_refunds)
        missing = " or ".join(f"REFUND_WORKER_{entry.access_setting}" for entry in with_lists)
        raise BadSettings(f"{missing} is not set: there is no book to compare with")
    if wanted is None and len(configured) == 1:
        return configured[0]
    if wanted not in configured:
        raise InvalidRequest(f"name the processor whose book is compared, with --processor: {', '.join(configured)}")
    return wanted


def _add_reconcile(app: typer.Typer) -> None:
    @command(app, "reconcile", "reconcile --days 7")
    def reconcile_(
        days: Annotated[float, typer.Option("--days", min=0.01, max=366, help="how far back")] = 35,
        processor: Annotated[
            str | None, typer.Option("--processor", help="whose book; needed only if several are configured")
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Hold our ledger against the processor's own book, leg by leg.

        Exit 0 if they agree, 5 if they don't.
        """
        from refund_worker.engine.processor_sync.reconciliation import reconcile

        with runtime.runtime(processors=True) as built:
            report = reconcile(built.context, _with_a_book(built.context, processor), days)
        told = {"agrees": report.agrees, **as_json(report)}
        del told["lines"]
        if output is Output.JSON:
            print_json(told)
        else:
            print_facts((name.replace("_", " "), str(value)) for name, value in told.items() if name != "differences")
            if report.differences:
                print()
                columns = Column("what"), Column("where"), Column("ours", right=True), Column("theirs", right=True)
                print_table(columns, ((d.kind, d.subject, d.ours, d.theirs) for d in report.differences))
        if not report.agrees:
            raise typer.Exit(EXIT_DIFFERENCES)
