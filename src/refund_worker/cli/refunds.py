"""Refunds: ask for them, look at them, decide about them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from refund_worker.api_schema import Amount, Event, Leg, PlannedLeg, Preview, Refund
from refund_worker.cli import export, files, runtime
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    ClientOption,
    OutputOption,
    ReasonOption,
    RefundArgument,
    acting_user,
    command,
    group,
    spelled_if_given,
    trimmed_if_given,
)
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_table, say
from refund_worker.domain.refund import FINAL, Kind, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.views.money_format import monies
from refund_worker.errors import InvalidRequest, Refusal

if TYPE_CHECKING:
    from refund_worker.domain.refund import RefundRequest
    from refund_worker.store.refunds import Filters

PAGE = 500
EXIT_NOT_AS_ASKED, EXIT_TIMEOUT = 3, 1
LOOK_SECONDS = 0.2

KindOption = Annotated[Kind, typer.Option("--kind", help="give back a spend's credits, or pay out the balance's")]
ToOption = Annotated[To, typer.Option("--to", help="balance (credits only) or source (money, over the payments)")]
CustomerOption = Annotated[str, typer.Option("--customer", "--customer-id", help="the customer's id")]
TransactionOption = Annotated[
    str | None, typer.Option("--transaction", "--transaction-id", help="the spend, or correction to pay out")
]
CreditsOption = Annotated[
    str | None, typer.Option("--credits", metavar="INTEGER", help="all that is left, if not said")
]
CurrencyOption = Annotated[str | None, typer.Option("--currency", help="which payments, such as GBP")]
WhyOption = Annotated[str, typer.Option("--reason", help="why, in your own words")]
VersionOption = Annotated[int | None, typer.Option("--version", help="act only if the refund is still at this version")]

StatusFilter = Annotated[list[RefundStatus] | None, typer.Option("--status", help="may be given several times")]
CustomerFilter = Annotated[
    str | None, typer.Option("--customer", "--customer-id", help="of this customer", callback=spelled_if_given)
]
FailureFilter = Annotated[str | None, typer.Option("--failure-code", help="with this failure")]
CreatedFilter = Annotated[
    str | None, typer.Option("--created-gte", metavar="TIME", help="made then or later, ISO 8601 or a day")
]
KeyFilter = Annotated[
    str | None, typer.Option("--idempotency-key", help="requested under this key", callback=trimmed_if_given)
]


def add_to(app: typer.Typer) -> None:
    inner = group("refunds", "Ask for refunds, look at them, decide about them.", app)
    for add in (_add_requests, files.add_submit, _add_looking, _add_export, _add_wait, _add_decisions, _add_resolve):
        add(inner)


def _add_requests(app: typer.Typer) -> None:
    @command(app, "create", "refunds create --kind withdrawal --to source --customer 42 --reason 'asked by mail'")
    def create(
        kind: KindOption,
        to: ToOption,
        customer: CustomerOption,
        reason: WhyOption,
        transaction: TransactionOption = None,
        credits: CreditsOption = None,
        currency: CurrencyOption = None,
        note: Annotated[str | None, typer.Option("--note", help="for your colleagues")] = None,
        requested_by: Annotated[
            str | None, typer.Option("--requested-by", help="who asked you, as a note; the actor is who runs this")
        ] = None,
        metadata: Annotated[
            list[str] | None,
            typer.Option("--metadata", metavar="KEY=VALUE", help="your own; may be given several times"),
        ] = None,
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="the same key again asks for nothing new; made if missing"),
        ] = None,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Request one refund.

        It is checked and its money reserved at once; a worker does the rest.
        """
        from refund_worker.engine.refunds.accept import request_refunds

        if idempotency_key is None:
            idempotency_key = f"cli-{uuid.uuid4()}"
            say(f"idempotency key: {idempotency_key}")
        values = _body(kind, to, customer, transaction, credits, currency, reason, note)
        values |= {"metadata": _words(metadata)} if metadata else {}
        values |= {"requested_by": requested_by} if requested_by is not None else {}
        request = _request(values, idempotency_key, client)
        with runtime.context() as context:
            (answer,) = request_refunds(context, [request])
            if isinstance(answer, Refusal):
                raise answer
            refund = _look(context, answer.refund_id)
        if answer.replayed:
            say("this key was used before: this is the refund it made")
        show_refund(refund, output)

    @command(app, "preview", "refunds preview --kind withdrawal --to source --customer 42")
    def preview(
        kind: KindOption,
        to: ToOption,
        customer: CustomerOption,
        reason: WhyOption = "preview",
        transaction: TransactionOption = None,
        credits: CreditsOption = None,
        currency: CurrencyOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show what a request would do now: maximum, legs, balance before and after. Stores nothing.

        Exit 0 also where it would be refused: that is the answer.
        """
        from refund_worker.engine.refunds.preview import preview as previewed

        values = _body(kind, to, customer, transaction, credits, currency, reason, None)
        with runtime.context() as context:
            told = previewed(context, _request(values, "preview", "cli"))
        if output is Output.JSON:
            print_json(told)
        else:
            _show_preview(told)


def _body(
    kind: Kind,
    to: To,
    customer: str,
    transaction: str | None,
    credits: str | None,
    currency: str | None,
    reason: str,
    note: str | None,
) -> dict[str, Any]:
    from refund_worker.engine.intake.file_reader import strict_integer

    values = {
        "kind": str(kind),
        "to": str(to),
        "customer_id": customer,
        "transaction_id": transaction,
        "credits": None if credits is None else strict_integer(credits, "credits"),
        "currency": currency,
        "reason": reason,
        "note": note,
    }
    return {name: value for name, value in values.items() if value is not None}


def _words(pairs: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE as given; a value may hold an equals sign, a key can't."""
    words: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidRequest("--metadata must be KEY=VALUE", field="metadata")
        if key in words:
            raise InvalidRequest(f"--metadata: {key} is there twice", field="metadata")
        words[key] = value
    return words


def _request(values: dict[str, Any], key: str, client: str) -> RefundRequest:
    from refund_worker.engine.intake.schemas import RefundSchema, parse_schema

    return parse_schema(RefundSchema, values).request(idempotency_key=key, client=client, actor=acting_user())


def _look(context: Any, refund_id: str) -> Refund:
    from refund_worker.engine.views.api_objects import find_refund, refund_view

    with context.database.read() as connection:
        return refund_view(find_refund(connection, refund_id))


def _add_looking(app: typer.Typer) -> None:
    @command(app, "list", "refunds list --status needs_attention --limit 20")
    def list_(
        status: StatusFilter = None,
        customer: CustomerFilter = None,
        failure_code: FailureFilter = None,
        created_gte: CreatedFilter = None,
        idempotency_key: KeyFilter = None,
        limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE, help="how many")] = LIMIT_DEFAULT,
        starting_after: Annotated[str | None, typer.Option("--starting-after", help="the last id already seen")] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List refunds, newest first."""
        from refund_worker.engine.views.api_objects import list_refunds

        chosen = _filters(status, customer, failure_code, created_gte, idempotency_key, limit, starting_after)
        with runtime.context() as context, context.database.read() as connection:
            page = list_refunds(connection, chosen)
        if output is Output.JSON:
            print_json(page)
            return
        print_table(LIST_COLUMNS, (_list_row(refund) for refund in page["data"]), empty="no such refunds")
        if page["has_more"]:
            say(f"there are more: --starting-after {page['data'][-1]['id']}")

    @command(app, "show", "refunds show rf_0199…")
    def show(refund_id: RefundArgument, output: OutputOption = Output.TABLE) -> None:
        """Show one refund with its legs."""
        with runtime.context() as context:
            show_refund(_look(context, refund_id), output)

    @command(app, "events", "refunds events rf_0199…")
    def events(refund_id: RefundArgument, output: OutputOption = Output.TABLE) -> None:
        """Show a refund's timeline: what, when, who, why."""
        from refund_worker.engine.views.api_objects import find_refund, timeline

        with runtime.context() as context, context.database.read() as connection:
            find_refund(connection, refund_id)
            found = timeline(connection, refund_id)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            print_table(EVENT_COLUMNS, (_event_row(event) for event in found))


def _filters(
    status: list[RefundStatus] | None,
    customer: str | None,
    failure_code: str | None,
    created_gte: str | None,
    idempotency_key: str | None,
    limit: int,
    starting_after: str | None,
) -> Filters:
    from refund_worker.engine.intake.schemas import parse_since
    from refund_worker.store.refunds import Filters

    return Filters(
        statuses=tuple(status or ()),
        customer_id=customer,
        failure_code=failure_code,
        created_gte=None if created_gte is None else parse_since(created_gte),
        idempotency_key=idempotency_key,
        limit=limit,
        starting_after=starting_after,
    )


def _add_export(app: typer.Typer) -> None:
    @command(app, "export", "refunds export refunds.csv --status succeeded")
    def export_(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="the CSV file to make, or - for stdout")],
        status: StatusFilter = None,
        customer: CustomerFilter = None,
        failure_code: FailureFilter = None,
        created_gte: CreatedFilter = None,
        idempotency_key: KeyFilter = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Write all matching refunds as CSV, newest first.

        A cell that a spreadsheet would take for a formula gets an apostrophe in front. With -o json, stdout has how
        many were written and where, and for - the refunds themselves, as refunds list has them.
        """
        from dataclasses import replace

        from refund_worker.engine.views.api_objects import list_refunds

        chosen = _filters(status, customer, failure_code, created_gte, idempotency_key, PAGE, None)

        def pages() -> Iterator[Refund]:
            after, more = None, True
            while more:
                with context.database.read() as connection:
                    page = list_refunds(connection, replace(chosen, starting_after=after))
                yield from page["data"]
                more = page["has_more"]
                after = page["data"][-1]["id"] if more else None

        with runtime.context() as context:
            if output is Output.JSON and file == export.TO_STDOUT:
                written = export.write_json(pages())
            else:
                written = export.write(file, pages())
        if output is Output.JSON and file != export.TO_STDOUT:
            print_json({"exported": written, "file": str(file)})
        say(f"{written} refunds exported")


def _add_wait(app: typer.Typer) -> None:
    @command(app, "wait", "refunds wait rf_0199… --timeout 60")
    def wait(
        refund_id: RefundArgument,
        timeout: Annotated[float, typer.Option("--timeout", min=0, help="seconds")] = 60,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Wait until a refund has ended or needs a person, and show it.

        Exit 0 if it succeeded; 3 if it ended as partially_succeeded, failed, rejected or canceled, or needs_attention;
        1 if it still goes on when the time is up.
        """
        end = time.monotonic() + timeout
        with runtime.context() as context:
            refund = _look(context, refund_id)
            while not _is_over(refund) and time.monotonic() < end:
                time.sleep(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
                refund = _look(context, refund_id)
        show_refund(refund, output)
        if not _is_over(refund):
            say(f"still {refund['status']} after {timeout:g} s")
            raise typer.Exit(EXIT_TIMEOUT)
        if refund["status"] != "succeeded":
            raise typer.Exit(EXIT_NOT_AS_ASKED)


def _is_over(refund: Refund) -> bool:
    return refund["status"] in FINAL or refund["status"] == "needs_attention"


def _add_decisions(app: typer.Typer) -> None:
    texts = {
        Action.RETRY: "Try a refund that needs attention again; the processor is asked first what it has.",
        Action.CANCEL: "Cancel a refund before its first send; everything it reserved goes free.",
        Action.APPROVE: "Approve a refund; whoever requested it can't.",
        Action.REJECT: "Reject a refund that waits for approval; everything it reserved goes free.",
    }

    def add(action: Action, text: str) -> None:
        def decide(
            refund_id: RefundArgument,
            reason: ReasonOption,
            version: VersionOption = None,
            output: OutputOption = Output.TABLE,
        ) -> None:
            _decide(refund_id, action, reason, version, output)

        decide.__doc__ = text
        command(app, action, f"refunds {action} rf_0199… --reason 'checked with the customer'")(decide)

    for action, text in texts.items():
        add(action, text)


def _add_resolve(app: typer.Typer) -> None:
    @command(app, "resolve", "refunds resolve rf_0199… --outcome paid_manually --reference bank-4711")
    def resolve(
        refund_id: RefundArgument,
        outcome: Annotated[str, typer.Option("--outcome", metavar="paid_manually|reverse", help="what became of it")],
        reference: Annotated[str | None, typer.Option("--reference", help="of the payment made by hand")] = None,
        reason: Annotated[str | None, typer.Option("--reason", help="why; required to reverse")] = None,
        version: VersionOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """End a refund that needs attention: paid by hand, or its credits given back."""
        if outcome == "paid_manually":
            reason = reason or f"paid by hand: {reference}"
            reference = _checked_reference(reference)
        elif outcome != "reverse":
            raise InvalidRequest("--outcome must be paid_manually or reverse", field="outcome")
        elif reference is not None:
            raise InvalidRequest("--reference goes with paid_manually only", field="reference")
        _decide(refund_id, Action.RESOLVE, reason or "", version, output, reference)


def checked_reason(reason: str) -> str:
    """The reason, or `InvalidRequest` for one that is empty, too long, or holds what must not be stored."""
    from refund_worker.engine.intake.schemas import Schema, Text, parse_schema

    class Reason(Schema):
        reason: Text

    if not reason.strip():
        raise InvalidRequest("--reason is missing: say why", field="reason")
    return parse_schema(Reason, {"reason": reason}).reason


def _checked_reference(reference: str | None) -> str:
    from refund_worker.engine.intake.schemas import Reference, Schema, parse_schema

    class Named(Schema):
        reference: Reference

    if reference is None:
        raise InvalidRequest("--reference must name the payment that was made by hand", field="reference")
    return parse_schema(Named, {"reference": reference}).reference


def _decide(
    refund_id: str,
    action: Action,
    reason: str,
    version: int | None,
    output: Output,
    reference: str | None = None,
) -> None:
    from refund_worker.engine.refunds.actions import perform_action as act
    from refund_worker.engine.views.api_objects import refund_view

    reason = checked_reason(reason)
    with runtime.context() as context:
        refund = act(
            context,
            refund_id,
            action,
            actor=acting_user(),
            reason=reason,
            reference=reference,
            version=version,
        )
        show_refund(refund_view(refund), output)


# --- how they look ---------------------------------------------------------------------------------------------------

LIST_COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("customer"),
    Column("credits", right=True, only_wide=True),
    Column("asked", right=True),
    Column("paid", right=True, only_wide=True),
    Column("failure"),
    Column("created (UTC)", only_wide=True),
)
LEG_COLUMNS = (
    Column("leg"),
    Column("status"),
    Column("amount", right=True),
    Column("payment"),
    Column("refund at processor", only_wide=True),
    Column("tries", right=True, only_wide=True),
    Column("failure"),
)
EVENT_COLUMNS = (Column("when (UTC)"), Column("what"), Column("to"), Column("who"), Column("why"))


def _list_row(refund: Refund) -> tuple[object, ...]:
    return (
        refund["id"],
        refund["status"],
        refund["customer_id"],
        f"{refund['credits']:,}",
        _sum(refund["amounts"], "requested_minor"),
        _sum(refund["amounts"], "succeeded_minor"),
        refund["failure_code"],
        moment(refund["created_at"]),
    )


def _event_row(event: Event) -> tuple[object, ...]:
    what = f"{event['what']}{' (alarm)' if event['alarm'] else ''}"
    return moment(event["at"]), what, event["to"], event["who"], event["why"]


def _sum(amounts: Iterable[Amount], which: Literal["requested_minor", "succeeded_minor"]) -> str:
    return monies((line["currency"], line[which]) for line in amounts)


def show_refund(refund: Refund, output: Output) -> None:
    """One refund, as the HTTP object or for people."""
    if output is Output.JSON:
        print_json(refund)
        return
    print_facts(
        [
            ("refund", refund["id"]),
            ("status", refund["status"]),
            ("failure", " - ".join(filter(None, (refund["failure_code"], refund["failure_message"])))),
            ("what", f"{refund['kind']} to {refund['to']}"),
            ("customer", refund["customer_id"]),
            ("transaction", refund["transaction_id"]),
            ("credits", f"{refund['credits']:,}"),
            ("asked for", _sum(refund["amounts"], "requested_minor")),
            ("paid", _sum(refund["amounts"], "succeeded_minor")),
            ("reason", refund["reason"]),
            ("note", refund["note"]),
            ("requested by", f"{refund['actor']} ({refund['client']})"),
            ("in their words", refund["requested_by"]),
            ("key", refund["idempotency_key"]),
            ("created", f"{moment(refund['created_at'])} UTC"),
            ("updated", f"{moment(refund['updated_at'])} UTC, version {refund['version']}"),
            ("you can", ", ".join(refund["available_actions"])),
        ]
    )
    if refund["legs"]:
        print()
        print_table(LEG_COLUMNS, (_leg_row(leg) for leg in refund["legs"]))


def _leg_row(leg: Leg) -> tuple[object, ...]:
    return (
        leg["leg_id"].rsplit("-", 1)[-1],
        leg["status"],
        monies([(leg["currency"], leg["amount_minor"])]),
        leg["payment_id"],
        leg["processor_refund_id"],
        leg["attempts"],
        leg["failure_code"],
    )


def _show_preview(told: Preview) -> None:
    refused = told["would_be"]
    policy = told["policy"]
    print_facts(
        [
            ("would be", refused if isinstance(refused, str) else f"refused: {refused['message']} ({refused['code']})"),
            ("credits", "" if told["credits"] is None else f"{told['credits']:,}"),
            ("at most", f"{told['maximum_credits']:,}"),
            ("money", _sum(told["amounts"], "requested_minor")),
            ("balance before", "" if told["balance_before"] is None else f"{told['balance_before']:,}"),
            ("balance after", "" if told["balance_after"] is None else f"{told['balance_after']:,}"),
            ("approval", "needed" if policy["needs_approval"] else "not needed"),
        ]
    )
    if told["legs"]:
        print()
        columns = Column("payment"), Column("processor"), Column("amount", right=True), Column("credits", right=True)
        print_table(columns, (_preview_row(leg) for leg in told["legs"]))


def _preview_row(leg: PlannedLeg) -> tuple[object, ...]:
    return leg["payment_id"], leg["processor"], monies([(leg["currency"], leg["amount_minor"])]), f"{leg['credits']:,}"
