"""Commands that change a whole customer: merge."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import CustomerArgument, OutputOption, acting_user, checked_reason, command
from refund_worker.cli.output import Output, print_json, print_line
from refund_worker.domain.ids import spelled

REASON = "why; shown with the entries in the customer's transactions"


def add_to(app: typer.Typer) -> None:
    """Register the commands in the group `customers`."""
    _add_merge(app)


def _add_merge(app: typer.Typer) -> None:
    @command(app, "merge", "customers merge 42 --into 43 --reason 'registered twice'")
    def merge(
        customer_id: CustomerArgument,
        into: Annotated[str, typer.Option("--into", metavar="ID", help="the customer who stays", callback=spelled)],
        reason: Annotated[str, typer.Option("--reason", help=REASON)],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Merge a customer into another: balance, payments and refunds move, and the id stays as another name.

        Repeating the command changes nothing. Exit 5 if the customer was merged into another one before.
        """
        from refund_worker.engine.accounts.merge import merge_customers
        from refund_worker.engine.views.api_objects import customer

        why = checked_reason(reason)
        with runtime.context() as context:
            merge_customers(context, customer_id, into=into, reason=why, actor=acting_user())
            with context.database.read() as connection:
                found = customer(connection, customer_id, context.policy.allocation)
        if output is Output.JSON:
            print_json(found)
            return
        print_line(f"{customer_id} is now {found['customer_id']}, with a balance of {found['balance']:,} credits")
