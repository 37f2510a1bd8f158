"""The commands `refunds create` and `refunds preview`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import ClientOption, OutputOption, acting_user, command, key_or_new
from refund_worker.cli.output import Output, print_json, print_line
from refund_worker.cli.refund_output import read_refund, show_preview, show_refund
from refund_worker.domain.refund import Kind, To
from refund_worker.errors import InvalidRequest, Refusal

if TYPE_CHECKING:
    from refund_worker.domain.refund import RefundRequest

KindOption = Annotated[
    Kind,
    typer.Option("--kind", help="credit_refund gives back credits of one spend, withdrawal pays out the balance"),
]
ToOption = Annotated[
    To,
    typer.Option(
        "--to",
        help="balance returns credits only, source returns money over the customer's payments, payout (a withdrawal)"
        " pays to a payee what the payments cannot take back",
    ),
]
CustomerOption = Annotated[str, typer.Option("--customer", "--customer-id", help="the customer's id")]
TransactionOption = Annotated[
    str | None,
    typer.Option("--transaction", "--transaction-id", help="the spend to refund, or the correction to pay out"),
]
CreditsOption = Annotated[
    str | None, typer.Option("--credits", metavar="INTEGER", help="the number of credits; all that are left if missing")
]
PayeeOption = Annotated[
    str | None, typer.Option("--payee", "--payee-id", help="the customer's own payee who is paid; only to payout")
]
DestinationsOption = Annotated[
    str | None,
    typer.Option(
        "--destinations",
        metavar="WAY,…",
        help="of the setting FALLBACK, what may be tried when a payment refuses for good:"
        " payments, balance, payout, manual, separated by commas",
    ),
]
CurrencyOption = Annotated[str | None, typer.Option("--currency", help="only payments in this currency, such as GBP")]
WhyOption = Annotated[str, typer.Option("--reason", help="why, in your own words")]
NoteOption = Annotated[str | None, typer.Option("--note", help="a note for your colleagues")]
RequestedByOption = Annotated[
    str | None,
    typer.Option("--requested-by", help="who asked you, as a note; the actor is who runs this command"),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="a value of your own; can be repeated"),
]
InstructionsOption = Annotated[
    str | None,
    typer.Option("--instructions-email", help="where the processor may ask the customer for bank details (to source)"),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="a repeated key makes no second refund; generated if missing"),
]


def add_to(refunds: typer.Typer) -> None:
    """Register the commands `create` and `preview` in the group `refunds`."""
    _add_create(refunds)
    _add_preview(refunds)


def _add_create(app: typer.Typer) -> None:
    @command(
        app,
        "create",
        "refunds create --kind withdrawal --to source --customer 42 --reason 'asked by mail'",
        "refunds create --kind withdrawal --to payout --payee maria --customer 42 --reason 'cards have expired'",
    )
    def create(
        kind: KindOption,
        to: ToOption,
        customer: CustomerOption,
        reason: WhyOption,
        transaction: TransactionOption = None,
        credits: CreditsOption = None,
        currency: CurrencyOption = None,
        payee: PayeeOption = None,
        destinations: DestinationsOption = None,
        note: NoteOption = None,
        requested_by: RequestedByOption = None,
        metadata: MetadataOption = None,
        instructions_email: InstructionsOption = None,
        idempotency_key: KeyOption = None,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Request one refund.

        The request is checked and its money reserved immediately. A worker does the rest.
        """
        key = key_or_new(idempotency_key)
        values = _request_values(
            kind,
            to,
            credits,
            destinations,
            customer_id=customer,
            transaction_id=transaction,
            currency=currency,
            payee_id=payee,
            reason=reason,
            note=note,
            requested_by=requested_by,
            instructions_email=instructions_email,
        )
        values |= {"metadata": _parse_metadata(metadata)} if metadata else {}
        _create(_parse_request(values, key, client), output)


def _create(request: RefundRequest, output: Output) -> None:
    from refund_worker.engine.refunds.accept import request_refunds

    with runtime.context() as context:
        (answer,) = request_refunds(context, [request])
        if isinstance(answer, Refusal):
            raise answer
        refund = read_refund(context, answer.refund_id)
    if answer.replayed:
        print_line("this idempotency key was used before; this is the refund that it made")
    show_refund(refund, output)


def _add_preview(app: typer.Typer) -> None:
    @command(app, "preview", "refunds preview --kind withdrawal --to source --customer 42")
    def preview(
        kind: KindOption,
        to: ToOption,
        customer: CustomerOption,
        reason: WhyOption = "preview",
        transaction: TransactionOption = None,
        credits: CreditsOption = None,
        currency: CurrencyOption = None,
        payee: PayeeOption = None,
        destinations: DestinationsOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show what a request would do now, and store nothing.

        The result has the maximum, the legs and the balance before and after. Exit 0 even if the request would be
        refused, because the refusal is the result.
        """
        from refund_worker.engine.refunds.preview import preview as preview_refund

        values = _request_values(
            kind,
            to,
            credits,
            destinations,
            customer_id=customer,
            transaction_id=transaction,
            currency=currency,
            payee_id=payee,
            reason=reason,
        )
        with runtime.context() as context:
            result = preview_refund(context, _parse_request(values, "preview", "cli"))
        if output is Output.JSON:
            print_json(result)
        else:
            show_preview(result)


def _request_values(
    kind: Kind, to: To, credits: str | None, destinations: str | None, **texts: str | None
) -> dict[str, Any]:
    """Return the fields of a request, without the options that are missing."""
    from refund_worker.engine.intake.file_reader import strict_integer
    from refund_worker.engine.intake.schemas import read_destinations

    values = texts | {
        "kind": str(kind),
        "to": str(to),
        "credits": None if credits is None else strict_integer(credits, "credits"),
        "destinations": None if destinations is None else read_destinations(destinations),
    }
    return {name: value for name, value in values.items() if value is not None}


def _parse_metadata(pairs: Iterable[str]) -> dict[str, str]:
    """Parse `KEY=VALUE` pairs. A value may contain an equals sign, a key may not."""
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidRequest("--metadata must be KEY=VALUE", field="metadata")
        if key in metadata:
            raise InvalidRequest(f"--metadata: the key {key} is given twice", field="metadata")
        metadata[key] = value
    return metadata


def _parse_request(values: dict[str, Any], key: str, client: str) -> RefundRequest:
    from refund_worker.engine.intake.schemas import RefundSchema, parse_schema

    return parse_schema(RefundSchema, values).request(idempotency_key=key, client=client, actor=acting_user())
