"""Commands about a whole customer: merge, erase, export."""

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
    _add_erase(app)
    _add_export(app)


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
                found = customer(connection, customer_id, context.policy)
        if output is Output.JSON:
            print_json(found)
            return
        print_line(f"{customer_id} is now {found['customer_id']}, with a balance of {found['balance']:,} credits")


def _add_erase(app: typer.Typer) -> None:
    @command(app, "erase", "customers erase 42 --reason 'asked for by the customer'")
    def erase(
        customer_id: CustomerArgument,
        reason: Annotated[str, typer.Option("--reason", help="why; it stays, so name nobody in it")],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Overwrite a customer's texts and e-mail addresses wherever they are stored; ids and amounts stay.

        It cannot be undone. Exit 5 while anything of the customer is under way. Repeat it if it was interrupted.
        """
        from refund_worker.engine.audit.erase_customer import erase_customer
        from refund_worker.engine.views.api_objects import customer

        why = checked_reason(reason)
        with runtime.context() as context:
            erase_customer(context, customer_id, reason=why, actor=acting_user())
            with context.database.read() as connection:
                found = customer(connection, customer_id, context.policy)
        if output is Output.JSON:
            print_json(found)
            return
        print_line(f"the texts of {', '.join([found['customer_id'], *found['merged_ids']])} are erased")


def _add_export(app: typer.Typer) -> None:
    @command(app, "export", "customers export 42 > 42.json")
    def export(customer_id: CustomerArgument) -> None:
        """Print everything that is stored about a customer as JSON."""
        import sys

        from refund_worker.engine.views.customer_export import export_customer

        with runtime.context() as context:
            for piece in export_customer(context, customer_id):
                sys.stdout.write(piece)
