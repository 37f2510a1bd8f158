"""Commands for the money that others move: outside refunds, disputes and the warnings before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import fraud_warnings, runtime
from refund_worker.cli.lists import CustomerFilter, LimitOption, PaymentFilter, Shown, show_one, show_page
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    AfterOption,
    OutputOption,
    QuietOption,
    ReasonOption,
    acting_user,
    check_quiet,
    checked_reason,
    command,
    group,
    normalized_id,
)
from refund_worker.cli.output import Column, Output, count, moment
from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.ids import spelled
from refund_worker.engine.views.money_format import money
from refund_worker.errors import InvalidRequest

if TYPE_CHECKING:
    from refund_worker.store.claims import ClaimFilters

OUTSIDE_STATUSES = ("unmatched", "pending", "posted", "needs_decision", "linked", "failed")
DECISIONS = (ShortfallRule.WRITE_OFF.value, ShortfallRule.DEBT.value)
OUTSIDE_COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("amount", right=True),
    Column("credits", right=True),
    Column("shortfall", right=True),
    Column("customer"),
    Column("payment", only_wide=True),
    Column("account", only_wide=True),
    Column("at the processor", only_wide=True),
    Column("recorded (UTC)", only_wide=True),
)
DISPUTE_COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("due by (UTC)"),
    Column("amount", right=True),
    Column("held", right=True),
    Column("taken", right=True),
    Column("shortfall", right=True),
    Column("customer"),
    Column("payment", only_wide=True),
    Column("reason", only_wide=True),
    Column("account", only_wide=True),
    Column("at the processor", only_wide=True),
)

OutsideArgument = Annotated[str, typer.Argument(metavar="ID", help="the outside refund's id, cl_…")]
DisputeArgument = Annotated[str, typer.Argument(metavar="ID", help="the dispute's id, cl_…")]


def add_to(app: typer.Typer) -> None:
    """Register the groups `outside-refunds` and `disputes`."""
    outside = group("outside-refunds", "Refunds that others made, such as in the processor's dashboard.", app)
    _add_outside_list(outside)
    _add_outside_show(outside)
    _add_outside_decide(outside)
    _add_link(outside)
    disputes = group("disputes", "Disputes and inquiries about payments.", app)
    _add_disputes_list(disputes)
    _add_dispute_show(disputes)
    _add_dispute_decide(disputes)
    _add_dispute_link(disputes)
    fraud_warnings.add_to(disputes)


def _add_outside_list(app: typer.Typer) -> None:
    @command(app, "list", "outside-refunds list --status needs_decision")
    def list_(
        status: Annotated[str | None, typer.Option("--status", metavar="|".join(OUTSIDE_STATUSES))] = None,
        customer: CustomerFilter = None,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List refunds that others made, newest first."""
        from refund_worker.store.claims import ClaimFilters

        if status is not None and status not in OUTSIDE_STATUSES:
            raise InvalidRequest(f"--status must be one of {', '.join(OUTSIDE_STATUSES)}", field="status")
        filters = ClaimFilters(
            kind=ClaimKind.OUTSIDE_REFUND, limit=limit, after=starting_after, customer_id=customer, condition=status
        )
        _list(filters, output, quiet, OUTSIDE_SHOWN)


def _add_disputes_list(app: typer.Typer) -> None:
    @command(app, "list", "disputes list --status needs_response")
    def list_(
        status: Annotated[str | None, typer.Option("--status", help="the processor's word, such as lost")] = None,
        customer: CustomerFilter = None,
        payment: PaymentFilter = None,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List disputes and inquiries, newest first."""
        from refund_worker.store.claims import ClaimFilters

        filters = ClaimFilters(
            kind=ClaimKind.DISPUTE,
            limit=limit,
            after=starting_after,
            customer_id=customer,
            payment_id=payment,
            condition=status,
        )
        _list(filters, output, quiet, DISPUTES_SHOWN)


DecisionOption = Annotated[
    str,
    typer.Option("--decision", metavar="|".join(DECISIONS), help="write the missing credits off, or make them a debt"),
]


def _add_outside_decide(app: typer.Typer) -> None:
    @command(app, "decide", "outside-refunds decide cl_0199… --decision write_off --reason 'a regular customer'")
    def decide(
        claim_id: OutsideArgument, decision: DecisionOption, reason: ReasonOption, output: OutputOption = Output.TABLE
    ) -> None:
        """Decide about credits that the customer had spent before the money was refunded."""
        _decide(ClaimKind.OUTSIDE_REFUND, claim_id, decision, reason, output)


def _add_link(app: typer.Typer) -> None:
    @command(app, "link", "outside-refunds link cl_0199… --transaction tx-1 --reason 'refunded for this chat'")
    def link(
        claim_id: OutsideArgument,
        reason: ReasonOption,
        refund: Annotated[
            str | None, typer.Option("--refund", "--refund-id", help="the refund whose part it paid")
        ] = None,
        transaction: Annotated[
            str | None,
            typer.Option(
                "--transaction",
                "--transaction-id",
                help="the spend or correction that it returns",
                callback=normalized_id,
            ),
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Let a refund that others made count for a refund, a spend or a correction."""
        from refund_worker.engine.claims.link import link_outside_refund

        if (refund is None) == (transaction is None):
            raise InvalidRequest("name either --refund or --transaction", field="refund_id")
        reason = checked_reason(reason)
        with runtime.context() as context:
            link_outside_refund(
                context,
                claim_id,
                refund_id=refund,
                transaction_id=transaction,
                actor=acting_user(),
                reason=reason,
            )
        show_claim(ClaimKind.OUTSIDE_REFUND, claim_id, output)


def _add_dispute_link(app: typer.Typer) -> None:
    @command(app, "link", "disputes link cl_0199… --transaction tx-1 --reason 'the customer disputed this chat'")
    def link(
        claim_id: DisputeArgument,
        transaction: Annotated[
            str,
            typer.Option(
                "--transaction", "--transaction-id", help="the spend that the customer charged back", callback=spelled
            ),
        ],
        reason: ReasonOption,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Link a lost dispute to a spend: payees give back their share of it, until the dispute is reinstated."""
        from refund_worker.engine.claims.link_dispute import link_dispute

        reason = checked_reason(reason)
        with runtime.context() as context:
            link_dispute(context, claim_id, transaction_id=transaction, actor=acting_user(), reason=reason)
        show_claim(ClaimKind.DISPUTE, claim_id, output)


def _add_dispute_decide(app: typer.Typer) -> None:
    @command(app, "decide", "disputes decide cl_0199… --decision debt --reason 'disputed twice'")
    def decide(
        claim_id: DisputeArgument, decision: DecisionOption, reason: ReasonOption, output: OutputOption = Output.TABLE
    ) -> None:
        """Decide about credits that the customer had spent before the dispute was lost."""
        _decide(ClaimKind.DISPUTE, claim_id, decision, reason, output)


def _decide(kind: ClaimKind, claim_id: str, decision: str, reason: str, output: Output) -> None:
    from refund_worker.engine.claims.decide import decide_claim

    if decision not in DECISIONS:
        raise InvalidRequest(f"--decision must be {' or '.join(DECISIONS)}", field="decision")
    reason = checked_reason(reason)
    with runtime.context() as context:
        decide_claim(context, claim_id, kind=kind, decision=ShortfallRule(decision), actor=acting_user(), reason=reason)
    show_claim(kind, claim_id, output)


def _list(filters: ClaimFilters, output: Output, quiet: bool, shown: Shown) -> None:
    from refund_worker.engine.views.claim_objects import claim_page

    check_quiet(quiet, output)
    with runtime.context() as context, context.database.read() as connection:
        page = claim_page(connection, filters)
    show_page(page, output, quiet, shown)


def _add_outside_show(app: typer.Typer) -> None:
    @command(app, "show", "outside-refunds show cl_0199…")
    def show(claim_id: OutsideArgument, output: OutputOption = Output.TABLE) -> None:
        """Show a refund that others made, with its share of the payment's credits."""
        show_claim(ClaimKind.OUTSIDE_REFUND, claim_id, output)


def _add_dispute_show(app: typer.Typer) -> None:
    @command(app, "show", "disputes show cl_0199…")
    def show(claim_id: DisputeArgument, output: OutputOption = Output.TABLE) -> None:
        """Show a dispute, with the credits that it holds and took."""
        show_claim(ClaimKind.DISPUTE, claim_id, output)


def show_claim(kind: ClaimKind, claim_id: str, output: Output) -> None:
    """Print a claim as it is now."""
    from refund_worker.engine.views.claim_objects import claim_view, find

    with runtime.context() as context, context.database.read() as connection:
        found: Any = claim_view(connection, find(connection, claim_id, kind))
    show_one(found, output, OUTSIDE_SHOWN if kind is ClaimKind.OUTSIDE_REFUND else DISPUTES_SHOWN)


def _outside_row(row: Any) -> tuple[object, ...]:
    return (
        row["id"],
        row["status"],
        money(row["amount_minor"], row["currency"]),
        count(row["credits"]),
        count(row["shortfall"]),
        row["customer_id"],
        row["payment_id"],
        row["processor_account"],
        row["object_id"],
        moment(row["created_at"]),
    )


def _dispute_row(row: Any) -> tuple[object, ...]:
    return (
        row["id"],
        row["status"],
        moment(row["due_by"]),
        money(row["amount_minor"], row["currency"]),
        count(row["credits_held"]),
        count(row["credits_taken"]),
        count(row["shortfall"]),
        row["customer_id"],
        row["payment_id"],
        row["reason"],
        row["processor_account"],
        row["object_id"],
    )


OUTSIDE_SHOWN = Shown("id", OUTSIDE_COLUMNS, _outside_row)
DISPUTES_SHOWN = Shown("id", DISPUTE_COLUMNS, _dispute_row)
