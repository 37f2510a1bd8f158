"""The command group `payouts`: create, preview, list, show, events and wait. `payout_actions.py` has the decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.api_schema import PayoutPreview
from refund_worker.cli import bank_files, files, payout_actions, runtime
from refund_worker.cli.lists import show_rows
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    AfterOption,
    ClientOption,
    OutputOption,
    QuietOption,
    acting_user,
    at_most,
    check_quiet,
    chosen_statuses,
    command,
    group,
    key_or_new,
    normalized_id,
    trimmed_key,
)
from refund_worker.cli.output import Output, print_json, print_line
from refund_worker.cli.payout_output import print_payouts, read_payout, show_payout, show_payout_preview
from refund_worker.cli.refund_output import print_events
from refund_worker.cli.watch import (
    EVERY_DEFAULT,
    EveryOption,
    WatchOption,
    exit_after_wait,
    show_watched,
    wait_until,
)
from refund_worker.domain.payouts.payout import PAYOUT_ENDS, PayoutStatus
from refund_worker.errors import Refusal

if TYPE_CHECKING:
    from refund_worker.engine.context import Context
    from refund_worker.store.payouts.lists import PayoutFilters

# A wait ends here: paid, ended, or with a person or the payee.
_OVER = frozenset(
    {
        *PAYOUT_ENDS,
        *(PayoutStatus.PAID, PayoutStatus.NEEDS_ATTENTION, PayoutStatus.RECIPIENT_ACTION),
        PayoutStatus.AWAITING_APPROVAL,
    }
)

PayoutArgument = payout_actions.PayoutArgument
PayeeOption = Annotated[str, typer.Option("--payee", "--payee-id", help="your id of the payee")]
AmountOption = Annotated[
    str | None,
    typer.Option("--amount", "--amount-minor", metavar="INTEGER", help="minor units; all that is payable if missing"),
]
CurrencyOption = Annotated[str | None, typer.Option("--currency", help="the currency; the payee's if missing")]

StatusFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS,…",
        help="only payouts in these statuses, separated by commas: " + ", ".join(PayoutStatus),
    ),
]
PayeeFilter = Annotated[
    str | None, typer.Option("--payee", "--payee-id", help="only of this payee", callback=normalized_id)
]
RunFilter = Annotated[str | None, typer.Option("--run", "--run-id", help="only of this run")]
AccountFilter = Annotated[str | None, typer.Option("--processor-account", help="only over this account")]
FailureFilter = Annotated[str | None, typer.Option("--failure-code", help="only with this failure code")]
CreatedFilter = Annotated[
    str | None,
    typer.Option("--created-gte", metavar="TIME", help="only created then or later: ISO 8601, or a day"),
]
KeyFilter = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="only the one requested under this key", callback=trimmed_key),
]


def add_to(app: typer.Typer) -> None:
    """Register the group `payouts` with all its commands."""
    inner = group("payouts", "Payouts of earnings: request them, list them, decide about them.", app)
    _add_create(inner)
    _add_preview(inner)
    files.add_submit_payouts(inner)
    _add_list(inner)
    _add_show_and_events(inner)
    _add_wait(inner)
    payout_actions.add_to(inner)
    bank_files.add_to(inner)


def _add_create(app: typer.Typer) -> None:
    @command(app, "create", "payouts create --payee maria --currency EUR --amount 5000")
    def create(
        payee: PayeeOption,
        currency: Annotated[str, typer.Option("--currency", help="the payee's currency")],
        amount: AmountOption = None,
        description: Annotated[str, typer.Option("--description", help="what it is for; the payee may see it")] = "",
        requested_by: Annotated[
            str | None,
            typer.Option("--requested-by", help="who asked you, as a note; the actor is who runs this command"),
        ] = None,
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="a repeated key makes no second payout; generated if missing"),
        ] = None,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Request one payout.

        The request is checked and its amount reserved immediately. A worker does the rest.
        """
        from refund_worker.engine.intake.payee_schemas import PayoutSchema
        from refund_worker.engine.intake.schemas import parse_schema
        from refund_worker.engine.payouts.accept import request_payouts

        key = key_or_new(idempotency_key)
        values = _values(payee, amount, currency) | {"description": description}
        values |= {"requested_by": requested_by} if requested_by is not None else {}
        request = parse_schema(PayoutSchema, values).request(idempotency_key=key, client=client, actor=acting_user())
        with runtime.context() as context:
            (answer,) = request_payouts(context, [request])
            if isinstance(answer, Refusal):
                raise answer
            payout = read_payout(context, answer.payout_id)
        if answer.replayed:
            print_line("this idempotency key was used before; this is the payout that it made")
        show_payout(payout, output)


def _add_preview(app: typer.Typer) -> None:
    @command(app, "preview", "payouts preview --payee maria")
    def preview(
        payee: PayeeOption,
        amount: AmountOption = None,
        currency: CurrencyOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show what can be paid out to a payee and what a request would do now, and store nothing.

        Exit 0 even if the request would be refused, because the refusal is the result.
        """
        from refund_worker.engine.intake.payee_schemas import PayoutPreviewSchema
        from refund_worker.engine.intake.schemas import parse_schema
        from refund_worker.engine.payouts.preview import preview_payout

        request = parse_schema(PayoutPreviewSchema, _values(payee, amount, currency))
        with runtime.context() as context:
            result: PayoutPreview = preview_payout(context, request.request(client="cli", actor=acting_user()))
        if output is Output.JSON:
            print_json(result)
        else:
            show_payout_preview(result)


def _values(payee: str, amount: str | None, currency: str | None) -> dict[str, Any]:
    from refund_worker.engine.intake.file_reader import strict_integer

    values = {
        "payee_id": payee,
        "amount_minor": None if amount is None else strict_integer(amount, "amount"),
        "currency": currency,
    }
    return {name: value for name, value in values.items() if value is not None}


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "payouts list --status needs_attention --watch")
    def list_(
        status: StatusFilter = None,
        payee: PayeeFilter = None,
        run: RunFilter = None,
        processor_account: AccountFilter = None,
        failure_code: FailureFilter = None,
        created_gte: CreatedFilter = None,
        idempotency_key: KeyFilter = None,
        quiet: QuietOption = False,
        limit: Annotated[int, at_most(LIMIT_MAX, "payouts")] = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        watch: WatchOption = False,
        every: EveryOption = EVERY_DEFAULT,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List payouts, newest first. With --watch again every two seconds."""
        from refund_worker.engine.intake.schemas import parse_since
        from refund_worker.store.payouts.lists import PayoutFilters

        check_quiet(quiet, output)
        filters = PayoutFilters(
            statuses=chosen_statuses(status or (), PayoutStatus),
            payee_id=payee,
            run_id=run,
            processor=processor_account,
            failure_code=failure_code,
            created_gte=None if created_gte is None else parse_since(created_gte),
            idempotency_key=idempotency_key,
            limit=limit,
            starting_after=starting_after,
        )
        with runtime.context() as context:

            def once() -> bool:
                _show_page(context, filters, output, quiet)
                return False

            show_watched(once, watch, every, output)


def _show_page(context: Context, filters: PayoutFilters, output: Output, quiet: bool) -> None:
    from refund_worker.engine.views.payout_objects import list_payouts

    with context.database.read() as connection:
        page = list_payouts(connection, filters)
    show_rows(page, output, quiet, "id", print_payouts)


def _add_show_and_events(app: typer.Typer) -> None:
    @command(app, "show", "payouts show po_0199… --watch")
    def show(
        payout_id: PayoutArgument,
        watch: WatchOption = False,
        every: EveryOption = EVERY_DEFAULT,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show one payout with its steps. With --watch again every two seconds, until it has ended."""
        with runtime.context() as context:

            def once() -> bool:
                payout = read_payout(context, payout_id)
                show_payout(payout, output)
                return payout["status"] in PAYOUT_ENDS

            show_watched(once, watch, every, output)

    @command(app, "events", "payouts events po_0199…")
    def events(payout_id: PayoutArgument, output: OutputOption = Output.TABLE) -> None:
        """Show what happened to a payout, when, by whom and why."""
        from refund_worker.engine.views.payout_objects import find_payout, payout_timeline

        with runtime.context() as context, context.database.read() as connection:
            found = payout_timeline(connection, find_payout(connection, payout_id))
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            print_events(found)


def _add_wait(app: typer.Typer) -> None:
    @command(app, "wait", "payouts wait po_0199… --timeout 60")
    def wait(
        payout_id: PayoutArgument,
        timeout: Annotated[float, typer.Option("--timeout", min=0, help="maximum waiting time in seconds")] = 60,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Wait until a payout is paid, ends, or waits for a person or the payee, then show it.

        Exit 0 if it is paid or settled, exit 3 otherwise. Exit 1 if it is still in progress when the time is over.
        """
        with runtime.context() as context:
            payout = wait_until(lambda: read_payout(context, payout_id), lambda read: read["status"] in _OVER, timeout)
        show_payout(payout, output)
        status = payout["status"]
        exit_after_wait(status, is_over=status in _OVER, ended_well=status in ("paid", "settled"), timeout=timeout)
