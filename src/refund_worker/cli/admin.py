"""Commands for operators: `doctor`, `config`, `db` and `processors`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import doctor, runtime
from refund_worker.cli.options import OutputOption, ReasonOption, acting_user, checked_reason, command, group
from refund_worker.cli.output import (
    Column,
    Json,
    Output,
    count,
    moment,
    print_facts,
    print_json,
    print_line,
    print_table,
)
from refund_worker.errors import NotFound
from refund_worker.processors import registry

if TYPE_CHECKING:
    from refund_worker.engine.context import Context

ProcessorArgument = Annotated[
    str, typer.Argument(metavar="NAME", help=f"{', '.join(registry.names())}, an account such as stripe:old, or all")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands for operators."""
    doctor.add_to(app)
    _add_config(group("config", "Settings from environment variables.", app))
    _add_db(group("db", "The database schema.", app))
    _add_processors(group("processors", "Stop and resume sending to payment processors.", app))


def _add_config(app: typer.Typer) -> None:
    @command(app, "show", "config show")
    def show(output: OutputOption = Output.TABLE) -> None:
        """Show the settings in force. Secrets are hidden."""
        settings = runtime.settings()
        if output is Output.JSON:
            print_json(settings.redacted_values())
        else:
            print_facts(settings.redacted().items())


def _add_db(app: typer.Typer) -> None:
    @command(app, "upgrade", "db upgrade")
    def upgrade(output: OutputOption = Output.TABLE) -> None:
        """Migrate the database to the schema of this version.

        It is safe to repeat the command, and to run it several times at once.
        """
        from refund_worker.store.schema import current, head, upgrade

        with runtime.database() as database:
            before = current(database)
            upgrade(database)
            revisions = {"before": before, "current": current(database), "head": head()}
        _show_revisions(revisions, output)

    @command(app, "current", "db current")
    def current_(output: OutputOption = Output.TABLE) -> None:
        """Show the schema of the database, the one that is needed, and the id of the installation.

        The command never migrates the database.
        """
        from refund_worker.store.installation import installation_id
        from refund_worker.store.schema import current, head

        with runtime.database() as database:
            revisions = {"current": current(database), "head": head(), "installation": None}
            if revisions["current"]:
                with database.read() as connection:
                    revisions["installation"] = installation_id(connection)
        _show_revisions(revisions, output)

    @command(app, "grant", "db grant refund_worker_app")
    def grant(
        role: Annotated[str, typer.Argument(metavar="ROLE", help="an existing role of the Postgres server")],
    ) -> None:
        """Give a Postgres role the rights that the application needs.

        The role can add rows to the ledger and the audit trail, but cannot change or delete them. Run the command as
        the owner of the tables, and again after each upgrade.
        """
        from refund_worker.store.grants import grant_least_rights

        with runtime.database() as database:
            grant_least_rights(database, role)
        print_line(
            f"{role} can run the application; it can read and extend ledger and audit trail, but not change them"
        )


def _show_revisions(revisions: dict[str, str | None], output: Output) -> None:
    if output is Output.JSON:
        print_json(revisions)
    else:
        print_facts((name, revision or "none") for name, revision in revisions.items())


def _add_processors(app: typer.Typer) -> None:
    @command(app, "pause", "processors pause stripe --reason 'wrong amounts'")
    def pause(
        name: ProcessorArgument,
        reason: ReasonOption = "paused on the command line",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Stop sending refunds to a processor.

        Look-ups of refunds that were already sent continue.
        """
        from refund_worker.engine.processor_sync.pause import pause_processor

        with runtime.context() as context:
            _check_known(context, name)
            pause_processor(context, name, actor=acting_user(), reason=checked_reason(reason))
        _show_switch(name, output)

    @command(app, "resume", "processors resume stripe")
    def resume(
        name: ProcessorArgument,
        reason: Annotated[str | None, typer.Option("--reason", help="why you resume; kept in the audit trail")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Send refunds to a processor again.

        Refunds that waited for it become due immediately.
        """
        from refund_worker.engine.processor_sync.pause import resume_processor

        why = None if reason is None else checked_reason(reason)
        with runtime.context() as context:
            _check_known(context, name)
            resume_processor(context, name, actor=acting_user(), reason=why)
        _show_switch(name, output)

    @command(app, "status", "processors status")
    def status(output: OutputOption = Output.TABLE) -> None:
        """Show the state of each processor.

        A state is sending, paused, open or stale. Nothing is sent to a paused processor until it is resumed. An open
        one was stopped after a fault of our set-up, and is tried again every five minutes. A stale one waits until
        its refunds are listed again. "refunds off" is a setting of the account. The mode is live, test, unknown or no
        credentials. A wide terminal also shows the adapter and the rate.
        """
        switches = _status()
        if output is Output.JSON:
            print_json({"data": switches, "has_more": False})
        else:
            _print_switches(switches)


def _check_known(context: Context, name: str) -> None:
    from refund_worker.engine.processor_sync.status import is_known, switch_names

    with context.database.read() as connection:
        if not is_known(connection, context, name):
            raise NotFound(f"there is no processor {name}: choose one of {', '.join(sorted(switch_names(context)))}")


def _show_switch(name: str, output: Output) -> None:
    """Show one processor after its switch changed; in JSON as the object that the HTTP call returns."""
    from refund_worker.engine.processor_sync.status import switch_of

    if output is Output.JSON:
        with runtime.context() as context, context.database.read() as connection:
            print_json(switch_of(connection, context, name))
    else:
        switches = _status(name)
        _print_switches([switch for switch in switches if switch["name"] == name])


def _print_switches(switches: list[Json]) -> None:
    """Print a table, and the command that says what to do about each processor that is not sending."""
    from refund_worker.engine.processor_sync.status import STALE
    from refund_worker.engine.views.failure_codes import code_with_entry

    print_table(SWITCH_COLUMNS, (_switch_row(switch) for switch in switches))
    for switch in switches:
        entry = "listing_stale" if switch["state"] == STALE else switch["code"] and code_with_entry(switch["code"])
        if entry:
            print_line(f"what to do about {switch['name']}: refund-worker explain {entry}")


SWITCH_COLUMNS = (
    Column("processor"),
    Column("state"),
    Column("mode"),
    Column("adapter", only_wide=True),
    Column("since (UTC)"),
    Column("by"),
    Column("why"),
    Column("sent in the last minute", right=True, only_wide=True),
    Column("limit", right=True, only_wide=True),
)


def _status(*others: str) -> list[Json]:
    from refund_worker.engine.processor_sync.status import switches
    from refund_worker.engine.views.account_facts import account_facts

    with runtime.runtime() as built, built.context.database.read() as connection:
        found = switches(connection, built.context, others=others)
    return [switch | account_facts(built.context.accounts, switch["name"]) for switch in found]


def _switch_row(switch: Json) -> tuple[object, ...]:
    rate = f"{switch['rate_per_second']:g}/s" if switch["rate_per_second"] else ""
    why = switch["reason"]
    if switch["paused_until"]:
        why = f"{why} (next try {moment(switch['paused_until'])})"
    sent = count(switch["sent_last_minute"])
    state = f"{switch['state']}, refunds off" if switch["refunds"] == "off" else switch["state"]
    since, by = moment(switch["paused_at"]), switch["paused_by"]
    return switch["name"], state, switch["mode"], switch["adapter"], since, by, why, sent, rate
