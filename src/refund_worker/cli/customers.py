"""Customers and their transactions."""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from refund_worker.api_schema import Transaction
from refund_worker.cli import runtime
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    ClientOption,
    OutputOption,
    acting_user,
    command,
    group,
    spelled_if_given,
)
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_table, say
from refund_worker.domain.ids import spelled

CustomerArgument = Annotated[str, typer.Argument(metavar="ID", help="the customer's id", callback=spelled)]
LIMIT_MAX = 500
COLUMNS = (
    Column("id", whole=True),
    Column("kind"),
    Column("credits", right=True),
    Column("refers to"),
    Column("description", only_wide=True),
    Column("occurred (UTC)", only_wide=True),
)


def add_to(app: typer.Typer) -> None:
    _add_customers(group("customers", "Customers' balances and corrections.", app))
    _add_transactions(group("transactions", "What happened to a customer's credits.", app))


def _add_customers(app: typer.Typer) -> None:
    @command(app, "show", "customers show 42")
    def show(customer_id: CustomerArgument, output: OutputOption = Output.TABLE) -> None:
        """Show a customer's balance and recent corrections."""
        from refund_worker.engine.views.api_objects import customer

        with runtime.context() as context, context.database.read() as connection:
            found = customer(connection, customer_id)
        if output is Output.JSON:
            print_json(found)
            return
        print_facts(
            [
                ("customer", found["customer_id"]),
                ("balance", f"{found['balance']:,}"),
                ("available", f"{found['available']:,}"),
                ("payable", f"{found['payable']:,}"),
            ]
        )
        if found["recent_corrections"]:
            print()
            print_table(COLUMNS, (_row(entry) for entry in found["recent_corrections"]))

    @command(app, "correct", "customers correct 42 --credits -500 --reason 'to be paid out'")
    def correct(
        customer_id: CustomerArgument,
        credits: Annotated[str, typer.Option("--credits", metavar="INTEGER", help="signed: -5 takes five off")],
        reason: Annotated[str, typer.Option("--reason", help="why; the customer's list shows it")],
        idempotency_key: Annotated[
            str | None, typer.Option("--idempotency-key", help="the same key again does nothing new; made if missing")
        ] = None,
        client: ClientOption = "cli",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Correct a customer's balance."""
        from refund_worker.engine.accounts.corrections import correct
        from refund_worker.engine.intake.file_reader import strict_integer
        from refund_worker.engine.intake.schemas import CorrectionSchema, checked_client, checked_key, parse_schema
        from refund_worker.engine.views.api_objects import transaction_view

        body = parse_schema(CorrectionSchema, {"credits": strict_integer(credits, "credits"), "reason": reason})
        if idempotency_key is None:
            idempotency_key = f"cli-{uuid.uuid4()}"
            say(f"idempotency key: {idempotency_key}")
        with runtime.context() as context:
            row, new = correct(
                context,
                customer_id=customer_id,
                credits=body.credits,
                reason=body.reason,
                client=checked_client(client),
                idempotency_key=checked_key(idempotency_key),
                actor=acting_user(),
            )
        if not new:
            say("this key was used before: this is the correction it made")
        _show(transaction_view(row), output)


def _add_transactions(app: typer.Typer) -> None:
    @command(app, "list", "transactions list 42")
    def list_(
        customer_id: CustomerArgument,
        limit: Annotated[int, typer.Option("--limit", min=1, max=LIMIT_MAX, help="how many")] = LIMIT_DEFAULT,
        starting_after: Annotated[
            str | None, typer.Option("--starting-after", help="the last id already seen", callback=spelled_if_given)
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List a customer's transactions, newest first."""
        from refund_worker.engine.views.api_objects import transactions

        with runtime.context() as context, context.database.read() as connection:
            page = transactions(connection, customer_id, limit=limit, after=starting_after)
        if output is Output.JSON:
            print_json(page)
            return
        print_table(COLUMNS, (_row(entry) for entry in page["data"]), empty="no transactions")
        if page["has_more"]:
            say(f"there are more: --starting-after {page['data'][-1]['transaction_id']}")

    @command(app, "reverse", "transactions reverse txn_0199…")
    def reverse(
        transaction_id: Annotated[
            str, typer.Argument(metavar="ID", help="a correction or a credit refund to balance", callback=spelled)
        ],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Undo a transaction by a linked reversal entry, once; the same again shows the same entry.

        Exit 5 once money has moved or the credits are spent.
        """
        from refund_worker.engine.accounts.corrections import reverse_transaction
        from refund_worker.engine.views.api_objects import transaction_view

        with runtime.context() as context:
            row = reverse_transaction(context, transaction_id, actor=acting_user())
        _show(transaction_view(row), output)


def _row(entry: Transaction) -> tuple[object, ...]:
    return (
        entry["transaction_id"],
        entry["kind"],
        f"{entry['credits']:+,}",
        entry["refers_to"],
        entry["description"],
        moment(entry["occurred_at"]),
    )


def _show(entry: Transaction, output: Output) -> None:
    if output is Output.JSON:
        print_json(entry)
    else:
        print_facts(zip((column.title for column in COLUMNS), _row(entry), strict=True))
