"""Commands of the audit chain: verify it, accept differences, anchor its last hash, list its entries."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import LIMIT_MAX, OutputOption, acting_user, at_most, command, group, normalized_id
from refund_worker.cli.output import (
    Column,
    Json,
    Output,
    as_json,
    moment,
    print_facts,
    print_json,
    print_line,
    print_table,
)

if TYPE_CHECKING:
    from refund_worker.engine.audit.hash_chain import Finding

EXIT_DIFFERENCES = 5


def add_to(app: typer.Typer) -> None:
    """Register the group `audit`."""
    audit = group("audit", "Verify ledger and timeline, and list who did what.", app)
    _add_verify(audit)
    _add_accept(audit)
    _add_anchor(audit)
    _add_status(audit)
    _add_list(audit)


def _add_verify(app: typer.Typer) -> None:
    @command(app, "verify", "audit verify --anchor /backup/refunds.anchor")
    def verify_(
        anchor: Annotated[
            Path | None, typer.Option("--anchor", help="a file that audit anchor wrote, kept elsewhere")
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Find rows that changed since they were sealed.

        It finds rows that were changed, deleted, moved, added or cut off. It also finds amounts, API keys, console
        users and switches that were changed outside our programs. It also finds refunds that were sent while they
        waited for approval, or were rejected, canceled or unapproved. Exit 0 if nothing differs, 5 otherwise.
        """
        from refund_worker.engine.audit.hash_chain import verify

        with runtime.context() as context:
            report = verify(context, anchor, actor=acting_user())
        result = {"whole": report.whole, **as_json(report)}
        if output is Output.JSON:
            print_json(result)
        else:
            print_facts((name.replace("_", " "), value) for name, value in result.items() if name != "findings")
            if report.findings:
                print()
                _print_findings(report.findings)
        if not report.whole:
            raise typer.Exit(EXIT_DIFFERENCES)


def _print_findings(findings: Iterable[Finding]) -> None:
    columns = Column("table"), Column("first row", right=True), Column("last row", right=True), Column("is")
    print_table(columns, ((f.table, f.first_seq, f.last_seq, f.what) for f in findings), empty="no row differs")


def _add_accept(app: typer.Typer) -> None:
    @command(app, "accept", "audit accept")
    def accept(output: OutputOption = Output.TABLE) -> None:
        """Accept changed payments, refunds, keys, users and switches.

        They count as correct from now on, and the command prints those that differed. Run it once after an upgrade,
        when the last process of the previous version has ended, or after a manual repair. Until then, audit verify
        reports each change that our programs did not make. The audit trail records who accepted which change.
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
        file: Annotated[
            Path, typer.Argument(metavar="FILE", help="the file to append to, on another machine or medium")
        ],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Append the last hash of the chain to a file.

        With this file, audit verify detects a rewrite of the database together with its chain.
        """
        from refund_worker.engine.audit.hash_chain import write_anchor

        with runtime.context() as context:
            line = write_anchor(context, file, actor=acting_user())
        if output is Output.JSON:
            print_json(line)
        else:
            print_facts(line.items())


def _add_status(app: typer.Typer) -> None:
    @command(app, "status", "audit status")
    def status_(output: OutputOption = Output.TABLE) -> None:
        """Show how far the chain is sealed, verified and anchored.

        It also shows who verified and anchored it last, and when.
        """
        from refund_worker.engine.audit.log import status

        with runtime.context() as context, context.database.read() as connection:
            result = status(connection)
        if output is Output.JSON:
            print_json(result)
            return
        sealed = result["sealed"]
        facts: list[tuple[str, object]] = [
            ("sealed up to", f"seal {sealed['seal']}, {moment(sealed['sealed_at'])} UTC" if sealed else "nothing yet"),
            ("not sealed yet", f"{result['unsealed_rows']:,} rows"),
        ]
        names = {"all of it verified": "verified_all", "latest part verified": "verified", "anchored": "anchored"}
        print_facts([*facts, *((title, _check_text(result[name])) for title, name in names.items())])


def _check_text(check: Json | None) -> str:
    """Return one verification or anchoring as text for people."""
    if check is None:
        return "never"
    findings = f", {len(check['findings'])} findings" if check["findings"] else ""
    return f"up to seal {check['last_seal']}{findings}, {moment(check['at'])} UTC by {check['actor']}"


def _check_kind(kind: str, of: str) -> None:
    """Refuse a kind that no entry can have: a misspelled one must not look like one without entries."""
    from refund_worker.domain.ledger import EntryKind
    from refund_worker.errors import InvalidRequest
    from refund_worker.web.console.labels import EVENT_LABELS

    known = sorted(EntryKind if of == "ledger" else EVENT_LABELS)
    if kind not in known:
        raise InvalidRequest(f"the {of} has no kind {kind!r}: the kinds are {', '.join(known)}", field="kind")


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "audit list --actor console/anna --kind retry_requested")
    def list_(
        of: Annotated[str, typer.Option("--of", metavar="timeline|ledger", help="which list to show")] = "timeline",
        actor: Annotated[str | None, typer.Option("--actor", help="only entries of this actor")] = None,
        kind: Annotated[str | None, typer.Option("--kind", help="only entries of this kind")] = None,
        refund_id: Annotated[
            str | None, typer.Option("--refund", "--refund-id", help="only entries of this refund")
        ] = None,
        customer: Annotated[
            str | None,
            typer.Option(
                "--customer",
                "--customer-id",
                help="only ledger entries of this customer",
                callback=normalized_id,
            ),
        ] = None,
        alarm: Annotated[bool, typer.Option("--alarm", help="only alarms of the timeline")] = False,
        limit: Annotated[int, at_most(LIMIT_MAX, "entries")] = 50,
        before: Annotated[int | None, typer.Option("--before", help="only entries older than this number")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List who did what, newest first."""
        from refund_worker.engine.audit.log import entries

        wanted: Json = {"actor": actor, "kind": kind, "refund_id": refund_id, "customer_id": customer, "alarm": alarm}
        with runtime.context() as context, context.database.read() as connection:
            found = entries(connection, of, before=before, limit=limit, **wanted)
        if kind is not None and not found["data"]:
            _check_kind(kind, of)
        if output is Output.JSON:
            print_json(found)
            return
        if of == "ledger":
            print_table(LEDGER_COLUMNS, (_ledger_row(entry) for entry in found["data"]), empty="no such entries")
        else:
            print_table(TIMELINE_COLUMNS, (_timeline_row(entry) for entry in found["data"]), empty="no such entries")
        if found["has_more"]:
            print_line(f"there are more entries: --before {found['looked_back_to']}")


TIMELINE_COLUMNS = (
    Column("when (UTC)"), Column("who"), Column("what"), Column("to"), Column("refund", whole=True), Column("why")
)  # fmt: skip
LEDGER_COLUMNS = (
    Column("when (UTC)"), Column("who"), Column("what"), Column("customer"), Column("credits", right=True),
    Column("description"),
)  # fmt: skip


def _timeline_row(entry: Json) -> tuple[object, ...]:
    what = f"{entry['what']}{' (alarm)' if entry['alarm'] else ''}"
    # An entry without a refund concerns a processor, or the names of a person.
    subject = entry["refund_id"] or ", ".join(f"{name} {value}" for name, value in entry["detail"].items())
    return moment(entry["at"]), entry["who"], what, entry["to"], subject, entry["why"]


def _ledger_row(entry: Json) -> tuple[object, ...]:
    when, who, what = moment(entry["occurred_at"]), entry["actor"], entry["kind"]
    return when, who, what, entry["customer_id"], f"{entry['credits']:+,}", entry["description"]
