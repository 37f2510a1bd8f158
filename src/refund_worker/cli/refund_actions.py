"""The commands that decide about a refund: retry, cancel, approve, reject and resolve."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import (
    OutputOption,
    ReasonOption,
    RefundArgument,
    acting_user,
    checked_reason,
    command,
)
from refund_worker.cli.output import Output
from refund_worker.cli.refund_output import read_explained, show_refund
from refund_worker.domain.state_machine import Action
from refund_worker.errors import InvalidRequest

HELP = {
    Action.RETRY: "Try a refund that needs attention again. The processor is first asked what exists.",
    Action.CANCEL: "Cancel a refund that is queued or awaits approval: everything that it reserved is released. Of a "
    "refund that waits for the customer, the processor is asked to cancel it.",
    Action.APPROVE: "Approve a refund that waits for approval. The person who requested it cannot approve it.",
    Action.REJECT: "Reject a refund that waits for approval. Everything that it reserved is released.",
}

VersionOption = Annotated[
    int | None, typer.Option("--version", help="act only if the refund still has this version number")
]

OutcomeOption = Annotated[
    str,
    typer.Option(
        "--outcome",
        metavar="paid_manually|reverse",
        help="paid_manually: the money was paid another way; reverse: it goes back to the balance",
    ),
]
ReferenceOption = Annotated[
    str | None, typer.Option("--reference", help="the reference of the manual payment; needed to end as paid")
]


def add_to(refunds: typer.Typer) -> None:
    """Register the actions in the group `refunds`."""
    for action in HELP:
        _add_action(refunds, action)
    _add_resolve(refunds)
    _add_sync(refunds)


def _add_sync(app: typer.Typer) -> None:
    @command(app, "sync", "refunds sync rf_0199…")
    def sync(refund_id: RefundArgument, output: OutputOption = Output.TABLE) -> None:
        """Ask the processor about a refund now, a finished one too, and show it. Nothing is sent.

        Exit 1 if the processor does not answer.
        """
        from refund_worker.engine.processor_sync.sync_refund import sync_refund

        with runtime.runtime() as built:
            refund = sync_refund(built.context, runtime.access(built.settings), refund_id)
            shown = read_explained(built.context, refund.refund_id)
        show_refund(shown.refund, output, shown.why, shown.waits)


def _add_action(app: typer.Typer, action: Action) -> None:
    def act(
        refund_id: RefundArgument,
        reason: ReasonOption,
        version: VersionOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        _perform(refund_id, action, reason, version, output)

    act.__doc__ = HELP[action]
    command(app, action, f"refunds {action} rf_0199… --reason 'checked with the customer'")(act)


def _add_resolve(app: typer.Typer) -> None:
    @command(app, "resolve", "refunds resolve rf_0199… --outcome paid_manually --reference bank-4711")
    def resolve(
        refund_id: RefundArgument,
        outcome: OutcomeOption,
        reference: ReferenceOption = None,
        reason: Annotated[str | None, typer.Option("--reason", help="why; required to reverse")] = None,
        version: VersionOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """End a refund that needs attention.

        It ends as paid manually, or its credits go back to the balance.
        """
        reason = reason or (f"paid manually: {reference}" if outcome == "paid_manually" else "")
        reference = checked_outcome(outcome, reference)
        _perform(refund_id, Action.RESOLVE, reason, version, output, reference)


def checked_outcome(outcome: str, reference: str | None) -> str | None:
    """Return the reference of a manual payment, or None if the outcome is `reverse`. Raises `InvalidRequest`."""
    if outcome == "paid_manually":
        return _checked_reference(reference)
    if outcome != "reverse":
        raise InvalidRequest("--outcome must be paid_manually or reverse", field="outcome")
    if reference is not None:
        raise InvalidRequest("--reference is only allowed with --outcome paid_manually", field="reference")
    return None


def _checked_reference(reference: str | None) -> str:
    from refund_worker.engine.intake.schemas import Reference, Schema, parse_schema

    class Resolution(Schema):
        reference: Reference

    if reference is None:
        raise InvalidRequest("--reference must name the manual payment", field="reference")
    return parse_schema(Resolution, {"reference": reference}).reference


def _perform(
    refund_id: str,
    action: Action,
    reason: str,
    version: int | None,
    output: Output,
    reference: str | None = None,
) -> None:
    from refund_worker.engine.refunds.actions import perform_action
    from refund_worker.engine.views.api_objects import refund_view

    reason = checked_reason(reason)
    with runtime.context() as context:
        refund = perform_action(
            context,
            refund_id,
            action,
            actor=acting_user(),
            reason=reason,
            reference=reference,
            version=version,
        )
        show_refund(refund_view(refund), output)
