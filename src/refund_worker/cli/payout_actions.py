"""The commands that decide about a payout: retry, cancel, approve, reject, resolve and sync."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, ReasonOption, acting_user, checked_reason, command
from refund_worker.cli.output import Output
from refund_worker.cli.payout_output import read_payout, show_payout
from refund_worker.cli.refund_actions import OutcomeOption, ReferenceOption, checked_outcome
from refund_worker.domain.payouts.machine import PayoutAction

HELP = {
    PayoutAction.RETRY: "Try a payout that needs attention again. The processor is first asked what exists.",
    PayoutAction.CANCEL: "Cancel a payout before anything was sent: its amount is free again. Of a payout that waits "
    "for the payee, the processor is asked to call it off.",
    PayoutAction.APPROVE: "Approve a payout that waits for approval. The person who requested it cannot approve it.",
    PayoutAction.REJECT: "Reject a payout that waits for approval. Its amount is free again.",
}

PayoutArgument = Annotated[str, typer.Argument(metavar="ID", help="the payout's id, po_…")]
VersionOption = Annotated[
    int | None, typer.Option("--version", help="act only if the payout still has this version number")
]


def add_to(payouts: typer.Typer) -> None:
    """Register the actions in the group `payouts`."""
    for action in HELP:
        _add_action(payouts, action)
    _add_resolve(payouts)
    _add_sync(payouts)


def _add_action(app: typer.Typer, action: PayoutAction) -> None:
    def act(
        payout_id: PayoutArgument,
        reason: ReasonOption,
        version: VersionOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        _perform(payout_id, action, reason, version, output)

    act.__doc__ = HELP[action]
    command(app, action, f"payouts {action} po_0199… --reason 'checked with the payee'")(act)


def _add_resolve(app: typer.Typer) -> None:
    @command(app, "resolve", "payouts resolve po_0199… --outcome paid_manually --reference bank-4711")
    def resolve(
        payout_id: PayoutArgument,
        outcome: OutcomeOption,
        reference: ReferenceOption = None,
        reason: Annotated[str | None, typer.Option("--reason", help="why; required to reverse")] = None,
        version: VersionOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """End a payout that needs attention.

        It ends as paid manually, or its amount goes back to the payee's balance.
        """
        reason = reason or (f"paid manually: {reference}" if outcome == "paid_manually" else "")
        reference = checked_outcome(outcome, reference)
        _perform(payout_id, PayoutAction.RESOLVE, reason, version, output, reference)


def _add_sync(app: typer.Typer) -> None:
    @command(app, "sync", "payouts sync po_0199…")
    def sync(payout_id: PayoutArgument, output: OutputOption = Output.TABLE) -> None:
        """Ask the processor about a payout now, a finished one too, and show it. Nothing is sent.

        Exit 1 if the processor does not answer.
        """
        from refund_worker.engine.processor_sync.sync_payout import sync_payout

        with runtime.runtime() as built:
            sync_payout(built.context, runtime.access(built.settings), payout_id)
            payout = read_payout(built.context, payout_id)
        show_payout(payout, output)


def _perform(
    payout_id: str,
    action: PayoutAction,
    reason: str,
    version: int | None,
    output: Output,
    reference: str | None = None,
) -> None:
    from refund_worker.engine.payouts.actions import perform_payout_action

    reason = checked_reason(reason)
    with runtime.context() as context:
        perform_payout_action(
            context, payout_id, action, actor=acting_user(), reason=reason, reference=reference, version=version
        )
        payout = read_payout(context, payout_id)
    show_payout(payout, output)
