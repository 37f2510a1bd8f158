"""The audit chain: is everything as it was written, and a mark of it to keep elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, acting_user, command, group, spelled_if_given
from refund_worker.cli.output import Column, Json, Output, as_json, moment, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from refund_worker.engine.audit.hash_chain import Finding

EXIT_DIFFERENCES = 5


def add_to(app: typer.Typer) -> None:
    audit = group("audit", "Whether ledger and timeline are as they were written.", app)
    _add_verify(audit)
    _add_accept(audit)
    _add_anchor(audit)
    _add_status(audit)
    _add_list(audit)


def _add_verify(app: typer.Typer) -> None:
    @command(app, "verify", "audit verify --anchor /backup/refunds.anchor")
    def verify_(
        anchor: Annotated[Path | None, typer.Option("--anchor", help="a file of audit anchor, kept elsewhere")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Find rows that were changed, deleted, moved, added or cut off since they were sealed.

        Also amounts, API keys, console users and switches that none of our programs changed so,
        and refunds that were sent though nobody had let them go.
        Exit 0 if there are none, 5 if there are.
        """
        from refund_worker.engine.audit.hash_chain import verify

        with runtime.context() as context:
            report = verify(context, anchor, actor=acting_user())
        told = {"whole": report.whole, **as_json(report)}
        if output is Output.JSON:
            print_json(told)
        else:
            print_facts((name, str(value)) for name, value in told.items() if name != "findings")
            if report.findings:
                print()
                _print_findings(report.findings)
        if not report.whole:
            raise typer.Exit(EXIT_DIFFERENCES)


def _print_findings(findings: Iterable[Finding]) -> None:
    columns = Column("table"), Column("first row", right=True), Column("last row", right=True), Column("is")
    print_table(columns, ((f.table, f.first_seq, f.last_seq, f.what) for f in findings), empty="no row differed")


def _add_accept(app: typer.Typer) -> None:
    @command(app, "accept", "audit accept")
    def accept(output: OutputOption = Output.TABLE) -> None:
        """Take payments, refunds, keys, users and switches for right as they stand now, and print which had differed.

        Once after an upgrade, when the last process of the version before has ended, or after a repair by hand: what
        our programs did not write is a finding of audit verify until then. Who accepted what is noted.
        """
        from refund_worker.engine.audit.hash_chain import accept_rows

        with runtime.context() as context:
            found = accept_rows(context, actor=acting_user())
        if output is Output.JSON:
            print_json({"accepted": [as_json(finding) for finding in found]})
        else:
            _print_findings(found)


def _add_anchor(app: typer.Typer) -> None:
    @command(app, "anchor", "audit anchor /backup/refunds.anchor")
    def anchor(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="on another machine or medium; a line is added")],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Note the last hash in a file: who then rewrites database and chain together is found out by it."""
        from refund_worker.engine.audit.hash_chain import write_anchor

        with runtime.context() as context:
            line = write_anchor(context, file, actor=acting_user())
        if output is Output.JSON:
            print_json(line)
        else:
            print_facts((name, str(value)) for name, value in line.items())


def _add_status(app: typer.Typer) -> None:
    @command(app, "status", "audit status")
    def status_(output: OutputOption = Output.TABLE) -> None:
        """Show how far the chain is sealed, and when it was last verified and anchored, by whom."""
        from refund_worker.engine.audit.log import status

        with runtime.context() as context, context.database.read() as connection:
            told = status(connection)
        if output is Output.JSON:
            print_json(told)
            return
        sealed = told["sealed"]
        facts: list[tuple[str, object]] = [
            ("sealed up to", f"seal {sealed['seal']}, {moment(sealed['sealed_at'])} UTC" if sealed else "nothing yet"),
            ("not sealed yet", f"{told['unsealed_rows']:,} rows"),
        ]
        names = {"all of it verified": "verified_all", "latest part verified": "verified", "anchored": "anchored"}
        print_facts([*facts, *((title, _look(told[name])) for title, name in names.items())])


def _look(check: Json | None) -> str:
    if check is None:
        return "never"
    what = f", {len(check['findings'])} findings" if check["findings"] else ""
    return f"up to seal {check['last_seal']}{what}, {moment(check['at'])} UTC by {check['actor']}"


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "audit list --actor console/anna --kind retry_requested")
    def list_(
        of: Annotated[str, typer.Option("--of", metavar="timeline|ledger", help="of what")] = "timeline",
        actor: Annotated[str | None, typer.Option("--actor", help="done by")] = None,
        kind: Annotated[str | None, typer.Option("--kind", help="what was done")] = None,
        refund_id: Annotated[str | None, typer.Option("--refund-id", help="of this refund")] = None,
        customer: Annotated[
            str | None,
            typer.Option(
                "--customer", "--customer-id", help="of this customer, in the ledger", callback=spelled_if_given
            ),
        ] = None,
        alarm: Annotated[bool, typer.Option("--alarm", help="alarms only, in the timeline")] = False,
        limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="how many")] = 50,
        before: Annotated[int | None, typer.Option("--before", help="from before this entry on")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List who did what, newest first."""
        from refund_worker.engine.audit.log import entries

        wanted = {"actor": actor, "kind": kind, "refund_id": refund_id, "customer_id": customer, "alarm": alarm}
        with runtime.context() as context, context.database.read() as connection:
            found = entries(connection, of, before=before, limit=limit, **wanted)
        if output is Output.JSON:
            print_json(found)
            return
        if of == "ledger":
            print_table(LEDGER_COLUMNS, (_ledger_row(entry) for entry in found["data"]), empty="no such entries")
        else:
            print_table(TIMELINE_COLUMNS, (_timeline_row(entry) for entry in found["data"]), empty="no such entries")
        if found["has_more"]:
            say(f"there are more: --before {found['looked_back_to']}")


TIMELINE_COLUMNS = (
    Column("when (UTC)"), Column("who"), Column("what"), Column("to"), Column("refund", whole=True), Column("why")
)  # fmt: skip
LEDGER_COLUMNS = (
    Column("when (UTC)"), Column("who"), Column("what"), Column("customer"), Column("credits", right=True),
    Column("description"),
)  # fmt: skip


def _timeline_row(entry: Json) -> tuple[object, ...]:
    what = f"{entry['what']}{' (alarm)' if entry['alarm'] else ''}"
    # What is about no refund is about a processor, or about names of a person.
    of = entry["refund_id"] or ", ".join(f"{name} {value}" for name, value in entry["detail"].items())
    return moment(entry["at"]), entry["who"], what, entry["to"], of, entry["why"]


def _ledger_row(entry: Json) -> tuple[object, ...]:
    when, who, what = moment(entry["occurred_at"]), entry["actor"], entry["kind"]
    return when, who, what, entry["customer_id"], f"{entry['credits']:+,}", entry["description"]
